"""The emulator's HTTP: WeChat's interface, the phone page, and a switchboard for tests in another process.

Only for loopback: whoever reaches it can be anybody.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from tornado.web import Application, HTTPError, RequestHandler

from emulator.links import segments
from emulator.people import Person
from emulator.phone import AppNotSetUp, NotAsked, Phone
from emulator.pictures import draw_avatar, draw_code
from emulator.platform import (
    CALLBACK_IP,
    CUSTOM_SEND,
    QRCODE_CREATE,
    SHOWQRCODE,
    STABLE_TOKEN,
    TOKEN,
    USER_INFO,
    ApiError,
    Platform,
)

_FOLDER = Path(__file__).parent
_MAX_BODY = 64 * 1024
_WIRE_SHOWN = 8  # latest pushes on the page
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)

_log = logging.getLogger(__name__)


def make_app(platform: Platform, phone: Phone) -> Application:
    """The application that serves this platform and its people's phones."""
    parts = {"platform": platform, "phone": phone}
    return Application(
        [
            (TOKEN, TokenHandler, parts),
            (STABLE_TOKEN, StableTokenHandler, parts),
            (QRCODE_CREATE, CreateCodeHandler, parts),
            (SHOWQRCODE, ShowCodeHandler, parts),
            (USER_INFO, UserInfoHandler, parts),
            (CUSTOM_SEND, CustomSendHandler, parts),
            (CALLBACK_IP, CallbackIpHandler, parts),
            (r"/avatar/([A-Za-z0-9_-]+)\.png", AvatarHandler, parts),
            (r"/q/([A-Za-z0-9_-]+)", OrdinaryScanHandler, parts),
            (r"/", PhonePageHandler, parts),
            (r"/phone/(scan|follow|unfollow|text)", PhoneActionHandler, parts),
            (r"/phone/app/(confirm|cancel)", AppActionHandler, parts),
            (r"/_control", ControlHandler, parts),
        ],
        template_path=_FOLDER / "templates",
        static_path=_FOLDER / "static",
        log_function=_log_request,
    )


def _log_request(handler: RequestHandler) -> None:
    # Without the query: it has the secret and the tokens in it.
    _log.debug("%s %s %s", handler.get_status(), handler.request.method, handler.request.path)


class _Handler(RequestHandler):
    platform: Platform
    phone: Phone

    def initialize(self, platform: Platform, phone: Phone) -> None:
        self.platform = platform
        self.phone = phone


# --- WeChat's interface ---------------------------------------------------------------------------------


class _ApiHandler(_Handler):
    """One call of WeChat's interface: JSON as text/plain without a charset, errors with status 200."""

    method = "GET"
    needs_token = True

    async def get(self) -> None:
        await self._serve()

    async def post(self) -> None:
        await self._serve()

    def answer(self) -> Mapping[str, Any]:
        """The answer's JSON. Raises ApiError."""
        raise NotImplementedError

    def json_body(self) -> Mapping[str, Any]:
        try:
            body = json.loads(self.request.body.decode("utf-8"))
        except ValueError as error:
            raise ApiError(47001) from error
        if not isinstance(body, Mapping):
            raise ApiError(47001)
        return body

    def query(self, name: str) -> str:
        return self.get_query_argument(name, "")

    async def _serve(self) -> None:
        path = self.request.path
        self.platform.calls[path] += 1
        if self.platform.down:
            self.detach().close()
            return
        await asyncio.sleep(self.platform.next_delay(path))
        fault = self.platform.next_fault(path)
        if fault is not None and fault.body is not None:
            self.set_status(fault.status)
            self.set_header("Content-Type", "text/html")
            self.finish(fault.body)
            return
        try:
            if fault is not None:
                raise ApiError(fault.errcode)
            body = self._checked_answer(path)
        except ApiError as error:
            body = self.platform.error_body(error.errcode)
        self.set_header("Content-Type", "text/plain")
        self.finish(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))

    def _checked_answer(self, path: str) -> Mapping[str, Any]:
        if self.request.method != self.method:
            raise ApiError(43001 if self.method == "GET" else 43002)
        if self.needs_token:
            self.platform.require_token(self.query("access_token"))
        self.platform.spend(path)
        return self.answer()


