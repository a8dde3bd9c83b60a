"""People and their identities."""

from __future__ import annotations

import asyncio

import pytest

from storage.base import MAX_PAGE, MAX_SEARCH_TEXT, Page
from storage.records import Profile, User
from tests.storage.drivers import Store
from tests.storage.samples import NOW, link, login, session

KNOWN = Profile("小明", "https://thirdwx.qlogo.cn/1", "中国", "广东", "深圳")


async def follow(store: Store, subject: str = "openid", **fields) -> User:
    given = {"following": True, "event_at": NOW, "new_id": f"id of {subject}", "now": NOW}
    user: User = await store.users.upsert_identity("wechat", subject, **{**given, **fields})
    return user


async def test_first_event_makes_the_person(store: Store) -> None:
    user = await follow(store)
    (identity,) = user.identities
    assert (user.id, user.created_at, user.name) == ("id of openid", NOW, "")
    assert (identity.provider, identity.subject, identity.following) == ("wechat", "openid", True)
    assert (identity.event_at, identity.created_at, identity.profile_at) == (NOW, NOW, 0.0)
    assert (user.unionid, user.blocked, user.login_count, user.last_login_at) == ("", False, 0, 0.0)
    assert user.previous_ids == ()
    assert await store.users.get(user.id) == user
    assert await store.users.by_identity("wechat", "openid") == user


async def test_second_event_finds_the_person(store: Store) -> None:
    first = await follow(store)
    again = await follow(store, event_at=NOW + 5, new_id="another", now=NOW + 5)
    assert again.id == first.id
    assert again.created_at == first.created_at
    assert again.identities[0].event_at == NOW + 5
    assert await store.users.get("another") is None


async def test_same_subject_at_two_providers_is_two_people(store: Store) -> None:
    await follow(store)
    await store.users.upsert_identity(
        "app", "openid", following=False, event_at=NOW, new_id="of the app", now=NOW
    )
    assert (await store.users.by_identity("wechat", "openid")).id == "id of openid"
    assert (await store.users.by_identity("app", "openid")).id == "of the app"


async def test_fifty_at_once_make_one_person(store: Store) -> None:
    users = await asyncio.gather(*(follow(store, new_id=f"id {n}") for n in range(50)))
    assert len({user.id for user in users}) == 1
    assert [user.id for user in (await store.users.search("")).users] == [users[0].id]


async def test_nobody_is_none(store: Store) -> None:
    assert await store.users.get("nobody") is None
    assert await store.users.by_identity("wechat", "nobody") is None
    assert await store.users.set_unfollowed("wechat", "nobody", event_at=NOW) is None
    assert await store.users.update_profile("wechat", "nobody", KNOWN, unionid="u", now=NOW) is None
    await store.users.set_chosen_name("nobody", "name")
    await store.users.set_blocked("nobody", True)
    await store.users.count_login("nobody", "ticket", now=NOW)
    await store.users.forget("nobody")
    assert (await store.users.search("")).users == ()


@pytest.mark.parametrize(("event_at", "applied"), [(NOW - 1, False), (NOW, True), (NOW + 1, True)])
async def test_follow_applies_unless_older(store: Store, event_at: float, applied: bool) -> None:
    await follow(store, following=False)
    (identity,) = (await follow(store, following=True, event_at=event_at)).identities
    assert identity.following is applied
    assert identity.event_at == max(NOW, event_at)


@pytest.mark.parametrize(("event_at", "applied"), [(NOW - 1, False), (NOW, True), (NOW + 1, True)])
async def test_unfollow_applies_unless_older(store: Store, event_at: float, applied: bool) -> None:
    await follow(store)
    await store.users.update_profile("wechat", "openid", KNOWN, unionid="", now=NOW)
    (identity,) = (await store.users.set_unfollowed("wechat", "openid", event_at=event_at)).identities
    assert identity.following is not applied
    assert identity.event_at == max(NOW, event_at)
    assert identity.profile == (Profile() if applied else KNOWN)
    assert identity.profile_at == (0.0 if applied else NOW)


async def test_late_profile_does_not_come_back_after_an_unfollow(store: Store) -> None:
    await follow(store)
    await store.users.set_unfollowed("wechat", "openid", event_at=NOW + 1)
    user = await store.users.update_profile("wechat", "openid", KNOWN, unionid="union", now=NOW + 2)
    assert user.identities[0].profile == Profile()
    assert user.identities[0].profile_at == 0.0
    assert user.unionid == ""


