"""A cluster's store: people, sessions and all that lasts in the database, tickets in Redis.

No transaction spans the two: what a work asks of each takes effect in the order that the work has it in. What
it asks of the database between two calls for tickets is one transaction there (decision 38).
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, cast

from redis.exceptions import RedisError

from errors import StoreUnavailable
from storage import base
from storage.base import Result, Transaction
from storage.redis import RedisTickets
from storage.redis_client import Client


class SplitStorage(base.Storage):
    def __init__(self, database: base.Storage, client: Client) -> None:
        self._database = database
        self._client = client
        self._closed = False

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        try:
            async with asyncio.timeout(base.TIMEOUT_SECONDS):  # for all of its calls together
                return await _Piece(self._database, self._client).run(work)
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


@dataclass(frozen=True, slots=True)
class _Ended(Generic[Result]):
    """What a work came to: its result, or the error that it raised."""

    result: Result | None = None
    error: Exception | None = None


class _Piece:
    """One piece of work, which stands in the loop or within a transaction of the database.

    It begins in the loop. A call to the database takes it into a transaction (SQLite's: into its thread), a
    call for a ticket back into the loop; by then the transaction is durable.
    """

    def __init__(self, database: base.Storage, client: Client) -> None:
        self._database = database
        self._client = client
        self._inside: Transaction | None = None
        self._waiting = False  # to be let into a transaction
        self._fault: Exception | None = None  # of the database's

    async def ask_database(self, collection: str, method: str, *arguments: Any, **named: Any) -> Any:
        if self._inside is None:
            await _crossing()
        try:
            return await getattr(getattr(self._inside, collection), method)(*arguments, **named)
        except Exception as error:
            self._fault = error
            raise

    async def go_out(self) -> None:
        """The work is in the loop from now on, and what it asked of the database is durable."""
        if self._inside is not None:
            await _crossing()

    async def run(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        async def whole() -> _Ended[Result]:
            return _Ended(await work(cast(Transaction, _Transaction(self, self._client))))

        going = whole()

        async def within(transaction: Transaction) -> _Ended[Result] | None:
            if not self._waiting:  # the database does a transaction again, but the work has gone on
                raise self._fault or StoreUnavailable()
            self._waiting, self._inside = False, transaction
            try:
                return await _until_crossing(going)
            except Exception as error:
                if error is self._fault:
                    raise
                return _Ended(error=error)  # of the work itself: what it has done before stays
            finally:
                self._inside = None

        while (ended := await _until_crossing(going)) is None:
            self._waiting = True
            if (ended := await self._database.transact(within)) is not None:
                break
        if ended.error is not None:
            raise ended.error
        return cast(Result, ended.result)


_CROSSING = object()


@types.coroutine
def _crossing() -> Generator[object, None, None]:
    """Whoever awaits this goes on on the other side."""
    yield _CROSSING


@types.coroutine
def _until_crossing(going: Coroutine[Any, Any, Result]) -> Generator[Any, Any, Result | None]:
    """The result of `going`; None where it has to go on on the other side."""
    thrown: BaseException | None = None
    while True:
        try:
            awaited = going.send(None) if thrown is None else going.throw(thrown)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        if awaited is _CROSSING:
            return None
        thrown = None
        try:
            yield awaited
        except BaseException as error:
            thrown = error


class _Transaction:
    """The database's collections and Redis's tickets, each call on its side."""

    def __init__(self, piece: _Piece, client: Client) -> None:
        self._piece = piece
        self.tickets = cast(base.Tickets, _Outside(piece, RedisTickets(client, self._ids_of)))

    def __getattr__(self, collection: str) -> Any:
        return _Inside(self._piece, collection)

    async def _ids_of(self, user_id: str) -> Sequence[str]:
        user = await self.users.get(user_id) if user_id else None
        await self._piece.go_out()
        if user is not None:
            return (user.id, *user.previous_ids)
        return (user_id,) if user_id else ()  # forgotten meanwhile: the tickets still are there


class _Inside:
    """One collection of the database, by name."""

    def __init__(self, piece: _Piece, name: str) -> None:
        self._piece = piece
        self._name = name

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        return partial(self._piece.ask_database, self._name, method)


class _Outside:
    """The tickets, whose calls wait for Redis in the loop."""

    def __init__(self, piece: _Piece, tickets: base.Tickets) -> None:
        self._piece = piece
        self._tickets = tickets

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **named: Any) -> Any:
            await self._piece.go_out()
            return await getattr(self._tickets, method)(*arguments, **named)

        return call
