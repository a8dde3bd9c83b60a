"""What MongoDB keeps for the sites: grants, notices to be sent, signing keys."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from pymongo import ReturnDocument

from oidc import Grant
from storage import base, codec
from storage.base import page_size
from storage.codec import Row
from storage.mongodb_documents import Versioned, expiring, insert_first
from storage.records import Notice, SigningKey

# How many pending notices of an endpoint are looked at, the oldest. Behind a site that has been away for long
# there may be more than can be read in the time that a call has.
MAX_WAITING = 10_000

_IN_LINE = [("created_at", 1), ("id", 1)]


class Grants(base.Grants):
    def __init__(self, database: Any) -> None:
        self._collection = database["grants"]
        self._versioned = Versioned(self._collection)

    async def create(self, grant: Grant) -> None:
        await self._versioned.create(grant.id, codec.scalars(**codec.grant_row(grant)))

    async def get(self, grant_id: str, *, now: float) -> Grant | None:
        row = await self._versioned.get(grant_id, now=now)
        return codec.grant_of(row) if row else None

    async def update(self, grant_id: str, change: Callable[[Grant], Grant], *, now: float) -> Grant | None:
        return await self._versioned.update(
            grant_id, change, now=now, record_of=codec.grant_of, row_of=codec.grant_row
        )

    async def of_session(self, session_id: str, *, now: float) -> Sequence[Grant]:
        rows = self._collection.find({**codec.scalars(session_id=session_id), "expires_at": {"$gt": now}})
        return [codec.grant_of(row) async for row in rows.sort([("created_at", 1), ("_id", 1)])]


class Outbox(base.Outbox):
    """`_id` names endpoint and notice. A notice's place in its person's line never changes."""

    def __init__(self, database: Any) -> None:
        self._collection = database["outbox"]

    async def add(self, notice: Notice) -> None:
        row = expiring(codec.scalars(**codec.notice_row(notice)))
        await insert_first(self._collection, {**_notice_key(notice.endpoint, notice.id), **row})

    async def claim(self, endpoint: str, *, now: float, until: float, limit: int) -> Sequence[Notice]:
        limit, leased = page_size(limit), {"$set": codec.scalars(due_at=until)}
        claimed: list[Notice] = []
        async with aclosing(self._firsts(endpoint)) as firsts:
            async for first in firsts:
                if first["due_at"] > now:
                    continue
                row = await self._collection.find_one_and_update(
                    {"_id": first["_id"], "state": "pending", "due_at": {"$lte": now}},
                    leased,
                    return_document=ReturnDocument.AFTER,
                )
                if row is not None:  # else another caller was quicker
                    claimed.append(codec.notice_of(row))
                if len(claimed) == limit:
                    break
        return claimed

    async def settle(self, notice: Notice) -> None:
        outcome = codec.scalars(
            state=notice.state,
            attempts=notice.attempts,
            result=notice.result,
            due_at=notice.due_at,
            expires_at=notice.expires_at,
        )
        await self._collection.update_one(
            _notice_key(notice.endpoint, notice.id), {"$set": expiring(outcome)}
        )

    async def next_due(self, endpoint: str) -> float | None:
        async with aclosing(self._firsts(endpoint)) as firsts:
            return min([first["due_at"] async for first in firsts], default=None)

    async def newest(self, *, endpoint: str | None = None, limit: int = 50) -> Sequence[Notice]:
        which: Row = {} if endpoint is None else codec.scalars(endpoint=endpoint)
        rows = self._collection.find(which).sort([("created_at", -1), ("id", -1)]).limit(page_size(limit))
        return [codec.notice_of(row) async for row in rows]

    async def _firsts(self, endpoint: str) -> AsyncGenerator[Row, None]:
        """`_id` and `due_at` of the first pending notice of each person, the oldest first."""
        pending = self._collection.find(
            {**codec.scalars(endpoint=endpoint), "state": "pending"}, {"person": 1, "due_at": 1}
        )
        people: set[str] = set()
        try:
            async for row in pending.sort(_IN_LINE).limit(MAX_WAITING):
                if row["person"] not in people:
                    people.add(row["person"])
                    yield row
        finally:
            await pending.close()


class SigningKeys(base.SigningKeys):
    """`_id` is the slot."""

    def __init__(self, database: Any) -> None:
        self._collection = database["signing_keys"]

    async def add(self, key: SigningKey) -> None:
        row = expiring(codec.scalars(**codec.signing_key_row(key)))
        await insert_first(self._collection, {"_id": key.slot, **row})

    async def reseal(self, key: SigningKey) -> None:
        which = codec.scalars(_id=key.slot, id=key.id)
        await self._collection.update_one(which, {"$set": codec.scalars(sealed=key.sealed)})

    async def all(self, *, now: float) -> Sequence[SigningKey]:
        rows = self._collection.find({"expires_at": {"$gt": now}}).sort([("created_at", 1), ("_id", 1)])
        return [codec.signing_key_of(row) async for row in rows]


def _notice_key(endpoint: str, id: str) -> Row:
    """The length keeps what is before and after the second colon apart."""
    codec.scalars(endpoint=endpoint, id=id)
    return {"_id": f"{len(endpoint)}:{endpoint}:{id}"}
