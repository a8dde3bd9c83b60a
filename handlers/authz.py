"""Forward-auth: a proxy asks of each request that it gets whether somebody is logged in, and who.

The answers are what nginx, Traefik, Caddy and users of oauth2-proxy know (docs/forward-auth.md). It fails
closed (security rule 26): whatever goes wrong is an answer that no proxy lets anybody pass on.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from tornado.web import HTTPError, RequestHandler

from config.values import origin_of
from errors import SaomaError
from flows.context import Context
from flows.redirects import HOME, allowed
from flows.sessions import Current
from handlers.base import BaseHandler, PageHandler
from handlers.cookies import CookieNames, session_values
from handlers.services import Services

LOGIN = "/login"
SIGN_OUT = "/oauth2/sign_out"

# Sent with every answer, empty where there is nothing to say: a proxy that copies them leaves nothing of what
# the client wrote. Nobody's e-mail address or groups are known here.
IDENTITY = (
    "Remote-User",
    "Remote-Name",
    "Remote-Groups",
    "Remote-Email",
    "X-Auth-Request-User",
    "X-Auth-Request-Preferred-Username",
    "X-Auth-Request-Groups",
    "X-Auth-Request-Email",
)

log = logging.getLogger("saoma.web")


class Check(RequestHandler):
    """Asked at each request of the sites behind the proxy, so it does nothing needless and logs no line.

    Any Host will do, as proxies ask under the name that they know us by, and any method is a question.
    """

    accepted: ClassVar[int] = 200

    def initialize(self, services: Services, cookie_names: CookieNames) -> None:
        self._services = services
        self._session_cookie = cookie_names.session
        self.asked_method = self.request.method
        self.request.method = "GET"
        self.request.headers.pop("Content-Type", None)  # a body would be the other site's

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.clear_header("Content-Type")
        self.set_header("Cache-Control", "no-store")
        for name in IDENTITY:
            self.set_header(name, "")

    def compute_etag(self) -> None:
        """None: an answer is good for one request."""

    async def get(self) -> None:
        current = await self._current()
        if current is None or self.asks_for_more():
            self.refuse()
        else:
            self._tell(current)

    async def _current(self) -> Current | None:
        """By a session token of ours as Bearer, else by cookie: other credentials are for the other site."""
        sessions = self._services.sessions
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and (current := await sessions.current([token.strip()])) is not None:
            return current
        return await sessions.current(
            session_values(self.request.headers.get_list("Cookie"), self._session_cookie)
        )

    def _tell(self, current: Current) -> None:
        name = quote(current.user.name, safe="")
        self.set_status(self.accepted)
        self.set_header("Remote-User", current.user.id)
        self.set_header("Remote-Name", name)
        self.set_header("X-Auth-Request-User", current.user.id)
        self.set_header("X-Auth-Request-Preferred-Username", name)

    def asks_for_more(self) -> bool:
        """Whether somebody who is logged in is not enough for the question."""
        return False

    def refuse(self) -> None:
        """Nobody is logged in."""
        self.refuse_outright()

    def refuse_outright(self) -> None:
        """Nobody is logged in, or that could not be found out."""
        self.set_status(401)
        self.set_header("WWW-Authenticate", "Bearer")

    def write_error(self, status_code: int, **_: Any) -> None:
        """Tornado has cleared the headers: nobody's identity is among them."""
        self.refuse_outright()
        self.finish()

    def log_exception(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(value, (SaomaError, HTTPError)):
            log.error(
                "a check of forward-auth failed", exc_info=(kind, value, trace) if kind and value else None
            )

    def _sign_in_address(self, target: str) -> str:
        return sign_in_address(self._services.context, target)

    def _said(self, name: str) -> str:
        """What the proxy says in a header, "" where that is no text."""
        try:
            return self.request.headers.get(name, "").encode("latin-1").decode("utf-8")
        except UnicodeError:
            return ""


class AuthRequest(Check):
    """nginx's auth_request, which takes 2xx, 401 and 403; what is set up there makes a redirect of 401."""

    def refuse_outright(self) -> None:
        super().refuse_outright()
        self.set_header("Location", self._sign_in_address(self._said("X-Original-URL")))


class ForwardAuth(Check):
    """Traefik and Caddy, which hand on whatever is no 2xx."""

    def refuse(self) -> None:
        if not self._of_a_browser():
            self.refuse_outright()
            return
        asked = self._said("X-Forwarded-Method") or self.asked_method
        self.set_status(302 if asked in ("GET", "HEAD") else 303)
        target = f"{self._said('X-Forwarded-Proto')}://{self._said('X-Forwarded-Host')}{self._said('X-Forwarded-Uri')}"
        self.set_header("Location", self._sign_in_address(target))

    def _of_a_browser(self) -> bool:
        """Whether a page would be shown to somebody: a script cannot follow to the login page."""
        headers = self.request.headers
        mode = headers.get("Sec-Fetch-Mode", "")
        if mode:
            return mode == "navigate"
        return "X-Requested-With" not in headers and "text/html" in headers.get("Accept", "")


class OAuth2Auth(Check):
    """The check of oauth2-proxy."""

    accepted = 202

    def asks_for_more(self) -> bool:
        """`allowed_groups` and its like narrow down who may pass; nobody here has groups."""
        return any(name.startswith("allowed_") for name in self.request.query_arguments)


class SignIn(BaseHandler):
    """Leads to the login page; below each site's own name, too, as oauth2-proxy is set up."""

    any_host = True

    def get(self) -> None:
        target = self.get_query_argument("rd", "") or self.request.headers.get("X-Auth-Request-Redirect", "")
        self.redirect(sign_in_address(self.context, target))


class SignOut(PageHandler):
    """GET changes nothing, as any page can make a browser send one."""

    async def get(self) -> None:
        back = self._back()
        if await self.current() is None:
            self.redirect(back)
            return
        self.set_policy(form_target=origin_of(back))  # browsers check where a form leads in the end
        self.render("sign_out.html", action=SIGN_OUT, kept=urlencode({"rd": back}))

    async def post(self) -> None:
        await self.sign_out()
        self.redirect(self._back(), status=303)

    def _back(self) -> str:
        return _place(self.context, self.get_query_argument("rd", ""))


def sign_in_address(context: Context, target: str) -> str:
    """The login page, which leads on to `target` where that is ours or in `server.allowed_redirects`."""
    back = _place(context, target)
    return f"{context.base_url}{LOGIN}" + (f"?next={quote(back, safe='')}" if back != HOME else "")


def _place(context: Context, target: str) -> str:
    """`target` as `next` takes it: a path where it is ours, HOME where it is not allowed."""
    if target.startswith(f"{context.base_url}/"):
        target = target.removeprefix(context.base_url)
    return target if allowed(target, context.settings.server.allowed_redirects) else HOME
