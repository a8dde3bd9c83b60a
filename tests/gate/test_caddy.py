"""deploy/Caddyfile in front of a page, with the real Caddy."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from handlers.authz import IDENTITY
from tests.cluster.processes import ROOT, START_SECONDS, free_port
from tests.gate.protected import ProtectedSite, ask, spoofs
from tests.harness import Answer, Browser, Whole, running

HEAD = "{\n\tadmin off\n\tauto_https off\n\tstorage file_system %s\n}\n"


@pytest.fixture(scope="session")
def caddy_program() -> str:
    program = shutil.which("caddy")
    if program is None and os.environ.get("CI"):
        pytest.fail("CI must test behind Caddy: it is not on PATH (Debian's caddy)")
    if program is None:
        pytest.skip("caddy is not on PATH (Debian's caddy)")
    return program


@asynccontextmanager
async def caddy(program: str, folder: Path, port: int, node: int, site: int) -> AsyncIterator[None]:
    """`folder` is there."""
    text = (ROOT / "deploy" / "Caddyfile").read_text()
    for here, ours in {
        "app.example.com {": f"http://127.0.0.1:{port} {{",
        "forward_auth 127.0.0.1:8888 {": f"forward_auth 127.0.0.1:{node} {{",
        "reverse_proxy 127.0.0.1:3000": f"reverse_proxy 127.0.0.1:{site}",
    }.items():
        assert here in text, f"deploy/Caddyfile has no longer: {here}"
        text = text.replace(here, ours)
    file, log = folder / "Caddyfile", folder / "caddy.log"
    file.write_text(HEAD % (folder / "data") + text)
    environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [program, "run", "--config", str(file), "--adapter", "caddyfile"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            await asyncio.sleep(0.02)
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, START_SECONDS)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
    except OSError:
        return False
    return True


class Gate:
    def __init__(self, whole: Whole, port: int, site: ProtectedSite) -> None:
        self.whole, self.port, self.site = whole, port, site

    async def ask(self, *lines: str, path: str = "/") -> Answer:
        return await ask(self.port, *lines, path=path, tls=False)

    async def logged_in(self) -> tuple[Browser, str]:
        """Our own pages' browser, and the line with its cookie."""
        ours = self.whole.browser()
        await self.whole.log_in(ours, self.whole.person())
        return ours, f"Cookie: a=1; saoma-session={ours.cookies['saoma-session']}; b=2"


@pytest.fixture
async def gate(caddy_program: str, tmp_path: Path) -> AsyncIterator[Gate]:
    port, node = free_port(), free_port()
    server = {"allowed_redirects": [f"http://127.0.0.1:{port}"]}
    async with (
        ProtectedSite().running() as site,
        running(tmp_path, port=node, server=server, wechat={"pool_size": 3}) as whole,
        caddy(caddy_program, tmp_path, port, node, site.port),
    ):
        yield Gate(whole, port, site)


async def test_to_the_login_and_back_and_out(gate: Gate):
    sent_away = await gate.ask("Accept: text/html", path="/reports?a=b")
    address = f"http://127.0.0.1:{gate.port}/reports?a=b"
    assert sent_away.status == 302
    assert sent_away.headers["Location"] == f"{gate.whole.base_url}/login?next={quote(address, safe='')}"
    assert (await gate.ask("Accept: application/json")).status == 401
    forged = await gate.ask("Accept: text/html", "X-Forwarded-Host: evil.example", "X-Forwarded-Uri: //evil")
    assert parse_qs(urlsplit(forged.headers["Location"]).query)["next"] == [f"http://127.0.0.1:{gate.port}/"]
    assert gate.site.requests == []
    ours, cookie = await gate.logged_in()
    assert (await gate.ask(cookie, path="/reports?a=b")).status == 200
    user = await gate.whole.user(gate.whole.person())
    assert user is not None
    assert gate.site.last["Remote-User"] == gate.site.last["X-Auth-Request-User"] == user.id
    assert gate.site.last["Cookie"] == "a=1; saoma-session=; b=2"
    seen = len(gate.site.requests)
    await ours.post("/logout")
    assert (await gate.ask(cookie)).status == 401
    assert len(gate.site.requests) == seen


async def test_names_that_a_client_makes_up_are_gone(gate: Gate):
    _, cookie = await gate.logged_in()
    user = await gate.whole.user(gate.whole.person())
    assert user is not None
    expected = {name: [user.id] if name.endswith("-User") else [""] for name in IDENTITY}
    for spoofed in spoofs():
        assert (await gate.ask(cookie, *spoofed)).status == 200
        assert gate.site.told() == expected, spoofed
    left_out = "Connection: close, Remote-User, x-auth-request-user,remote-Name"
    assert (await gate.ask(cookie, left_out)).status == 200
    assert gate.site.told() == expected


async def test_the_site_does_not_get_our_cookie(gate: Gate):
    ours, _ = await gate.logged_in()
    token = ours.cookies["saoma-session"]
    for given, left in {
        f"saoma-session={token}": "saoma-session=",
        f"saoma-session={token}; a=1": "saoma-session=; a=1",
        f"saoma-session={token};saoma-session=x; a=1": "saoma-session=;saoma-session=; a=1",
        f"a; __Secure-saoma-session=x; saoma-session={token}": "a; __Secure-saoma-session=; saoma-session=",
        f"my-saoma-session=1; saoma-session={token}": "my-saoma-session=1; saoma-session=",
    }.items():
        assert (await gate.ask(f"Cookie: {given}")).status == 200, given
        assert gate.site.last.get("Cookie", "") == left


async def test_while_we_or_our_store_are_away_nobody_passes(gate: Gate):
    _, cookie = await gate.logged_in()
    gate.whole.store_goes_away()
    assert (await gate.ask(cookie, "Accept: text/html")).status == 401
    await gate.whole.server.stop()
    assert (await gate.ask(cookie)).status == 502
    assert gate.site.requests == []
