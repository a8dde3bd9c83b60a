"""From an event to the page: ten thousand pages wait by WebSocket, each for a ticket of its own, and people
log in, a hundred a second. The time is from when WeChat's event leaves until its page is told CONFIRMED; the
event is verified, decrypted (AES), and all of it is stored durably before the page hears of it.

Against bare Tornado with as many sockets, where a handler looks up the one and tells it (`bare_waiting.py`).
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial

from benchmarks import crowd, event, servers
from benchmarks.measuring import Plan, interleaved, seen
from benchmarks.results import Goal, Row
from wechat.callback import Mode

WAITING, FEW = 10_000, 200
RATE = 100.0  # events a second
LONGER = 2.0  # than other rounds, so that each has enough events
LIFE_SECONDS = 3600.0
GOALS = {"p50": 1.5, "p99": 5.0}  # milliseconds


def run(plan: Plan) -> list[Row]:
    return [_run(plan, mode) for mode in (Mode.PLAIN, Mode.SAFE)]


def _run(plan: Plan, mode: Mode) -> Row:
    waiting = crowd.scenes(crowd.sized(plan, WAITING, FEW))
    number = max(1, int(RATE * plan.seconds * LONGER))  # events in a round
    stride = max(1, len(waiting) // (number * (plan.rounds + 1)))
    scanned = waiting[::stride]
    with ExitStack() as stack:
        folder = stack.enter_context(servers.data_folder())
        pages = crowd.write(folder / "pages", crowd.websockets(waiting))
        events = crowd.write(folder / "events", event.posts(mode, scanned))
        plain = crowd.write(
            folder / "plain", (servers.request("POST", f"/event/{scene}") for scene in scanned)
        )
        section = servers.wechat(servers.account(mode), timestamp_window=LIFE_SECONDS, pool_size=0)
        stored = crowd.stored(waiting, time.time() + LIFE_SECONDS)
        bare = stack.enter_context(crowd.bare())
        saoma = stack.enter_context(servers.saoma({"wechat": section}, before=[*event.people(), *stored]))
        options = {"stride": stride, "number": number, "rate": RATE}
        at_bare = stack.enter_context(crowd.crowd(bare, pages, events=plain, **options))
        at_saoma = stack.enter_context(crowd.crowd(saoma, pages, events=events, **options))
        sides = {
            "bare": partial(seen, bare, at_bare.round),
            "saoma": partial(seen, saoma, at_saoma.round),
        }
        loads = interleaved(sides, plan.rounds)
    goals = tuple(
        Goal(f"{name}, ms", getattr(loads["saoma"], name), bound, at_least=False)
        for name, bound in GOALS.items()
    )
    kind = "plain" if mode is Mode.PLAIN else "AES"
    return Row(f"event to page, {kind}, {len(waiting)} waiting", loads, goals)
