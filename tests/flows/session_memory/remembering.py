"""A world whose store and marks a test may count and break, and a memory over them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from errors import StoreUnavailable
from flows import sessions
from flows.deliveries import Deliveries
from flows.exchange import Collected
from flows.session_memory import SessionMemory
from storage.base import Transaction
from storage.shared import LocalShared
from storage.watched import WatchedStorage
from tests.flows.world import Delegating, World

DAY = 86_400.0


class Counting(Delegating):
    """A store that counts, and fails in each of the ways that the contract allows."""

    asked = 0
    away = False
    breaks_off = False  # does the work, and says that it failed

    async def transact(self, work):
        self.asked += 1
        if self.away:
            raise StoreUnavailable
        result = await super().transact(work)
        if self.breaks_off:
            raise StoreUnavailable
        return result


class Marks(LocalShared):
    away = False

    async def marks(self, names: Sequence[str]) -> list[str]:
        if self.away:
            raise StoreUnavailable
        return await super().marks(names)

    async def renew(self, names: Iterable[str]) -> None:
        if self.away:
            raise StoreUnavailable
        await super().renew(names)

    def renewed_at_once(self, names: Iterable[str]) -> bool:
        return False  # as where it is far away


class Remembering:
    """A world in whose store every change renews its marks, and a memory over it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = Counting(world.context.storage)
        self.shared = Marks(world.clock)
        self.context = replace(world.context, storage=WatchedStorage(self.store, self.shared))
        world.context = self.context
        world.deliveries = Deliveries(self.context, world.gate, world.wanted, world.sent, None)
        self.memory = SessionMemory(self.context, self.shared)

    async def remembered(self, number: int = 0) -> Collected:
        """A login that the memory knows."""
        collected = await self.world.logged_in(self.world.person(number))
        assert await self.current(collected) is not None
        assert await self.asks(collected) == 0
        return collected

    async def current(self, collected: Collected) -> sessions.Current | None:
        return await self.memory.current([collected.token])

    async def asks(self, collected: Collected) -> int:
        """How often the database is asked when the memory is."""
        before = self.store.asked
        await self.current(collected)
        return self.store.asked - before

    async def do(self, work: Callable[[Transaction], Awaitable[Any]]) -> Any:
        return await self.world.do(work)


async def block(here: Remembering, collected: Collected) -> None:
    await here.do(lambda t: t.users.set_blocked(collected.user.id, True))
