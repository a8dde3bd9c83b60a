"""What the operator's side asks of a store: logs with filters, figures, remarks, admins, known browsers."""

from __future__ import annotations

import asyncio

import pytest

from storage.base import MAX_PAGE
from storage.records import Login, LoginFilter, Profile, Tally
from tests.storage.drivers import Store
from tests.storage.samples import NOW, audit_entry, login, session, sha256

HOUR = 3600
# The beginning of an hour, so that lines around it fall into two.
SHARP = NOW - NOW % HOUR + HOUR


async def person(store: Store, name: str, at: float = NOW) -> None:
    await store.users.upsert_identity(
        "wechat", f"openid {name}", following=True, event_at=at, new_id=name, now=at
    )


async def merge(store: Store, *names: str) -> None:
    for name in names:
        await store.users.update_profile("wechat", f"openid {name}", Profile(), unionid="union", now=NOW)


async def found(store: Store, limit: int = 50, **wanted: object) -> list[str]:
    """The ids of all pages, one after the other; no page but the last is without a cursor, or short."""
    ids, cursor = [], ""
    while True:
        page = await store.logins.find(LoginFilter(**wanted), cursor=cursor, limit=limit)
        ids += [line.id for line in page.logins]
        if not page.cursor:
            return ids
        assert len(page.logins) == limit
        cursor = page.cursor


# --- The login log.


async def lines(store: Store) -> None:
    for line in (
        login("1", at=NOW + 1, user_id="anna"),
        login("2", at=NOW + 2, user_id="bert", result="blocked"),
        login("3", at=NOW + 3, user_id="anna", method="app"),
        login("4", at=NOW + 4, user_id="bert", result="blocked", method="app"),
    ):
        await store.logins.append(line)


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({}, "4321"),
        ({"user_id": "anna"}, "31"),
        ({"user_id": "nobody"}, ""),
        ({"result": "blocked"}, "42"),
        ({"method": "app"}, "43"),
        ({"result": "blocked", "method": "app"}, "4"),
        ({"user_id": "anna", "result": "blocked"}, ""),
        ({"since": NOW + 2}, "432"),
        ({"until": NOW + 2}, "1"),
        ({"since": NOW + 2, "until": NOW + 4}, "32"),
        ({"since": NOW + 2.5, "user_id": "bert"}, "4"),
        ({"since": 0.0}, "4321"),
        ({"until": 0.0}, ""),
        ({"result": "success' OR 1=1"}, ""),
    ],
)
async def test_filters(store: Store, wanted: dict[str, object], ids: str) -> None:
    await lines(store)
    assert "".join(await found(store, **wanted)) == ids
    assert "".join(await found(store, limit=1, **wanted)) == ids


async def test_a_line_comes_back_whole(store: Store) -> None:
    line = login(site="店", browser="", address="2001:db8::1", result="login_refused")
    await store.logins.append(line)
    assert (await store.logins.find(LoginFilter())).logins == (line,)


