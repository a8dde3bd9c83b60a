"""A site under test: one or more nodes behind nginx, a WeChat platform, browsers and phones."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.websocket import WebSocketClientConnection, websocket_connect

from emulator import Emulator
from tests.cluster.processes import Nginx, Node
from tests.handlers.test_app import APP, bearer
from tests.harness import CALLBACK, Browser, document, new_account

WIDE = 500  # requests at once


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


TRUSTING = _trusting()  # one for all: making one takes longer than a login


def client(source: str = "") -> AsyncHTTPClient:
    """`source` is the address to come from; nginx's certificate is its own."""
    defaults: dict[str, Any] = {"ssl_options": TRUSTING, "connect_timeout": 10}
    if source:
        defaults["network_interface"] = source
    return SimpleAsyncHTTPClient(force_instance=True, max_clients=WIDE, defaults=defaults)


class SiteBrowser(Browser):
    def __init__(self, base_url: str, client: AsyncHTTPClient, address: str = "") -> None:
        super().__init__(base_url, {}, address)
        self._client = client

    def at(self, node: Node) -> SiteBrowser:
        """The same browser, cookies and all, connected to one node past nginx."""
        other = SiteBrowser(self.base_url, self._client, node.address)
        other.cookies, other.xsrf = self.cookies, self.xsrf
        return other

    async def connect(self, ticket_id: str) -> WebSocketClientConnection:
        """The page's socket."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Origin": self.base_url, "Host": urlsplit(self.base_url).netloc, "Cookie": cookies}
        url = f"{self.address.replace('http', 'ws', 1)}/websocket/{ticket_id}"
        return await websocket_connect(
            HTTPRequest(url, headers=headers, ssl_options=TRUSTING, connect_timeout=5)
        )

    @asynccontextmanager
    async def socket(self, ticket_id: str, **_: str) -> AsyncIterator[WebSocketClientConnection]:
        connection = await self.connect(ticket_id)
        try:
            yield connection
        finally:
            connection.close()


@dataclass
class Site:
    nodes: list[Node]
    nginx: Nginx
    emulator: Emulator
    client: AsyncHTTPClient = field(default_factory=client)

    def browser(self, source: str = "") -> SiteBrowser:
        return SiteBrowser(self.nginx.base_url, client(source) if source else self.client)

    async def scan(self, ticket_id: str, subject: str = "u1", *, at: Node | None = None) -> HTTPResponse:
        """The own app's scan, through nginx or past it."""
        return await self._app("scan", ticket_id, subject, {}, at)

    async def decide(
        self, what: str, ticket_id: str, handle: str, subject: str = "u1", *, at: Node | None = None
    ) -> HTTPResponse:
        """`what` is confirm or cancel."""
        return await self._app(what, ticket_id, subject, {"handle": handle}, at)

    async def scan_and_confirm(self, ticket_id: str, subject: str = "u1", *, at: Node | None = None) -> None:
        scanned = await self.scan(ticket_id, subject, at=at)
        assert scanned.code == 200, scanned.body
        confirmed = await self.decide("confirm", ticket_id, document(scanned)["handle"], subject, at=at)
        assert confirmed.code == 200, confirmed.body

    async def log_in(self, browser: SiteBrowser, subject: str = "u1") -> str:
        """Returns the ticket's id; the browser has its session."""
        ticket_id = await browser.open_login("/login?method=app")
        await self.scan_and_confirm(ticket_id, subject)
        assert (await browser.exchange(ticket_id)).code == 200
        return ticket_id

    async def _app(
        self, what: str, ticket_id: str, subject: str, body: dict[str, Any], at: Node | None
    ) -> HTTPResponse:
        phone = self.browser() if at is None else self.browser().at(at)
        token = bearer(subject, jti=secrets.token_hex(8))  # one token confirms one login
        return await phone.post(f"/api/v1/tickets/{ticket_id}/{what}", body, **token)


async def next_state(socket: WebSocketClientConnection) -> str:
    message = await asyncio.wait_for(socket.read_message(), 10)
    assert message is not None, f"closed with {socket.close_code}"
    return json.loads(message)["state"]


@asynccontextmanager
async def serving(
    folder: Path, nginx_program: str, count: int, **settings: Mapping[str, Any]
) -> AsyncIterator[Site]:
    """`count` nodes with `settings` over what all sites here have. All is ended by its process id."""
    emulator = Emulator.start(new_account(), timeout=4.0)
    account = emulator.platform.account
    document = {
        "app": APP,
        "limits": {"enabled": False},
        "wechat": {
            "appid": account.appid,
            "secret": account.secret,
            "token": account.token,
            "encoding_aes_key": account.encoding_aes_key,
            "mode": "safe",
            "api_base": emulator.base_url,
        },
        **settings,
    }
    ports: list[int] = []
    nodes: list[Node] = []
    server = {"trusted_proxies": ["127.0.0.1"], "secret_key": secrets.token_hex(32)}
    for number in range(count):
        nodes.append(Node(folder / f"node-{number}", {**document, "server": server}))
        ports.append(nodes[-1].port)
    nginx = Nginx(nginx_program, folder / "nginx", ports)
    for node in nodes:
        node.change_server(base_url=nginx.base_url)
    emulator.deliver_to(nginx.base_url + CALLBACK)
    emulator.courier.__dict__["_client"] = client()  # which takes nginx's certificate
    try:
        # One first: FerretDB breaks off where several make the same indexes at once (MongoDB does not).
        for group in (nodes[:1], nodes[1:]):
            for node in group:
                node.begin()
            await asyncio.gather(*(node.ready() for node in group))
        await nginx.start()
        yield Site(nodes, nginx, emulator)
    finally:
        await asyncio.gather(nginx.end(), *(node.end() for node in nodes), return_exceptions=True)
        await emulator.stop()
