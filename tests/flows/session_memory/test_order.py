"""Every order in which a reader and a change can meet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from flows.session_memory import SessionMemory
from storage.base import Storage
from storage.records import Session, User
from storage.shared import LocalShared
from storage.watched import WatchedStorage
from tickets import hash_secret


class Steps:
    """Holds everybody at each step until a schedule lets one of them go on."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def step(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        future = asyncio.get_running_loop().create_future()
        number = int(task.get_name().rpartition("-")[2])  # in the order that they were made
        self.waiting.append((number, future))
        await future


class Database(Storage):
    """One session of one person in memory. A call takes a step before its effect and one after it."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.session = Session(
            "session", hash_secret("token"), "ticket", "user", "wechat", "browser", "", 0.0, 0.0, 1e9
        )
        self.user = User("user", 0.0, ())

    async def transact(self, work):
        await self.steps.step()
        result = await work(SimpleNamespace(sessions=self, users=SimpleNamespace(get=self.get_user)))
        await self.steps.step()
        return result

    async def get(self, token_hash: bytes) -> Session:
        return self.session

    async def get_user(self, user_id: str) -> User:
        return self.user

    async def revoke(self, session_id: str) -> Session:
        self.session = replace(self.session, revoked=True)
        return self.session

    async def sweep(self, *, now: float) -> None: ...
    async def ping(self) -> None: ...
    async def close(self) -> None: ...


class SteppedMarks(LocalShared):
    def __init__(self, steps: Steps) -> None:
        super().__init__(lambda: 0.0)
        self.steps = steps

    async def marks(self, names: Sequence[str]) -> list[str]:
        await self.steps.step()
        found = await super().marks(names)
        await self.steps.step()
        return found

    async def renew(self, names: Iterable[str]) -> None:
        await self.steps.step()
        await super().renew(names)
        await self.steps.step()

    def renewed_at_once(self, names: Iterable[str]) -> bool:
        return False  # as where it is far away


async def _meet(choices: Iterator[int], *, warm: bool) -> list[int]:
    """One run: who goes on at each step is chosen; returns among how many each time."""
    steps = Steps()
    shared, revoked = SteppedMarks(steps), False
    limits = SimpleNamespace(session=SimpleNamespace(idle=1e9))
    context: Any = SimpleNamespace(
        storage=WatchedStorage(Database(steps), shared), settings=limits, now=lambda: 1.0
    )
    memory = SessionMemory(context, shared)

    async def check() -> None:
        over = revoked
        found = await memory.current(["token"])
        assert found is None or not over, "it was revoked before the check began"

    async def read() -> None:
        for _ in range(2):
            await check()

    async def revoke() -> None:
        nonlocal revoked
        await context.storage.transact(lambda t: t.sessions.revoke("session"))
        revoked = True

    async def run(*actors: Awaitable[None]) -> list[int]:
        tasks = [asyncio.ensure_future(actor) for actor in actors]
        options = []
        while not all(task.done() for task in tasks):
            if not steps.waiting:
                await asyncio.sleep(0)
                continue
            for _ in range(6):  # until everybody who can has come to a step
                await asyncio.sleep(0)
            steps.waiting.sort(key=lambda entry: entry[0])
            options.append(len(steps.waiting))
            steps.waiting.pop(next(choices, 0) if len(actors) > 1 else 0)[1].set_result(None)
        for task in tasks:
            task.result()
        return options

    if warm:
        await run(check())
    options = await run(read(), revoke())
    await run(check())
    return options


@pytest.mark.parametrize("warm", [False, True])
async def test_any_order_of_steps(warm: bool):
    pending: list[list[int]] = [[]]
    runs = 0
    while pending:
        chosen = pending.pop()
        options = await _meet(iter(chosen), warm=warm)
        runs += 1
        for place in range(len(chosen), len(options)):
            taken = chosen + [0] * (place - len(chosen))
            pending += [[*taken, other] for other in range(1, options[place])]
    assert runs > 50
