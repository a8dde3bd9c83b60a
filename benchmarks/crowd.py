"""Those who wait for tickets: thousands of WebSockets or long polls, held by the driver (`wait.go`)."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import measuring, servers
from benchmarks.measuring import BUILDS, SOURCES
from benchmarks.servers import OTHER_CORE, SERVER_CORE, Process, Work, WrongAnswers, pinned
from storage.base import Transaction
from tests.building import built_by_go
from tests.ports import free_port
from tickets import Device, Ticket, hash_secret

LONGEST_WAIT = 30  # seconds, of a long poll
BATCH = 1000
BROWSER = {  # what a browser sends along
    "User-Agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8",
    "Cache-Control": "no-cache",
    "Pragma": "no-cache",
}


def scenes(number: int) -> list[str]:
    """Public ids, each a ticket's."""
    return [secrets.token_urlsafe(18) for _ in range(number)]


def secret_of(scene: str) -> str:
    return (2 * scene)[:43]


def stored(waiting: Sequence[str], ends_at: float) -> Iterator[Work]:
    """Tickets of theirs, WAITING."""
    for first in range(0, len(waiting), BATCH):
        yield partial(_store, waiting[first : first + BATCH], ends_at)


async def _store(some: Sequence[str], ends_at: float, transaction: Transaction) -> None:
    now = time.time()
    for scene in some:
        ticket = Ticket(
            id=scene,
            secret_hash=hash_secret(secret_of(scene)),
            method="wechat",
            client="browser",
            created_at=now,
            expires_at=ends_at,
            code=f"http://weixin.qq.com/q/02{scene[:20]}",
            code_ticket=f"gQ{scene}{scene}",
            language="zh-CN",
            device=Device("Chrome", "Windows", "203.0.113.7"),
        )
        await transaction.tickets.create(ticket)


def websockets(waiting: Iterable[str]) -> Iterator[bytes]:
    for scene in waiting:
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Origin": servers.BASE_URL,
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
        }
        headers = {**BROWSER, **upgrade, "Cookie": _cookie(scene)}
        yield servers.request("GET", f"/websocket/{scene}", headers)


def polls(waiting: Iterable[str]) -> Iterator[bytes]:
    for scene in waiting:
        headers = {**BROWSER, "Accept": "*/*", "Sec-Fetch-Site": "same-origin", "Cookie": _cookie(scene)}
        path = f"/api/v1/tickets/{scene}?wait={LONGEST_WAIT}&state=WAITING"
        yield servers.request("GET", path, headers)


def _cookie(scene: str) -> str:
    return f"__Host-saoma-ticket-{scene}={secret_of(scene)}"


class Crowd:
    """All of them, who wait."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.joined = self._hear()

    def round(self) -> dict[str, Any]:
        """The next round, of events or until all have ended; what it says is in `driver/wait.go`."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WrongAnswers(f"the driver has ended: {self._process.wait()}")
        said: dict[str, Any] = json.loads(line)
        return said


@contextmanager
def crowd(server: Process, requests: Path, **options: Any) -> Iterator[Crowd]:
    """They wait from here to the end of the block; options are those of the driver's `wait`."""
    program = built_by_go(SOURCES, BUILDS)
    given = {"address": server.address, "waiters": requests, **options}
    parts = [f"-{name}={value}" for name, value in given.items()]
    process = subprocess.Popen(  # noqa: S603  # ours
        [program, "wait", *parts],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=pinned(OTHER_CORE),
    )
    try:
        yield Crowd(process)
    finally:
        process.kill()
        process.communicate()


def write(file: Path, requests: Iterable[bytes]) -> Path:
    return measuring.write_requests(file, requests)


@contextmanager
def bare() -> Iterator[Process]:
    """Tornado with nothing of ours, where one can wait: `bare_waiting.py`."""
    port = free_port()
    with servers.data_folder() as folder:
        command = [sys.executable, "-m", "benchmarks.bare_waiting", str(port)]
        with servers.on_core(SERVER_CORE, command, port, folder / "server.log") as process:
            yield process


def sized(plan: measuring.Plan, full: int, short: int) -> int:
    """How many wait: few in a run that only shows that all of it works."""
    return full if plan.seconds >= measuring.FULL.seconds else short