class TokenHandler(_ApiHandler):
    needs_token = False

    def answer(self) -> Mapping[str, Any]:
        return self.platform.fetch_token(self.query("grant_type"), self.query("appid"), self.query("secret"))


class StableTokenHandler(_ApiHandler):
    method = "POST"
    needs_token = False

    def answer(self) -> Mapping[str, Any]:
        body = self.json_body()
        grant_type, appid, secret = (str(body.get(name, "")) for name in ("grant_type", "appid", "secret"))
        return self.platform.fetch_stable_token(grant_type, appid, secret, body.get("force_refresh") is True)


class CreateCodeHandler(_ApiHandler):
    method = "POST"

    def answer(self) -> Mapping[str, Any]:
        return self.platform.create_code(self.json_body())


class UserInfoHandler(_ApiHandler):
    def answer(self) -> Mapping[str, Any]:
        return self.platform.user_info(self.query("openid"))


class CustomSendHandler(_ApiHandler):
    method = "POST"

    def answer(self) -> Mapping[str, Any]:
        return self.platform.send_custom_message(self.json_body())


class CallbackIpHandler(_ApiHandler):
    def answer(self) -> Mapping[str, Any]:
        return {"ip_list": ["127.0.0.1", "127.0.0.0/8"]}  # real lists have blocks in them too


class ShowCodeHandler(_Handler):
    """The picture of a code; needs no token. 404 for a ticket that is unknown or expired."""

    def get(self) -> None:
        self.platform.calls[SHOWQRCODE] += 1
        code = self.platform.codes.get(self.get_query_argument("ticket", ""))
        if code is None or code.expired(self.platform.now()):
            raise HTTPError(404)
        self.set_header("Content-Type", "image/png")
        self.finish(draw_code(code.url))


class AvatarHandler(_Handler):
    def get(self, openid: str) -> None:
        openids = list(self.platform.people)
        if openid not in openids:
            raise HTTPError(404)
        self.set_header("Content-Type", "image/png")
        self.set_header("Cache-Control", "max-age=3600")
        self.finish(draw_avatar(openids.index(openid)))


# --- the phone ------------------------------------------------------------------------------------------


class _LoopbackHandler(_Handler):
    """For this machine's own browser: no other name for it, and no other site's forms."""

    def prepare(self) -> None:
        host = self.request.host
        if not _is_loopback(urlsplit(f"//{host}").hostname or ""):
            raise HTTPError(403)
        origin = self.request.headers.get("Origin")
        if self.request.method == "POST" and origin not in (None, f"{self.request.protocol}://{host}"):
            raise HTTPError(403)

    def set_default_headers(self) -> None:
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("X-Content-Type-Options", "nosniff")


class OrdinaryScanHandler(_LoopbackHandler):
    """What any scanner opens: the phone, with the code held ready."""

    def get(self, token: str) -> None:
        code = f"{self.platform.base_url}/q/{token}"
        self.redirect("/?" + urlencode({"code": code}), status=303)


class PhonePageHandler(_LoopbackHandler):
    def get(self) -> None:
        person = self._person()
        pushed = [entry for entry in person.chat if entry.outcome is not None]
        code, screen = self.get_query_argument("code", ""), person.app_screen
        if screen is not None and screen.link != self.get_query_argument("app", ""):
            screen = None  # the app is in the background
        self.render(
            "phone.html",
            account=self.platform.account,
            people=list(self.platform.people.values()),
            person=person,
            code=code,
            for_app=self.phone.is_app_code(code),
            screen=screen,
            pushed=pushed[: -_WIRE_SHOWN - 1 : -1],
            segments=segments,
            clock=_clock,
            date=_date,
            link=self._link,
        )

    def _person(self) -> Person:
        openid = self.get_query_argument("person", "")
        if not openid:
            return next(iter(self.platform.people.values()))
        if openid not in self.platform.people:
            raise HTTPError(404)
        return self.platform.people[openid]

    def _link(self, person: Person) -> str:
        """This page for another person, the code kept."""
        return _page(person.openid, code=self.get_query_argument("code", ""))


