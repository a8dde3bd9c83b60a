"""What the tests of the whole are built on: the emulator, a real server on a free port, and browsers."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.netutil import bind_sockets
from tornado.websocket import WebSocketClientConnection, websocket_connect

from config import Settings
from emulator import Account, Emulator
from server import Server, open_storage
from storage.base import Storage
from wechat.callback import Mode

CALLBACK = "/wechat/callback"


class Clock:
    """The time, and a way to move it on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def pass_(self, seconds: float) -> None:
        self.ahead += seconds


def new_account(mode: Mode = Mode.SAFE) -> Account:
    return Account(
        appid=f"wx{secrets.token_hex(8)}",
        secret=secrets.token_hex(16),
        token=secrets.token_hex(8),
        encoding_aes_key=secrets.token_hex(22)[:43] if mode is not Mode.PLAIN else "",
        mode=mode,
        callback_url="",
    )


def settings_for(account: Account, api_base: str, folder: Path, document: Mapping[str, Any]) -> Settings:
    wechat = {
        "appid": account.appid,
        "secret": account.secret,
        "token": account.token,
        "encoding_aes_key": account.encoding_aes_key,
        "mode": account.mode.value,
        "api_base": api_base,
        **document.get("wechat", {}),
    }
    return Settings.model_validate({**document, "wechat": wechat, "folder": folder})


@dataclass
class Whole:
    """A running server and the platform it belongs to."""

    server: Server
    emulator: Emulator
    clock: Clock

    @property
    def base_url(self) -> str:
        return self.server.base_url

    @property
    def storage(self) -> Storage:
        return self.server.context.storage

    def browser(self, **headers: str) -> Browser:
        return Browser(self.base_url, headers)

    def person(self, number: int = 0) -> str:
        """The openid of one of the emulator's people."""
        return list(self.emulator.platform.people)[number]


@asynccontextmanager
async def running(
    folder: Path,
    *,
    mode: Mode = Mode.SAFE,
    account: Account | None = None,
    emulator: Emulator | None = None,
    port: int = 0,
    **document: Any,
) -> AsyncIterator[Whole]:
    """A server with the settings of `document` over the defaults; its own emulator unless one is given."""
    clock = Clock()
    own = emulator is None
    if emulator is None:
        emulator = Emulator.start(account or new_account(mode), timeout=2.0, now=clock)
    settings = settings_for(emulator.platform.account, emulator.base_url, folder, document)
    storage = await open_storage(settings)
    server = Server(settings, sockets=bind_sockets(port, "127.0.0.1"), storage=storage, now=clock)
    emulator.deliver_to(server.base_url + CALLBACK)
    server.start()
    try:
        yield Whole(server, emulator, clock)
    finally:
        await server.stop()
        if own:
            await emulator.stop()


class Browser:
    """An HTTP client that keeps cookies and knows a page's XSRF token, as a browser with our script does."""

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        self.base_url = base_url
        self.headers = dict(headers)
        self.cookies: dict[str, str] = {}
        self.xsrf = ""
        self._client = AsyncHTTPClient()

    async def request(
        self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> HTTPResponse:
        sent = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36", **self.headers}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if method != "GET":
            sent |= {"Origin": self.base_url, "X-XSRFToken": self.xsrf}
            body = body if isinstance(body, (str, bytes)) else json.dumps(body or {})
        sent |= headers or {}
        url = path if path.startswith("http") else self.base_url + path
        request = HTTPRequest(
            url,
            method=method,
            body=body if method != "GET" else None,
            headers={name: value for name, value in sent.items() if value},
            follow_redirects=False,
            request_timeout=40,
        )
        response = await self._client.fetch(request, raise_error=False)
        self._keep(response)
        return response

    async def get(self, path: str, **headers: str) -> HTTPResponse:
        return await self.request("GET", path, headers=headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> HTTPResponse:
        return await self.request("POST", path, body=body, headers=headers)

    async def open_login(self, path: str = "/login") -> str:
        """Opens the login page and returns its ticket's id."""
        page = (await self.get(path)).body.decode()
        found = re.search(r'data-ticket="([^"]+)"', page)
        assert found, page
        self.xsrf = re.search(r'data-xsrf="([^"]+)"', page)[1]  # type: ignore[index]
        return found[1]

    async def code_of(self, ticket_id: str, storage: Storage) -> str:
        """What the ticket's QR code says."""

        async def work(transaction):
            return await transaction.tickets.get(ticket_id, now=0)

        return (await storage.transact(work)).code

    async def state(self, ticket_id: str, query: str = "") -> str:
        return json.loads((await self.get(f"/api/v1/tickets/{ticket_id}{query}")).body)["state"]

    async def exchange(self, ticket_id: str) -> HTTPResponse:
        return await self.post(f"/api/v1/tickets/{ticket_id}/exchange")

    @asynccontextmanager
    async def socket(self, ticket_id: str, **headers: str) -> AsyncIterator[WebSocketClientConnection]:
        """The page's socket, open; raises HTTPClientError where it is refused."""
        sent = {"Origin": self.base_url, **self.headers}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent |= headers
        url = f"{self.base_url.replace('http', 'ws', 1)}/websocket/{ticket_id}"
        connection = await websocket_connect(
            HTTPRequest(url, headers={name: value for name, value in sent.items() if value})
        )
        try:
            yield connection
        finally:
            connection.close()

    def _keep(self, response: HTTPResponse) -> None:
        for header in response.headers.get_list("Set-Cookie"):
            for name, morsel in SimpleCookie(header).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value


def document(response: HTTPResponse) -> dict[str, Any]:
    return json.loads(response.body)
