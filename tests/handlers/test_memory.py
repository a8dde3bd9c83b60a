"""What a stranger sends takes no room."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.handlers.attacks import Attack
from tests.harness import Child, Wire, new_account, write_settings
from tests.ports import free_port

BODY = b"<xml>" + b"x" * 10_000_000
TIMES = 50
ROOM = 20 * 1024  # kB
AT_ONCE = 5

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def taken(process: int, what: str) -> int:
    """kB: `VmRSS`, or `VmHWM` for the most there ever was."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", status)[1])


async def test_big_bodies_leave_the_memory_flat(tmp_path):
    port = free_port()
    # Nothing answers at the API's address; the callback needs none.
    settings = write_settings(tmp_path, new_account(), "http://127.0.0.1:9", server={"port": port})
    async with Child.serving(settings) as child:
        await child.says("serving")
        assert child.process is not None
        plain = Attack("signature=x", BODY).http(f"127.0.0.1:{port}")
        chunked = Attack("signature=x", BODY).http(f"127.0.0.1:{port}", chunked=True)

        async def refused(data: bytes) -> None:
            async with Wire(port) as wire:
                await wire.send(data)
                answer = await wire.answer()
                assert (answer.status, answer.body) == (403, b"")

        for data in (plain, chunked):
            await refused(data)
        before = taken(child.process.pid, "VmHWM")
        for start in range(0, TIMES, AT_ONCE):
            data = chunked if start // AT_ONCE % 2 else plain
            await asyncio.gather(*(refused(data) for _ in range(AT_ONCE)))
        assert taken(child.process.pid, "VmHWM") - before < ROOM
