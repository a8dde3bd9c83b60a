"""Logins in memory, in any order of their single steps: all orders of a few, or many by chance."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from broker.local import LocalBroker
from flows.context import Context
from storage.rates import LocalRates
from tests.harness import new_account, settings_for
from tests.order.history import History
from tests.order.memory import MemoryStorage
from tests.order.rules import violations
from tests.order.site import Act, Node, Site

START = 1_800_000_000.0

Choose = Callable[[int], int]  # which of so many goes on


class Clock:
    def __init__(self) -> None:
        self.seconds = START

    def __call__(self) -> float:
        return self.seconds


class _Words:
    """Texts with their links and nothing else: what people read is not looked at here."""

    def __call__(self, message: str, /, **values: object) -> str:
        return str(values.get("link", ""))

    def time(self, unix_seconds: float, timezone: str) -> str:
        return ""


def _blank(confirm: str) -> Context:
    account = new_account()
    catalogues: Any = SimpleNamespace(of=lambda language: _Words())
    metrics: Any = SimpleNamespace(
        ticket_entered=_nothing, login=_nothing, confirmed_after=_nothing, platform_called=_nothing
    )
    return Context(
        settings=settings_for(account, "http://127.0.0.1:9", Path(), {"wechat": {"confirm": confirm}}),
        base_url="https://login.example.com",
        storage=MemoryStorage(),
        broker=LocalBroker(),
        rates=LocalRates(Clock()),
        catalogues=catalogues,
        now=Clock(),
        token=lambda count: "",
        random=bytes,
        mac=lambda purpose, value: f"{purpose} {value}",
        metrics=metrics,
    )


def _nothing(*_: object) -> None: ...


BLANK, BLANK_ASKED = _blank("never"), _blank("always")


def new_site() -> tuple[Site, Clock]:
    clock, numbers, storage = Clock(), itertools.count(), MemoryStorage()
    parts: dict[str, Any] = {
        "storage": storage,
        "now": clock,
        "token": lambda count: f"token-{next(numbers)}",
    }
    node = Node.of(replace(BLANK, **parts), replace(BLANK_ASKED, **parts))
    return Site((node,), History(clock)), clock


@dataclass(frozen=True)
class Program:
    """What has happened, one after the other, and what happens then, all at once."""

    before: Sequence[Act]
    at_once: Sequence[Act]


def run(program: Program, choose: Choose) -> Site:
    """Everything ends; at last it is asked whose every session is, and what sessions everybody has."""
    site, clock = new_site()
    for act in program.before:
        _alone(site, clock, act)
    running = [_doing(site, clock, act) for act in program.at_once]
    while running:
        place = choose(len(running)) if len(running) > 1 else 0
        try:
            running[place].send(None)
        except StopIteration:
            del running[place]
    for token in itertools.chain.from_iterable(site.tokens.values()):
        _alone(site, clock, Act("who", token))
    for person in PEOPLE:
        _alone(site, clock, Act("listed", person))
    return site


def _alone(site: Site, clock: Clock, act: Act) -> None:
    for _ in iter(_steps(_doing(site, clock, act))):
        pass


def _doing(site: Site, clock: Clock, act: Act) -> Coroutine[None, None, None]:
    return _pass(clock, float(act.actor)) if act.kind == "wait" else site.do(act)


async def _pass(clock: Clock, seconds: float) -> None:
    clock.seconds += seconds


def _steps(coroutine: Coroutine[None, None, None]) -> Iterator[None]:
    try:
        while True:
            yield coroutine.send(None)
    except StopIteration:
        return


def every_order(program: Program) -> Iterator[tuple[list[int], Site]]:
    """Each order there is, once, with the choices that lead to it."""
    path: list[int] = []
    widths: list[int] = []

    def choose(count: int) -> int:
        widths.append(count)
        if len(widths) > len(path):
            path.append(0)
        return path[len(widths) - 1]

    while True:
        widths.clear()
        yield path, run(program, choose)
        while path and path[-1] + 1 >= widths[len(path) - 1]:
            path.pop()
        if not path:
            return
        path[-1] += 1


def some_orders(program: Program, count: int) -> Iterator[tuple[list[int], Site]]:
    """So many by chance, the same ones each time."""
    for seed in range(count):
        path: list[int] = []
        yield path, run(program, _by(random.Random(seed), path))


def _by(chance: random.Random, path: list[int]) -> Choose:
    def choose(count: int) -> int:
        path.append(chance.randrange(count))
        return path[-1]

    return choose


TICKETS = ("wechat 1", "asked 1", "app 1")
PEOPLE = ("Anna", "Bert")
BROWSERS = ("own", "other")
KINDS = {  # with their weights
    "exchange": 6,
    "scan": 4,
    "confirm": 4,
    "cancel": 1,
    "abandon": 1,
    "look": 1,
    "who": 1,
    "follow": 1,
    "unfollow": 1,
    "block": 1,
    "sign_out": 1,
    "forget": 1,
    "not_me": 2,
    "wait": 1,
}
BY_BROWSERS = ("exchange", "abandon", "look", "who")
BETWEEN = ("59", "60", "61", "240", "299", "300")  # seconds, one after the other
MEANWHILE = "1"  # no work takes longer than storage.base.TIMEOUT_SECONDS


def an_act(chance: random.Random) -> Act:
    (kind,) = chance.choices(list(KINDS), list(KINDS.values()))
    if kind == "wait":
        return Act(kind, MEANWHILE)
    actor = chance.choices(BROWSERS, (5, 1)) if kind in BY_BROWSERS else chance.choices(PEOPLE, (4, 1))
    return Act(kind, actor[0], chance.choices(TICKETS, (3, 2, 2))[0], chance.randrange(2))


def steps_to(ticket: str, count: int) -> list[Act]:
    """Tickets, and the first steps of the usual way with one of them."""
    usual = [Act("scan", "Anna", ticket), Act("confirm", "Anna", ticket), Act("exchange", "own", ticket)]
    return [Act("issue", "own", known) for known in TICKETS] + usual[:count]


def by_chance(chance: random.Random) -> Program:
    """A few steps towards a login, then two to five things at once, most of them about the same ticket."""
    favourite = chance.choice(TICKETS)
    before = steps_to(favourite, chance.randint(0, 3))
    if chance.random() < 0.25:
        before.append(Act("wait", chance.choice(BETWEEN)))
    at_once = [an_act(chance) for _ in range(chance.randint(2, 5))]
    at_once = [
        replace(act, ticket=favourite) if chance.random() < 0.7 and act.ticket else act for act in at_once
    ]
    return Program(before, at_once)


def walk(seed: int) -> tuple[Program, list[int], list[str]]:
    """One program in one order; what was wrong with it."""
    program, path = by_chance(random.Random(seed)), list[int]()
    site = run(program, _by(random.Random(-seed - 1), path))
    return program, path, violations(site.history.operations)
