"""What every handler shares: whose request it is, which headers go out, how a failure is told."""

from __future__ import annotations

import base64
import binascii
import http
import json
import logging
import random
from functools import cached_property, lru_cache
from types import TracebackType
from typing import Any, ClassVar

from tornado.web import HTTPError, RequestHandler

import logs
from errors import SaomaError, TooManyRequests
from flows import pictures, sessions
from flows.announce import identities
from flows.confirm import KNOWN_SECONDS
from flows.context import Context
from flows.exchange import Collected
from flows.sessions import Current
from handlers.cookies import MAX_TICKETS, CookieNames, sent_cookies, session_values
from handlers.device import names_of
from handlers.services import Services
from oidc.errors import OAuthError
from storage.records import User
from tickets import Device
from tickets.ticket import EXCHANGE_REPEAT_SECONDS, EXTENSION_SECONDS
from translations import Texts

_chance = random.Random()  # request ids are names, not secrets

log = logging.getLogger("saoma.web")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self' {socket}; form-action 'self'{form_target}; base-uri 'none';"
    " frame-ancestors {framed_by}"
)
NO_PAGE = "default-src 'none'; frame-ancestors 'none'"
MISDIRECTED = 421
LANGUAGE_SECONDS = 31_536_000  # that a chosen language is remembered
GRACE_SECONDS = EXTENSION_SECONDS + EXCHANGE_REPEAT_SECONDS

ExcInfo = tuple[type[BaseException], BaseException, TracebackType]


