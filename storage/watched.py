"""A store that lets no remembered session outlive a change of what it stands on.

Each call that may change what a session is worth, or what its person is told of, names marks
(`storage/marks.py`). They are renewed after the work and before its caller hears of the outcome: so whoever
was told that somebody is signed out finds, on every node, that nobody remembers them. No flow has to think of
it, and none can forget it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, cast

import background
from errors import StoreUnavailable
from storage import base, marks
from storage.base import Result, Transaction
from storage.records import Session
from storage.shared import Shared

PATIENCE_SECONDS = 0.4  # with base.TIMEOUT_SECONDS it leaves WeChat its answer within 4 s
RETRY_SECONDS = 0.5

Names = Callable[..., Iterable[str]]  # of the marks, from the arguments of the call

log = logging.getLogger("saoma.storage")


def _of_identity(provider: str, subject: str, **_: object) -> Iterable[str]:
    yield marks.of_identity(provider, subject)


def _of_profile(provider: str, subject: str, profile: object, *, unionid: str, **_: object) -> Iterable[str]:
    """Two people who turn out to be one: the other one has the unionid."""
    yield marks.of_identity(provider, subject)
    if unionid:
        yield marks.of_unionid(unionid)


def _of_person(user_id: str, *_: object, **__: object) -> Iterable[str]:
    yield marks.of_person(user_id)


def _of_session(session_id: str) -> Iterable[str]:
    yield marks.of_session(session_id)


def _of_ticket(ticket_id: str) -> Iterable[str]:
    yield marks.of_ticket(ticket_id)


def _of_replaced(former: Session, session: Session) -> Iterable[str]:
    yield marks.of_session(former.id)


def _nothing(*_: object, **__: object) -> Iterable[str]:
    return ()


# Every call of the two collections. A session that is made, or noted as used, takes nothing from anybody.
USERS: Mapping[str, Names] = {
    "upsert_identity": _of_identity,
    "set_unfollowed": _of_identity,
    "update_profile": _of_profile,
    "set_chosen_name": _of_person,
    "set_blocked": _of_person,
    "set_remark": _of_person,
    "set_admin": _of_person,
    "count_login": _of_person,
    "forget": _of_person,
    "get": _nothing,
    "by_identity": _nothing,
    "search": _nothing,
    "count": _nothing,
}
SESSIONS: Mapping[str, Names] = {
    "replace": _of_replaced,
    "revoke": _of_session,
    "revoke_of_ticket": _of_ticket,
    "revoke_of_user": _of_person,
    "create": _nothing,
    "touch": _nothing,
    "get": _nothing,
    "by_id": _nothing,
    "by_ticket": _nothing,
    "of_user": _nothing,
    "count": _nothing,
}


class WatchedStorage(base.Storage):
    def __init__(self, storage: base.Storage, shared: Shared) -> None:
        self._storage = storage
        self._shared = shared
        self._renewals: set[asyncio.Task[None]] = set()

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        touched: list[str] = []

        async def watched(transaction: Transaction) -> Result:
            return await work(cast(Transaction, _Transaction(transaction, touched)))

        try:
            return await self._storage.transact(watched)
        finally:
            # Whatever the outcome: what failed may have happened.
            if touched and not self._shared.renewed_at_once(touched):
                await self._renew(touched)

    async def sweep(self, *, now: float) -> None:
        await self._storage.sweep(now=now)

    async def ping(self) -> None:
        await self._storage.ping()

    async def close(self) -> None:
        await background.end(self._renewals)
        await self._storage.close()

    async def _renew(self, touched: Iterable[str]) -> None:
        """Returns after PATIENCE_SECONDS at the latest; what has not succeeded then is tried again."""
        renewed = False
        try:
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._shared.renew(touched)
                renewed = True
        finally:
            if not renewed:
                renewal = asyncio.create_task(self._renew_at_last(touched))
                self._renewals.add(renewal)
                renewal.add_done_callback(self._renewals.discard)

    async def _renew_at_last(self, touched: Iterable[str]) -> None:
        """Until it has succeeded. Meanwhile the age of what is remembered bounds how wrong it can be."""
        while True:
            try:
                await self._shared.renew(touched)
            except StoreUnavailable:
                log.info("marks of people could not be renewed; trying again")
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return


class _Transaction:
    """The transaction's collections, two of them watched."""

    def __init__(self, transaction: Transaction, touched: list[str]) -> None:
        self._transaction = transaction
        self._touched = touched

    @property
    def users(self) -> _Collection:
        return _Collection(self._transaction.users, USERS, self._touched)

    @property
    def sessions(self) -> _Collection:
        return _Collection(self._transaction.sessions, SESSIONS, self._touched)

    def __getattr__(self, collection: str) -> Any:
        return getattr(self._transaction, collection)


class _Collection:
    """One collection; what its calls name goes into `touched`, maybe from the store's own thread."""

    def __init__(self, collection: object, names: Mapping[str, Names], touched: list[str]) -> None:
        self._collection = collection
        self._names = names
        self._touched = touched

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        call, names = getattr(self._collection, method), self._names[method]

        def watched(*arguments: Any, **named: Any) -> Any:
            self._touched.extend(names(*arguments, **named))
            return call(*arguments, **named)

        return watched
