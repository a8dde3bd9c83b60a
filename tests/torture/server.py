"""`server.py serve` as a process that is killed and started again.

A start takes most of a second, nearly all of it for imports. `Nursery` has them behind it: a process that
forks a server for each start, as good to be killed as any other.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster.processes import ROOT, START_SECONDS, Node, dies_with_us

_FORKING = """
import ctypes, os, sys
import server, storage.mongodb, storage.sqlite
for line in sys.stdin:
    settings, log = line.split()
    if not (child := os.fork()):
        ctypes.CDLL(None).prctl(1, 9)  # dies with us
        with open(log, "ab") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        os._exit(server.main(["serve", "--settings", settings]))
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Killable(Node):
    """A node of a cluster's tests that is one alone."""

    async def kill(self) -> None:
        await self.end(signal.SIGKILL)

    async def ready(self) -> None:
        """Returns when it takes connections."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                assert time.monotonic() < deadline, f"no start: {self.log.read_text()[-3000:]}"
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


class Forked(Killable):
    """The same from a nursery."""

    def __init__(self, folder: Path, settings: dict[str, object], nursery: Nursery) -> None:
        super().__init__(folder, settings)
        self._nursery = nursery
        self._pid = 0

    def begin(self) -> None:
        self._pid = self._nursery.fork(self.settings, self.log)

    async def end(self, how: signal.Signals = signal.SIGTERM) -> float:
        since = time.monotonic()
        if self._pid:
            os.kill(self._pid, how)
            self._pid = 0
            code = await asyncio.to_thread(self._nursery.ended)
            assert how is signal.SIGKILL or code == 0, f"ended with {code}: {self.log.read_text()[-3000:]}"
        return time.monotonic() - since


class Nursery:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FORKING],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("SAOMA_")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=dies_with_us(signal.SIGKILL),
        )

    def fork(self, settings: Path, log: Path) -> int:
        """The new server's process id; one at a time."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{settings} {log}\n")
        self._process.stdin.flush()
        return self._line()

    def ended(self) -> int:
        """Waits for the end of the one that was forked last; what `os.waitpid` says of it."""
        return self._line()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _line(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())
