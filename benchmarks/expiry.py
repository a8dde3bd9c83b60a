"""Ten thousand pages' tickets expire in the same second: how long all others are kept waiting meanwhile.

A small request is sent every two milliseconds, or as soon as the one before it has been answered; the longest
that one of them takes is the longest stall of the loop. Each page must be told INVALID and let go. Against
bare Tornado, which tells all its sockets in one go when it is asked to (`bare_waiting.py`).
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from benchmarks import crowd, servers
from benchmarks.measuring import Plan
from benchmarks.results import Goal, Row
from benchmarks.servers import WrongAnswers
from wechat.callback import Mode

WAITING, FEW = 10_000, 200
UNTIL_ALL_WAIT, SOON = 30, 6  # seconds
CALM = 2.0  # seconds before, in which nothing happens
LONGEST = 100.0  # milliseconds


def run(plan: Plan) -> list[Row]:
    waiting = crowd.scenes(crowd.sized(plan, WAITING, FEW))
    with ExitStack() as stack:
        folder = stack.enter_context(servers.data_folder())
        pages = crowd.write(folder / "pages", crowd.websockets(waiting))
        beat = crowd.write(folder / "beat", [servers.request("GET", "/healthz")])
        end = crowd.write(folder / "end", [servers.request("POST", "/end")])
        options: dict[str, Any] = {"told": "INVALID", "beat": beat}
        bare = stack.enter_context(crowd.bare())
        with crowd.crowd(bare, pages, events=end, **options) as sockets:
            bare.settle()
            naive = _ended(sockets.round(), len(waiting))
        until = crowd.sized(plan, UNTIL_ALL_WAIT, SOON)
        ends_at = time.time() + until
        section = servers.wechat(servers.account(Mode.SAFE), pool_size=0)
        saoma = stack.enter_context(servers.saoma({"wechat": section}, before=crowd.stored(waiting, ends_at)))
        with crowd.crowd(saoma, pages, **options) as sockets:
            saoma.settle()
            if time.time() > ends_at - CALM:
                raise WrongAnswers("the tickets have ended before all waited")
            time.sleep(ends_at - CALM - time.time())
            ours = _ended(sockets.round(), len(waiting))
    return [
        Row(
            f"{len(waiting)} tickets expire at once",
            goals=(Goal("longest stall, ms", ours["beat"]["max"], LONGEST, at_least=False),),
            facts={
                "longest stall of bare, ms": naive["beat"]["max"],
                "p99 of others, ms": ours["beat"]["p99"],
                "last one told after, ms": ours["last"],
                "last one told by bare after, ms": naive["last"],
            },
        )
    ]


def _ended(said: dict[str, Any], number: int) -> dict[str, Any]:
    if said["failures"] or said["told"] != number or said["closed"] != number:
        raise WrongAnswers(
            f"of {number}, {said['told']} were told, {said['closed']} let go: {said['failures']}"
        )
    return {"beat": said["beat_milliseconds"], "last": said["ending_milliseconds"]["max"]}
