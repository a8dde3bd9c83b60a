"""deploy/Caddyfile and deploy/traefik.yml in front of a page, with the real Caddy and Traefik.

Debian has no Traefik: it is tested where there is one (on PATH, or SAOMA_TEST_TRAEFIK).
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import yaml

from handlers.authz import IDENTITY
from tests.gate.processes import proxy, shipped
from tests.gate.protected import ProtectedSite, ask, spoofs
from tests.harness import Answer, Browser, Whole, running
from tests.missing import NotHere, find, skip
from tests.ports import free_port


def _caddy(folder: Path, port: int, node: int, site: int) -> AbstractAsyncContextManager[None]:
    try:
        program = find("caddy", "caddy")
    except NotHere as missing:
        skip(missing)
    text = shipped(
        "Caddyfile",
        {
            "app.example.com {": f"http://127.0.0.1:{port} {{",
            "forward_auth 127.0.0.1:8888 {": f"forward_auth 127.0.0.1:{node} {{",
            "reverse_proxy 127.0.0.1:3000": f"reverse_proxy 127.0.0.1:{site}",
        },
    )
    file = folder / "Caddyfile"
    file.write_text(f"{{\n\tadmin off\n\tauto_https off\n\tstorage file_system {folder}\n}}\n{text}")
    return proxy([program, "run", "--config", str(file), "--adapter", "caddyfile"], folder, port)


def _traefik(folder: Path, port: int, node: int, site: int) -> AbstractAsyncContextManager[None]:
    program = os.environ.get("SAOMA_TEST_TRAEFIK") or shutil.which("traefik")
    if program is None:
        pytest.skip("traefik is not on PATH; SAOMA_TEST_TRAEFIK may name it")
    text = shipped(
        "traefik.yml",
        {
            "Host(`app.example.com`)": "Host(`127.0.0.1`)",
            "[websecure]": "[web]",
            "tls: {}": "",
            "http://127.0.0.1:8888/": f"http://127.0.0.1:{node}/",
            "http://127.0.0.1:3000": f"http://127.0.0.1:{site}",
        },
    )
    dynamic, static = folder / "dynamic.yml", folder / "static.yml"
    dynamic.write_text(text)
    static.write_text(
        yaml.safe_dump(
            {
                "entryPoints": {"web": {"address": f"127.0.0.1:{port}"}},
                "providers": {"file": {"filename": str(dynamic)}},
                "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
            }
        )
    )
    return proxy([program, f"--configFile={static}"], folder, port)


class Gate:
    def __init__(self, whole: Whole, port: int, site: ProtectedSite) -> None:
        self.whole, self.port, self.site = whole, port, site

    async def ask(self, *lines: str, path: str = "/") -> Answer:
        return await ask(self.port, *lines, path=path, tls=False)

    async def logged_in(self) -> tuple[Browser, str]:
        """Our own pages' browser, and the line with its cookie."""
        ours = self.whole.browser()
        await self.whole.log_in(ours, self.whole.person())
        return ours, f"Cookie: saoma-session={ours.cookies['saoma-session']}"

    async def user_id(self) -> str:
        user = await self.whole.user(self.whole.person())
        assert user is not None
        return user.id


@pytest.fixture(params=["caddy", "traefik"])
async def gate(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gate]:
    port, node = free_port(), free_port()
    server = {"allowed_redirects": [f"http://127.0.0.1:{port}"]}
    make = _caddy if request.param == "caddy" else _traefik
    async with (
        ProtectedSite().running() as site,
        running(tmp_path, port=node, server=server, wechat={"pool_size": 3}) as whole,
        make(tmp_path, port, node, site.port),
    ):
        async with asyncio.timeout(10):  # Traefik listens before it has read its routes
            while (await ask(port, tls=False)).status == 404:
                await asyncio.sleep(0.05)
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
    assert gate.site.last["Remote-User"] == gate.site.last["X-Auth-Request-User"] == await gate.user_id()
    seen = len(gate.site.requests)
    await ours.post("/logout")
    assert (await gate.ask(cookie)).status == 401
    assert len(gate.site.requests) == seen


async def test_names_that_a_client_makes_up_are_gone(gate: Gate):
    _, cookie = await gate.logged_in()
    known = await gate.user_id()
    expected = {name: [known] if name.endswith("-User") else [""] for name in IDENTITY}
    for spoofed in spoofs():
        assert (await gate.ask(cookie, *spoofed)).status == 200
        assert gate.site.told() == expected, spoofed
    left_out = "Connection: close, Remote-User, x-auth-request-user,remote-Name"
    assert (await gate.ask(cookie, left_out)).status == 200
    assert gate.site.told() == expected


async def test_while_we_or_our_store_are_away_nobody_passes(gate: Gate):
    _, cookie = await gate.logged_in()
    gate.whole.store_goes_away()
    assert (await gate.ask(cookie, "Accept: text/html")).status == 401
    await gate.whole.server.stop()
    assert (await gate.ask(cookie)).status in (500, 502)
    assert gate.site.requests == []


@pytest.mark.parametrize("gate", ["caddy"], indirect=True)  # Traefik passes cookies on as they are
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


def test_traefik_takes_out_every_spelling():
    """Of its file that much can be tested everywhere."""
    check = yaml.safe_load(shipped("traefik.yml", {}))["http"]["middlewares"]["saoma"]["forwardAuth"]
    names = re.compile(check["authResponseHeadersRegex"])
    for line in [line for lines in spoofs() for line in lines]:
        assert names.match(line.partition(":")[0]), line
    for other in ("Remotely", "X-Authority", "X-Auth-Token", "X-Forwarded-User", "Authorization"):
        assert not names.match(other), other
    assert check["trustForwardHeader"] is False
    assert {"Cookie", "Authorization"} <= set(check["authRequestHeaders"])