class _FormHandler(_LoopbackHandler):
    """Does what a form of the phone page says, and shows the phone again."""

    def whose(self) -> str:
        """The openid of the person whose phone it is."""
        openid = self.get_body_argument("person", "")
        if openid not in self.platform.people:
            raise HTTPError(404)
        return openid

    def required(self, name: str) -> str:
        value = self.get_body_argument(name, "")
        if not value:
            raise HTTPError(400)
        return value


class PhoneActionHandler(_FormHandler):
    """What is done in WeChat, and the scan, which is for the app that the code is for."""

    async def post(self, action: str) -> None:
        openid = self.whose()
        match action:
            case "scan" if self.phone.is_app_code(self.required("code")):
                screen = await self.phone.app_scan(openid, self.required("code"))
                self.redirect(_page(openid, app=screen.link), status=303)
                return
            case "scan":
                follow = self.get_body_argument("follow", "1") == "1"
                await self.phone.scan(openid, self.required("code"), follow=follow)
            case "follow":
                await self.phone.follow(openid)
            case "unfollow":
                await self.phone.unfollow(openid)
            case _:
                await self.phone.send_text(openid, self.required("text"))
        self.redirect(_page(openid), status=303)


class AppActionHandler(_FormHandler):
    """The answer to what the team's own app asks."""

    async def post(self, action: str) -> None:
        openid, link = self.whose(), self.required("link")
        number = self.get_body_argument("number", "")
        try:
            if action == "confirm":
                await self.phone.app_confirm(openid, link, int(number) if number.isdecimal() else None)
            else:
                await self.phone.app_cancel(openid, link)
        except AppNotSetUp:
            raise HTTPError(404) from None
        except NotAsked:
            pass  # pressed twice, or on an old page: the phone shows what has become of it
        self.redirect(_page(openid, app=link), status=303)


def _page(openid: str, *, code: str = "", app: str = "") -> str:
    """The phone page; `code` is what is in front of the camera, `app` what the own app is shown with."""
    known = {"person": openid, "code": code, "app": app}
    return "/?" + urlencode({name: value for name, value in known.items() if value})


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


# --- the switchboard ------------------------------------------------------------------------------------


class ControlHandler(_LoopbackHandler):
    """Faults on demand for tests in another process. Each member is optional; `{}` only reads:

        {"fail": {"path": "/cgi-bin/user/info", "errcode": 45009, "times": 1},
         "answer": {"path": "…", "body": "<html>", "status": 502, "times": 1},
         "delay": {"path": "…", "seconds": 2.5, "times": 1},
         "quotas": {"/cgi-bin/qrcode/create": 3},
         "token_lifetime": 60, "down": true, "heal": true, "expire_tokens": true, "revoke_tokens": true}

    Answers `{"calls": {path: number}, "down": false, "people": [{openid, name, following}]}`.
    """

    def post(self) -> None:
        try:
            self._apply(json.loads(self.request.body.decode("utf-8")))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self.set_status(400)
            self.finish({"error": f"{type(error).__name__}: {error}"})
            return
        people = self.platform.people.values()
        self.finish(
            {
                "calls": dict(self.platform.calls),
                "down": self.platform.down,
                "people": [{"openid": p.openid, "name": p.name, "following": p.following} for p in people],
            }
        )

    def _apply(self, orders: Mapping[str, Any]) -> None:
        for name, order in orders.items():
            match name:
                case "fail":
                    self.platform.fail(order["path"], int(order["errcode"]), int(order.get("times", 1)))
                case "answer":
                    body, status = str(order["body"]).encode("utf-8"), int(order.get("status", 200))
                    self.platform.answer(order["path"], body, status, int(order.get("times", 1)))
                case "delay":
                    self.platform.delay(order["path"], float(order["seconds"]), int(order.get("times", 1)))
                case "quotas":
                    self.platform.quotas |= {str(path): int(limit) for path, limit in order.items()}
                case "token_lifetime":
                    self.platform.token_lifetime = float(order)
                case "down":
                    self.platform.down = order is True
                case "heal" | "expire_tokens" | "revoke_tokens":
                    getattr(self.platform, name)()
                case _:
                    raise ValueError(f"unknown order: {name}")
