"""What a login costs when many people are stored, and an event when many wait.

Each stored person has an identity of the app's, a session that goes on, and a line in the login log. Whoever
logs in meanwhile is spread over all of them. The servers of all sizes run side by side and are measured in
turns. Of the largest: how long it takes to start, and what the questions cost that admins' pages ask.
"""

from __future__ import annotations

import asyncio
import base64
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks import crowd, event, measuring, servers
from benchmarks.login import logins
from benchmarks.measuring import Load, Plan, interleaved, medians, seen
from benchmarks.page import APP
from benchmarks.results import Goal, Row
from errors import StoreUnavailable
from storage import codec, sqlite
from storage.base import Storage, Transaction
from storage.records import Login, LoginFilter, Session
from storage.sqlite_collection import insert
from wechat.callback import Mode

PEOPLE, FEW_PEOPLE = (1_000, 10_000, 100_000, 1_000_000), (100, 1_000)
WAITING, FEW_WAITING = (100, 1_000, 10_000, 18_000), (10, 100)
DAY = 86400.0
DEARER = 1.25  # that a login may be with the most people, or an event with the most who wait
RATE = 100.0  # events a second
BATCH = 10_000
TOLD = 100  # of those who wait, in a round
LIFE_SECONDS = 3600.0


def populated(file: Path, people: int) -> Path:
    """A database with so many, as a month of logins would leave it."""
    asyncio.run(sqlite.open(file).close())
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -2000000")  # kB
        connection.execute("BEGIN")
        indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql <> ''")
        known = indexes.fetchall()
        for name, _ in known:
            connection.execute(f"DROP INDEX {name}")
        for first in range(0, people, BATCH):
            _put(connection, range(first, min(first + BATCH, people)))
        for _, made in known:  # at the end that is several times as fast
            connection.execute(made)
        connection.execute("COMMIT")
    return file


def _put(connection: sqlite3.Connection, numbers: range) -> None:
    device, now = {"browser": "Chrome", "system": "Windows", "address": "203.0.113.7"}, time.time()
    session = codec.session_row(Session("", b"", "", "", "app", "browser", "", 0.0, 0.0, 0.0)) | device
    login = codec.login_row(Login("", 0.0, "success", "app", "", "", "", "", "", 0.0)) | device
    users, identities, sessions, logins = [], [], [], []
    for number in numbers:
        user, ticket, at = _id(), _id(), now - random.random() * 25 * DAY
        users.append((user, at))
        identities.append((f"person-{number}", user, at, at))
        sessions.append(
            session
            | {"id": _id(), "token_hash": random.randbytes(32), "ticket_id": ticket, "user_id": user}
            | {"created_at": at, "last_used_at": at, "expires_at": at + 30 * DAY}
        )
        logins.append(
            login | {"id": f"{ticket}:success", "at": at, "user_id": user, "expires_at": at + 180 * DAY}
        )
    connection.executemany("INSERT INTO users (id, created_at) VALUES (?, ?)", users)
    connection.executemany(
        "INSERT INTO identities (provider, subject, user_id, following, event_at, created_at, nickname)"
        " VALUES ('app', ?, ?, 1, ?, ?, '小明')",
        identities,
    )
    connection.executemany(insert("sessions", codec.SESSION_COLUMNS), sessions)
    connection.executemany(insert("logins", codec.LOGIN_COLUMNS), logins)


def _id() -> str:
    return base64.urlsafe_b64encode(random.randbytes(18)).decode()


def run(plan: Plan) -> list[Row]:
    full = plan.seconds >= measuring.FULL.seconds
    return [
        *by_people(plan, PEOPLE if full else FEW_PEOPLE),
        by_waiting(plan, WAITING if full else FEW_WAITING),
    ]


def by_people(plan: Plan, sizes: tuple[int, ...]) -> Iterator[Row]:
    facts: dict[str, float] = {}
    with servers.data_folder() as folder:
        files = {people: populated(folder / str(people) / "saoma.db", people) for people in sizes}
        with ExitStack() as stack:
            sides: dict[str, Callable[[], Load]] = {}
            for people, file in files.items():
                name = f"{people:,} people"
                facts[f"{name}: MB of the database"] = size = file.stat().st_size / 1e6
                begin = time.monotonic()
                server = stack.enter_context(
                    servers.saoma({"app": APP, "storage": {"url": f"sqlite:{file}"}})
                )
                facts[f"{name}: seconds to start"] = time.monotonic() - begin
                server.settle()
                facts[f"{name}: MB of memory"] = server.memory() / 1e6
                sides[name] = partial(logins, server, plan, people)
            facts["bytes of database for a person who has logged in once"] = 1e6 * size / sizes[-1]
            loads = interleaved(sides, plan.rounds)
        facts["bytes of database for one more login"] = grown(files[sizes[0]], sizes[0], facts)
        first, *_, last = loads.values()
        dearer = Goal(
            "most to fewest, by CPU", last.cpu_microseconds / first.cpu_microseconds, DEARER, at_least=False
        )
        yield Row("own-app login, people stored", loads, (dearer,), facts)
        yield Row(f"questions with {sizes[-1]:,} people", facts=asyncio.run(questions(files[sizes[-1]])))


