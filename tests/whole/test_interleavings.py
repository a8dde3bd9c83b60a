"""Whatever happens to tickets in whatever order, on two nodes at once: the promises hold, on every store."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from app.token import Claims, Policy, algorithms_of, import_key
from broker.local import LocalBroker
from errors import SaomaError, StoreUnavailable
from flows import sessions
from flows.app_login import AppLogin
from flows.context import Context
from flows.exchange import Collected, exchange
from flows.follow import followed, unfollowed
from flows.scan import Outcome, scanned
from flows.session_memory import SessionMemory
from flows.tickets import abandon, revoke_pending
from storage import mongodb, redis, sqlite
from storage.base import Storage, Transaction
from storage.rates import LocalRates
from storage.records import Session
from storage.shared import LocalShared
from storage.split import SplitStorage
from storage.watched import WatchedStorage
from tests.app.keys import AUDIENCE, ISSUER, SECRET
from tests.flows.world import CATALOGUES
from tests.harness import new_account, settings_for
from tickets import Device, Scanner, State, Ticket, hash_secret
from wechat.messages import Message

TICKETS = ("app 1", "app 2", "wechat 1")
PEOPLE = ("Anna", "Bert", "Cleo")
ACTS = ("scan", "confirm", "cancel", "abandon", "exchange", "unfollow", "follow", "block")
act_strategy = st.tuples(
    st.sampled_from(ACTS[:5] * 3 + ACTS[5:]),
    st.sampled_from(TICKETS),
    st.sampled_from(PEOPLE),
    st.integers(0, 1),
)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Node:
    context: Context
    login: AppLogin
    memory: SessionMemory


def make_nodes(folder: Path, storages: list[Storage], clock: Clock) -> list[Node]:
    document = {"app": {"issuer": ISSUER, "key": SECRET}}
    key = import_key(SECRET)
    shared = LocalShared(clock)
    nodes = []
    for storage in storages:
        context = Context(
            settings=settings_for(new_account(), "http://127.0.0.1:9", folder, document),
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
        login = AppLogin(context, [(Policy(ISSUER, AUDIENCE, algorithms_of(key)), key)])
        nodes.append(Node(context, login, SessionMemory(context, shared)))
    return nodes


class Login(RuleBasedStateMachine):
    """Every example has tickets and people of its own, so that all share one database."""

    numbers = itertools.count()

    def __init__(self, nodes: list[Node], clock: Clock, run: Callable[[Any], Any]) -> None:
        super().__init__()
        self.nodes, self.clock, self.run = nodes, clock, run

    @initialize()
    def begin(self) -> None:
        self.example = f"{os.getpid()}-{next(self.numbers)}"
        self.clock.seconds = float(int(time.time()))  # Redis has a clock of its own
        self.secrets = {name: secrets.token_urlsafe(16) for name in TICKETS}
        self.handles: dict[tuple[str, str], str] = {}
        self.collected: list[tuple[str, Collected]] = []
        self.scanners: dict[str, set[str]] = {name: set() for name in TICKETS}
        self.over: set[str] = set()  # cancelled, given up, taken back: no login may come of them
        self.blocked: set[str] = set()
        self.dead: set[str] = set()  # tokens that were ended for good
        for name in TICKETS:
            self.run(self.create(name))

    def own(self, name: str) -> str:
        return f"{self.example} {name}"

    async def create(self, name: str) -> None:
        ticket = Ticket(
            id=self.own(name),
            secret_hash=hash_secret(self.secrets[name]),
            method=name.split()[0],
            client="browser",
            created_at=self.clock(),
            expires_at=self.clock() + 300,
            code="code",
            next="/",
            device=Device("Chrome", "Windows", "203.0.113.5"),
        )
        await self.do(0, lambda transaction: transaction.tickets.create(ticket))

    async def do(self, node: int, work: Callable[[Transaction], Awaitable[Any]]) -> Any:
        async def run(transaction: Transaction) -> Any:
            return await work(transaction)

        return await self.nodes[node].context.storage.transact(run)

    # What people and browsers do.

    async def scan(self, name: str, person: str, node: int) -> None:
        if name.startswith("wechat"):
            message = self.message(person, "scan")
            outcome: Outcome = await self.do(
                node, lambda t: scanned(t, self.nodes[node].context, message, self.own(name))
            )
            if outcome.changed:
                self.scanners[name].add(person)
            return
        seen = await self.nodes[node].login.scan(self.own(name), self.claims(person))
        self.scanners[name].add(person)
        assert seen.ticket.scanner == Scanner("app", self.own(person))
        assert self.handles.setdefault((name, person), seen.handle) == seen.handle

    async def confirm(self, name: str, person: str, node: int) -> None:
        handle = self.handles.get((name, person), "x" * 64)
        await self.nodes[node].login.confirm(self.own(name), self.claims(person), handle)
        assert self.scanners[name] == {person}

    async def cancel(self, name: str, person: str, node: int) -> None:
        handle = self.handles.get((name, person), "x" * 64)
        await self.nodes[node].login.cancel(self.own(name), self.claims(person), handle)
        assert self.scanners[name] == {person}
        self.over.add(name)

    async def abandon(self, name: str, person: str, node: int) -> None:
        await abandon(self.nodes[node].context, self.own(name), self.secrets[name])
        self.over.add(name)

    async def exchange(self, name: str, person: str, node: int) -> None:
        over = name in self.over
        collected = await exchange(self.nodes[node].context, self.own(name), self.secrets[name])
        assert not over
        self.collected.append((name, collected))

    async def unfollow(self, name: str, person: str, node: int) -> None:
        message = self.message(person, "unsubscribe")
        await self.do(node, lambda t: unfollowed(t, self.nodes[node].context, message))

    async def follow(self, name: str, person: str, node: int) -> None:
        message = self.message(person, "subscribe")
        await self.do(node, lambda t: followed(t, self.nodes[node].context, message))

    async def block(self, name: str, person: str, node: int) -> None:
        async def work(transaction: Transaction) -> None:
            for provider in ("app", "wechat"):
                user = await transaction.users.by_identity(provider, self.own(person))
                if user is not None:
                    await transaction.users.set_blocked(user.id, True)
                    await revoke_pending(transaction, self.nodes[node].context, user.id, provider)
                    await transaction.sessions.revoke_of_user(user.id)

        await self.do(node, work)

    def claims(self, person: str) -> Claims:
        return Claims(self.own(person), secrets.token_hex(8))

    def message(self, person: str, event: str) -> Message:
        return Message("gh_1", self.own(person), int(self.clock()), "event", event, "", "", "")

    async def act(self, what: tuple[str, str, str, int]) -> None:
        name, ticket, person, node = what
        try:
            await getattr(self, name)(ticket, person, node)
        except StoreUnavailable:
            raise
        except SaomaError:
            pass  # refused, as it may be

    # In which order.

    @rule(what=act_strategy)
    def one(self, what: tuple[str, str, str, int]) -> None:
        self.clock.seconds += 1
        name, _, person, _ = what
        ends = self.run(self.ended_by(name, person))
        self.run(self.act(what))
        self.over |= ends[0]
        self.dead |= ends[1]
        if name == "block":
            self.blocked |= self.run(self.known(person))

    @rule(whats=st.lists(act_strategy, min_size=2, max_size=5))
    def at_once(self, whats: list[tuple[str, str, str, int]]) -> None:
        self.clock.seconds += 1

        async def all_at_once() -> None:
            await asyncio.gather(*(self.act(what) for what in whats))

        self.run(all_at_once())
        for name, _, person, _ in whats:
            if name == "block" and not any(w[0] in ("scan", "follow") and w[2] == person for w in whats):
                self.blocked |= self.run(self.known(person))

    @rule(ticket=st.sampled_from(TICKETS), person=st.sampled_from(PEOPLE), many=st.integers(2, 4))
    def log_in(self, ticket: str, person: str, many: int) -> None:
        """The usual way, its last step several times at once on both nodes."""
        for name in ("scan", "confirm"):
            self.run(self.act((name, ticket, person, 0)))

        async def all_at_once() -> None:
            await asyncio.gather(*(self.act(("exchange", ticket, person, n % 2)) for n in range(many)))

        self.run(all_at_once())

    @rule(seconds=st.sampled_from([1, 59, 61, 240, 400]))
    def time_passes(self, seconds: int) -> None:
        self.clock.seconds += seconds

    async def known(self, person: str) -> set[str]:
        """`provider subject` of the person where they are stored."""
        found = set()
        for provider in ("app", "wechat"):
            find = partial(self.by_identity, provider=provider, subject=self.own(person))
            if await self.do(0, find) is not None:
                found.add(f"{provider} {self.own(person)}")
        return found

    @staticmethod
    async def by_identity(transaction: Transaction, provider: str, subject: str) -> Any:
        return await transaction.users.by_identity(provider, subject)

    async def ended_by(self, name: str, person: str) -> tuple[set[str], set[str]]:
        """The tickets and tokens that an unfollow or a block ends, with nothing else going on."""
        if name not in ("unfollow", "block"):
            return set(), set()
        ends = ("wechat",) if name == "unfollow" else ("app", "wechat")
        subject = self.own(person)
        over, dead = set(), set()
        for ticket in TICKETS:
            stored = await self.stored(ticket)
            if stored is None or stored.scanner is None:
                continue
            if stored.state in (State.SCANNED, State.CONFIRMED) and stored.scanner in {
                Scanner(provider, subject) for provider in ends
            }:
                over.add(ticket)
        for _, collected in self.collected:
            scanner = collected.ticket.scanner
            if scanner.provider in ends and scanner.subject == subject:
                dead.add(collected.token)
        return over, dead

    async def stored(self, name: str) -> Ticket | None:
        return await self.do(1, lambda t: t.tickets.get(self.own(name), now=self.clock()))

    async def sessions_of(self, person: str) -> list[Session]:
        found: list[Session] = []
        for provider in ("app", "wechat"):
            user = await self.do(0, partial(self.by_identity, provider=provider, subject=self.own(person)))
            if user is not None:
                now = self.clock()
                found += await self.do(0, partial(self.of_user, user_id=user.id, now=now))
        return found

    @staticmethod
    async def of_user(transaction: Transaction, user_id: str, now: float) -> Any:
        return await transaction.sessions.of_user(user_id, now=now)

    # What always holds.

    @invariant()
    def promises(self) -> None:
        if hasattr(self, "collected"):
            self.run(self.check())

    async def check(self) -> None:
        for name in TICKETS:
            assert len(self.scanners[name]) <= 1, f"{name}: two people have scanned it"
        alive: dict[str, list[Collected]] = {name: [] for name in TICKETS}
        for name, collected in self.collected:
            scanner = collected.ticket.scanner
            assert scanner.subject in {self.own(person) for person in self.scanners[name]}
            assert scanner.provider == name.split()[0]
            assert collected.user.identity(scanner.provider, scanner.subject) is not None
            current = await sessions.current(self.nodes[0].context, collected.token)
            for node in self.nodes:
                assert await node.memory.current([collected.token]) == current, "remembered otherwise"
            if current is None:
                continue
            alive[name].append(collected)
            assert current.user.id == collected.user.id
            assert collected.token not in self.dead, f"{name}: ended, and alive again"
            assert f"{scanner.provider} {scanner.subject}" not in self.blocked
            identity = current.user.identity(scanner.provider, scanner.subject)
            assert identity.following, f"{name}: a session of somebody who left"
        for name, found in alive.items():
            assert len(found) <= 1, f"{name}: {len(found)} sessions"
        listed = {kept.ticket_id for person in PEOPLE for kept in await self.sessions_of(person)}
        for name in self.over:
            assert self.own(name) not in listed, f"{name}: over, and a session is listed"
            stored = await self.stored(name)
            assert stored is None or stored.state is State.CANCELLED
            assert not alive[name], f"{name}: over, and logged in"


async def open_sqlite(request: pytest.FixtureRequest) -> list[Storage]:
    store = sqlite.open(request.getfixturevalue("tmp_path") / "saoma.db")
    return [store, store]  # one process


async def open_mongodb(request: pytest.FixtureRequest) -> list[Storage]:
    url = request.getfixturevalue("mongodb_url")
    return [await mongodb.open(url) for _ in range(2)]


async def open_cluster(request: pytest.FixtureRequest) -> list[Storage]:
    url = request.getfixturevalue("redis_url")
    return [SplitStorage(database, redis.connect(url)) for database in await open_mongodb(request)]


STORES = {
    "sqlite": (open_sqlite, 60, 30),
    "mongodb": (open_mongodb, 6, 30),
    "redis": (open_cluster, 7, 30),
}


@pytest.mark.parametrize("store", STORES)
def test_any_order(store: str, request: pytest.FixtureRequest, tmp_path) -> None:
    open_stores, examples, steps = STORES[store]
    for name in ("tmp_path", "mongodb_url", "redis_url"):
        if store != "sqlite" or name == "tmp_path":
            request.getfixturevalue(name)
    clock = Clock()
    with asyncio.Runner() as runner:
        storages = runner.run(open_stores(request))
        nodes = make_nodes(tmp_path, storages, clock)
        try:
            run_state_machine_as_test(
                lambda: Login(nodes, clock, runner.run),
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=steps,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    derandomize="SAOMA_RANDOM" not in os.environ,
                ),
            )
        finally:
            for storage in storages:
                if isinstance(storage, SplitStorage):
                    runner.run(storage._client.aclose())
                runner.run(storage.close())
