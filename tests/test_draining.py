"""What is known of connections so that a server can drain ends with them."""

from __future__ import annotations

import asyncio

from tests.handlers.test_app import APP
from tests.harness import Whole, running


async def all_forgotten(whole: Whole) -> None:
    async with asyncio.timeout(30):
        while whole.server._changes.connections:
            await asyncio.sleep(0.01)


async def test_connections_that_have_ended_are_forgotten(tmp_path):
    async with running(tmp_path, app=APP) as whole:
        request = f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{whole.server.port}\r\n"
        for sent in ("", request, f"{request}\r\n"):
            async with whole.wire() as wire:
                await wire.send(sent.encode())
                if sent.endswith("\r\n\r\n"):
                    assert (await wire.answer()).status == 200
                    assert whole.server._changes.connections == 1
            await all_forgotten(whole)
        browser = whole.browser()
        async with browser.socket(await browser.open_login("/login?method=app")) as socket:
            await socket.read_message()
        await all_forgotten(whole)