def grown(file: Path, people: int, facts: dict[str, float]) -> float:
    """Of that file, for each login since there were only so many; tickets that will be swept are in it."""
    before = 1e6 * facts[f"{people:,} people: MB of the database"]
    with closing(sqlite3.connect(file)) as connection:
        lines: int = connection.execute("SELECT count(*) FROM logins").fetchone()[0]
        pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
        size: int = connection.execute("PRAGMA page_size").fetchone()[0]
    return (pages * size - before) / (lines - people)


async def questions(file: Path) -> dict[str, float]:
    """Milliseconds of each, for which nobody else is served by the store."""
    storage, now = sqlite.open(file), time.time()
    user = (await storage.transact(lambda all: all.users.by_identity("app", "person-7"))).id  # type: ignore[union-attr]

    async def tallied(transaction: Transaction) -> Any:
        return await transaction.logins.tally(since=now - 7 * DAY, until=now)

    asked: dict[str, Callable[[Transaction], Any]] = {
        "how many sessions": lambda all: all.sessions.count(now=now),
        "how many people": lambda all: all.users.count(),
        "the week's logins by the hour": tallied,
        "the first page of people": lambda all: all.users.search(""),
        "people called as nobody is": lambda all: all.users.search("nobody"),
        "a person's last logins": lambda all: all.logins.newest(user_id=user),
        "a person's lines of the log": lambda all: all.logins.find(LoginFilter(user_id=user)),
        "a person's sessions": lambda all: all.sessions.of_user(user, now=now),
    }
    took = {}
    try:
        for name, question in asked.items():
            begin = time.perf_counter()
            try:
                await storage.transact(question)
            except StoreUnavailable:  # is what the admin is told; the store goes on with it
                await _free(storage)
            took[f"{name}, ms"] = 1e3 * (time.perf_counter() - begin)
        begin = time.perf_counter()
        await storage.sweep(now=now)
        took["a sweep that finds nothing, ms"] = 1e3 * (time.perf_counter() - begin)
    finally:
        await storage.close()
    return took


async def _free(storage: Storage) -> None:
    while True:
        with suppress(StoreUnavailable):
            return await storage.ping()


def by_waiting(plan: Plan, sizes: tuple[int, ...]) -> Row:
    loads = {f"{number:,} waiting": _events(plan, number) for number in sizes}
    first, *_, last = loads.values()
    dearer = Goal(
        "most to fewest, by CPU", last.cpu_microseconds / first.cpu_microseconds, DEARER, at_least=False
    )
    return Row("event to page, AES, by who waits", loads, (dearer,))


def _events(plan: Plan, number: int) -> Load:
    """The pages of a round are told of their logins; all others wait on."""
    told = min(TOLD, number)
    idle, groups = crowd.scenes(number - told), [crowd.scenes(told) for _ in range(plan.rounds + 1)]
    stored = crowd.stored([*idle, *chain(*groups)], time.time() + LIFE_SECONDS)
    section = servers.wechat(servers.account(Mode.SAFE), timestamp_window=LIFE_SECONDS, pool_size=0)
    with ExitStack() as stack:
        folder = stack.enter_context(servers.data_folder())
        saoma = stack.enter_context(servers.saoma({"wechat": section}, before=[*event.people(), *stored]))
        if idle:
            pages = crowd.write(folder / "idle", crowd.websockets(idle))
            stack.enter_context(crowd.crowd(saoma, pages))
        loads = []
        for group in groups:
            pages = crowd.write(folder / "pages", crowd.websockets(group))
            events = crowd.write(folder / "events", event.posts(Mode.SAFE, group))
            with crowd.crowd(saoma, pages, events=events, number=told, rate=RATE) as some:
                saoma.settle()
                loads.append(seen(saoma, some.round))
    return medians(loads[1:])  # the first one warms up
