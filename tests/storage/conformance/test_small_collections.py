"""Deliveries, links and the login log."""

from __future__ import annotations

import asyncio

import pytest

from storage.base import MAX_PAGE
from tests.storage.drivers import Store
from tests.storage.samples import NOW, link, login


async def test_delivery_is_marked_until_the_exact_second(store: Store) -> None:
    assert await store.deliveries.reply_to("key", now=NOW) is None
    await store.deliveries.mark("key", b"<xml/>\x00\xff", expires_at=NOW + 60)
    assert await store.deliveries.reply_to("key", now=NOW + 59.999) == b"<xml/>\x00\xff"
    assert await store.deliveries.reply_to("key", now=NOW + 60) is None
    assert await store.deliveries.reply_to("other", now=NOW) is None


async def test_empty_reply_is_a_reply(store: Store) -> None:
    await store.deliveries.mark("key", b"", expires_at=NOW + 60)
    assert await store.deliveries.reply_to("key", now=NOW) == b""


async def test_first_mark_stays(store: Store) -> None:
    await store.deliveries.mark("key", b"first", expires_at=NOW + 60)
    await store.deliveries.mark("key", b"second", expires_at=NOW + 90)
    assert await store.deliveries.reply_to("key", now=NOW) == b"first"
    assert await store.deliveries.reply_to("key", now=NOW + 60) is None


async def test_one_mark_of_many_at_once_stays(store: Store) -> None:
    await asyncio.gather(*(store.deliveries.mark("key", b"%d" % n, expires_at=NOW + 60) for n in range(30)))
    first = await store.deliveries.reply_to("key", now=NOW)
    assert {await store.deliveries.reply_to("key", now=NOW) for _ in range(5)} == {first}


async def test_signature_is_bound_to_one_body(store: Store) -> None:
    assert await store.deliveries.bind("signature", b"body", expires_at=NOW + 60) is True
    assert await store.deliveries.bind("signature", b"body", expires_at=NOW + 60) is True
    assert await store.deliveries.bind("signature", b"forged", expires_at=NOW + 60) is False
    assert await store.deliveries.bind("another", b"forged", expires_at=NOW + 60) is True


async def test_of_many_bodies_at_once_one_is_bound(store: Store) -> None:
    bound = await asyncio.gather(
        *(store.deliveries.bind("signature", b"%d" % n, expires_at=NOW + 60) for n in range(30))
    )
    assert sum(bound) == 1


async def test_link_is_alive_until_the_exact_second(store: Store) -> None:
    await store.links.create(link())
    end = link().expires_at
    assert await store.links.get(link().token_hash, now=end - 0.001) == link()
    assert await store.links.get(link().token_hash, now=end) is None
    assert await store.links.use(link().token_hash, now=end) is None
    assert await store.links.use(link().token_hash, now=end - 0.001) == link()


async def test_link_works_once(store: Store) -> None:
    await store.links.create(link())
    await store.links.create(link("other"))
    assert await store.links.use(link().token_hash, now=NOW) == link()
    assert await store.links.use(link().token_hash, now=NOW) is None
    assert await store.links.get(link().token_hash, now=NOW) is None
    assert await store.links.get(link("other").token_hash, now=NOW) == link("other")
    assert await store.links.use(link("unknown").token_hash, now=NOW) is None


async def test_link_made_again_is_no_second_use(store: Store) -> None:
    await store.links.create(link())
    await store.links.use(link().token_hash, now=NOW)
    await store.links.create(link())
    assert await store.links.use(link().token_hash, now=NOW) is None


async def test_link_is_used_by_one_of_many(store: Store) -> None:
    await store.links.create(link())
    used = await asyncio.gather(*(store.links.use(link().token_hash, now=NOW) for _ in range(50)))
    assert [found for found in used if found] == [link()]


async def test_log_lines_the_newest_first(store: Store) -> None:
    for n in (2, 3, 1):
        await store.logins.append(login(f"{n}", at=NOW + n, user_id="anna" if n != 2 else "bert"))
    assert [line.id for line in await store.logins.newest()] == ["3", "2", "1"]
    assert [line.id for line in await store.logins.newest(limit=2)] == ["3", "2"]
    assert await store.logins.newest(user_id="bert") == [login("2", at=NOW + 2, user_id="bert")]
    assert await store.logins.newest(user_id="nobody") == []


async def test_line_with_a_known_id_is_no_second_line(store: Store) -> None:
    await store.logins.append(login())
    await store.logins.append(login(result="blocked", at=NOW + 5))
    assert await store.logins.newest() == [login()]


@pytest.mark.parametrize(("limit", "length"), [(-1, 1), (0, 1), (7, 7), (10_000, MAX_PAGE)])
async def test_log_is_limited(store: Store, limit: int, length: int) -> None:
    async def fill() -> None:
        await asyncio.gather(*(store.logins.append(login(f"{n}")) for n in range(MAX_PAGE + 1)))

    await fill()
    assert len(await store.logins.newest(limit=limit)) == length
    assert len(await store.logins.newest()) == 50


async def test_sweep(store: Store) -> None:
    await store.links.create(link("over", expires_at=NOW))
    await store.links.create(link("alive", expires_at=NOW + 0.001))
    for key, expires_at in (("over", NOW), ("alive", NOW + 0.001)):
        await store.deliveries.mark(key, b"first", expires_at=expires_at)
        await store.deliveries.bind(key, b"body", expires_at=expires_at)
    await store.storage.sweep(now=NOW)
    assert await store.links.get(link("over").token_hash, now=NOW - 1) is None
    assert await store.links.get(link("alive").token_hash, now=NOW) is not None
    assert await store.deliveries.reply_to("over", now=NOW - 1) is None
    assert await store.deliveries.reply_to("alive", now=NOW) == b"first"
    assert await store.deliveries.bind("over", b"another", expires_at=NOW + 60) is True
    assert await store.deliveries.bind("alive", b"another", expires_at=NOW + 60) is False
