"""A proxy as a child, ended by its process id."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.cluster.processes import ROOT, START_SECONDS
from tests.ports import listens


def shipped(file: str, changes: Mapping[str, str]) -> str:
    """What stands in deploy/, with these places put differently."""
    text = (ROOT / "deploy" / file).read_text()
    for here, ours in changes.items():
        assert here in text, f"deploy/{file} has no longer: {here}"
        text = text.replace(here, ours)
    return text


@asynccontextmanager
async def proxy(command: list[str], folder: Path, port: int) -> AsyncIterator[None]:
    """Runs while it listens on the port; what it says is in the folder."""
    log = folder / "proxy.log"
    environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            await asyncio.sleep(0.02)
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, START_SECONDS)
