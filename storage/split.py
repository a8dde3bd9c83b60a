"""A cluster's store: people, sessions and all that lasts in the database, tickets in Redis.

No transaction spans the two: each call is atomic by itself, in the order that the work has them in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from errors import StoreUnavailable
from storage import base
from storage.base import Result, Transaction
from storage.redis import RedisTickets


class SplitStorage(base.Storage):
    def __init__(self, database: base.Storage, client: Redis) -> None:
        self._database = database
        self._client = client
        self._closed = False

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        try:
            async with asyncio.timeout(base.TIMEOUT_SECONDS):  # for all of its calls together
                return await work(_Transaction(self._database, self._client))
        except TimeoutError as error:
            raise StoreUnavailable from error

    async def sweep(self, *, now: float) -> None:
        await self._database.sweep(now=now)  # Redis deletes by itself

    async def ping(self) -> None:
        await self._database.ping()
        try:
            await self._client.set("saoma:ping", b"", ex=60)
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error

    async def close(self) -> None:
        self._closed = True
        await self._database.close()


class _Transaction:
    """The database's collections, each call a transaction of its own there, and Redis's tickets."""

    def __init__(self, database: base.Storage, client: Redis) -> None:
        self.users = cast(base.Users, _Collection(database, "users"))
        self.sessions = cast(base.Sessions, _Collection(database, "sessions"))
        self.deliveries = cast(base.Deliveries, _Collection(database, "deliveries"))
        self.links = cast(base.Links, _Collection(database, "links"))
        self.logins = cast(base.Logins, _Collection(database, "logins"))
        self.grants = cast(base.Grants, _Collection(database, "grants"))
        self.outbox = cast(base.Outbox, _Collection(database, "outbox"))
        self.signing_keys = cast(base.SigningKeys, _Collection(database, "signing_keys"))
        self.audit = cast(base.Audit, _Collection(database, "audit"))
        self.known_browsers = cast(base.KnownBrowsers, _Collection(database, "known_browsers"))
        self.tickets: base.Tickets = RedisTickets(client, self._ids_of)

    async def _ids_of(self, user_id: str) -> Sequence[str]:
        user = await self.users.get(user_id) if user_id else None
        if user is not None:
            return (user.id, *user.previous_ids)
        return (user_id,) if user_id else ()  # forgotten meanwhile: the tickets still are there


class _Collection:
    """One collection of the database, by name."""

    def __init__(self, database: base.Storage, name: str) -> None:
        self._database = database
        self._name = name

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **named: Any) -> Any:
            async def work(transaction: Transaction) -> Any:
                return await getattr(getattr(transaction, self._name), method)(*arguments, **named)

            return await self._database.transact(work)

        return call
