"""What SQLite's driver remembers of tickets is what its file has, or it is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from errors import StoreUnavailable
from storage import sqlite
from storage.base import Storage, Transaction
from storage.records import Profile
from tests.storage.samples import NOW, ticket
from tickets import Ticket


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    storage = sqlite.open(tmp_path / "saoma.db")
    yield storage
    await storage.close()


@pytest.fixture
def reads(storage: Any) -> list[str]:
    """The questions for tickets that SQLite is asked from now on."""
    asked: list[str] = []
    storage._connection.set_trace_callback(
        lambda said: asked.append(said) if "FROM tickets" in said else None
    )
    return asked


async def create(storage: Storage, *made: Ticket) -> None:
    async def work(transaction: Transaction) -> None:
        for one in made:
            await transaction.tickets.create(one)

    await storage.transact(work)


async def get(storage: Storage, id: str = "ticket", now: float = NOW) -> Ticket | None:
    return await storage.transact(lambda transaction: transaction.tickets.get(id, now=now))


async def update(storage: Storage, id: str = "ticket", **fields: Any) -> Ticket:
    return await storage.transact(
        lambda transaction: transaction.tickets.update(id, lambda known: replace(known, **fields), now=NOW)
    )


async def test_what_was_written_is_not_read(storage: Storage, reads: list[str]) -> None:
    await create(storage, ticket())
    assert await update(storage, next="/there") == await get(storage) == ticket(next="/there")
    assert await get(storage, now=NOW + 1e6) is None
    assert reads == []


async def test_what_was_read_is_not_read_again(tmp_path: Path) -> None:
    first = sqlite.open(tmp_path / "saoma.db")
    await create(first, ticket())
    await first.close()
    again = sqlite.open(tmp_path / "saoma.db")
    asked: list[str] = []
    again._connection.set_trace_callback(asked.append)
    assert [await get(again) for _ in range(3)] == [ticket()] * 3
    assert sum("FROM tickets" in said for said in asked) == 1
    await again.close()


async def test_what_was_taken_back_is_read(storage: Storage, reads: list[str]) -> None:
    await create(storage, ticket())

    async def fails(transaction: Transaction) -> None:
        await transaction.tickets.update("ticket", lambda known: replace(known, next="/there"), now=NOW)
        await transaction.tickets.create(ticket("another"))
        raise LookupError

    with pytest.raises(LookupError):
        await storage.transact(fails)
    assert (await get(storage), await get(storage, "another")) == (ticket(), None)
    assert len(reads) >= 2


async def test_what_the_disk_refused_is_read(storage: Any, expect_log: Any) -> None:
    await create(storage, ticket())
    expect_log("refused a transaction")
    storage._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailable):
        await update(storage, next="/there")
    storage._connection.execute("PRAGMA query_only = OFF")
    assert await get(storage) == ticket()


async def test_what_was_swept_is_gone(storage: Storage) -> None:
    await create(storage, ticket())
    await storage.sweep(now=NOW + 1e6)  # by a clock that is set back afterwards
    assert await get(storage) is None


async def test_a_merge_gives_tickets_to_the_survivor(storage: Storage) -> None:
    async def people(transaction: Transaction) -> None:
        for name, now in (("old", NOW), ("young", NOW + 1)):
            await transaction.users.upsert_identity(
                "wechat", name, following=True, event_at=now, new_id=name, now=now
            )
            await transaction.tickets.create(ticket(f"of {name}", user_id=name))
        for name in ("old", "young"):
            await transaction.users.update_profile("wechat", name, Profile(), unionid="one", now=NOW)

    await storage.transact(people)
    of_young = await get(storage, "of young")
    assert of_young is not None
    assert of_young.user_id == "old"


async def test_only_so_many_are_remembered(
    storage: Storage, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "MAX_KNOWN_TICKETS", 3)
    await create(storage, *(ticket(f"{n}") for n in range(5)))
    assert [await get(storage, f"{n}") for n in (2, 3, 4)] == [ticket(f"{n}") for n in (2, 3, 4)]
    assert reads == []
    assert await get(storage, "1") == ticket("1")
    assert len(reads) == 1


async def test_what_has_ended_is_forgotten(storage: Any) -> None:
    await create(storage, *(ticket(f"{n}") for n in range(50)))
    for n in range(50):
        await create(storage, ticket(f"later {n}", created_at=NOW + 300, expires_at=NOW + 600))
    assert len(storage._transaction.tickets._known) == 50