async def test_pages_to_the_end_with_ties(store: Store) -> None:
    """Lines of one moment stand by their ids; none is left out and none comes twice."""
    given: list[Login] = [login(f"{n:03}", at=NOW + n // 7) for n in range(45)]
    await asyncio.gather(*(store.logins.append(line) for line in given))
    expected = [line.id for line in reversed(given)]
    for limit in (1, 6, 7, 44, 45, 46):
        assert await found(store, limit=limit) == expected


async def test_lines_that_come_meanwhile_are_not_behind_the_cursor(store: Store) -> None:
    await lines(store)
    page = await store.logins.find(LoginFilter(), limit=2)
    await store.logins.append(login("5", at=NOW + 5))
    rest = await store.logins.find(LoginFilter(), cursor=page.cursor)
    assert [line.id for line in rest.logins] == ["2", "1"]


async def test_lines_of_who_was_merged_away(store: Store) -> None:
    await person(store, "old", NOW - 2)
    await person(store, "young", NOW - 1)
    for name in ("old", "young"):
        await store.logins.append(login(name, user_id=name, at=NOW if name == "old" else NOW + 1))
    await merge(store, "old", "young")
    assert await found(store, user_id="old") == await found(store, user_id="young") == ["young", "old"]


@pytest.mark.parametrize("cursor", ["x", "no cursor", "nan x", "inf x", "1e999 x", "4000000000"])
async def test_cursors_that_no_page_had(store: Store, cursor: str) -> None:
    with pytest.raises(ValueError):
        await store.logins.find(LoginFilter(), cursor=cursor)
    with pytest.raises(ValueError):
        await store.audit.newest(cursor=cursor)


@pytest.mark.parametrize(("limit", "length"), [(0, 1), (-5, 1), (MAX_PAGE + 1, MAX_PAGE)])
async def test_pages_have_their_limits(store: Store, limit: int, length: int) -> None:
    count = MAX_PAGE + 2

    async def work(transaction):
        for n in range(count):
            await transaction.logins.append(login(f"{n}"))
            await transaction.audit.append(audit_entry(f"{n}"))

    await store.storage.transact(work)
    assert len((await store.logins.find(LoginFilter(), limit=limit)).logins) == length
    assert len((await store.audit.newest(limit=limit)).entries) == length


async def test_lines_go_when_they_may(store: Store) -> None:
    await store.logins.append(login("over", expires_at=NOW))
    await store.logins.append(login("kept", expires_at=NOW + 0.001))
    await store.audit.append(audit_entry())
    await store.storage.sweep(now=NOW)
    assert await found(store) == ["kept"]
    assert len((await store.audit.newest()).entries) == 1, "nothing deletes a line of the audit log"


async def test_how_lines_spread(store: Store) -> None:
    hour = int(SHARP // HOUR)
    for n, (at, method, result) in enumerate(
        [
            (SHARP - 0.001, "wechat", "success"),
            (SHARP, "wechat", "success"),
            (SHARP + 1, "wechat", "success"),
            (SHARP + 2, "app", "success"),
            (SHARP + 3, "app", "two words"),
            (SHARP + HOUR, "wechat", "success"),
        ]
    ):
        await store.logins.append(login(f"{n}", at=at, method=method, result=result))
    whole = [
        Tally(hour - 1, "wechat", "success", 1),
        Tally(hour, "app", "success", 1),
        Tally(hour, "app", "two words", 1),
        Tally(hour, "wechat", "success", 2),
        Tally(hour + 1, "wechat", "success", 1),
    ]

    async def tally(since: float, until: float) -> list[Tally]:
        found = await store.logins.tally(since=since, until=until)
        return sorted(found, key=lambda known: (known.hour, known.method, known.result))

    assert await tally(SHARP - HOUR, SHARP + 2 * HOUR) == whole
    assert await tally(SHARP, SHARP + HOUR) == whole[1:4]
    assert await tally(SHARP + 1, SHARP + 2) == [Tally(hour, "wechat", "success", 1)]
    assert await tally(SHARP + 2 * HOUR, SHARP + 3 * HOUR) == []


async def test_a_repeated_line_is_counted_once(store: Store) -> None:
    for _ in range(2):
        await store.logins.append(login(at=SHARP))
    assert [known.count for known in await store.logins.tally(since=SHARP, until=SHARP + 1)] == [1]


# --- What admins did.


async def test_the_audit_log(store: Store) -> None:
    given = [audit_entry(f"{n:02}", at=NOW + n // 3, detail=f"备注 {n}\n\x00") for n in range(10)]
    for entry in given:
        await store.audit.append(entry)
    seen, cursor = [], ""
    while True:
        page = await store.audit.newest(cursor=cursor, limit=4)
        seen += page.entries
        if not (cursor := page.cursor):
            break
    assert seen == given[::-1]
    await store.reopen()
    assert list((await store.audit.newest()).entries) == given[::-1]


async def test_an_entry_again_is_no_second_one(store: Store) -> None:
    await store.audit.append(audit_entry())
    await store.audit.append(audit_entry(detail="other"))
    assert (await store.audit.newest()).entries == (audit_entry(),)


async def test_the_audit_log_outlives_whom_it_is_about(store: Store) -> None:
    await person(store, "user")
    await store.audit.append(audit_entry())
    await store.users.forget("user")
    assert (await store.audit.newest()).entries == (audit_entry(),)


# --- Remarks and admins.


async def test_a_remark_is_found(store: Store) -> None:
    await person(store, "anna")
    await person(store, "bert")
    await store.users.set_remark("anna", "市场部 Ground Floor")
    assert (await store.users.get("anna")).remark == "市场部 Ground Floor"
    for text in ("场部", "gROUND fl"):
        assert [user.id for user in (await store.users.search(text)).users] == ["anna"]
    await store.users.set_remark("anna", "")
    assert (await store.users.search("Ground")).users == ()
    await store.users.set_remark("nobody", "x")
    assert await store.users.get("nobody") is None


async def test_a_remark_is_kept_by_profiles_and_follows(store: Store) -> None:
    await person(store, "anna")
    await store.users.set_remark("anna", "remark")
    await store.users.set_admin("anna", True)
    await store.users.set_unfollowed("wechat", "openid anna", event_at=NOW + 1)
    await person(store, "anna", NOW + 2)
    await store.users.update_profile(
        "wechat", "openid anna", Profile(nickname="Anna"), unionid="", now=NOW + 3
    )
    user = await store.users.get("anna")
    assert (user.remark, user.admin, user.name) == ("remark", True, "Anna")


@pytest.mark.parametrize(("old", "young", "kept"), [("a", "b", "a"), ("", "b", "b"), ("a", "", "a")])
async def test_the_remark_of_two_who_are_one(store: Store, old: str, young: str, kept: str) -> None:
    await person(store, "old", NOW - 2)
    await person(store, "young", NOW - 1)
    await store.users.set_remark("old", old)
    await store.users.set_remark("young", young)
    await merge(store, "old", "young")
    assert (await store.users.get("young")).remark == kept


async def test_an_admin(store: Store) -> None:
    await person(store, "anna")
    assert (await store.users.get("anna")).admin is False
    await store.users.set_admin("anna", True)
    assert (await store.users.get("anna")).admin is True
    await store.reopen()
    assert (await store.users.by_identity("wechat", "openid anna")).admin is True
    await store.users.set_admin("anna", False)
    assert (await store.users.search("")).users[0].admin is False


@pytest.mark.parametrize("admin", ["old", "young"])
@pytest.mark.parametrize("order", [("old", "young"), ("young", "old")])
async def test_nobody_becomes_an_admin_by_a_merge(store: Store, admin: str, order: tuple[str, str]) -> None:
    await person(store, "old", NOW - 2)
    await person(store, "young", NOW - 1)
    await store.users.set_admin(admin, True)
    await merge(store, *order)
    assert (await store.users.get("young")).id == "old"
    assert (await store.users.get("old")).admin is (admin == "old")


# --- Figures.


async def test_how_many_people(store: Store) -> None:
    assert await store.users.count() == 0
    for n in range(3):
        await person(store, f"{n}", NOW + n)
    assert await store.users.count() == 3
    await store.users.forget("1")
    assert await store.users.count() == 2
    await merge(store, "0", "2")
    assert await store.users.count() == 1


async def test_how_many_sessions(store: Store) -> None:
    assert await store.sessions.count(now=NOW) == 0
    for n in range(4):
        await store.sessions.create(session(f"{n}", expires_at=NOW + 10 + n))
    assert await store.sessions.count(now=NOW) == 4
    await store.sessions.revoke("0")
    assert await store.sessions.count(now=NOW) == 3
    assert await store.sessions.count(now=NOW + 12) == 1, "one that ends now has ended"


# --- Browsers that people have used before.

BROWSER, OTHER = sha256("browser"), sha256("other")


async def test_a_browser_is_known_until_the_exact_second(store: Store) -> None:
    assert not await store.known_browsers.is_known(BROWSER, "anna", now=NOW)
    await store.known_browsers.remember(BROWSER, "anna", expires_at=NOW + 60)
    assert await store.known_browsers.is_known(BROWSER, "anna", now=NOW + 59.999)
    assert not await store.known_browsers.is_known(BROWSER, "anna", now=NOW + 60)
    assert not await store.known_browsers.is_known(OTHER, "anna", now=NOW)
    assert not await store.known_browsers.is_known(BROWSER, "bert", now=NOW)


async def test_of_several_people(store: Store) -> None:
    for name in ("anna", "bert"):
        await store.known_browsers.remember(BROWSER, name, expires_at=NOW + 60)
    assert await store.known_browsers.is_known(BROWSER, "anna", now=NOW)
    assert await store.known_browsers.is_known(BROWSER, "bert", now=NOW)


@pytest.mark.parametrize(("again", "end"), [(NOW + 90, NOW + 90), (NOW + 30, NOW + 60)])
async def test_the_end_moves_on_and_never_back(store: Store, again: float, end: float) -> None:
    await store.known_browsers.remember(BROWSER, "anna", expires_at=NOW + 60)
    await store.known_browsers.remember(BROWSER, "anna", expires_at=again)
    assert await store.known_browsers.is_known(BROWSER, "anna", now=end - 0.001)
    assert not await store.known_browsers.is_known(BROWSER, "anna", now=end)


async def test_browsers_of_two_who_are_one(store: Store) -> None:
    await person(store, "old", NOW - 2)
    await person(store, "young", NOW - 1)
    await store.known_browsers.remember(BROWSER, "old", expires_at=NOW + 60)
    await store.known_browsers.remember(OTHER, "young", expires_at=NOW + 60)
    await merge(store, "old", "young")
    for name in ("old", "young"):
        assert await store.known_browsers.is_known(BROWSER, name, now=NOW)
        assert await store.known_browsers.is_known(OTHER, name, now=NOW)
    await store.users.forget("old")
    for name in ("old", "young"):
        assert not await store.known_browsers.is_known(BROWSER, name, now=NOW)
        assert not await store.known_browsers.is_known(OTHER, name, now=NOW)


async def test_a_persons_browsers_are_forgotten_and_nobody_elses(store: Store) -> None:
    await person(store, "old", NOW - 2)
    await person(store, "young", NOW - 1)
    for name in ("old", "young", "bert"):
        await store.known_browsers.remember(BROWSER, name, expires_at=NOW + 60)
    await store.known_browsers.remember(OTHER, "young", expires_at=NOW + 60)
    await merge(store, "old", "young")
    await store.known_browsers.forget("young")
    for name in ("old", "young"):
        assert not await store.known_browsers.is_known(BROWSER, name, now=NOW)
        assert not await store.known_browsers.is_known(OTHER, name, now=NOW)
    assert await store.known_browsers.is_known(BROWSER, "bert", now=NOW)
    await store.known_browsers.remember(BROWSER, "old", expires_at=NOW + 60)
    assert await store.known_browsers.is_known(BROWSER, "old", now=NOW)


async def test_known_browsers_are_swept(store: Store) -> None:
    await store.known_browsers.remember(BROWSER, "anna", expires_at=NOW)
    await store.known_browsers.remember(OTHER, "anna", expires_at=NOW + 0.001)
    await store.storage.sweep(now=NOW)
    assert not await store.known_browsers.is_known(BROWSER, "anna", now=NOW - 1)
    assert await store.known_browsers.is_known(OTHER, "anna", now=NOW)
