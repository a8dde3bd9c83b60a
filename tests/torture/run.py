"""One torture: so many kills of one server on one store, and what is wrong after each of them."""

from __future__ import annotations

import asyncio
import random
import secrets
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymongo

from emulator import Emulator
from tests.handlers.relying_party import SITE
from tests.handlers.test_app import APP
from tests.harness import CALLBACK, new_account
from tests.receiver import LOOPBACK, SECRET, Receiver, receiving
from tests.torture.crowd import Crowd
from tests.torture.history import History
from tests.torture.server import Forked, Killable, Nursery
from tests.torture.stored import Stored, of_mongodb, of_sqlite
from tests.torture.verdict import verdict, verdict_of_notices

ACTORS = 12
DURING_START = 0.15  # of the kills
LONGEST_SECONDS = 10.0  # that a server lives
END_SECONDS = 300.0  # to bring to an end what was begun, and to send what is to be sent
ASKED = 400  # sessions that are asked for over HTTP at the end


@dataclass(frozen=True)
class Store:
    url: str
    read: Callable[[bool], Stored]  # with notices or without
    make_due: Callable[[], None]  # all that waits to be sent: nobody waits out the lease of a killed server


def sqlite_store(folder: Path) -> Store:
    path = folder / "saoma.db"

    def make_due() -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE outbox SET due_at = 0 WHERE state = 'pending'")

    return Store(f"sqlite:{path}", lambda notices: of_sqlite(path, notices=notices), make_due)


def mongodb_store(url: str) -> Store:
    def make_due() -> None:
        with pymongo.MongoClient[dict[str, Any]](url) as client:
            outbox = client.get_default_database()["outbox"]
            outbox.update_many({"state": "pending"}, {"$set": {"due_at": 0.0}})

    return Store(url, lambda notices: of_mongodb(url, notices=notices), make_due)


@dataclass
class Report:
    seed: int
    kills: int = 0
    during_start: int = 0
    events: int = 0
    acknowledged: int = 0
    pushes: int = 0
    logins: int = 0
    exchanges: int = 0
    collected: int = 0
    unanswered: int = 0
    notices: int = 0
    sent_again: int = 0
    starting: float = 0.0  # seconds, mean
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def counted(self, kind: str) -> int:
        return sum(line.startswith(kind) for line in self.wrong)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills ({self.during_start} during the start), seed {self.seed};"
            f" {self.acknowledged} of {self.events} events acknowledged in {self.pushes} deliveries;"
            f" {self.logins} tickets, {self.collected} of {self.exchanges} exchanges answered with a session;"
            f" {self.unanswered} requests without an answer;"
            f" {self.notices} notices, {self.sent_again} sent again;"
            f" lost {self.counted('lost')}, double {self.counted('double')},"
            f" foreign {self.counted('foreign')}, broken {self.counted('broken')};"
            f" {self.seconds:.0f} s, a start took {self.starting:.2f} s"
        )


