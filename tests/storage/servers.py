"""Servers for the tests. MongoDB is mongod where it is there, else FerretDB, built once from its folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.building import NotBuilt, built_by_go
from tests.ports import free_port, listens

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "tests" / "ferretdb"
BUILDS = ROOT / ".cache" / "ferretdb"
START_SECONDS = 20.0

Command = Callable[[int, Path], list[str]]  # of a port on loopback and a folder for the data


class NoServer(Exception):
    """There is no MongoDB here and none can be built; the text says what is missing."""


class MongodbServer:
    """One server of ours on a loopback port; its data outlive a stop and go with `remove`."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._folder = Path(tempfile.mkdtemp(prefix="saoma-mongodb-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Starts it, again too, on the same port; returns when it listens."""
        with (self._folder / "server.log").open("ab") as output:
            self._process = subprocess.Popen(
                self._command(self._port, self._folder),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=self._folder,
            )
        deadline = time.monotonic() + START_SECONDS
        while not listens(self._port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"MongoDB did not start: {(self._folder / 'server.log').read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def hang(self) -> None:
        """It takes connections and requests and answers none, until `resume`."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)  # until all its threads have stopped

    def resume(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was not started"
        return self._process

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.communicate(timeout=START_SECONDS)  # closes its standard input too
            self._process = None


class RedisServer(MongodbServer):
    """A Redis as a cluster needs it: append-only file, no eviction. Raises NoServer where there is none."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise NoServer("redis-server is not on PATH (Debian's redis-server)")
        super().__init__(
            lambda port, folder: [
                *(program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""),
                *("--appendonly", "yes", "--maxmemory-policy", "noeviction"),
            ]
        )

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """As above; returns when it has read what it had stored."""
        super().start()
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise RuntimeError("Redis does not answer")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self._port), timeout=START_SECONDS) as asking:
            asking.sendall(b"PING\r\n")
            return asking.recv(5) == b"+PONG"


def find_command() -> Command:
    """How to start a MongoDB here; builds FerretDB where it has to. Raises NoServer."""
    mongod = shutil.which("mongod")
    if mongod:
        return lambda port, folder: [
            *(mongod, "--port", str(port), "--dbpath", str(folder), "--bind_ip", "127.0.0.1", "--quiet")
        ]
    try:
        program = str(built_by_go(SOURCES, BUILDS))
    except NotBuilt as missing:
        raise NoServer(f"mongod is not on PATH, and FerretDB is not here instead: {missing}") from missing
    return lambda port, folder: [program, f"127.0.0.1:{port}", str(folder)]
