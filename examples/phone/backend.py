"""The backend of a made-up app: knows who uses the phone, and alone speaks to saoma for them.

The page never sees the JWT: it calls this backend with its cookie, and the backend passes scan, confirm and
cancel on with a fresh token. Needs tornado and joserfc. LOGIN_SERVER is saoma's base_url, APP_ISSUER and
APP_KEY are what saoma's settings have as app.issuer and app.key.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.web import Application, HTTPError, RequestHandler, StaticFileHandler

VARIABLES = ("LOGIN_SERVER", "APP_ISSUER", "APP_KEY")
FILES = Path(__file__).parent
PEOPLE = {"u1001": "林小满", "u1002": "陈默", "u1003": "Zoë Müller"}  # your user table
TOKEN_SECONDS = 300
MIN_KEY_BYTES = 32
CONNECT_SECONDS, REQUEST_SECONDS = 3.0, 8.0
MAX_BODY = 16 * 1024
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Backend:
    """What the app and saoma have agreed on, and where the app's page is served."""

    login_server: str
    issuer: str
    key: str = field(repr=False)
    origin: str  # of the page, as the phone's browser names it

    def ticket_id(self, link: str) -> str:
        """The id in a code of our saoma, "" in every other text: nobody else gets to see a token."""
        found = re.fullmatch(rf"{re.escape(self.login_server)}/s/([A-Za-z0-9_-]{{1,64}})", link.strip())
        return found[1] if found else ""

    def token(self, person: str) -> str:
        """A JWT for one call; `jti` because saoma lets a token confirm once."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "saoma",
            "sub": person,
            "name": PEOPLE[person],
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "jti": secrets.token_urlsafe(16),
        }
        return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(self.key))


class Handler(RequestHandler):
    """Answers our own page alone: no other name for this machine, no other site's script."""

    def initialize(self, backend: Backend) -> None:
        self.backend = backend

    def prepare(self) -> None:
        if self.request.host != urlsplit(self.backend.origin).netloc:
            raise HTTPError(403)
        if self.request.method == "POST" and self.request.headers.get("Origin") != self.backend.origin:
            raise HTTPError(403)

    def set_default_headers(self) -> None:
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("X-Content-Type-Options", "nosniff")

    def person(self) -> str:
        """The id of whoever uses this phone, "" while nobody is logged in to the app."""
        person = (self.get_signed_cookie("person") or b"").decode()
        return person if person in PEOPLE else ""

    def text(self, name: str, otherwise: str | None = None) -> str:
        """A text of the JSON body; `otherwise` where it has none of that name."""
        try:
            value = json.loads(self.request.body).get(name, otherwise)
        except (ValueError, AttributeError):
            raise HTTPError(400) from None
        if not isinstance(value, str):
            raise HTTPError(400)
        return value


class SessionHandler(Handler):
    """Who uses the app. A real app asks for a password here; this one believes everybody."""

    def get(self) -> None:
        self.finish({"name": PEOPLE.get(self.person()), "people": PEOPLE})

    def post(self) -> None:
        person = self.text("person")
        if person not in PEOPLE:
            raise HTTPError(400)
        secure = self.backend.origin.startswith("https:")
        self.set_signed_cookie("person", person, httponly=True, samesite="Strict", secure=secure)
        self.finish({"name": PEOPLE[person], "people": PEOPLE})


class LoginHandler(Handler):
    """Scan, confirm, cancel: passed on to saoma with the person's token, the answer passed back."""

    async def post(self, action: str) -> None:
        person, ticket_id = self.person(), self.backend.ticket_id(self.text("link"))
        if not person:
            self.answer(401, {"code": "no_person"})
        elif not ticket_id:
            self.answer(400, {"code": "foreign_code"})
        else:
            body: dict[str, Any] = {} if action == "scan" else {"handle": self.text("handle")}
            if action == "confirm" and (number := self.text("number", "")):
                body["number"] = int(number) if number.isdecimal() and len(number) < 10 else 0
            self.answer(*await self.ask_saoma(f"{ticket_id}/{action}", person, body))

    async def ask_saoma(self, path: str, person: str, body: dict[str, Any]) -> tuple[int, Any]:
        request = HTTPRequest(
            f"{self.backend.login_server}/api/v1/tickets/{path}",
            method="POST",
            headers={"Authorization": f"Bearer {self.backend.token(person)}"},
            body=json.dumps(body),
            connect_timeout=CONNECT_SECONDS,
            request_timeout=REQUEST_SECONDS,
            follow_redirects=False,
        )
        try:
            response = await AsyncHTTPClient().fetch(request, raise_error=False)
            return response.code, json.loads(response.body)
        except (OSError, HTTPClientError, ValueError):
            return 502, {"code": "unreachable"}

    def answer(self, status: int, document: Any) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(document))


class PageHandler(Handler, StaticFileHandler):
    """The page and its two files."""

    def initialize(self, backend: Backend) -> None:  # type: ignore[override]
        Handler.initialize(self, backend)
        StaticFileHandler.initialize(self, str(FILES))

    async def get(self, name: str, include_body: bool = True) -> None:
        await super().get(name or "index.html", include_body)


def make_app(backend: Backend) -> Application:
    parts = {"backend": backend}
    return Application(
        [
            (r"/session", SessionHandler, parts),
            (r"/(scan|confirm|cancel)", LoginHandler, parts),
            (r"/(|phone\.js|phone\.css)", PageHandler, parts),
        ],
        cookie_secret=secrets.token_bytes(32),  # of this run: a restart logs everybody out of the app
    )


async def serve(backend: Backend, address: str, port: int) -> None:
    make_app(backend).listen(port, address, max_body_size=MAX_BODY)
    print(f"{backend.origin}/", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serves the app's page. Needs " + ", ".join(VARIABLES))
    parser.add_argument("--address", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8891, help="default: %(default)s")
    parser.add_argument("--origin", help="how browsers reach it, if not by http://127.0.0.1:PORT")
    arguments = parser.parse_args()
    server, issuer, key = (os.environ.get(name, "") for name in VARIABLES)
    if not (server and issuer and key):
        parser.error("set " + ", ".join(VARIABLES) + " in the environment")
    if len(key.encode()) < MIN_KEY_BYTES:
        parser.error(f"APP_KEY has {MIN_KEY_BYTES} bytes or more")
    origin = arguments.origin or f"http://127.0.0.1:{arguments.port}"
    asyncio.run(serve(Backend(server.rstrip("/"), issuer, key, origin), arguments.address, arguments.port))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print()