async def test_events_in_any_order_end_alike(store: Store) -> None:
    events = [(NOW, True), (NOW + 1, False), (NOW + 2, True), (NOW + 3, False)]
    for n, order in enumerate([(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)]):
        for event_at, following in [events[i] for i in order]:
            if following:
                await follow(store, str(n), event_at=event_at)
            elif await store.users.set_unfollowed("wechat", str(n), event_at=event_at) is None:
                await follow(store, str(n), following=False, event_at=event_at)
        (identity,) = (await store.users.by_identity("wechat", str(n))).identities
        assert (identity.following, identity.event_at) == (False, NOW + 3)


async def test_blank_fields_of_a_profile_leave_the_known_ones(store: Store) -> None:
    await follow(store)
    await store.users.update_profile("wechat", "openid", KNOWN, unionid="union", now=NOW)
    newer = Profile(nickname="", picture="https://thirdwx.qlogo.cn/2")
    user = await store.users.update_profile("wechat", "openid", newer, unionid="", now=NOW + 9)
    assert user.identities[0].profile == Profile("小明", newer.picture, "中国", "广东", "深圳")
    assert user.identities[0].profile_at == NOW + 9
    assert user.unionid == "union"
    assert user.name == "小明"


async def test_name_block_and_logins(store: Store) -> None:
    user = await follow(store)
    await store.users.set_chosen_name(user.id, "Anna")
    await store.users.set_blocked(user.id, True)
    await store.users.count_login(user.id, "ticket 1", now=NOW + 1)
    await store.users.count_login(user.id, "ticket 1", now=NOW + 2)
    stored = await store.users.get(user.id)
    assert (stored.name, stored.blocked, stored.login_count, stored.last_login_at) == (
        "Anna",
        True,
        1,
        NOW + 1,
    )
    await store.users.count_login(user.id, "ticket 2", now=NOW + 3)
    await store.users.count_login(user.id, "ticket 1", now=NOW + 4)
    await store.users.set_blocked(user.id, False)
    stored = await store.users.get(user.id)
    assert (stored.blocked, stored.login_count, stored.last_login_at) == (False, 2, NOW + 3)


async def test_block_survives_unfollowing_and_coming_back(store: Store) -> None:
    user = await follow(store)
    await store.users.set_blocked(user.id, True)
    await store.users.set_unfollowed("wechat", "openid", event_at=NOW + 1)
    assert (await follow(store, event_at=NOW + 2)).blocked


async def test_one_ticket_counted_by_many_at_once_counts_once(store: Store) -> None:
    user = await follow(store)
    await asyncio.gather(*(store.users.count_login(user.id, "ticket", now=NOW) for _ in range(30)))
    assert (await store.users.get(user.id)).login_count == 1


async def test_different_tickets_at_once_all_count(store: Store) -> None:
    user = await follow(store)
    await asyncio.gather(*(store.users.count_login(user.id, f"ticket {n}", now=NOW) for n in range(30)))
    assert (await store.users.get(user.id)).login_count == 30


async def test_forget_leaves_nothing(store: Store) -> None:
    user, other = await follow(store), await follow(store, "other")
    for owner in (user, other):
        await store.users.update_profile(
            "wechat", owner.identities[0].subject, KNOWN, unionid=f"union {owner.id}", now=NOW
        )
        await store.sessions.create(session(owner.id, user_id=owner.id))
        await store.links.create(link(owner.id, user_id=owner.id))
        await store.logins.append(login(owner.id, user_id=owner.id))
    await store.users.forget(user.id)
    await store.users.forget(user.id)
    assert await store.users.get(user.id) is None
    assert await store.users.by_identity("wechat", "openid") is None
    assert await store.sessions.get(session(user.id).token_hash) is None
    assert await store.links.get(link(user.id).token_hash, now=NOW) is None
    assert [line.user_id for line in await store.logins.newest()] == [other.id]
    assert await store.logins.newest(user_id=user.id) == []
    assert (await store.users.search("")).users == (await store.users.get(other.id),)
    assert await store.sessions.get(session(other.id).token_hash) is not None
    assert await store.links.get(link(other.id).token_hash, now=NOW) is not None


async def test_who_was_forgotten_comes_back_as_somebody_new(store: Store) -> None:
    user = await follow(store)
    await store.users.update_profile("wechat", "openid", KNOWN, unionid="union", now=NOW)
    await store.users.set_blocked(user.id, True)
    await store.users.forget(user.id)
    await follow(store, new_id="new", now=NOW + 9)
    back = await store.users.update_profile("wechat", "openid", Profile(), unionid="union", now=NOW + 9)
    assert (back.id, back.name, back.blocked, back.unionid) == ("new", "", False, "union")
    assert len(back.identities) == 1


