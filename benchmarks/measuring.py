"""Servers in processes of their own on one core, and a driver on another one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SERVER_CORE, DRIVER_CORE = 0, 1
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Load:
    """What one run of the driver saw."""

    requests: int
    per_second: float
    cpu_microseconds: float  # of the server, for a request


class Server:
    """A child that says in one line of JSON where it listens, and ends when its standard input does."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self._process = process
        self.told: dict[str, Any] = json.loads(process.stdout.readline())

    def cpu_seconds(self) -> float:
        with open(f"/proc/{self._process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK


@contextmanager
def server(module: str, *arguments: str) -> Iterator[Server]:
    """`python -m module arguments…`, on the server's core."""
    process = subprocess.Popen(  # noqa: S603  # ourselves
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
    )
    try:
        yield Server(process)
    finally:
        process.communicate(timeout=30)


def wrk(target: Server, path: str, headers: Mapping[str, str], *, connections: int, seconds: int) -> Load:
    """Asks as fast as it is answered. Raises ValueError where an answer is no 2xx."""
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("wrk is not on PATH (Debian's wrk)")
    lines = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    before = target.cpu_seconds()
    said = subprocess.run(  # noqa: S603
        [
            *(program, "-t", "1", "-c", str(connections), "-d", f"{seconds}s", *lines),
            f"http://127.0.0.1:{target.told['port']}{path}",
        ],
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {DRIVER_CORE}),
    ).stdout
    cpu = target.cpu_seconds() - before
    if "Non-2xx" in said or "Socket errors" in said:
        raise ValueError(f"not every answer was good: {said}")
    requests = int(_found(r"(\d+) requests in", said))
    return Load(
        requests,
        float(_found(r"Requests/sec:\s+([\d.]+)", said)),
        1e6 * cpu / requests,
    )


def machine() -> dict[str, str]:
    with open("/proc/cpuinfo") as file:
        models = re.findall(r"model name\s*:\s*(.+)", file.read())
    return {
        "processor": models[0] if models else "unknown",
        "cores": str(os.cpu_count()),
        "python": sys.version.split()[0],
    }


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"wrk said something else: {text}")
    return match[1]
