"""What nodes share: one suite for one process and for many."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from errors import StoreUnavailable
from storage import redis
from storage.redis import RedisShared
from storage.shared import LocalShared, Shared

Make = Callable[[str], Shared]  # of a node's name


@pytest.fixture(params=["local", "redis"])
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    if request.param == "local":
        shared = LocalShared(time.time)  # one process is one node
        yield lambda name: shared
        return
    client = redis.connect(request.getfixturevalue("redis_url"))
    yield lambda name: RedisShared(client, name)
    await client.aclose()


@pytest.fixture
def shared(nodes: Make) -> Shared:
    return nodes("one")


async def test_a_value_is_kept_for_its_time(shared):
    assert await shared.get("token") is None
    await shared.put("token", "a 龍 👩‍👩‍👧", seconds=0.3)
    assert await shared.get("token") == "a 龍 👩‍👩‍👧"
    assert await shared.get("other") is None
    await shared.put("token", "", seconds=60)
    assert await shared.get("token") == ""
    await asyncio.sleep(0.35)
    assert await shared.get("token") == ""  # the newer one's time counts
    await shared.put("token", "b", seconds=0.05)
    await asyncio.sleep(0.1)
    assert await shared.get("token") is None


async def test_a_queue_keeps_its_order(shared):
    assert (await shared.pop("codes"), await shared.first("codes"), await shared.length("codes")) == (
        None,
        None,
        0,
    )
    for value in ("1", "2", "3"):
        await shared.push("codes", value)
    await shared.push("other", "4")
    assert (await shared.first("codes"), await shared.length("codes")) == ("1", 3)
    assert await shared.first("codes") == "1"  # it was only looked at
    assert [await shared.pop("codes") for _ in range(4)] == ["1", "2", "3", None]
    assert await shared.length("codes") == 0
    assert await shared.pop("other") == "4"


async def test_a_name_means_one_thing_of_each_kind(shared):
    """A value, a lease and a queue may be called alike only where nothing mixes them up."""
    await shared.put("token", "value", seconds=60)
    assert await shared.lease("token", seconds=60)
    assert await shared.get("token") == "value"
    await shared.release("token")
    assert await shared.get("token") == "value"


async def test_each_entry_is_popped_once(nodes):
    for number in range(50):
        await nodes("one").push("codes", f"{number}")
    popped = await asyncio.gather(*(nodes(f"{number % 3}").pop("codes") for number in range(70)))
    assert sorted(value for value in popped if value is not None) == sorted(f"{n}" for n in range(50))


async def test_one_of_many_has_the_lease(nodes):
    won = await asyncio.gather(*(nodes(f"{number}").lease("filling", seconds=60) for number in range(20)))
    assert sum(won) == 1
    assert not await nodes(f"{won.index(True)}").lease("filling", seconds=60)  # nor twice
    assert await nodes("0").lease("other", seconds=60)
    await nodes(f"{won.index(True)}").release("filling")
    assert await nodes("another").lease("filling", seconds=60)


async def test_a_lease_ends_by_itself(nodes):
    assert await nodes("one").lease("filling", seconds=0.2)
    assert not await nodes("two").lease("filling", seconds=60)
    await asyncio.sleep(0.25)
    assert await nodes("two").lease("filling", seconds=60)


async def test_release_of_nothing(shared):
    await shared.release("never leased")
    await shared.release("never leased")


async def test_only_its_owner_releases_a_lease(redis_url):
    client = redis.connect(redis_url)
    one, two = RedisShared(client, "one"), RedisShared(client, "two")
    assert await one.lease("filling", seconds=0.1)
    await asyncio.sleep(0.15)
    assert await two.lease("filling", seconds=60)
    await one.release("filling")  # late: it is somebody else's by now
    assert not await one.lease("filling", seconds=60)
    await two.release("filling")
    assert await one.lease("filling", seconds=60)
    await client.aclose()


async def test_marks_stay_until_they_are_renewed(nodes):
    one, two = nodes("one"), nodes("two")
    before = await one.marks(["a", "b"])
    assert await two.marks(["b", "a"]) == [before[1], before[0]]
    await two.renew(["a", "c"])
    after = await one.marks(["a", "b"])
    assert after[0] != before[0]
    assert after[1] == before[1]
    await one.renew(["a"])
    assert (await two.marks(["a"]))[0] not in (before[0], after[0])


async def test_many_ask_for_marks_at_once(nodes):
    names = [f"{number}" for number in range(200)]
    asked = await asyncio.gather(*(nodes("one").marks([name, "common"]) for name in names))
    again = await nodes("one").marks([*names, "common"])
    assert [mark for mark, _ in asked] == again[:-1]
    assert {common for _, common in asked} == {again[-1]}


async def test_a_mark_is_never_older_than_the_question(redis_url, monkeypatch):
    """Who asks while an answer is on its way waits for the next one."""
    client, other = redis.connect(redis_url), redis.connect(redis_url)
    one, two = RedisShared(client, "one"), RedisShared(other, "two")
    before = await one.marks(["a"])
    questions, read, go_on = 0, asyncio.Event(), asyncio.Event()
    hmget = client.hmget

    async def held(*arguments):
        nonlocal questions
        questions += 1
        answer = await hmget(*arguments)
        read.set()
        await go_on.wait()
        return answer

    monkeypatch.setattr(client, "hmget", held)
    early = asyncio.create_task(one.marks(["a"]))
    await read.wait()
    await two.renew(["a"])
    late = [asyncio.create_task(one.marks(["a", f"{number}"])) for number in range(50)]
    await asyncio.sleep(0)
    go_on.set()
    assert await early == before
    marks = {found[0] for found in await asyncio.gather(*late)}
    assert len(marks) == 1
    assert marks != set(before)
    assert questions == 2
    await client.aclose()
    await other.aclose()


async def test_marks_of_a_redis_that_forgot_are_new_ones(redis_url):
    client = redis.connect(redis_url)
    shared = RedisShared(client, "one")
    before = await shared.marks(["a", "b"])
    await client.flushdb()
    after = await shared.marks(["a", "b"])
    assert not set(before) & set(after)
    assert await shared.marks(["a", "b"]) == after
    await client.aclose()


async def test_nobody_waits_long_for_marks_of_a_redis_that_hangs(own_redis, monkeypatch):
    monkeypatch.setattr(redis, "MARK_SECONDS", 0.1)
    client = redis.connect(own_redis.url)
    shared = RedisShared(client, "one")
    before = await shared.marks(["a"])
    own_redis.hang()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(shared.marks(["a"]), 1.5)  # Redis's own limit is 2 s
    own_redis.resume()
    monkeypatch.setattr(redis, "MARK_SECONDS", 5.0)
    assert await shared.marks(["a"]) == before
    await client.aclose()


async def test_redis_away(own_redis):
    client = redis.connect(own_redis.url)
    shared = RedisShared(client, "one")
    await shared.put("token", "a", seconds=60)
    own_redis.stop()
    for call in (
        shared.get("token"),
        shared.put("token", "b", seconds=60),
        shared.push("codes", "1"),
        shared.pop("codes"),
        shared.first("codes"),
        shared.length("codes"),
        shared.lease("filling", seconds=60),
        shared.release("filling"),
        shared.marks(["a"]),
        shared.renew(["a"]),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    own_redis.start()
    assert await shared.get("token") == "a"
    await client.aclose()
