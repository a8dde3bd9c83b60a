"""What holds for the store as a whole: text, types, size, restart, work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from errors import StoreUnavailable
from storage.base import MAX_SEARCH_TEXT, Transaction
from storage.records import LoginFilter, Profile, User
from tests.storage.drivers import Open, Store
from tests.storage.samples import (
    NOW,
    audit_entry,
    grant,
    link,
    login,
    notice,
    session,
    sha256,
    signing_key,
    ticket,
)
from tickets import Scanner

TEXTS = {
    "emoji": "👩‍👩‍👧‍👦🙂",
    "beyond the basic plane": "𠮷野家",
    "combining": "e\u0301 is not \u00e9",
    "right to left": "שלום \u202eمرحبا",
    "NUL": "a\x00b\x00",
    "controls": "\x01\x1b[31m\r\n\t\x7f\ufffe\uffff",
    "operator": '{"$gt": ""}',
    "dotted and dollars": "$where.a.$.b",
    "spaces": "  ",
    "long": "龍" * 5_000,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
async def test_text_is_stored_as_it_is(store: Store, text: str) -> None:
    user: User = await store.users.upsert_identity(
        text, text, following=True, event_at=NOW, new_id=f"id {text}", now=NOW
    )
    await store.users.set_chosen_name(user.id, text)
    user = await store.users.update_profile(
        text, text, Profile(text, text, text, text, text), unionid=text, now=NOW
    )
    assert (user.id, user.chosen_name, user.unionid) == (f"id {text}", text, text)
    assert user.identities[0].profile == Profile(text, text, text, text, text)
    assert await store.users.by_identity(text, text) == user
    assert await store.users.by_identity(text, text + "\x00") is None
    assert (await store.users.search(text[:MAX_SEARCH_TEXT])).users == (user,)

    made = ticket(text, next=text, scanner=Scanner(text, text), user_id=text)
    await store.tickets.create(made)
    assert await store.tickets.get(text, now=NOW) == made
    await store.sessions.create(session(text, ticket_id=text, user_id=text, site=text))
    assert (await store.sessions.get(sha256(text))).site == text
    await store.links.create(link(text, browser=text))
    assert (await store.links.get(sha256(text), now=NOW)).browser == text
    await store.logins.append(login(text, user_id=text, browser=text))
    assert await store.logins.newest(user_id=text) == [login(text, user_id=text, browser=text)]
    await store.deliveries.mark(text, text.encode(), expires_at=NOW + 1)
    assert await store.deliveries.reply_to(text, now=NOW) == text.encode()
    asked = grant(text, user_id=text, session_id=text, nonce=text)
    await store.grants.create(asked)
    assert await store.grants.of_session(text, now=NOW) == [asked]
    assert await store.grants.update(text, lambda known: replace(known, scope=text), now=NOW) == (
        replace(asked, scope=text)
    )
    told = notice(text, endpoint=text, person=text, payload=text)
    await store.outbox.add(told)
    assert await store.outbox.claim(text, now=NOW, until=NOW + 1, limit=1) == [replace(told, due_at=NOW + 1)]
    await store.outbox.settle(replace(told, result=text, state="failed"))
    assert await store.outbox.newest(endpoint=text) == [replace(told, result=text, state="failed")]
    await store.signing_keys.add(signing_key(text, sealed=text))
    assert await store.signing_keys.all(now=NOW) == [signing_key(text, sealed=text)]


async def test_what_only_looks_alike_is_different(store: Store) -> None:
    for n, subject in enumerate(["e\u0301", "\u00e9", "E\u0301", "\u00e9 "]):
        await store.users.upsert_identity(
            "wechat", subject, following=True, event_at=NOW, new_id=f"{n}", now=NOW
        )
    assert len((await store.users.search("")).users) == 4


def calls_with(value: Any) -> dict[str, Callable[[Store], Awaitable[Any]]]:
    """A call of every method that takes text, with `value` in its place."""
    upsert = {"following": True, "event_at": NOW, "new_id": "new", "now": NOW}
    return {
        "upsert provider": lambda s: s.users.upsert_identity(value, "new", **upsert),
        "upsert subject": lambda s: s.users.upsert_identity("wechat", value, **upsert),
        "upsert new_id": lambda s: s.users.upsert_identity("wechat", "new", **{**upsert, "new_id": value}),
        "unfollow": lambda s: s.users.set_unfollowed("wechat", value, event_at=NOW),
        "profile subject": lambda s: s.users.update_profile("wechat", value, Profile(), unionid="", now=NOW),
        "profile": lambda s: s.users.update_profile("wechat", "known", Profile(value), unionid="u", now=NOW),
        "unionid": lambda s: s.users.update_profile(
            "wechat", "known", Profile("new"), unionid=value, now=NOW
        ),
        "get": lambda s: s.users.get(value),
        "by_identity": lambda s: s.users.by_identity("wechat", value),
        "chosen name": lambda s: s.users.set_chosen_name("known", value),
        "chosen name of": lambda s: s.users.set_chosen_name(value, "new"),
        "block": lambda s: s.users.set_blocked(value, True),
        "count": lambda s: s.users.count_login(value, "ticket", now=NOW),
        "count ticket": lambda s: s.users.count_login("known", value, now=NOW),
        "forget": lambda s: s.users.forget(value),
        "search": lambda s: s.users.search(value),
        "session": lambda s: s.sessions.create(session(site=value)),
        "session ticket": lambda s: s.sessions.create(session(ticket_id=value)),
        "replace": lambda s: s.sessions.replace(replace(session(), id=value), session()),
        "get session": lambda s: s.sessions.get(value),
        "session by id": lambda s: s.sessions.by_id(value),
        "session by ticket": lambda s: s.sessions.by_ticket(value),
        "touch": lambda s: s.sessions.touch(value, now=NOW),
        "revoke": lambda s: s.sessions.revoke(value),
        "revoke of ticket": lambda s: s.sessions.revoke_of_ticket(value),
        "revoke of user": lambda s: s.sessions.revoke_of_user(value),
        "revoke of provider": lambda s: s.sessions.revoke_of_user("known", provider=value),
        "of user": lambda s: s.sessions.of_user(value, now=NOW),
        "of user by provider": lambda s: s.sessions.of_user("known", now=NOW, provider=value),
        "ticket": lambda s: s.tickets.create(replace(ticket(), id=value)),
        "ticket next": lambda s: s.tickets.create(ticket(next=value)),
        "get ticket": lambda s: s.tickets.get(value, now=NOW),
        "update ticket": lambda s: s.tickets.update(value, lambda known: known, now=NOW),
        "update ticket with": lambda s: s.tickets.update(
            "known", lambda known: replace(known, next=value), now=NOW
        ),
        "pending": lambda s: s.tickets.pending_of_user(value, now=NOW),
        "mark": lambda s: s.deliveries.mark(value, b"", expires_at=NOW),
        "reply": lambda s: s.deliveries.reply_to(value, now=NOW),
        "bind": lambda s: s.deliveries.bind(value, b"", expires_at=NOW),
        "link": lambda s: s.links.create(link(browser=value)),
        "get link": lambda s: s.links.get(value, now=NOW),
        "use link": lambda s: s.links.use(value, now=NOW),
        "log": lambda s: s.logins.append(replace(login(), id=value)),
        "log browser": lambda s: s.logins.append(login(browser=value)),
        "newest": lambda s: s.logins.newest(user_id=value),
        "grant": lambda s: s.grants.create(replace(grant(), id=value)),
        "grant scope": lambda s: s.grants.create(grant(scope=value)),
        "get grant": lambda s: s.grants.get(value, now=NOW),
        "update grant": lambda s: s.grants.update(value, lambda known: known, now=NOW),
        "update grant with": lambda s: s.grants.update(
            "known", lambda known: replace(known, nonce=value), now=NOW
        ),
        "of session": lambda s: s.grants.of_session(value, now=NOW),
        "notice": lambda s: s.outbox.add(replace(notice(), id=value)),
        "notice endpoint": lambda s: s.outbox.add(notice(endpoint=value)),
        "notice payload": lambda s: s.outbox.add(notice(payload=value)),
        "claim": lambda s: s.outbox.claim(value, now=NOW, until=NOW + 1, limit=1),
        "settle": lambda s: s.outbox.settle(replace(notice("known"), id=value)),
        "settle endpoint": lambda s: s.outbox.settle(notice("known", endpoint=value)),
        "settle result": lambda s: s.outbox.settle(notice("known", result=value)),
        "next due": lambda s: s.outbox.next_due(value),
        "newest of endpoint": lambda s: s.outbox.newest(endpoint=value),
        "key": lambda s: s.signing_keys.add(signing_key(value)),
        "key sealed": lambda s: s.signing_keys.add(signing_key(sealed=value)),
        "remark": lambda s: s.users.set_remark("known", value),
        "remark of": lambda s: s.users.set_remark(value, "remark"),
        "admin of": lambda s: s.users.set_admin(value, True),
        "audit": lambda s: s.audit.append(audit_entry(value)),
        "audit detail": lambda s: s.audit.append(audit_entry(detail=value)),
        "audit behind": lambda s: s.audit.newest(cursor=value),
        "find of": lambda s: s.logins.find(LoginFilter(user_id=value)),
        "find result": lambda s: s.logins.find(LoginFilter(result=value)),
        "find method": lambda s: s.logins.find(LoginFilter(method=value)),
        "find since": lambda s: s.logins.find(LoginFilter(since=value)),
        "find until": lambda s: s.logins.find(LoginFilter(until=value)),
        "find behind": lambda s: s.logins.find(LoginFilter(), cursor=value),
        "browser of": lambda s: s.known_browsers.remember(b"browser", value, expires_at=NOW),
        "is known of": lambda s: s.known_browsers.is_known(b"browser", value, now=NOW),
        "forget browsers of": lambda s: s.known_browsers.forget(value),
    }


@pytest.mark.parametrize(
    ("value", "error"),
    [("a\ud800", ValueError), ({"$gt": ""}, TypeError), (["a"], TypeError)],
    ids=["lone surrogate", "operator", "list"],
)
async def test_what_is_no_text_is_refused_and_changes_nothing(
    store: Store, value: Any, error: type[Exception]
) -> None:
    known = await store.users.upsert_identity(
        "wechat", "known", following=True, event_at=NOW, new_id="known", now=NOW
    )
    await store.tickets.create(ticket("known"))
    await store.grants.create(grant("known"))
    await store.outbox.add(notice("known"))
    for name, call in calls_with(value).items():
        try:
            outcome = await call(store)
        except Exception as raised:
            outcome = raised
        assert isinstance(outcome, error), f"{name}: {outcome!r}"
    assert (await store.users.search("")).users == (known,)
    assert await store.tickets.get("known", now=NOW) == ticket("known")
    assert await store.tickets.get("ticket", now=NOW) is None
    assert await store.sessions.get(session().token_hash) is None
    assert await store.links.get(link().token_hash, now=NOW) is None
    assert await store.logins.newest() == []
    assert await store.grants.of_session("session", now=NOW) == [grant("known")]
    assert await store.outbox.newest() == [notice("known")]
    assert await store.signing_keys.all(now=NOW) == []


async def test_all_is_there_after_a_restart(store: Store) -> None:
    user = await store.users.upsert_identity(
        "wechat", "openid", following=True, event_at=NOW, new_id="user", now=NOW
    )
    await store.tickets.create(ticket())
    await store.sessions.create(session())
    await store.links.create(link())
    await store.logins.append(login())
    await store.deliveries.mark("key", b"reply", expires_at=NOW + 60)
    await store.deliveries.bind("signature", b"body", expires_at=NOW + 60)
    await store.grants.create(grant())
    await store.outbox.add(notice())
    await store.signing_keys.add(signing_key())
    await store.reopen()
    assert await store.users.get("user") == user
    assert await store.tickets.get("ticket", now=NOW) == ticket()
    assert await store.sessions.get(session().token_hash) == session()
    assert await store.links.get(link().token_hash, now=NOW) == link()
    assert await store.logins.newest() == [login()]
    assert await store.deliveries.reply_to("key", now=NOW) == b"reply"
    assert await store.deliveries.bind("signature", b"forged", expires_at=NOW + 60) is False
    assert await store.grants.get("grant", now=NOW) == grant()
    assert await store.outbox.claim("webhook:shop", now=NOW, until=NOW, limit=1) == [notice()]
    assert await store.signing_keys.all(now=NOW) == [signing_key()]


async def test_times_keep_their_fractions(store: Store) -> None:
    at = 1_800_000_000.123456
    await store.logins.append(login(at=at))
    assert (await store.logins.newest())[0].at == at


async def test_work_sees_what_it_has_written(store: Store) -> None:
    async def work(transaction: Transaction) -> object:
        await transaction.tickets.create(ticket())
        return await transaction.tickets.get("ticket", now=NOW)

    assert await store.storage.transact(work) == ticket()


async def test_work_that_raises_after_writing(opener: Open) -> None:
    """All of it is undone, or (without transactions) what came before stands; it can run again."""
    store = Store(opener, await opener())

    async def work(transaction: Transaction) -> None:
        await transaction.logins.append(login())
        raise LookupError("of the work itself")

    with pytest.raises(LookupError, match="of the work itself"):
        await store.storage.transact(work)
    atomic = type(store.storage).__name__ == "SqliteStorage"
    assert len(await store.logins.newest()) == (0 if atomic else 1)
    with pytest.raises(LookupError):
        await store.storage.transact(work)
    await store.logins.append(login())
    assert len(await store.logins.newest()) == 1
    await store.storage.close()


async def test_ping_and_sweep_of_an_empty_store(store: Store) -> None:
    await store.storage.ping()
    await store.storage.ping()
    await store.storage.sweep(now=NOW)


async def test_closed_store_is_unavailable(store: Store) -> None:
    await store.storage.close()
    with pytest.raises(StoreUnavailable):
        await store.tickets.get("ticket", now=NOW)
    await store.storage.close()
    await store.reopen()
