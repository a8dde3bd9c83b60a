"""A store that rings when something was added to the outbox, so that its sender need not keep looking."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from storage import base
from storage.base import Result, Transaction
from storage.records import Notice


class RingingStorage(base.Storage):
    """`ring` is called with the endpoint's name when the work has come to its end."""

    def __init__(self, storage: base.Storage, ring: Callable[[str], None]) -> None:
        self._storage = storage
        self._ring = ring

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        added: set[str] = set()

        async def heard(transaction: Transaction) -> Result:
            return await work(cast(Transaction, _Transaction(transaction, added)))

        try:
            return await self._storage.transact(heard)
        finally:
            for endpoint in added:
                self._ring(endpoint)

    async def sweep(self, *, now: float) -> None:
        await self._storage.sweep(now=now)

    async def ping(self) -> None:
        await self._storage.ping()

    async def close(self) -> None:
        await self._storage.close()


class _Transaction:
    """The transaction's collections, one of them heard."""

    def __init__(self, transaction: Transaction, added: set[str]) -> None:
        self._transaction = transaction
        self.outbox = _Outbox(transaction.outbox, added)

    def __getattr__(self, collection: str) -> Any:
        return getattr(self._transaction, collection)


class _Outbox:
    """`added` may be filled from the store's own thread."""

    def __init__(self, outbox: base.Outbox, added: set[str]) -> None:
        self._outbox = outbox
        self._added = added

    async def add(self, notice: Notice) -> None:
        await self._outbox.add(notice)
        self._added.add(notice.endpoint)

    def __getattr__(self, method: str) -> Any:
        return getattr(self._outbox, method)
