"""Runs of the driver (Go, `driver/`) against servers in turns, and what they say."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tornado

from benchmarks.servers import OTHER_CORE, ROOT, Process, WrongAnswers, pinned
from tests.building import built_by_go

SOURCES = Path(__file__).parent / "driver"
BUILDS = ROOT / ".cache" / "driver"


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure."""

    rounds: int  # that count, after one that warms up
    seconds: float  # of each round, for each server


FULL, SHORT = Plan(7, 2.0), Plan(1, 0.25)


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of the driver saw, or the medians of several; milliseconds are those of an operation."""

    operations: float
    per_second: float
    cpu_microseconds: float  # of the server's process, all its threads, for an operation
    p50: float
    p90: float
    p99: float
    max: float
    driver_share: float  # of its core that the driver took: at 1 it would be the limit
    megabytes: float = 0.0  # of memory that are the server's own, at the end; 0: not looked at


def driver(command: str, **options: Any) -> dict[str, Any]:
    """What the driver says; options are those of its subcommand."""
    program = built_by_go(SOURCES, BUILDS)
    given = [part for name, value in options.items() for part in (f"-{name}", str(value))]
    ended = subprocess.run(  # noqa: S603  # ours
        [program, command, *given],
        capture_output=True,
        text=True,
        preexec_fn=pinned(OTHER_CORE),
    )
    if ended.returncode:
        raise WrongAnswers(ended.stderr.strip())
    said: dict[str, Any] = json.loads(ended.stdout)
    return said


def load(server: Process, command: str, **options: Any) -> Load:
    """A closed loop of the driver's. Raises WrongAnswers where one operation has failed."""
    return seen(server, partial(driver, command, address=server.address, **options))


def seen(server: Process, run: Callable[[], dict[str, Any]]) -> Load:
    """The server under what `run` does and tells. Raises WrongAnswers where one operation has failed."""
    before = server.cpu_seconds()
    said = run()
    cpu = server.cpu_seconds() - before
    if said["failures"] or not said["operations"]:
        raise WrongAnswers(f"what came instead: {said['failures']}")
    return Load(
        operations=said["operations"],
        per_second=said["operations"] / said["seconds"],
        cpu_microseconds=1e6 * cpu / said["operations"],
        **said["milliseconds"],
        driver_share=said["driver_cpu_seconds"] / said["seconds"],
        megabytes=server.memory() / 1e6,
    )


def write_requests(file: Path, requests: Iterable[bytes]) -> Path:
    """For the driver's `replay`."""
    with file.open("wb") as to:
        for request in requests:
            to.write(len(request).to_bytes(4, "big") + request)
    return file


def interleaved(sides: Mapping[str, Callable[[], Load]], rounds: int) -> dict[str, Load]:
    """The medians of each side; all run once in a round, the other way round in each second one."""
    seen: dict[str, list[Load]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in list(sides) if number % 2 else reversed(list(sides)):
            found = sides[name]()
            if number:  # the first round warms up
                seen[name].append(found)
    return {name: medians(loads) for name, loads in seen.items()}


def replayed(
    sides: Mapping[str, tuple[Process, Path]], plan: Plan, *, callers: int, **options: Any
) -> dict[str, Load]:
    """Each side's server is sent its file of requests again and again."""
    runs = {
        name: partial(load, server, "replay", requests=file, callers=callers, seconds=plan.seconds, **options)
        for name, (server, file) in sides.items()
    }
    return interleaved(runs, plan.rounds)


def medians(loads: Sequence[Load]) -> Load:
    return Load(
        *(statistics.median(getattr(load, field) for load in loads) for field in Load.__dataclass_fields__)
    )


def machine() -> dict[str, str]:
    with open("/proc/cpuinfo") as file:
        models = re.findall(r"model name\s*:\s*(.+)", file.read())
    return {
        "processor": models[0] if models else "unknown",
        "cores": str(os.cpu_count()),
        "python": sys.version.split()[0],
        "tornado": tornado.version,
    }
