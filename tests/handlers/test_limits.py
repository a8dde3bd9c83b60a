"""Sizes and time-outs are settings, and hold over real connections."""

from __future__ import annotations

import asyncio
import json
import time

from config import Settings
from tests.harness import Whole, running
from tests.wires import silent_socket

QUICK = {"header_seconds": 1, "body_seconds": 1}
SMALL = {"header_bytes": 4096, "body_bytes": 16_384, "frame_bytes": 200}


def test_the_promised_defaults():
    limits = Settings().limits
    assert (limits.header_seconds, limits.body_seconds) == (10, 10)
    assert (limits.frame_bytes, limits.ping_seconds) == (4096, 20)
    assert (limits.header_bytes, limits.body_bytes) == (16 * 1024, 64 * 1024)


async def open_for(whole: Whole, *pieces: bytes, trickle: bytes = b"") -> float:
    """Seconds until the server closes a connection on which that was sent, then a little again and again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", whole.server.port)
    start = time.monotonic()
    try:
        for piece in pieces:
            writer.write(piece)
        ended = asyncio.create_task(reader.read())
        async with asyncio.timeout(60):
            while not ended.done():
                await asyncio.wait({ended}, timeout=0.1)
                if trickle and not ended.done():
                    writer.write(trickle)
    except ConnectionError:
        pass
    finally:
        writer.close()
    return time.monotonic() - start


async def test_time_outs(tmp_path):
    async with running(tmp_path, limits=QUICK) as whole:
        host = f"Host: 127.0.0.1:{whole.server.port}\r\n".encode()
        get, post = b"GET /healthz HTTP/1.1\r\n" + host, b"POST /api/v1/tickets HTTP/1.1\r\n" + host
        lasted = await asyncio.gather(
            open_for(whole),
            open_for(whole, get, trickle=b"X-A: b\r\n"),
            open_for(whole, get + b"\r\n"),  # answered, and then silent
            open_for(whole, get + b"\r\n" + get, trickle=b"X-A: b\r\n"),  # the second one is slow
            open_for(whole, post + b"Content-Length: 500\r\n\r\n{", trickle=b" "),
            open_for(whole, post + b"Transfer-Encoding: chunked\r\n\r\n", trickle=b"1\r\n \r\n"),
        )
        assert all(0.9 < seconds < 15 for seconds in lasted), lasted


async def test_sizes(tmp_path):
    async with running(tmp_path, limits=SMALL) as whole:

        async def status(head: bytes, body: bytes = b"") -> int:
            async with whole.wire() as wire:
                try:
                    host = f"Host: 127.0.0.1:{whole.server.port}\r\n".encode()
                    await wire.send(head + host + b"Connection: close\r\n\r\n" + body)
                    return (await wire.answer(has_body=False)).status
                except (EOFError, ConnectionError):
                    return 0

        get, post = b"GET /healthz HTTP/1.1\r\n", b"POST /api/v1/tickets HTTP/1.1\r\n"
        assert await status(get + b"X: " + b"a" * 3900 + b"\r\n") == 200
        assert await status(get + b"X: " + b"a" * 4096 + b"\r\n") in (0, 400, 431)
        assert await status(b"GET /healthz?" + b"a" * 4096 + b" HTTP/1.1\r\n") in (0, 400, 414)
        body = b'{"next": "/"}'.ljust(16_384)
        assert await status(post + b"Content-Length: 16384\r\n", body) == 201
        assert await status(post + b"Content-Length: 16385\r\n", body + b" ") in (0, 400, 413)
        chunked = post + b"Transfer-Encoding: chunked\r\n"
        assert await status(chunked, b"4000\r\n%s\r\n0\r\n\r\n" % body) == 201
        assert await status(chunked, b"4000\r\n%s\r\n1\r\n \r\n0\r\n\r\n" % body) in (0, 400, 413)
        browser = whole.browser()
        async with browser.socket(await browser.open_login()) as socket:
            await asyncio.wait_for(socket.read_message(), 30)
            await socket.write_message("x" * 200)
            await whole.server.context.broker.publish("nothing")
            await socket.write_message("x" * 201)
            assert await asyncio.wait_for(socket.read_message(), 30) is None
            assert socket.close_code == 1009


async def test_a_socket_that_never_reads_is_dropped(tmp_path):
    """Rule 13. Who answers the pings stays meanwhile."""
    async with running(tmp_path, limits={"ping_seconds": 1, "pong_seconds": 1}) as whole:
        browser = whole.browser()
        ticket_id = await browser.open_login()
        async with browser.socket(ticket_id) as socket, silent_socket(whole, browser, ticket_id):
            await asyncio.wait_for(socket.read_message(), 30)
            waiting = whole.server.broker
            async with asyncio.timeout(30):
                while waiting.waiting != 2:
                    await asyncio.sleep(0.01)
                while waiting.waiting != 1:
                    await asyncio.sleep(0.01)
            assert (await browser.post(f"/api/v1/tickets/{ticket_id}/abandon")).code == 200
            assert json.loads(await asyncio.wait_for(socket.read_message(), 30))["state"] == "CANCELLED"
