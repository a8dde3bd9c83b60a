"""In MongoDB: the login log, what admins changed, and the browsers that people have used before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from storage import base, codec
from storage.base import AuditPage, LoginPage, page_size
from storage.codec import Row
from storage.mongodb_documents import expiring, insert_first
from storage.mongodb_people import People
from storage.records import AuditEntry, Login, LoginFilter, Tally

HOUR = 3600

_NEWEST_FIRST = [("at", -1), ("_id", -1)]


class Logins(base.Logins):
    """`tally` says which hour, method and result a line is counted under."""

    def __init__(self, database: Any, people: People) -> None:
        self._collection = database["logins"]
        self._people = people

    async def append(self, login: Login) -> None:
        row = expiring(codec.scalars(**codec.login_row(login)))
        tally = f"{int(login.at // HOUR)} {login.method} {login.result}"
        await insert_first(self._collection, {"_id": login.id, "tally": tally, **row})

    async def newest(self, *, user_id: str | None = None, limit: int = 50) -> Sequence[Login]:
        return list((await self.find(LoginFilter(user_id=user_id), limit=limit)).logins)

    async def find(self, wanted: LoginFilter, *, cursor: str = "", limit: int = 50) -> LoginPage:
        limit = page_size(limit)
        which: Row = {} if wanted.user_id is None else await self._people.owned(wanted.user_id)
        which |= codec.scalars(**{
            name: value for name in ("result", "method") if (value := getattr(wanted, name))
        })  # fmt: skip
        between = {"$gte": wanted.since, "$lt": wanted.until}
        if at := {operator: value for operator, value in between.items() if value is not None}:
            which["at"] = codec.scalars(**at)
        rows = await _behind(self._collection, which, cursor, limit + 1)
        found = tuple(codec.login_of(row) for row in rows[:limit])
        return LoginPage(found, codec.cursor_after(found[-1].at, found[-1].id) if len(rows) > limit else "")

    async def tally(self, *, since: float, until: float) -> Sequence[Tally]:
        pipeline = [
            {"$match": {"at": codec.scalars(**{"$gte": since, "$lt": until})}},
            {"$group": {"_id": "$tally", "count": {"$sum": 1}}},
        ]
        found = []
        for row in await self._collection.aggregate(pipeline).to_list(None):
            hour, method, result = row["_id"].split(" ", 2)
            found.append(Tally(int(hour), method, result, row["count"]))
        return found


class Audit(base.Audit):
    def __init__(self, database: Any) -> None:
        self._collection = database["audit"]

    async def append(self, entry: AuditEntry) -> None:
        await insert_first(self._collection, {"_id": entry.id, **codec.scalars(**codec.audit_row(entry))})

    async def newest(self, *, cursor: str = "", limit: int = 50) -> AuditPage:
        limit = page_size(limit)
        rows = await _behind(self._collection, {}, cursor, limit + 1)
        found = tuple(codec.audit_of(row) for row in rows[:limit])
        return AuditPage(found, codec.cursor_after(found[-1].at, found[-1].id) if len(rows) > limit else "")


class KnownBrowsers(base.KnownBrowsers):
    def __init__(self, database: Any, people: People) -> None:
        self._collection = database["known_browsers"]
        self._people = people

    async def remember(self, token_hash: bytes, user_id: str, *, expires_at: float) -> None:
        row = codec.scalars(token_hash=token_hash, user_id=user_id, expires_at=expires_at)
        key = {"_id": token_hash.hex() + user_id}
        if not await insert_first(self._collection, {**key, **expiring(row)}):
            await self._collection.update_one(
                {**key, "expires_at": {"$lt": expires_at}}, {"$set": expiring(row)}
            )

    async def is_known(self, token_hash: bytes, user_id: str, *, now: float) -> bool:
        alive = {**codec.scalars(token_hash=token_hash), "expires_at": {"$gt": now}}
        found = await self._collection.find_one({**alive, **await self._people.owned(user_id)})
        return found is not None

    async def forget(self, user_id: str) -> None:
        await self._collection.delete_many(await self._people.owned(user_id))


async def _behind(collection: Any, which: Row, cursor: str, limit: int) -> list[Row]:
    """The newest documents of `which` behind the cursor."""
    at, id = codec.place_of(cursor, math.inf)
    if cursor:
        behind = {"$or": [{"at": {"$lt": at}}, {"at": at, "_id": {"$lt": id}}]}
        which = {"$and": [which, behind]} if which else behind
    rows: list[Row] = await collection.find(which).sort(_NEWEST_FIRST).limit(limit).to_list(None)
    return rows
