"""SIGTERM while nothing goes on: stores that hang, bodies that never come to their end."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from tests.faults.asking import Asking, made, on_redis
from tests.harness import CALLBACK, collect_what_is_left

GONE_SECONDS = 10.0
SLOW = (  # changes that are being asked for and never whole
    f"POST {CALLBACK}?signature=1 HTTP/1.1",
    "POST /api/v1/tickets HTTP/1.1",
)


@pytest.mark.skipif("SAOMA_TEST_GOING_DOWN" not in os.environ, reason="takes ten seconds")
async def test_stores_that_hang_and_slow_uploads_keep_nothing_from_going(
    tmp_path, emulator, own_mongodb, own_redis
):
    storage = {"url": f"{own_mongodb.url}/saoma"}
    site = await made(tmp_path, emulator, storage=storage, **on_redis(own_redis.url))
    async with site.child() as child:
        await child.says("serving")
        asking = await Asking.begin(site)
        async with asyncio.TaskGroup() as uploads:
            for first in SLOW:
                uploads.create_task(_upload(site.port, first))
            own_mongodb.hang()
            own_redis.hang()
            try:
                delivery = uploads.create_task(asking.post(asking.push()))
                made_ticket = uploads.create_task(asking.waiting.post("/api/v1/tickets", {"method": "app"}))
                await asyncio.sleep(0.5)
                since = time.monotonic()
                assert await child.end(signal.SIGTERM, seconds=30) == 0
                seconds = time.monotonic() - since
            finally:
                own_mongodb.resume()
                own_redis.resume()
        print(f"\ngone after {seconds:.2f} s")
        assert seconds < GONE_SECONDS
        assert delivery.result().status == 503, "who had asked was told"
        assert made_ticket.result().code == 503
        assert "Traceback" not in child.output
    collect_what_is_left()


async def _upload(port: int, first: str) -> None:
    """A byte now and then, until it is cut off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{first}\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 1000\r\n\r\n".encode())
        while not reader.at_eof():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.2)
    except ConnectionError:
        pass
    finally:
        writer.close()
