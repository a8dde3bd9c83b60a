"""Concurrent logins on the real stores, on two nodes, in orders that hypothesis chooses.

Between any two calls to the store somebody else may be let go first, or all who wait at once. SAOMA_EXAMPLES
says how many programs there are for each store.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from broker.local import LocalBroker
from flows.context import Context
from flows.session_memory import SessionMemory
from storage import split
from storage.base import Result, Storage, Transaction
from storage.rates import LocalRates
from storage.redis import RedisTickets
from storage.shared import LocalShared
from storage.watched import WatchedStorage
from tests.flows.world import CATALOGUES, Delegating
from tests.harness import new_account, settings_for
from tests.order.history import History
from tests.order.rules import violations
from tests.order.site import Act, Node, Site
from tests.order.walks import (
    BETWEEN,
    BROWSERS,
    BY_BROWSERS,
    KINDS,
    MEANWHILE,
    PEOPLE,
    TICKETS,
    Clock,
    Program,
    steps_to,
)
from tests.storage.drivers import WHOLE

EXAMPLES = {"sqlite": 150, "mongodb": 25, "redis": 100}
MANY = int(os.environ.get("SAOMA_EXAMPLES", "0"))
STEPS = 60  # choices for each program; then the first who waits goes on
ALL_AT_ONCE = 9


@st.composite
def acts(draw: st.DrawFn, tickets: Sequence[str]) -> Act:
    kind = draw(st.sampled_from([kind for kind, weight in KINDS.items() for _ in range(weight)]))
    if kind == "wait":
        return Act(kind, MEANWHILE)
    actors = BROWSERS if kind in BY_BROWSERS else PEOPLE
    actor = draw(st.sampled_from([actors[0]] * 4 + [actors[1]]))
    return Act(kind, actor, draw(st.sampled_from(tickets)), draw(st.integers(0, 1)))


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """As `walks.by_chance`, with more before, and so that hypothesis can make a failing one small."""
    favourite = draw(st.sampled_from(TICKETS))
    before = steps_to(favourite, draw(st.sampled_from([3, 2, 2, 1, 0])))
    before += draw(st.sampled_from([[], [], [], *([Act("wait", seconds)] for seconds in BETWEEN)]))
    before += draw(st.lists(acts(TICKETS), max_size=4))
    at_once = draw(st.lists(acts([favourite] * 8 + list(TICKETS)), min_size=2, max_size=5))
    return Program(before, at_once)


@dataclass
class Turnstile:
    """Whoever comes waits for their turn; without `order` nobody does."""

    order: list[int] | None = None
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def turn(self) -> None:
        if self.order is not None:
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append(place)
            self.changed.set()
            await place

    async def drive(self, works: Sequence[Awaitable[None]], order: list[int]) -> None:
        """Lets one of them go on, or all, whenever each of them waits or has ended."""
        self.order = order
        tasks = [asyncio.ensure_future(work) for work in works]
        for task in tasks:
            task.add_done_callback(lambda _: self.changed.set())
        while running := sum(not task.done() for task in tasks):
            if len(self.waiting) < running:
                self.changed.clear()
                await self.changed.wait()
                continue
            choice = order.pop(0) if order else 0
            let_go = list(self.waiting) if choice == ALL_AT_ONCE else [self.waiting[choice % running]]
            for place in let_go:
                self.waiting.remove(place)
                place.set_result(None)
            await asyncio.sleep(0)
        self.order = None
        await asyncio.gather(*tasks)


class Scheduled(Delegating):
    """A turn comes before and after each piece of work; `within`: and before each call."""

    def __init__(self, inner: Storage, turnstile: Turnstile, *, within: bool) -> None:
        super().__init__(inner)
        self._turn, self._within = turnstile.turn, within

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        async def scheduled(transaction: Any) -> Result:
            return await work(_Turns(transaction, self._turn) if self._within else transaction)

        await self._turn()
        try:
            return await self.inner.transact(scheduled)
        finally:
            await self._turn()


class _Turns:
    """A transaction's collections, or one collection's calls."""

    def __init__(self, inner: Any, turn: Callable[[], Awaitable[None]]) -> None:
        self._inner, self._turn = inner, turn

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return _Turns(found, self._turn)

        async def call(*arguments: Any, **named: Any) -> Any:
            await self._turn()
            return await found(*arguments, **named)

        return call


def _tickets_in_turns(turn: Callable[[], Awaitable[None]], *arguments: Any) -> _Turns:
    return _Turns(RedisTickets(*arguments), turn)


def make_nodes(folder: Path, storages: Sequence[Storage], clock: Clock) -> list[Node]:
    shared = LocalShared(clock)
    nodes = []
    for storage in storages:
        context, asked = (
            Context(
                settings=settings_for(
                    new_account(), "http://127.0.0.1:9", folder, {"wechat": {"confirm": confirm}}
                ),
                base_url="https://login.example.com",
                storage=WatchedStorage(storage, shared),
                broker=LocalBroker(),
                rates=LocalRates(clock),
                catalogues=CATALOGUES,
                now=clock,
                token=secrets.token_urlsafe,
                random=os.urandom,
                mac=lambda purpose, value: sha256(f"{purpose}:{value}".encode()).hexdigest(),
            )
            for confirm in ("never", "always")
        )
        memory = SessionMemory(context, shared)
        nodes.append(Node.of(context, asked, current=_remembering(memory)))
    return nodes


def _remembering(memory: SessionMemory) -> Callable[[str], Awaitable[Any]]:
    return lambda token: memory.current([token])


async def run(site: Site, clock: Clock, program: Program, turnstile: Turnstile, order: list[int]) -> None:
    async def do(act: Act) -> None:
        if act.kind == "wait":
            await turnstile.turn()
            clock.seconds += float(act.actor)
        else:
            await site.do(act)

    for act in program.before:
        await do(act)
    await turnstile.drive([do(act) for act in program.at_once], order)
    for token in itertools.chain.from_iterable(site.tokens.values()):
        for node in range(len(site.nodes)):
            await do(Act("who", token, node=node))
    for person in PEOPLE:
        await do(Act("listed", person))


@pytest.mark.parametrize("store", WHOLE)
def test_concurrent_logins(store: str, request: pytest.FixtureRequest, tmp_path) -> None:
    open = WHOLE[store](request)
    turnstile, clock, numbers = Turnstile(), Clock(), itertools.count()
    seen = {"operations": 0, "sessions": 0, "refused": 0}
    with asyncio.Runner() as runner:
        opened: list[Any] = [runner.run(open())]
        if store == "mongodb":
            opened.append(runner.run(open()))  # each node its own connections
        if store == "redis":
            # Of the database whole transactions take turns: what a work asks of it is in its own thread.
            opened[0]._database = Scheduled(opened[0]._database, turnstile, within=False)
            tickets = partial(_tickets_in_turns, turnstile.turn)
            request.getfixturevalue("monkeypatch").setattr(split, "RedisTickets", tickets)
        stores = [Scheduled(opened[place], turnstile, within=store == "mongodb") for place in (0, -1)]
        nodes = make_nodes(tmp_path, stores, clock)

        @given(program=programs(), order=st.lists(st.integers(0, ALL_AT_ONCE), max_size=STEPS))
        @settings(
            max_examples=MANY or EXAMPLES[store],
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=not MANY,
            database=None,
        )
        def holds(program: Program, order: list[int]) -> None:
            clock.seconds = float(int(time.time()))  # Redis has a clock of its own
            site = Site(nodes, History(clock), prefix=f"{os.getpid()}-{next(numbers)} ")
            runner.run(run(site, clock, program, turnstile, list(order)))
            operations = site.history.operations
            wrong = violations(operations)
            assert not wrong, [*wrong, *map(str, operations)]
            seen["operations"] += len(operations)
            seen["sessions"] += sum(len(tokens) for tokens in site.tokens.values())
            seen["refused"] += sum(op.kind == "exchange" and not op.ok for op in operations)

        try:
            holds()
        finally:
            for storage in opened:
                runner.run(storage.close())
    print(f"{store}: {next(numbers)} programs, {seen}")
    assert min(seen.values()) > 5, "nothing much happened"