class BaseHandler(RequestHandler):
    """A handler that acts on a cookie is safe by default: see `check_xsrf_cookie`."""

    services: Services
    # Health checks come by address; everything else must be meant for us.
    any_host: ClassVar[bool] = False
    held: ClassVar[bool] = False  # whether a request may be held open on purpose
    _challenge = ""  # how to authenticate, on its way through Tornado's clearing

    def initialize(self, services: Services) -> None:
        self.services = services
        self.request_id = f"{_chance.getrandbits(64):016x}"
        self.set_own_headers()

    @property
    def context(self) -> Context:
        return self.services.context

    @property
    def cookie_names(self) -> CookieNames:
        return self.services.cookie_names

    @property
    def logged_path(self) -> str:
        """The path as it may stand in a log."""
        return self.request.path

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")

    def set_own_headers(self) -> None:
        """What every answer has besides; set again for a failure, before which Tornado clears all headers."""
        self.set_header("X-Request-Id", self.request_id)
        if self.services.secure:
            self.set_header("Strict-Transport-Security", self.services.transport_security)
        self.set_policy()

    def set_policy(self) -> None:
        """Nothing in it is to be run, loaded or framed, should a browser ever show it as a page."""
        self._headers["Content-Security-Policy"] = NO_PAGE

    async def prepare(self) -> None:
        logs.request_id.set(self.request_id)
        if not self.any_host and self.request.host.lower() not in self.services.own_hosts:
            raise HTTPError(MISDIRECTED)

    def compute_etag(self) -> None:
        """None: what is never stored needs no tag."""

    # Whose request it is.

    @property
    def client_address(self) -> str:
        return self.services.peers.address_of(self.request)

    @cached_property
    def device(self) -> Device:
        browser, system = names_of(self.request.headers.get("User-Agent", ""))
        return Device(browser, system, self.client_address)

    @property
    def requested_language(self) -> str:
        """What `?lang=` asks for. It is read for error pages too, so no byte in it may be an error."""
        return self.request.query_arguments.get("lang", [b""])[-1].decode("utf-8", "replace")

    def texts(self) -> Texts:
        requested = self.requested_language or self.get_cookie(self.cookie_names.language)
        return self.context.catalogues.choose(requested, self.request.headers.get("Accept-Language"))

    def authorization(self, scheme: str) -> str:
        """The credentials of `Authorization: <scheme> <credentials>`, "" where there are none."""
        given, _, credentials = self.request.headers.get("Authorization", "").partition(" ")
        return credentials.strip() if given.lower() == scheme.lower() else ""

    def basic(self) -> tuple[str, str]:
        """Name and password by HTTP Basic (RFC 7617), both "" where there are none or they are no text."""
        try:
            given = base64.b64decode(self.authorization("Basic"), validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            given = ""
        name, _, password = given.partition(":")
        return name, password

    @property
    def own_credentials(self) -> bool:
        """Whether the request brings what only a program or a script of ours can put there.

        Basic and the like do not count: browsers repeat them by themselves.
        """
        return bool(self.authorization("Bearer") or self.authorization("Ticket"))

    def get_cookie(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """The last value of that name. None of ours is quoted, so that Tornado's parser has nothing to do."""
        return self.sent_cookies.get(name, default)

    @property
    def sent_cookies(self) -> dict[str, str]:
        """Split at each look: what is kept would stay in memory with each socket."""
        return dict(sent_cookies(self.request.headers.get_list("Cookie")))

    def session_cookies(self) -> tuple[str, ...]:
        """More than one where another host below `session.cookie_domain` has set one."""
        return session_values(self.request.headers.get_list("Cookie"), self.cookie_names.session)

    def session_tokens(self) -> tuple[str, ...]:
        if self.own_credentials:  # a cookie beside them counts for nothing: its checks were not made
            return (self.authorization("Bearer"),)
        return self.session_cookies()

    async def current(self) -> Current | None:
        return await self.services.sessions.current(self.session_tokens())

    async def sign_out(self) -> None:
        """Ends every session that the request brings."""
        for token in self.session_tokens():
            current = await self.services.sessions.current([token])
            if current is not None:
                await sessions.end(self.context, current.session)
        self.drop_cookie(self.cookie_names.session)

    def ticket_secret(self, ticket_id: str) -> str:
        if self.own_credentials:
            return self.authorization("Ticket")
        return self.get_cookie(self.cookie_names.ticket(ticket_id)) or ""

    # What a cookie may do.

    @property
    def acts_on_cookie(self) -> bool:
        """Whether a browser could be made to send this request without its person meaning it."""
        return not self.own_credentials

    def check_xsrf_cookie(self) -> None:
        """A change on the strength of a cookie takes a same-origin Origin and the XSRF token."""
        if self.request.method not in self._methods:
            raise HTTPError(405)  # whoever asks, and with whatever
        if self.acts_on_cookie:
            if not self.same_origin():
                raise HTTPError(403, "foreign Origin")
            super().check_xsrf_cookie()

    def same_origin(self) -> bool:
        scheme, _, host = self.request.headers.get("Origin", "").lower().partition("://")
        ours = "https" if self.services.secure else "http"
        return scheme == ours and host in self.services.own_hosts

    def put_cookie(self, name: str, value: str, seconds: float, *, same_site: str = "Lax") -> None:
        attributes = self._cookie_attributes(name) | {"samesite": same_site}
        self.set_cookie(name, value, max_age=int(seconds), **attributes)

    def drop_cookie(self, name: str) -> None:
        self.clear_cookie(name, **self._cookie_attributes(name))

    def _cookie_attributes(self, name: str) -> dict[str, Any]:
        shared = name == self.cookie_names.session and self.context.settings.session.cookie_domain
        return {
            "domain": shared or None,
            "path": "/",
            "httponly": True,
            "samesite": "Lax",
            "secure": self.services.secure,
        }

    def put_ticket_cookie(self, ticket_id: str, secret: str, seconds: float) -> None:
        """Hands the secret to the browser for the ticket's `seconds` and what scan and exchange may add.

        Beyond eight the oldest tickets' cookies are taken back.
        """
        names = self.cookie_names
        others = [known for known in names.ticket_ids(self.sent_cookies) if known != ticket_id]
        for old in others[: max(0, len(others) + 1 - MAX_TICKETS)]:
            self.drop_cookie(names.ticket(old))
        self.put_cookie(names.ticket(ticket_id), secret, seconds + GRACE_SECONDS)

    @property
    def browser_token(self) -> str:
        """What the browser is recognised by, "" where it has not been given any."""
        return self.get_cookie(self.cookie_names.browser) or ""

    def put_login_cookies(self, collected: Collected, secret: str) -> None:
        """Logs the browser in; `secret` is its ticket's."""
        names = self.cookie_names
        self.put_cookie(names.session, collected.token, self.context.settings.session.lifetime)
        # The secret is good for a repeat after a lost answer, and for nothing else any more.
        self.put_cookie(names.ticket(collected.ticket.id), secret, EXCHANGE_REPEAT_SECONDS)
        if collected.browser_token is not None:
            self.put_cookie(names.browser, collected.browser_token, KNOWN_SECONDS)

    def held_tickets(self) -> list[tuple[str, str]]:
        """(id, secret) of this browser's tickets, the newest first."""
        ids = self.cookie_names.ticket_ids(self.sent_cookies)[-MAX_TICKETS:]
        return [(known, self.ticket_secret(known)) for known in reversed(ids)]

    # How a person is shown.

    def shown_name(self, user: User) -> str:
        """Never blank: followers' names come back empty since 2021."""
        return user.name or self.texts()("WeChat user")

    def shown(self, user: User) -> dict[str, Any]:
        return {"name": self.shown_name(user), "picture": pictures.address(self.context, user)}

    def described(self, user: User) -> dict[str, Any]:
        """What the person and their programs are told of them."""
        return {"id": user.id, **self.shown(user), "identities": identities(user)}

    # How a failure is told.

    @property
    def _methods(self) -> list[str]:
        """What this address can be asked with."""
        unknown = RequestHandler._unimplemented_method
        return [name for name in self.SUPPORTED_METHODS if getattr(type(self), name.lower()) is not unknown]

    def log_exception(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(value, (SaomaError, HTTPError)):
            log.error("%s %s failed (request %s)", self.request.method, self.logged_path, self.request_id,
                      exc_info=(kind, value, trace) if kind and value else None)  # fmt: skip

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        self._challenge = self._headers.get("WWW-Authenticate", "")
        super().send_error(status_code, **kwargs)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.set_own_headers()
        if self._challenge:
            self.set_header("WWW-Authenticate", self._challenge)
        if status_code == 405:
            self.set_header("Allow", ", ".join(self._methods))
        error = _cause(kwargs)
        if isinstance(error, SaomaError):
            self.set_status(error.status)
            if isinstance(error, TooManyRequests):
                self.set_header("Retry-After", str(error.retry_after))
        self.tell_failure(self.get_status(), error if isinstance(error, SaomaError) else None)

    def tell_failure(self, status: int, error: SaomaError | None) -> None:
        """Writes the body for a failure; `error` None: an HTTP error, or a fault of ours."""
        self.finish()


class ApiHandler(BaseHandler):
    """Answers with JSON; failures are problems (RFC 9457)."""

    def write_json(self, document: dict[str, Any], status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(document, ensure_ascii=False).encode("utf-8"))

    def tell_failure(self, status: int, error: SaomaError | None) -> None:
        problem: dict[str, Any] = {
            "type": "about:blank",
            "title": http.HTTPStatus(status).phrase,
            "status": status,
            "code": error.code if error else http.HTTPStatus(status).name.lower(),
            "detail": error.message if error else http.HTTPStatus(status).description,
        }
        if error is not None:
            problem |= error.more
        self.set_header("Content-Type", "application/problem+json")
        self.finish(json.dumps(problem).encode())


class PageHandler(BaseHandler):
    """Answers with pages."""

    keeps_language: ClassVar[bool] = True  # the one asked for by `?lang=`, in a cookie

    def set_own_headers(self) -> None:
        super().set_own_headers()
        if self.requested_language and self.keeps_language:
            self.put_cookie(self.cookie_names.language, self.texts().language, LANGUAGE_SECONDS)

    def set_policy(self, *, form_target: str = "", framed_by: str = "") -> None:
        """No inline code, nothing from elsewhere.

        `form_target`: origins that a form may lead to in the end; `framed_by`: the one origin whose pages may
        show this one in a frame.
        """
        policy = _policy(self.context.base_url, form_target, framed_by)
        self.set_header("Content-Security-Policy", policy)
        if framed_by:
            self.clear_header("X-Frame-Options")
        else:
            self.set_header("X-Frame-Options", "DENY")

    def get_template_namespace(self) -> dict[str, Any]:
        namespace = super().get_template_namespace()
        texts = self.texts()
        namespace.update(
            {"_": texts, "language": texts.language, "site": self.context.settings.site, "current": None}
        )
        return namespace

    def tell_failure(self, status: int, error: SaomaError | None) -> None:
        self.set_header("Content-Type", "text/html; charset=UTF-8")
        texts = self.texts()
        title, message = texts(http.HTTPStatus(status).phrase), texts(error.message if error else "")
        if isinstance(error, OAuthError):  # whose words are for developers
            message = texts(
                "The site that sent you here made a mistake. Tell its team: {problem}", problem=message
            )
        self.render("error.html", status=status, title=title, message=message)


class _Nowhere(BaseHandler):
    """Whatever has no room in the URL table."""

    @property
    def logged_path(self) -> str:
        """No more than its first part: what follows may be a secret with something at its end."""
        first, *others = self.request.path.lstrip("/").split("/")
        return f"/{first}/…" if others else f"/{first}"

    def check_xsrf_cookie(self) -> None:
        """Nothing is done here, whatever was asked."""

    async def prepare(self) -> None:
        await super().prepare()
        raise HTTPError(404)


class NotFound(_Nowhere, PageHandler):
    """For people."""


class ApiNotFound(_Nowhere, ApiHandler):
    """For programs: below /api/."""


@lru_cache(maxsize=64)
def _policy(base_url: str, form_target: str, framed_by: str) -> str:
    return POLICY.format(
        socket=base_url.replace("http", "ws", 1),
        form_target=f" {form_target}" if form_target else "",
        framed_by=framed_by or "'none'",
    )


def _cause(arguments: dict[str, Any]) -> BaseException | None:
    info: ExcInfo | None = arguments.get("exc_info")
    return info[1] if info else None
