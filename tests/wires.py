"""Connections from an address of one's choice, for what no well-behaved client does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.harness import Browser, Whole

UPGRADE = """\
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
Sec-WebSocket-Version: 13\r
\r
"""


async def connected(whole: Whole, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """On Linux all of 127.0.0.0/8 is this machine."""
    return await asyncio.open_connection("127.0.0.1", whole.server.port, local_addr=(address, 0))


@asynccontextmanager
async def silent_socket(
    whole: Whole, browser: Browser, ticket_id: str, address: str = "127.0.0.1"
) -> AsyncIterator[None]:
    """A WebSocket of the browser's ticket that is open, and whose client answers nothing."""
    reader, writer = await connected(whole, address)
    try:
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        head = f"Host: 127.0.0.1:{whole.server.port}\r\nOrigin: {whole.base_url}\r\nCookie: {cookies}\r\n"
        writer.write(f"GET /websocket/{ticket_id} HTTP/1.1\r\n{head}{UPGRADE}".encode())
        assert b" 101 " in await asyncio.wait_for(reader.readline(), 30)
        yield
    finally:
        writer.close()
