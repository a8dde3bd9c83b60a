"""Two nodes with a real Redis: what ends on one is refused by the other at its very next request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from storage.base import Transaction
from storage.split import SplitStorage
from storage.watched import WatchedStorage
from tests.harness import Browser, Whole
from tests.storage.servers import RedisServer
from tests.whole.test_nodes import cluster

CHECK = "/api/authz/auth-request"


async def remembered(near: Whole, far: Whole, number: int = 0) -> tuple[Browser, Browser]:
    """Somebody who is logged in on the one node, and known to the other without its database."""
    here = near.browser()
    await near.log_in(here, near.person(number), "/login?method=wechat")
    for node in (near, far):
        assert node.server.profiles is not None
        await node.server.profiles.idle()
    there = far.browser()
    there.cookies = dict(here.cookies)
    assert (await there.get(CHECK)).code == 200
    used = far.transactions()
    assert (await there.get(CHECK)).code == 200
    assert used == []
    return here, there


async def do(whole: Whole, work: Callable[[Transaction], Awaitable[Any]]) -> None:
    async def run(transaction: Transaction) -> Any:
        return await work(transaction)

    await whole.storage.transact(run)


async def _sign_out(near: Whole, browser: Browser) -> None:
    assert (await browser.post("/logout")).code == 303


async def _not_me(near: Whole, browser: Browser) -> None:
    said = near.emulator.platform.people[near.person()].chat[-1].text
    link = re.search(r"/not-me/[\w-]+", said)
    assert link is not None, said
    phone = near.browser()
    page = (await phone.get(link[0])).body.decode()
    assert "form" in page
    assert (await phone.post(link[0])).code == 200


async def _unfollow(near: Whole, browser: Browser) -> None:
    await near.emulator.phone.unfollow(near.person())


async def _block(near: Whole, browser: Browser) -> None:
    user = await near.user(near.person())
    assert user is not None
    await do(near, lambda t: t.users.set_blocked(user.id, True))


async def _log_in_again(near: Whole, browser: Browser) -> None:
    await near.log_in(browser, near.person(), "/login?method=wechat")


async def test_what_ends_on_one_node_is_refused_by_the_other_at_once(
    tmp_path: Path, redis_url: str, mongodb_url: str
):
    async with cluster(tmp_path, 2, redis_url, mongodb_url) as (near, far):
        for end in (_sign_out, _not_me, _unfollow, _log_in_again, _block):
            here, there = await remembered(near, far)
            await end(near, here)
            answer = await there.get(CHECK)
            assert (answer.code, answer.headers["Remote-User"]) == (401, ""), end.__name__


def unwatched(whole: Whole) -> SplitStorage:
    """The store past everything that renews marks."""
    storage: Any = whole.storage
    while not isinstance(storage, WatchedStorage):
        storage = storage._storage
    inner = storage._storage
    assert isinstance(inner, SplitStorage)
    return inner


async def test_a_redis_that_forgot_confirms_nothing(tmp_path: Path, redis_url: str, mongodb_url: str):
    async with cluster(tmp_path, 2, redis_url, mongodb_url) as (near, far):
        _, there = await remembered(near, far)
        user = await near.user(near.person())
        assert user is not None

        async def block(transaction: Transaction) -> None:
            await transaction.users.set_blocked(user.id, True)

        await unwatched(near).transact(block)
        assert (await there.get(CHECK)).code == 200, "no mark tells of it"
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        assert (await there.get(CHECK)).code == 401


async def test_without_redis_the_database_is_asked(
    tmp_path: Path, own_redis: RedisServer, mongodb_url: str, expect_log: Callable[[str], None]
):
    expect_log("Redis is (away|back)")
    async with cluster(tmp_path, 2, own_redis.url, mongodb_url) as (near, far):
        here, there = await remembered(near, far)
        _, other = await remembered(near, far, 1)
        await asyncio.to_thread(own_redis.stop)
        assert (await there.get(CHECK)).code == 200
        assert (await here.post("/logout")).code == 303, "sessions are in the database"
        assert (await there.get(CHECK)).code == 401
        used = far.transactions()
        for _ in range(3):
            assert (await other.get(CHECK)).code == 200
        assert len(used) == 3
        await asyncio.to_thread(own_redis.start)
        assert (await there.get(CHECK)).code == 401
        async with asyncio.timeout(10):
            while used:  # until it is remembered again
                used.clear()
                assert (await other.get(CHECK)).code == 200
                await asyncio.sleep(0.05)
        assert (await there.get(CHECK)).code == 401


@pytest.mark.parametrize("ends", [False, True])
async def test_a_redis_that_hangs_delays_nobody_for_long(
    tmp_path: Path, own_redis: RedisServer, mongodb_url: str, expect_log: Callable[[str], None], ends: bool
):
    async with cluster(tmp_path, 2, own_redis.url, mongodb_url) as (near, far):
        here, there = await remembered(near, far)
        own_redis.hang()
        try:
            if ends:
                async with asyncio.timeout(1.5):
                    assert (await here.post("/logout")).code == 303
            async with asyncio.timeout(1.5):
                assert (await there.get(CHECK)).code == (401 if ends else 200)
        finally:
            own_redis.resume()
