"""SIGTERM in the middle of everything: what was acknowledged stays, who waits is told, the process goes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack

import yaml
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.websocket import WebSocketClientConnection

from handlers.websocket import SERVICE_RESTART
from tests.handlers.test_app import APP, bearer
from tests.harness import Browser, Child, collect_what_is_left, document
from tests.ports import free_port

SOCKETS = int(os.environ.get("SAOMA_TEST_SOCKETS", "100"))
PAGES, EXCHANGES = 20, 30  # and two long polls a page
GONE_SECONDS = 10.0


async def confirmed(browser: Browser, number: int) -> str:
    """A ticket that waits to be collected."""
    ticket = await browser.open_login("/login?method=app")
    path, phone = f"/api/v1/tickets/{ticket}", Browser(browser.base_url, {})
    handle = document(await phone.post(f"{path}/scan", **bearer(f"person {number}")))["handle"]
    assert (await phone.post(f"{path}/confirm", {"handle": handle}, **bearer(f"person {number}"))).code == 200
    return ticket


async def closed(socket: WebSocketClientConnection) -> int | None:
    while await asyncio.wait_for(socket.read_message(), 30) is not None:
        pass
    return socket.close_code


async def test_sigterm_in_the_middle_of_everything(tmp_path):
    settings = tmp_path / "settings.yaml"
    port = free_port()
    server = {"port": port}
    more = {"metrics": {"port": 0}, "app": APP, "limits": {"enabled": False}}
    settings.write_text(yaml.safe_dump({"server": server, **more}))
    base_url = f"http://127.0.0.1:{port}"
    async with Child.serving(settings) as child, AsyncExitStack() as stack:
        await child.says("serving")
        wide = AsyncHTTPClient(force_instance=True, max_clients=2 * PAGES + EXCHANGES)
        stack.callback(wide.close)
        browsers = [Browser(base_url, {}) for _ in range(PAGES)]
        for browser in browsers:
            browser._client = wide
        tickets = [await browser.open_login("/login?method=app") for browser in browsers]
        sockets = [
            await stack.enter_async_context(browsers[number % PAGES].socket(tickets[number % PAGES]))
            for number in range(SOCKETS)
        ]
        for socket in sockets:
            assert await socket.read_message() is not None
        members = [Browser(base_url, {}) for _ in range(EXCHANGES)]
        for member in members:
            member._client = wide
        waiting = [await confirmed(member, number) for number, member in enumerate(members)]
        polls = [
            asyncio.ensure_future(browser.get(f"/api/v1/tickets/{ticket}?wait=25&state=WAITING"))
            for browser, ticket in 2 * list(zip(browsers, tickets, strict=True))
        ]

        async def collect(number: int) -> bool:
            await asyncio.sleep(0.002 * number)  # some before the signal, some after it
            try:
                return (await members[number].exchange(waiting[number])).code == 200
            except ConnectionRefusedError:
                return False

        collecting = [asyncio.ensure_future(collect(number)) for number in range(EXCHANGES)]
        await asyncio.sleep(0.05)
        since = time.monotonic()
        assert await child.end(signal.SIGTERM, seconds=30) == 0
        seconds = time.monotonic() - since
        collected = await asyncio.gather(*collecting)
        codes = await asyncio.gather(*map(closed, sockets))
        cut = await asyncio.gather(*polls, return_exceptions=True)
        print(f"\ngone after {seconds:.2f} s; {sum(collected)} of {EXCHANGES} exchanges answered")
        assert seconds < GONE_SECONDS
        assert set(codes) == {SERVICE_RESTART}
        assert all(isinstance(poll, (HTTPClientError, OSError)) or poll.code == 200 for poll in cut)
        assert "Traceback" not in child.output
        await child.start()
        await child.says("serving")
        for number, member in enumerate(members):
            if not collected[number]:  # it had not been asked, so it can be now
                assert (await member.exchange(waiting[number])).code == 200
            assert (await member.get("/api/v1/me")).code == 200
        for browser, ticket in zip(browsers, tickets, strict=True):
            assert await browser.state(ticket) == "WAITING"
        assert await child.end(signal.SIGTERM) == 0
    collect_what_is_left()  # Tornado's client leaves a socket that was refused to the collector
