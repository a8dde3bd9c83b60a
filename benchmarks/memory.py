"""What who waits costs in memory: WebSockets and long polls, of bare Tornado (`bare_waiting.py`) and ours,
with the same headers both ways. And as many as one process may have: all are served, and some are told.

The memory is what is the process's own (USS), between a thousand that wait and all of them, divided by how
many came in between: what the first thousand have grown once is not a waiter's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import crowd, event, servers
from benchmarks.measuring import Load, Plan, seen
from benchmarks.results import Goal, Row
from benchmarks.servers import Process, WrongAnswers
from wechat.callback import Mode

FIRST, ALL, FEW = 1000, 10_000, 200
MOST, SOME = 18_000, 400  # these machines allow a process 20,000 descriptors
RATE = 100.0  # events a second
LIFE_SECONDS = 3600.0
EXTRA_BYTES = 2000  # that a waiter of ours may take beyond bare Tornado's
MILLISECONDS = 5.0  # that an event may take to its page with most of them waiting, p99

Requests = Callable[[Iterable[str]], Iterator[bytes]]
KINDS: dict[str, Requests] = {"WebSocket": crowd.websockets, "long poll": crowd.polls}


@dataclass(frozen=True, slots=True)
class Taken:
    """Bytes for each who waits, and the names of the headers that their answers have."""

    bytes: float
    headers: tuple[str, ...]


def taken(server: Process, waiting: list[str], requests: Requests, folder: Path) -> Taken:
    first = len(waiting) // (ALL // FIRST)
    files = [
        crowd.write(folder / name, requests(part))
        for name, part in (("first", waiting[:first]), ("others", waiting[first:]))
    ]
    poll = "true" if requests is crowd.polls else "false"
    with crowd.crowd(server, files[0], poll=poll):
        server.settle()
        before = server.memory()
        with crowd.crowd(server, files[1], poll=poll) as others:
            server.settle()
            grown = server.memory() - before
            headers = others.joined["headers"] or ()
    return Taken(grown / (len(waiting) - first), tuple(headers))


def run(plan: Plan) -> list[Row]:
    number = crowd.sized(plan, ALL, FEW)
    return [_compared(kind, number) for kind in KINDS] + [most(plan)]


def _compared(kind: str, number: int) -> Row:
    waiting = crowd.scenes(number)
    with ExitStack() as stack:
        folder = stack.enter_context(servers.data_folder())
        bare = stack.enter_context(crowd.bare())
        saoma = stack.enter_context(_saoma(waiting))
        found = {
            name: taken(server, waiting, KINDS[kind], folder)
            for name, server in (("bare", bare), ("saoma", saoma))
        }
    if found["bare"].headers != found["saoma"].headers:
        raise WrongAnswers(f"their headers are not the same: {found}")
    extra = found["saoma"].bytes - found["bare"].bytes
    return Row(
        f"memory of a {kind} that waits",
        goals=(Goal("bytes beyond bare", extra, EXTRA_BYTES, at_least=False),),
        facts={f"{name}, bytes": one.bytes for name, one in found.items()},
    )


def most(plan: Plan) -> Row:
    """As many as there may be."""
    waiting, sample = crowd.scenes(crowd.sized(plan, MOST, FEW)), crowd.sized(plan, SOME, FEW // 2)
    stride = len(waiting) // sample
    with ExitStack() as stack:
        folder = stack.enter_context(servers.data_folder())
        pages = crowd.write(folder / "pages", crowd.websockets(waiting))
        events = crowd.write(folder / "events", event.posts(Mode.SAFE, waiting[::stride]))
        saoma = stack.enter_context(_saoma(waiting))
        alone = saoma.memory()
        options = {"events": events, "stride": stride, "number": sample, "rate": RATE}
        with crowd.crowd(saoma, pages, **options) as all_of_them:
            saoma.settle()
            memory = saoma.memory()
            load: Load = seen(saoma, all_of_them.round)
            seconds = all_of_them.joined["seconds"]
    return Row(
        f"event to page, AES, {len(waiting)} waiting",
        {"saoma": load},
        (Goal("p99, ms", load.p99, MILLISECONDS, at_least=False),),
        {"MB alone": alone / 1e6, "MB with all": memory / 1e6, "seconds until all waited": seconds},
    )


@contextmanager
def _saoma(waiting: list[str]) -> Iterator[Process]:
    section = servers.wechat(servers.account(Mode.SAFE), timestamp_window=LIFE_SECONDS, pool_size=0)
    stored = crowd.stored(waiting, time.time() + LIFE_SECONDS)
    with servers.saoma({"wechat": section}, before=[*event.people(), *stored]) as saoma:
        yield saoma
