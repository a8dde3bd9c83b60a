"""The drivers that the conformance suite runs on, and a store whose every call is a transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from storage import mongodb, redis, sqlite
from storage.base import Storage, Transaction
from storage.split import SplitStorage

Open = Callable[[], Awaitable[Storage]]


class Store:
    """`await store.users.get(…)` is one transaction; `reopen` closes and opens the same data again."""

    def __init__(self, open: Open, storage: Storage) -> None:
        self._open = open
        self.storage = storage
        self.users = _Collection(self, "users")
        self.sessions = _Collection(self, "sessions")
        self.tickets = _Collection(self, "tickets")
        self.deliveries = _Collection(self, "deliveries")
        self.links = _Collection(self, "links")
        self.logins = _Collection(self, "logins")
        self.grants = _Collection(self, "grants")
        self.outbox = _Collection(self, "outbox")
        self.signing_keys = _Collection(self, "signing_keys")
        self.audit = _Collection(self, "audit")
        self.known_browsers = _Collection(self, "known_browsers")

    async def reopen(self) -> None:
        await self.storage.close()
        self.storage = await self._open()


class _Collection:
    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **named: Any) -> Any:
            async def work(transaction: Transaction) -> Any:
                return await getattr(getattr(transaction, self._name), method)(*arguments, **named)

            return await self._store.storage.transact(work)

        return call


def _sqlite(request: pytest.FixtureRequest) -> Open:
    folder: Path = request.getfixturevalue("tmp_path")

    async def open() -> Storage:
        return sqlite.open(folder / "saoma.db")

    return open


def _mongodb(request: pytest.FixtureRequest) -> Open:
    url: str = request.getfixturevalue("mongodb_url")

    async def open() -> Storage:
        return await mongodb.open(url)

    return open


class _Cluster(SplitStorage):
    """Closes its Redis client, too; in a server the broker uses the same one."""

    def __init__(self, database: Storage, client: Redis) -> None:
        super().__init__(database, client)
        self._own_client = client

    async def close(self) -> None:
        await super().close()
        await self._own_client.aclose()


def _redis(request: pytest.FixtureRequest) -> Open:
    """Tickets in Redis; the rest in SQLite, which answers faster than what a cluster has."""
    url: str = request.getfixturevalue("redis_url")
    database = _sqlite(request)

    async def open() -> Storage:
        return _Cluster(await database(), redis.connect(url))

    return open


WHOLE: dict[str, Callable[[pytest.FixtureRequest], Open]] = {
    "sqlite": _sqlite,
    "mongodb": _mongodb,
    "redis": _redis,
}
# A driver that stores tickets alone joins here.
FOR_TICKETS = WHOLE
