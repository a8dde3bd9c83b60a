"""The team's own app, played on the phone: its backend's tokens, its calls to the login server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from joserfc import jwt
from joserfc.jwk import OctKey
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from emulator.people import Person

CONNECT_SECONDS = 2.0
REQUEST_SECONDS = 5.0
TOKEN_SECONDS = 300
MAX_ANSWER = 64 * 1024

UNREACHABLE = "unreachable"
_FAULTS = {
    "unauthenticated": ("登录服务器不认可这个 App 的身份", "The login server does not accept the app."),
    "login_refused": ("这个账号不能在这里登录", "This account may not log in here."),
    "number_wrong": ("数字不对，请刷新网页再扫", "The number was wrong. Refresh the page."),
    "ticket_unknown": ("二维码已过期，请刷新网页再扫", "The code has expired. Refresh the page."),
    "transition_refused": ("二维码已被使用，请刷新网页再扫", "The code has been used. Refresh the page."),
    "too_many_requests": ("输错次数太多，请稍后再扫", "Too many wrong numbers. Scan again later."),
    UNREACHABLE: ("无法连接登录服务器，请稍后再扫", "The login server cannot be reached. Try again soon."),
}  # fmt: skip
_OTHER_FAULT = ("登录没有完成，请重新扫码", "The login was not completed. Scan again.")


@dataclass(frozen=True, slots=True)
class AppBackend:
    """The app's backend: what it signs its people's tokens with, and the login server they are good for."""

    issuer: str
    audience: str
    key: str = field(repr=False)  # a shared secret of 32 bytes or more: HS256
    server: str  # the login server's base_url

    def ticket_id(self, text: str) -> str:
        """The id in a link of our login server, "" in any other text: nobody else gets to see a token."""
        found = re.fullmatch(rf"{re.escape(self.server)}/s/([A-Za-z0-9_-]{{1,64}})", text)
        return found[1] if found else ""

    def token(self, person: Person, picture: str, token_id: str, now: float) -> str:
        """A fresh JWT; `token_id` names it, for one confirms once."""
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": f"app-{person.openid}",  # the app knows people by another id than WeChat
            "name": person.name,
            "picture": picture,
            "iat": int(now),
            "exp": int(now) + TOKEN_SECONDS,
            "jti": token_id,
        }
        return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(self.key))


class Step(StrEnum):
    """Where the app is with one code."""

    ASKING = "asking"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class AppScreen:
    """What the app shows for one code."""

    link: str  # what the code says
    step: Step
    site: str = ""
    browser: str = ""
    system: str = ""
    address: str = ""
    created: float = 0.0  # Unix seconds
    handle: str = field(default="", repr=False)
    number_match: bool = False  # the person has to type the number on the page
    tries_left: int | None = None  # after a wrong one
    fault: str = ""  # code of the problem

    @property
    def fault_text(self) -> tuple[str, str]:
        """In Chinese and in English."""
        return _FAULTS.get(self.fault, _OTHER_FAULT)


class _Refused(Exception):
    """`code` says why, in the login server's words."""

    def __init__(self, code: str, tries_left: int = 0) -> None:
        self.code = code
        self.tries_left = tries_left


class OwnApp:
    """The app as it is installed on all phones; each person is logged in to it already."""

    def __init__(
        self,
        backend: AppBackend,
        *,
        now: Callable[[], float],
        random: Callable[[int], str],
        picture_of: Callable[[Person], str],
    ) -> None:
        self.backend = backend
        self._now = now
        self._random = random
        self._picture_of = picture_of
        self._http: AsyncHTTPClient = SimpleAsyncHTTPClient(force_instance=True, max_body_size=MAX_ANSWER)

    async def scan(self, person: Person, link: str) -> AppScreen:
        """What the person must see before saying yes, or why it is not asked."""
        screen = AppScreen(link, Step.FAILED)
        try:
            seen = await self._call(person, link, "scan", {})
        except _Refused as refusal:
            return replace(screen, fault=refusal.code)
        return replace(
            screen,
            # Scanned again after a yes: nothing is left to ask.
            step=Step.ASKING if seen.get("state") == "SCANNED" else Step.CONFIRMED,
            site=str(seen.get("site", "")),
            browser=str(seen.get("browser", "")),
            system=str(seen.get("system", "")),
            address=str(seen.get("address", "")),
            created=float(seen.get("created", 0.0)),
            handle=str(seen.get("handle", "")),
            number_match=seen.get("number_match") is True,
        )

    async def decide(
        self, person: Person, screen: AppScreen, *, confirm: bool, number: int | None = None
    ) -> AppScreen:
        """Says yes, with the number that the page shows where it asks for that, or no."""
        action, step = ("confirm", Step.CONFIRMED) if confirm else ("cancel", Step.CANCELLED)
        body: dict[str, Any] = {"handle": screen.handle}
        if confirm and screen.number_match:
            body["number"] = number
        try:
            await self._call(person, screen.link, action, body)
        except _Refused as refusal:
            if refusal.tries_left:
                return replace(screen, tries_left=refusal.tries_left)
            return replace(screen, step=Step.FAILED, fault=refusal.code)
        return replace(screen, step=step)

    def close(self) -> None:
        self._http.close()

    async def _call(self, person: Person, link: str, action: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer's JSON. Raises _Refused."""
        token = self.backend.token(person, self._picture_of(person), self._random(22), self._now())
        request = HTTPRequest(
            f"{self.backend.server}/api/v1/tickets/{self.backend.ticket_id(link)}/{action}",
            method="POST",
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            body=json.dumps(body),
            connect_timeout=CONNECT_SECONDS,
            request_timeout=REQUEST_SECONDS,
            follow_redirects=False,
        )
        try:
            response = await self._http.fetch(request, raise_error=False)
            answer = json.loads(response.body)
        except (OSError, HTTPClientError, ValueError):
            raise _Refused(UNREACHABLE) from None
        if not isinstance(answer, dict):
            raise _Refused(UNREACHABLE)
        if response.code != 200:
            raise _Refused(str(answer.get("code", "")), int(answer.get("tries_left", 0)))
        return answer