class Torture:
    def __init__(
        self, folder: Path, store: Store, seed: int, *, answers: int, nursery: Nursery | None
    ) -> None:
        """`answers`: how many a server gives in the mean; `nursery`: where it is forked, else started."""
        self._folder, self._store, self._answers, self._nursery = folder, store, answers, nursery
        self._rng = random.Random(seed)
        self._history = History()
        self.report = Report(seed)

    async def run(self, kills: int) -> Report:
        since, report = time.monotonic(), self.report
        emulator = Emulator.start(new_account(), timeout=3.0)
        async with receiving() as receiver:
            try:
                server = self._server(emulator, receiver)
                crowd = Crowd(self._history, emulator, server.address, self._rng)
                emulator.deliver_to(server.address + CALLBACK)
                try:
                    await self._serve(server, crowd)
                    async with asyncio.TaskGroup() as people:
                        for _ in range(ACTORS):
                            people.create_task(crowd.live())
                        while report.kills < kills and not report.wrong:
                            await self._kill(server, crowd)
                        crowd.over.set()
                    await self._judge_the_end(server, crowd, receiver)
                finally:
                    await server.kill()
                    crowd.close()
            finally:
                await emulator.stop()
        self._count(crowd, receiver)
        report.seconds, report.starting = time.monotonic() - since, report.starting / max(1, report.kills)
        report.wrong += [
            f"broken: {line}"
            for line in server.log.read_text().splitlines()
            # A MongoDB with too much to do is late, and says so; what was asked is asked again.
            if "Traceback" in line or (" ERROR " in line and "saoma.storage: MongoDB" not in line)
        ]
        return report

    def _server(self, emulator: Emulator, receiver: Receiver) -> Killable:
        account = emulator.platform.account
        settings: dict[str, Any] = {
            "server": {**LOOPBACK, "secret_key": secrets.token_hex(32)},
            "storage": {"url": self._store.url},
            "wechat": {
                "appid": account.appid,
                "secret": account.secret,
                "token": account.token,
                "encoding_aes_key": account.encoding_aes_key,
                "api_base": emulator.base_url,
                "pool_size": 8,
            },
            "app": APP,
            "ticket": {"lifetime": 600},
            "sites": [{**SITE, "webhook_url": receiver.url, "webhook_secret": SECRET}],
            "limits": {"enabled": False},
            "metrics": {"port": 0},
        }
        folder = self._folder / "server"
        return Forked(folder, settings, self._nursery) if self._nursery else Killable(folder, settings)

    async def _serve(self, server: Killable, crowd: Crowd) -> None:
        since = time.monotonic()
        server.begin()
        await server.ready()
        self.report.starting += time.monotonic() - since
        crowd.up.set()

    async def _kill(self, server: Killable, crowd: Crowd) -> None:
        enough = crowd.figures.answered + self._rng.randint(0, 2 * self._answers)
        deadline = time.monotonic() + LONGEST_SECONDS
        while crowd.figures.answered < enough and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        await asyncio.sleep(self._rng.uniform(0, 0.05))  # at any moment of the requests under way
        crowd.up.clear()
        await server.kill()
        self.report.kills += 1
        await self._judge()
        while self._rng.random() < DURING_START:
            server.begin()
            mean = self.report.starting / self.report.kills
            await asyncio.sleep(self._rng.uniform(0, mean))
            await server.kill()
            self.report.kills += 1
            self.report.during_start += 1
            self.report.starting += mean
            await self._judge()
        await self._serve(server, crowd)

    async def _judge(self, *, notices: bool = False) -> Stored:
        stored = await asyncio.to_thread(self._store.read, notices)
        self.report.wrong += verdict(self._history, stored)
        if notices:
            self.report.wrong += verdict_of_notices(self._history, stored)
        self._history.complaints.clear()
        return stored

    async def _judge_the_end(self, server: Killable, crowd: Crowd, receiver: Receiver) -> None:
        """Once more, with what the sites are told, and what is answered over HTTP."""
        await server.kill()
        stored = await self._judge(notices=True)
        self.report.notices = len(stored.notices)
        self._store.make_due()
        await self._serve(server, crowd)
        self.report.wrong += await crowd.asks_again(stored, ASKED)
        wanted = {notice.id for notice in stored.notices}
        deadline = time.monotonic() + END_SECONDS
        while missing := wanted - {message.id for message in receiver.received}:
            if time.monotonic() > deadline:
                self.report.wrong.append(f"lost: {len(missing)} notices were never sent")
                break
            await asyncio.sleep(0.1)
        await server.end()
        await self._judge(notices=True)

    def _count(self, crowd: Crowd, receiver: Receiver) -> None:
        report, history = self.report, self._history
        report.events = len(history.events)
        report.acknowledged = sum(event.acknowledged for event in history.events)
        report.logins = len(history.logins)
        report.exchanges = sum(len(login.exchanges) for login in history.logins.values())
        report.collected = sum(len(login.won) for login in history.logins.values())
        report.pushes, report.unanswered = crowd.figures.pushes, crowd.figures.unanswered
        bodies: dict[str, set[bytes]] = {}
        for message in receiver.received:
            bodies.setdefault(message.id, set()).add(message.body)
        report.sent_again = len(receiver.received) - len(bodies)
        report.wrong += [f"double: two bodies of {id}" for id, each in bodies.items() if len(each) > 1]
