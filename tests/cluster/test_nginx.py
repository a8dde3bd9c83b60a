"""What deploy/nginx.conf does with a node that is not there, or breaks off, and with strangers' headers."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.cluster.processes import Nginx
from tests.cluster.site import SiteBrowser, client
from tests.ports import free_port


class Stub:
    """A node that writes down what it is sent and answers 200, or breaks off."""

    def __init__(self, *, breaks_off: bool = False) -> None:
        self.requests: list[str] = []
        self.port = 0
        self._breaks_off = breaks_off

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Stub]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if not self._breaks_off:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()


@asynccontextmanager
async def before(program, folder, *ports: int) -> AsyncIterator[SiteBrowser]:
    nginx = Nginx(program, folder / "nginx", ports)
    await nginx.start()
    try:
        yield SiteBrowser(nginx.base_url, client())
    finally:
        await nginx.end()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_node_that_is_not_there_is_passed_over(nginx_program, tmp_path, method):
    async with (
        Stub().running() as there,
        before(nginx_program, tmp_path, free_port(), there.port) as browser,
    ):
        answers = [await browser.request(method, "/api/v1/tickets") for _ in range(20)]
    assert {answer.code for answer in answers} == {200}
    assert len(there.requests) == 20


async def test_a_post_that_was_sent_is_not_repeated_and_a_get_is(nginx_program, tmp_path):
    async with (
        Stub(breaks_off=True).running() as broken,
        Stub().running() as well,
        before(nginx_program, tmp_path, broken.port, well.port) as browser,
    ):
        codes = []
        while not broken.requests:
            codes.append((await browser.post("/api/v1/tickets/x/confirm")).code)
        assert codes[-1] == 502
        assert len(well.requests) == codes.count(200), "each POST went to one node"
        assert (await browser.post("/api/v1/tickets/x/confirm")).code == 200, "the broken one is out"
        await asyncio.sleep(2.1)
        broken.requests.clear()
        while not broken.requests:
            assert (await browser.get("/login")).code == 200


async def test_what_strangers_say_of_themselves_is_gone(nginx_program, tmp_path):
    async with Stub().running() as node, before(nginx_program, tmp_path, node.port) as browser:
        await browser.get("/", **{"X-Forwarded-For": "203.0.113.9", "Host": "login.example.com"})
        await browser.get("/websocket/x", **{"X-Forwarded-For": "203.0.113.9", "Upgrade": "websocket"})
    for request in node.requests:
        headers = request.lower().split("\r\n")
        assert [line for line in headers if line.startswith("x-forwarded-for:")] == [
            "x-forwarded-for: 127.0.0.1"
        ]
    assert "Host: login.example.com\r\n" in node.requests[0]
    assert "Connection: upgrade\r\n" in node.requests[1]


async def test_plain_http_leads_to_https(nginx_program, tmp_path):
    nginx = Nginx(nginx_program, tmp_path / "nginx", [free_port()])
    await nginx.start()
    try:
        browser = SiteBrowser(f"http://127.0.0.1:{nginx.plain_port}", client())
        answer = await browser.get("/login?method=app")
        assert (answer.code, answer.headers["Location"]) == (301, "https://127.0.0.1/login?method=app")
        await asyncio.sleep(0.1)
        assert "?" not in nginx.logged
    finally:
        await nginx.end()


MACHINES = [
    "/api/v1/me",
    "/api/v1/tickets/abc?wait=20",
    "/api/authz/forward-auth",
    "/wechat/callback?signature=x",
    "/websocket/abc",
    "/widget/tickets",
    *(f"/oauth2/{name}" for name in ("auth", "token", "userinfo", "jwks", "introspect", "revoke")),
]
PEOPLES = [
    "/",
    "/not-me/abc",
    "/oauth2/authorize?client_id=a",
    "/oauth2/logout",
    "/widget?client_id=a",
    "/.well-known/acme-challenge/x",
]


async def test_by_plain_http_pages_are_led_on_and_programs_refused(nginx_program, tmp_path):
    nginx = Nginx(nginx_program, tmp_path / "nginx", [free_port()])
    await nginx.start()
    try:
        browser = SiteBrowser(f"http://127.0.0.1:{nginx.plain_port}", client())
        for path in MACHINES:
            for method in ("GET", "POST"):
                answer = await browser.request(method, path)
                assert (answer.code, json.loads(answer.body)["code"]) == (403, "https_required"), path
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert "Location" not in answer.headers
        for path in PEOPLES:
            answer = await browser.get(path)
            assert (answer.code, answer.headers["Location"]) == (301, f"https://127.0.0.1{path}")
    finally:
        await nginx.end()


async def test_tls_1_2_has_forward_secrecy_and_authenticated_encryption(nginx_program, tmp_path):
    nginx = Nginx(nginx_program, tmp_path / "nginx", [free_port()])
    await nginx.start()
    try:
        assert await greeted(nginx, "ECDHE-ECDSA-AES128-GCM-SHA256")
        assert await greeted(nginx, "ECDHE-ECDSA-CHACHA20-POLY1305")
        assert not await greeted(nginx, "ECDHE-ECDSA-AES128-SHA")
        assert not await greeted(nginx, "ECDHE-ECDSA-AES256-SHA384")
    finally:
        await nginx.end()


async def greeted(nginx: Nginx, suite: str) -> bool:
    """Whether nginx takes a client of TLS 1.2 with this suite alone."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{suite}:@SECLEVEL=0")
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", nginx.port, ssl=context)
    except (ssl.SSLError, ConnectionError):
        return False
    writer.close()
    return True
