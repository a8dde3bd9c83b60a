"""Rates: one suite for one process and for many, and what is Redis's alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import rates, redis, redis_rates
from storage.rates import Bucket, LocalRates, Rate, Rates
from storage.redis_rates import RedisRates

Make = Callable[[], Rates]  # a further node

SLOW = Rate("slow", 0.001, 3)  # nothing comes back while a test runs

regained = st.floats(0.01, 1000)
capacities = st.floats(1, 1000)
waits = st.lists(st.floats(0, 100), min_size=1, max_size=100)


@settings(deadline=None)
@given(regained, capacities, waits)
def test_never_more_than_the_capacity_and_what_came_back(rate: float, capacity: float, pauses: list[float]):
    bucket, now, taken = Bucket(rate, capacity, capacity, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += not bucket.wait(now)
        assert taken <= capacity + rate * now + 1e-6


@settings(deadline=None)
@given(regained, capacities, waits)
def test_of_a_bucket_too_whoever_waits_as_long_as_told_gets_one(
    rate: float, capacity: float, pauses: list[float]
):
    bucket, now = Bucket(rate, capacity, capacity, 0.0), 0.0
    for pause in pauses:
        now += pause
        wait = bucket.wait(now)
        assert wait >= 0
        if wait:
            now += wait * 1.000001
            assert bucket.wait(now) == 0


@settings(deadline=None)
@given(regained, capacities, st.integers(1, 200))
def test_a_full_bucket_gives_its_capacity_at_once(rate: float, capacity: float, asked: int):
    bucket = Bucket(rate, capacity, capacity, 0.0)
    given_out = sum(not bucket.wait(0.0) for _ in range(asked))
    assert given_out == min(asked, int(capacity))


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), max_size=50))
def test_a_clock_that_jumps_back_and_forth_fills_no_bucket_beyond_its_capacity(jumps: list[float]):
    bucket = Bucket(1.0, 5.0, 5.0, 1000.0)
    for jump in jumps:
        bucket.wait(1000.0 + jump)
        assert 0 <= bucket.level <= 5.0


@pytest.fixture(params=["local", "redis"])
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    if request.param == "local":
        own = LocalRates(time.time)  # one process is one node
        yield lambda: own
        return
    client = redis.connect(request.getfixturevalue("redis_url"))
    yield lambda: RedisRates(client, time.time)
    await client.aclose()


async def test_a_key_gets_what_it_may_whichever_node_is_asked(nodes):
    asked = await asyncio.gather(*(nodes().take(SLOW, "a") for _ in range(20)))
    assert sum(wait == 0 for wait in asked) == 3
    assert all(990 < wait <= 1000 for wait in asked if wait)


async def test_each_key_and_each_rate_is_counted_for_itself(nodes):
    other = Rate("other", 0.001, 3)
    for _ in range(3):
        for rate, key in ((SLOW, "a"), (SLOW, "b"), (other, "a"), (SLOW, ""), (SLOW, "龍 \ud800 " * 999)):
            assert await nodes().take(rate, key) == 0
    assert await nodes().take(SLOW, "a") > 0
    assert await nodes().take(other, "a") > 0


async def test_whoever_waits_as_long_as_told_gets_one(nodes):
    rate, node = Rate("quick", 4, 1), nodes()
    assert await node.take(rate, "a") == 0
    for _ in range(3):
        wait = await node.take(rate, "a")
        assert 0 < wait <= 0.25
        await asyncio.sleep(wait + 0.05)  # Redis counts a little later than the node itself
        assert await node.take(rate, "a") == 0
    assert await node.take(rate, "a") > 0


async def test_what_was_not_used_is_saved_up_to_the_capacity(nodes):
    rate, node = Rate("quick", 50, 2), nodes()
    for _ in range(2):
        assert await node.take(rate, "a") == 0
    await asyncio.sleep(0.2)  # ten came back, two are kept
    rate = Rate("quick", 0.001, 2)
    assert [await node.take(rate, "a") == 0 for _ in range(3)].count(True) <= 2


async def test_what_is_given_back_can_be_taken_again(nodes):
    node = nodes()
    for _ in range(3):
        assert await node.take(SLOW, "a") == 0
    await node.give_back(SLOW, "a")
    assert await node.take(SLOW, "a") == 0
    assert await node.take(SLOW, "a") > 0


async def test_giving_back_never_makes_more(nodes):
    node = nodes()
    for _ in range(5):
        await node.give_back(SLOW, "a")
    assert await node.take(SLOW, "a") == 0
    for _ in range(5):
        await node.give_back(SLOW, "a")
    assert [await node.take(SLOW, "a") == 0 for _ in range(4)] == [True, True, True, False]


async def test_a_process_does_not_keep_keys_for_ever(monkeypatch):
    monkeypatch.setattr(rates, "MAX_KEYS", 3)
    node, once = LocalRates(lambda: 0.0), Rate("once", 1, 1)
    for key in ("a", "b", "c"):
        assert await node.take(once, key) == 0
    assert await node.take(once, "a") > 0  # used: no longer the one unused for longest
    assert await node.take(once, "d") == 0
    assert len(node._buckets["once"]) == 3
    assert await node.take(once, "b") == 0  # forgotten, so full again
    assert await node.take(once, "d") > 0


# --- Redis.


async def test_redis_forgets_a_key_once_it_is_full_again(redis_url):
    client = redis.connect(redis_url)
    node, rate = RedisRates(client, time.time), Rate("quick", 10, 5)
    for number in range(200):
        assert await node.take(rate, f"2001:db8::{number:x}") == 0
    keys = await client.keys("saoma:rate:*")
    assert 0 < len(keys) <= 200
    assert not any(b"2001" in key or len(key) > 60 for key in keys)
    assert all([0 < await client.pttl(key) <= 100 or await client.pttl(key) == -2 for key in keys])
    for _ in range(200):
        if not await client.keys("saoma:rate:*"):
            break
        await asyncio.sleep(0.05)
    assert await client.keys("saoma:rate:*") == []
    await client.aclose()


async def test_a_flood_does_not_reach_redis(redis_url):
    client = redis.connect(redis_url)
    node = RedisRates(client, time.time)
    before = (await client.info("commandstats")).get("cmdstat_evalsha", {}).get("calls", 0)
    for _ in range(500):
        await node.take(SLOW, "a")
    after = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before <= 4
    await client.aclose()


async def test_a_clock_of_redis_that_was_set_back_locks_nobody_out(redis_url):
    client = redis.connect(redis_url)
    node, rate = RedisRates(client, time.time), Rate("quick", 50, 5)
    assert await node.take(rate, "a") == 0
    (key,) = await client.keys("saoma:rate:quick:*")
    await client.set(key, f"{(time.time() + 3600) * 1000:.3f}", px=3_600_000)
    assert await node.take(rate, "a") == 0
    assert 0 < await client.pttl(key) <= 40
    await client.aclose()


@pytest.mark.parametrize("how", ["stop", "hang"])
async def test_while_redis_is_away_each_node_counts_for_itself(own_redis, expect_log, monkeypatch, how):
    expect_log("each node counts the rates for itself")
    monkeypatch.setattr(redis_rates, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(redis_rates, "AWAY_SECONDS", 0.3)
    client = redis.connect(own_redis.url)
    one, two = RedisRates(client, time.time), RedisRates(client, time.time)
    assert await one.take(SLOW, "a") == 0
    own_redis.stop() if how == "stop" else own_redis.hang()
    for node, left in ((one, 2), (two, 3)):
        for _ in range(left):
            assert await asyncio.wait_for(node.take(SLOW, "a"), 5) == 0
        assert await node.take(SLOW, "a") > 0
    own_redis.start() if how == "stop" else own_redis.resume()
    # What each has counted stays with it; a key that is new to both is counted together again.
    for number in range(100):
        await asyncio.sleep(0.1)
        taken = [await node.take(SLOW, f"again {number}") for node in (one, two) * 3]
        if taken.count(0.0) == 3:
            break
    assert taken.count(0.0) == 3
    late = asyncio.all_tasks() - {asyncio.current_task()}  # questions that Redis never answered
    await asyncio.gather(*late, return_exceptions=True)
    await client.aclose()
