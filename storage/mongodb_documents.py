"""What the collections in MongoDB share: documents stored once, with an end, changed in one step."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from pymongo.errors import DuplicateKeyError

from errors import StoreUnavailable
from storage import codec
from storage.codec import Row

Record = TypeVar("Record")

MAX_TRIES = 100  # how often a change is tried again that others were quicker at


def expiring(row: Row) -> Row:
    """The row with its end as a date too: the server's own deleting knows no other kind of time."""
    return {**row, "expires_on": datetime.fromtimestamp(row["expires_at"], UTC)}


async def insert_first(collection: Any, row: Row) -> bool:
    """Whether the row was stored: False where there is one in its place."""
    try:
        await collection.insert_one(row)
    except DuplicateKeyError:
        return False
    return True


class Versioned:
    """A collection whose documents count their changes: one is made only where nobody was quicker."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection

    async def create(self, id: str, row: Row) -> None:
        """Raises ValueError where the id is taken."""
        if not await insert_first(self._collection, {"_id": id, "version": 0, **expiring(row)}):
            raise ValueError("the id is taken")

    async def get(self, id: str, *, now: float) -> Row | None:
        """The document, unless it is past its end."""
        alive = {**codec.scalars(_id=id), "expires_at": {"$gt": now}}
        row: Row | None = await self._collection.find_one(alive)
        return row

    async def update(
        self,
        id: str,
        change: Callable[[Record], Record],
        *,
        now: float,
        record_of: Callable[[Row], Record],
        row_of: Callable[[Record], Row],
    ) -> Record | None:
        """The outcome of `change`, None where there is nothing to be changed; it may run again."""
        for attempt in range(MAX_TRIES):
            row = await self.get(id, now=now)
            if row is None:
                return None
            record = record_of(row)
            changed = change(record)
            if changed is record:
                return record
            result = await self._collection.update_one(
                {"_id": id, "version": row["version"]},
                {"$set": expiring(codec.scalars(**row_of(changed))), "$inc": {"version": 1}},
            )
            if result.matched_count:
                return changed
            await asyncio.sleep(random.uniform(0, 0.002 * min(attempt, 20)))
        raise StoreUnavailable
