"""What operators look for."""

from __future__ import annotations

import pytest

from flows import admin_views
from storage import sqlite_people
from tests.flows.world import World


@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_a_page_is_full_although_few_are_looked_at_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, limit: int
):
    monkeypatch.setattr(sqlite_people, "SEARCHED_AT_ONCE", 2)

    async def arrive(transaction) -> None:
        for n in range(9):
            await transaction.users.upsert_identity(
                "wechat", f"openid{n}", following=True, event_at=n, new_id=f"user{n}", now=float(n)
            )

    await world.context.storage.transact(arrive)
    found, cursor, pages = [], "", 0
    while True:
        page = await admin_views.people(world.context, "openid", cursor, limit)
        found += [user.id for user in page.people]
        pages += 1
        if not (cursor := page.cursor):
            break
        assert len(page.people) == limit
    assert found == [f"user{n}" for n in range(9)]
    assert pages <= 9 // limit + 2
    assert (await admin_views.people(world.context, "openid8", "", limit)).people[0].id == "user8"
