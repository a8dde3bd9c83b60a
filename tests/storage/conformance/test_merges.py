"""Two people who turn out to be one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from storage.records import Profile, User
from tests.storage.drivers import Store
from tests.storage.samples import NOW, grant, link, login, session, ticket
from tickets import Scanner, State


async def person(store: Store, name: str, age: float) -> None:
    """Somebody who has one of everything, made `age` seconds ago."""
    await store.users.upsert_identity(
        "wechat", f"openid {name}", following=True, event_at=NOW - age, new_id=name, now=NOW - age
    )
    await store.sessions.create(session(name, user_id=name))
    await store.links.create(link(name, user_id=name))
    await store.logins.append(login(name, user_id=name))
    await store.grants.create(grant(name, user_id=name))
    await store.tickets.create(
        ticket(name, state=State.SCANNED, scanner=Scanner("wechat", f"openid {name}"), user_id=name)
    )
    await store.users.count_login(name, f"counted for {name}", now=NOW - age)


async def link_by_unionid(store: Store, name: str, unionid: str = "union") -> User:
    user: User = await store.users.update_profile(
        "wechat", f"openid {name}", Profile(nickname=name), unionid=unionid, now=NOW
    )
    return user


@pytest.mark.parametrize("first", ["old", "young"])
async def test_the_older_survives_with_everything(store: Store, first: str) -> None:
    await person(store, "old", 200)
    await person(store, "young", 100)
    await link_by_unionid(store, first)
    merged = await link_by_unionid(store, "young" if first == "old" else "old")
    assert merged.id == "old"
    assert merged.created_at == NOW - 200
    assert merged.unionid == "union"
    assert [identity.subject for identity in merged.identities] == ["openid old", "openid young"]
    assert merged.previous_ids == ("young",)
    assert (merged.login_count, merged.last_login_at) == (2, NOW - 100)
    assert merged == await store.users.get("old") == await store.users.get("young")
    assert merged == await store.users.by_identity("wechat", "openid young")
    assert (await store.users.search("")).users == (merged,)
    assert {kept.user_id for kept in await store.sessions.of_user("old", now=NOW)} == {"old"}
    assert len(await store.sessions.of_user("old", now=NOW)) == 2
    assert {(line.id, line.user_id) for line in await store.logins.newest(user_id="old")} == {
        ("old", "old"),
        ("young", "old"),
    }
    pending = await store.tickets.pending_of_user("old", now=NOW)
    # A ticket may still have the former id, which means the survivor.
    assert [(await store.users.get(kept.user_id)).id for kept in pending] == ["old", "old"]
    assert {kept.id for kept in pending} == {"old", "young"}
    assert (await store.links.get(link("young").token_hash, now=NOW)).user_id == "old"


async def test_merge_again_changes_nothing(store: Store) -> None:
    await person(store, "old", 200)
    await person(store, "young", 100)
    await link_by_unionid(store, "old")
    merged = await link_by_unionid(store, "young")
    assert await link_by_unionid(store, "young") == merged
    assert await link_by_unionid(store, "old") == merged


@pytest.mark.parametrize("blocked", ["old", "young"])
async def test_blocked_stays_blocked(store: Store, blocked: str) -> None:
    await person(store, "old", 200)
    await person(store, "young", 100)
    await store.users.set_blocked(blocked, True)
    await link_by_unionid(store, "old")
    assert (await link_by_unionid(store, "young")).blocked


@pytest.mark.parametrize(
    ("of_old", "of_young", "kept"), [("Anna", "Bert", "Anna"), ("", "Bert", "Bert"), ("Anna", "", "Anna")]
)
async def test_chosen_name_is_kept(store: Store, of_old: str, of_young: str, kept: str) -> None:
    await person(store, "old", 200)
    await person(store, "young", 100)
    await store.users.set_chosen_name("old", of_old)
    await store.users.set_chosen_name("young", of_young)
    await link_by_unionid(store, "old")
    assert (await link_by_unionid(store, "young")).chosen_name == kept


async def test_ticket_counted_before_the_merge_is_not_counted_after(store: Store) -> None:
    await person(store, "old", 200)
    await person(store, "young", 100)
    await link_by_unionid(store, "old")
    await link_by_unionid(store, "young")
    await store.users.count_login("old", "counted for young", now=NOW)
    assert (await store.users.get("old")).login_count == 2


async def test_two_merges_chain(store: Store) -> None:
    for name, age in (("oldest", 300), ("old", 200), ("young", 100)):
        await person(store, name, age)
    await link_by_unionid(store, "old")
    await link_by_unionid(store, "young")  # young → old
    await link_by_unionid(store, "oldest")  # old → oldest
    merged = await store.users.get("young")
    assert merged.id == "oldest"
    assert merged.previous_ids == ("old", "young")
    assert merged.login_count == 3
    assert len(merged.identities) == 3
    assert merged == await store.users.get("old") == await store.users.get("oldest")
    assert len(await store.sessions.of_user("oldest", now=NOW)) == 3


async def test_former_id_means_the_survivor_everywhere(store: Store) -> None:
    await person(store, "old", 200)
    await person(store, "young", 100)
    await link_by_unionid(store, "old")
    await link_by_unionid(store, "young")
    await store.users.set_chosen_name("young", "Anna")
    await store.users.set_blocked("young", True)
    await store.users.count_login("young", "one more", now=NOW)
    stored = await store.users.get("old")
    assert (stored.chosen_name, stored.blocked, stored.login_count) == ("Anna", True, 3)
    assert len(await store.sessions.of_user("young", now=NOW)) == 2
    assert len(await store.tickets.pending_of_user("young", now=NOW)) == 2
    assert len(await store.logins.newest(user_id="young")) == 2
    for name in ("old", "young"):  # sites know the person by the id they had then
        assert (await store.grants.get(name, now=NOW)).user_id == name
    await store.sessions.revoke_of_user("young")
    assert await store.sessions.of_user("old", now=NOW) == []
    await store.users.forget("young")
    for name in ("old", "young"):
        assert await store.users.get(name) is None
        assert await store.users.by_identity("wechat", f"openid {name}") is None
        assert await store.sessions.get(session(name).token_hash) is None
        assert await store.links.get(link(name).token_hash, now=NOW) is None
        assert await store.grants.get(name, now=NOW) is None
    assert await store.logins.newest() == []


async def test_another_unionid_replaces_the_former(store: Store) -> None:
    await person(store, "first", 200)
    await person(store, "second", 100)
    await link_by_unionid(store, "first", "union 1")
    assert (await link_by_unionid(store, "first", "union 2")).unionid == "union 2"
    second = await link_by_unionid(store, "second", "union 1")
    assert (second.id, second.unionid) == ("second", "union 1")


async def test_many_with_one_unionid_at_once_are_one(store: Store) -> None:
    names = [f"{n}" for n in range(8)]
    for n, name in enumerate(names):
        await person(store, name, 100 - n)
    await asyncio.gather(*(link_by_unionid(store, name) for name in reversed(names)))
    merged = await store.users.get("7")
    assert merged.id == "0"
    assert merged.previous_ids == tuple(names[1:])
    assert len(merged.identities) == 8
    assert merged.login_count == 8
    assert (await store.users.search("")).users == (merged,)


async def test_ticket_that_changes_during_a_merge_keeps_its_new_owner(store: Store) -> None:
    await person(store, "old", 200)
    await person(store, "young", 100)
    await link_by_unionid(store, "old")

    async def confirm() -> None:
        await store.tickets.update(
            "young", lambda known: replace(known, confirmed_at=known.confirmed_at + 1), now=NOW
        )

    await asyncio.gather(*(confirm() for _ in range(10)), link_by_unionid(store, "young"))
    stored = await store.tickets.get("young", now=NOW)
    assert ((await store.users.get(stored.user_id)).id, stored.confirmed_at) == ("old", 10)
