"""A page that waits and goes away leaves nothing behind."""

from __future__ import annotations

import asyncio

from tests.harness import running


async def test_a_long_poll_whose_page_goes_away_is_forgotten_at_once(tmp_path):
    async with running(tmp_path) as whole:
        browser = whole.browser()
        ticket = await browser.open_login()
        _, writer = await asyncio.open_connection("127.0.0.1", whole.server.port)
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        head = f"GET /api/v1/tickets/{ticket}?wait=30 HTTP/1.1\r\nHost: 127.0.0.1:{whole.server.port}\r\n"
        writer.write(f"{head}Cookie: {cookies}\r\n\r\n".encode())
        broker = whole.server.broker
        await until(lambda: broker.waiting == 1)
        writer.close()
        await writer.wait_closed()
        await until(lambda: broker.waiting == 0)
        assert broker.tickets == 0


async def until(condition, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