async def everybody(store: Store, text: str, limit: int) -> list[str]:
    ids: list[str] = []
    cursor = ""
    while True:
        page: Page = await store.users.search(text, cursor=cursor, limit=limit)
        assert len(page.users) <= min(limit, MAX_PAGE)
        ids += [user.id for user in page.users]
        cursor = page.cursor
        if not cursor:
            return ids


async def test_pages_hold_everybody_once_the_oldest_first(store: Store) -> None:
    count = MAX_PAGE + 31
    # Several are made at the same second, and the ids do not follow the ages.
    made = [
        follow(store, f"openid {n}", new_id=f"{n * 13 % count:04}", now=NOW - n // 3) for n in range(count)
    ]
    for first in range(0, count, 21):
        await asyncio.gather(*made[first : first + 21])
    expected = sorted((NOW - n // 3, f"{n * 13 % count:04}") for n in range(count))
    for text in ("", "openid"):
        for limit in (47, 1000):
            assert await everybody(store, text, limit) == [user_id for _, user_id in expected]
    assert len((await store.users.search("")).users) == 50


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_page_has_one_at_least(store: Store, limit: int) -> None:
    await follow(store, "1")
    await follow(store, "2")
    page = await store.users.search("", limit=limit)
    assert len(page.users) == 1
    assert page.cursor


async def test_page_that_ends_exactly_has_no_cursor(store: Store) -> None:
    await follow(store, "1")
    await follow(store, "2")
    assert (await store.users.search("", limit=2)).cursor == ""


async def test_cursor_stands_when_its_person_is_forgotten(store: Store) -> None:
    for n in range(4):
        await follow(store, str(n), now=NOW + n)
    page = await store.users.search("", limit=2)
    await store.users.forget(page.users[-1].id)
    rest = await store.users.search("", cursor=page.cursor, limit=2)
    assert [user.identities[0].subject for user in rest.users] == ["2", "3"]


@pytest.mark.parametrize("cursor", ["nonsense", "nan id", "inf id", " id"])
async def test_cursor_that_is_none(store: Store, cursor: str) -> None:
    with pytest.raises(ValueError):
        await store.users.search("", cursor=cursor)


async def test_search_looks_at_name_nickname_and_subject(store: Store) -> None:
    for n, subject in enumerate(["oAbCd", "x1", "x2"]):
        await follow(store, subject, now=NOW + n)
    await store.users.update_profile("wechat", "x1", Profile("小明", city="abc"), unionid="", now=NOW)
    await store.users.set_chosen_name("id of x2", "Mister abCD")
    assert await everybody(store, "aBcd", 1) == ["id of oAbCd", "id of x2"]
    assert await everybody(store, "明", 50) == ["id of x1"]
    assert await everybody(store, "nobody", 50) == []


async def test_person_with_two_matches_is_listed_once(store: Store) -> None:
    await follow(store, "anna 1")
    await follow(store, "anna 2")
    for subject in ("anna 1", "anna 2"):
        await store.users.update_profile("wechat", subject, Profile("Anna"), unionid="union", now=NOW)
    await store.users.set_chosen_name("id of anna 1", "Anna")
    assert await everybody(store, "anna", 1) == ["id of anna 1"]


SPECIAL = [
    "%",
    "_",
    ".*",
    "$",
    "^",
    "\\",
    "[a]",
    "(",
    "|",
    "{1}",
    "'",
    '"',
    "\n",
    "a\x00b",
    "/",
    "#",
    " ",
    "🙂",
]


async def test_search_takes_every_character_as_text(store: Store) -> None:
    await follow(store, "plain-ab")
    for n, text in enumerate(SPECIAL):
        await follow(store, f"{n}", new_id=f"{n}", now=NOW + 1 + n)
        await store.users.set_chosen_name(f"{n}", f"-{text}-")
    for n, text in enumerate(SPECIAL):
        assert await everybody(store, text, 50) == [f"{n}"], repr(text)
    assert await everybody(store, "a\x00x", 50) == []


async def test_only_ascii_matches_in_either_case(store: Store) -> None:
    await follow(store)
    await store.users.set_chosen_name("id of openid", "Élan K")
    assert await everybody(store, "élan", 50) == []
    assert await everybody(store, "ÉLAN k", 50) == ["id of openid"]
    assert await everybody(store, "\u212a", 50) == []  # the Kelvin sign, which folds to k


async def test_too_long_to_search_for(store: Store) -> None:
    await follow(store, "a" * MAX_SEARCH_TEXT)
    assert len(await everybody(store, "A" * MAX_SEARCH_TEXT, 50)) == 1
    with pytest.raises(ValueError):
        await store.users.search("a" * (MAX_SEARCH_TEXT + 1))
