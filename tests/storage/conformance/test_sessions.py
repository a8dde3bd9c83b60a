from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from storage.base import MAX_PAGE
from tests.storage.drivers import Store
from tests.storage.samples import NOW, session


async def test_create_and_get(store: Store) -> None:
    made = session(site="shop", client="api")
    assert await store.sessions.create(made) == made
    assert await store.sessions.get(made.token_hash) == made
    assert await store.sessions.by_id(made.id) == made
    assert await store.sessions.by_ticket(made.ticket_id) == made
    assert await store.sessions.get(b"another") is None
    assert await store.sessions.by_id("ticket of session") is None
    assert await store.sessions.by_ticket("session") is None


async def test_ticket_has_one_session(store: Store) -> None:
    first = session("first", ticket_id="ticket")
    await store.sessions.create(first)
    assert await store.sessions.create(session("second", ticket_id="ticket")) == first
    assert await store.sessions.get(session("second").token_hash) is None


async def test_same_session_again_is_itself(store: Store) -> None:
    await store.sessions.create(session())
    assert await store.sessions.create(session()) == session()


@pytest.mark.parametrize("field", ["id", "token_hash"])
async def test_token_and_id_are_unique(store: Store, field: str) -> None:
    first, second = session("first"), session("second")
    await store.sessions.create(first)
    with pytest.raises(AssertionError):
        await store.sessions.create(replace(second, **{field: getattr(first, field)}))
    assert await store.sessions.get(first.token_hash) == first
    assert await store.sessions.get(second.token_hash) is None


async def test_fifty_at_once_make_one_session(store: Store) -> None:
    made = await asyncio.gather(
        *(store.sessions.create(session(f"{n}", ticket_id="ticket")) for n in range(50))
    )
    assert len(set(made)) == 1
    stored = [await store.sessions.get(session(f"{n}").token_hash) for n in range(50)]
    assert [found for found in stored if found] == [made[0]]


async def test_revoked_session_still_holds_its_ticket(store: Store) -> None:
    first = session("first", ticket_id="ticket")
    await store.sessions.create(first)
    await store.sessions.revoke("first")
    assert await store.sessions.create(session("second", ticket_id="ticket")) == replace(first, revoked=True)


async def test_replace(store: Store) -> None:
    first, second = session("first", ticket_id="ticket"), session("second", ticket_id="ticket")
    third = session("third", ticket_id="ticket")
    await store.sessions.create(first)
    assert await store.sessions.replace(first, second) is True
    assert await store.sessions.get(first.token_hash) is None
    assert await store.sessions.get(second.token_hash) == second
    assert await store.sessions.by_id("first") is None
    assert await store.sessions.by_id("second") == await store.sessions.by_ticket("ticket") == second
    assert await store.sessions.replace(first, third) is False  # it was replaced
    await store.sessions.revoke("second")
    assert await store.sessions.replace(second, third) is False  # it was revoked
    assert await store.sessions.get(third.token_hash) is None


async def test_replacing_at_once_has_one_winner(store: Store) -> None:
    first = session("first", ticket_id="ticket")
    await store.sessions.create(first)
    won = await asyncio.gather(
        *(store.sessions.replace(first, session(f"{n}", ticket_id="ticket")) for n in range(30))
    )
    assert sum(won) == 1
    assert await store.sessions.get(session(f"{won.index(True)}").token_hash) is not None


async def test_another_tickets_session_is_not_replaced(store: Store) -> None:
    await store.sessions.create(session("first", ticket_id="ticket"))
    other = session("second", ticket_id="other ticket")
    assert await store.sessions.replace(session("first", ticket_id="ticket"), other) is False


async def test_touch_and_revoke(store: Store) -> None:
    await store.sessions.create(session())
    await store.sessions.touch("session", now=NOW + 7)
    assert await store.sessions.get(session().token_hash) == session(last_used_at=NOW + 7)
    revoked = session(last_used_at=NOW + 7, revoked=True)
    assert await store.sessions.revoke("session") == revoked
    assert await store.sessions.revoke("session") == revoked
    assert await store.sessions.get(session().token_hash) == await store.sessions.by_id("session") == revoked
    assert await store.sessions.revoke("another") is None


async def test_revoke_of_ticket_leaves_others(store: Store) -> None:
    await store.sessions.create(session("mine", ticket_id="ticket"))
    await store.sessions.create(session("other"))
    for _ in range(2):
        revoked = await store.sessions.revoke_of_ticket("ticket")
        assert revoked == session("mine", ticket_id="ticket", revoked=True)
    assert await store.sessions.revoke_of_ticket("another") is None
    assert (await store.sessions.by_ticket("ticket")).revoked
    assert not (await store.sessions.get(session("other").token_hash)).revoked


async def test_revoke_of_user_by_provider(store: Store) -> None:
    await store.sessions.create(session("wechat"))
    await store.sessions.create(session("app", provider="app"))
    await store.sessions.create(session("other", user_id="other"))
    for provider in ("wechat", "app"):
        listed = await store.sessions.of_user("user", now=NOW, provider=provider)
        assert [kept.id for kept in listed] == [provider]
    assert await store.sessions.of_user("user", now=NOW, provider="") == []
    assert len(await store.sessions.of_user("user", now=NOW)) == 2
    await store.sessions.revoke_of_user("user", provider="wechat")
    assert [kept.id for kept in await store.sessions.of_user("user", now=NOW)] == ["app"]
    await store.sessions.revoke_of_user("user")
    assert await store.sessions.of_user("user", now=NOW) == []
    assert [kept.id for kept in await store.sessions.of_user("other", now=NOW)] == ["other"]


async def test_of_user_the_newest_first_until_the_exact_end(store: Store) -> None:
    for n in (2, 3, 1):
        await store.sessions.create(session(f"{n}", created_at=NOW + n, expires_at=NOW + 100 + n))
    listed = await store.sessions.of_user("user", now=NOW + 101 - 0.001)
    assert [kept.id for kept in listed] == ["3", "2", "1"]
    assert [kept.id for kept in await store.sessions.of_user("user", now=NOW + 101)] == ["3", "2"]


async def test_of_user_is_limited(store: Store) -> None:
    await asyncio.gather(*(store.sessions.create(session(f"{n}")) for n in range(MAX_PAGE + 3)))
    assert len(await store.sessions.of_user("user", now=NOW)) == MAX_PAGE


async def test_expired_session_is_got_until_swept(store: Store) -> None:
    await store.sessions.create(session("over", expires_at=NOW))
    await store.sessions.create(session("alive", expires_at=NOW + 1))
    assert await store.sessions.get(session("over").token_hash) is not None
    await store.storage.sweep(now=NOW)
    assert await store.sessions.get(session("over").token_hash) is None
    assert await store.sessions.get(session("alive").token_hash) is not None
