"""What a process takes, read from outside, and whether it grows. The judging is pure."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

MEGABYTE = 1024 * 1024
SHARE_AN_HOUR = 0.02  # of the level, by which memory may grow
MEGABYTES_AN_HOUR = 2.0  # or by so much, whichever is more
NOISE_MEGABYTES = 0.5  # that a short time may show in any case: the allocator takes memory by the megabyte
BLOCKS_A_VISIT = 0.5  # that stay in use
BYTES_A_VISIT = 100.0
MORE_DESCRIPTORS = 8  # the load is by chance
MORE_THREADS = 2


@dataclass(frozen=True, slots=True)
class Sample:
    """`resident` and `own` (USS) are megabytes of memory, `database` and `log` of files."""

    seconds: float  # since the load began
    processor: float  # seconds of it that were taken so far
    resident: float
    own: float
    descriptors: int
    threads: int
    waiting: int
    connections: int
    database: float
    log: float  # the write-ahead log's file

    def __str__(self) -> str:
        return (
            f"{self.seconds:6.0f} s  RSS {self.resident:6.1f} MB  own {self.own:6.1f} MB"
            f"  descriptors {self.descriptors:3}  threads {self.threads:2}"
            f"  waiting {self.waiting:3}  connections {self.connections:3}"
            f"  database {self.database:6.2f} MB  WAL {self.log:5.2f} MB"
        )


@dataclass(frozen=True, slots=True)
class Used:
    """What is in use after so many visits: small blocks, which are Python's, and bytes of all larger ones.

    Far finer than what the process takes: a leak fills the holes of that first.
    """

    visits: int
    blocks: int
    bytes: int

    def __str__(self) -> str:
        large = self.bytes / MEGABYTE
        return f"{self.blocks} blocks and {large:.2f} MB of larger ones after {self.visits} visits"


def kept(before: Used, after: Used) -> list[str]:
    """What each visit leaves in use."""
    visits = after.visits - before.visits
    blocks, large = (after.blocks - before.blocks) / visits, (after.bytes - before.bytes) / visits
    wrong = [f"each visit leaves {blocks:.2f} blocks in use"] if blocks > BLOCKS_A_VISIT else []
    return wrong + ([f"each visit leaves {large:.0f} bytes in use"] if large > BYTES_A_VISIT else [])


def sample(process: int, database: Path, metrics: str, seconds: float) -> Sample:
    """`metrics` is the text of /metrics."""
    folder = Path(f"/proc/{process}")
    status, rollup = (folder / "status").read_text(), (folder / "smaps_rollup").read_text()
    times = (folder / "stat").read_text().rpartition(")")[2].split()  # from the third field on: proc(5)
    return Sample(
        seconds=seconds,
        processor=sum(map(int, times[11:13])) / os.sysconf("SC_CLK_TCK"),
        resident=_kilobytes(status, "VmRSS") / 1024,
        own=sum(map(int, re.findall(r"^Private_\w+: +(\d+) kB", rollup, re.MULTILINE))) / 1024,
        descriptors=len(list((folder / "fd").iterdir())),
        threads=int(re.search(r"^Threads:\s+(\d+)", status, re.MULTILINE)[1]),
        waiting=_gauge(metrics, "saoma_waiting"),
        connections=_gauge(metrics, "saoma_connections"),
        database=_megabytes(database),
        log=_megabytes(database.with_name(f"{database.name}-wal")),
    )


def _kilobytes(status: str, name: str) -> int:
    return int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[1])


def _gauge(metrics: str, name: str) -> int:
    return int(float(re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)[1]))


def _megabytes(file: Path) -> float:
    return file.stat().st_size / MEGABYTE if file.exists() else 0.0


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between any two points (Theil-Sen): single leaps change nothing."""
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if b[0] > a[0]]
    return statistics.median(slopes) if slopes else 0.0


@dataclass(frozen=True, slots=True)
class Trend:
    """Of the second half of the samples; `level` is its median."""

    level: float
    seconds: float
    per_hour: float

    @property
    def grown(self) -> float:
        return self.per_hour * self.seconds / 3600


def trend(samples: Sequence[Sample], of: Callable[[Sample], float]) -> Trend:
    half = samples[len(samples) // 2 :]
    points = [(one.seconds, of(one)) for one in half]
    return Trend(
        statistics.median(value for _, value in points),
        half[-1].seconds - half[0].seconds,
        3600 * slope(points),
    )


def growth(samples: Sequence[Sample]) -> list[str]:
    """What grows, of the process; the database's file may."""
    wrong = []
    for name, of in (("RSS", _resident), ("own memory", _own)):
        found = trend(samples, of)
        allowed = max(MEGABYTES_AN_HOUR, SHARE_AN_HOUR * found.level) * found.seconds / 3600
        if found.grown > allowed + NOISE_MEGABYTES:
            wrong.append(f"{name} grows by {found.per_hour:.1f} MB an hour, at {found.level:.1f} MB")
    quarter = len(samples) // 4
    second, fourth = samples[quarter : 2 * quarter], samples[3 * quarter :]
    for name, more, read in (
        ("descriptors", MORE_DESCRIPTORS, _descriptors),
        ("threads", MORE_THREADS, _threads),
    ):
        before, after = (statistics.median(map(read, part)) for part in (second, fourth))
        if after > before + more:
            wrong.append(f"{name} grow from {before:.0f} to {after:.0f}")
    return wrong


def _resident(one: Sample) -> float:
    return one.resident


def _own(one: Sample) -> float:
    return one.own


def _descriptors(one: Sample) -> int:
    return one.descriptors


def _threads(one: Sample) -> int:
    return one.threads
