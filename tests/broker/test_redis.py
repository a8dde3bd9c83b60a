"""Wake-ups between nodes, and what becomes of them while Redis is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from broker import redis as broker_redis
from broker.redis import LOOK_AGAIN_SECONDS, RedisBroker
from storage import redis

AWAY, BACK = "Redis is away", "Redis is back"


class Waiter:
    def __init__(self) -> None:
        self.woken: list[float] = []

    def __call__(self) -> None:
        self.woken.append(time.perf_counter())

    def since(self, began: float) -> list[float]:
        return [at - began for at in self.woken if at >= began]


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def subscribers(client: Redis) -> int:
    return (await client.pubsub_numsub(broker_redis.CHANNEL))[0][1]


@asynccontextmanager
async def brokers(url: str, count: int = 2) -> AsyncIterator[list[RedisBroker]]:
    """Nodes with a connection of their own each, listening."""
    clients = [redis.connect(url) for _ in range(count)]
    made = [RedisBroker(client, f"node{number}") for number, client in enumerate(clients)]
    for broker in made:
        broker.start()
    async with asyncio.timeout(5):
        while await subscribers(clients[0]) < count:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)  # until their own word of it has come
    try:
        yield made
    finally:
        for broker in made:
            await broker.stop()
        for client in clients:
            await client.aclose()


async def test_a_publication_wakes_all_nodes_once(redis_url):
    async with brokers(redis_url) as (near, far):
        waiters = [Waiter() for _ in range(4)]
        for broker, ticket, waiter in zip(
            (near, near, far, far), ("one", "two", "one", "two"), waiters, strict=True
        ):
            broker.subscribe(ticket, waiter)
        await near.publish("one")
        assert len(waiters[0].woken) == 1  # our own do not wait for Redis
        await until(lambda: waiters[2].woken)
        await asyncio.sleep(0.1)
        assert [len(waiter.woken) for waiter in waiters] == [1, 0, 1, 0]  # nor are they woken twice
        assert (near.waiting, near.tickets, far.waiting, far.tickets) == (2, 2, 2, 2)


async def test_who_has_gone_is_not_woken(redis_url):
    async with brokers(redis_url) as (near, far):
        gone, there = Waiter(), Waiter()
        far.subscribe("one", gone)
        far.subscribe("one", there)
        far.unsubscribe("one", gone)
        far.unsubscribe("one", gone)
        await near.publish("one")
        await until(lambda: there.woken)
        assert gone.woken == []
        assert (far.waiting, far.tickets) == (1, 1)


async def test_junk_on_the_channel_harms_nobody(redis_url):
    async with brokers(redis_url) as (near, far):
        waiter = Waiter()
        far.subscribe("one", waiter)
        async with redis.connect(redis_url) as stranger:
            for junk in (b"", b" ", b"\xff\xfe one", b"x" * 100_000, b"node9", b"node9 ", b"node9 two one"):
                await stranger.publish(broker_redis.CHANNEL, junk)
        await near.publish("one")
        await until(lambda: waiter.woken)
        assert len(waiter.woken) == 1


async def test_many_publications(redis_url):
    async with brokers(redis_url) as (near, far):
        waiters = [Waiter() for _ in range(200)]
        for number, waiter in enumerate(waiters):
            far.subscribe(f"{number}", waiter)
        await asyncio.gather(*(near.publish(f"{number}") for number in range(200)))
        await until(lambda: all(waiter.woken for waiter in waiters))


async def test_a_lost_connection_wakes_all(redis_url, expect_log):
    """Whatever was said meanwhile was not heard: everybody looks again."""
    expect_log(AWAY)
    expect_log(BACK)
    async with brokers(redis_url) as (near, far), redis.connect(redis_url) as operator:
        waiters = [Waiter() for _ in range(10)]
        for number, waiter in enumerate(waiters):
            (near, far)[number % 2].subscribe(f"{number}", waiter)
        killed = time.perf_counter()
        assert await operator.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 2
        async with asyncio.timeout(5):
            while await subscribers(operator) < 2:
                await asyncio.sleep(0.01)
        subscribed = time.perf_counter()
        await until(lambda: all(waiter.woken and waiter.woken[-1] > killed + 0.2 for waiter in waiters))
        assert time.perf_counter() - subscribed < 1
        for waiter in waiters:
            waiter.woken.clear()
        await near.publish("1")
        await until(lambda: waiters[1].woken)  # and hears again


async def test_redis_stopped_and_started(own_redis, expect_log):
    expect_log(AWAY)
    expect_log(BACK)
    async with brokers(own_redis.url) as (near, far):
        one, other = Waiter(), Waiter()
        near.subscribe("one", one)
        far.subscribe("other", other)
        stopped = time.perf_counter()
        await asyncio.to_thread(own_redis.stop)
        await asyncio.sleep(3)
        for waiter in (one, other):
            looks = waiter.since(stopped)
            assert looks[0] < 1  # at once
            assert len(looks) == 2  # and again each two seconds
            assert looks[1] - looks[0] == pytest.approx(LOOK_AGAIN_SECONDS, abs=0.3)
        started = time.perf_counter()
        await asyncio.to_thread(own_redis.start)
        await until(lambda: one.since(started) and other.since(started))
        assert time.perf_counter() - started < 2
        await far.publish("one")
        count = len(one.woken)
        await until(lambda: len(one.woken) > count)
        await asyncio.sleep(LOOK_AGAIN_SECONDS + 0.3)
        settled = time.perf_counter()
        await asyncio.sleep(LOOK_AGAIN_SECONDS + 0.3)
        assert one.since(settled) == []  # nobody looks again without need


async def test_what_is_said_while_redis_is_away_arrives_later(own_redis, expect_log, caplog):
    expect_log(AWAY)
    expect_log(BACK)
    async with brokers(own_redis.url) as (near, far):
        waiter, own = Waiter(), Waiter()
        far.subscribe("one", waiter)
        near.subscribe("one", own)
        await asyncio.to_thread(own_redis.stop)
        began = time.perf_counter()
        await near.publish("one")
        assert time.perf_counter() - began < 1  # whoever confirms does not wait for Redis
        assert own.since(began)
        await asyncio.to_thread(own_redis.start)
        async with redis.connect(own_redis.url) as client, asyncio.timeout(20):
            while "cmdstat_publish" not in await client.info("commandstats"):
                await asyncio.sleep(0.02)
        await until(lambda: caplog.text.count(BACK) == 2)
        assert waiter.since(began)


async def test_a_redis_that_hangs_is_found_out(own_redis, expect_log, monkeypatch, caplog):
    """It neither answers nor hangs up: the connection is tried, and then the waiters look for themselves."""
    monkeypatch.setattr(broker_redis, "SILENCE_SECONDS", 0.3)
    expect_log(AWAY)
    expect_log(BACK)
    async with brokers(own_redis.url) as (near, far):
        waiter = Waiter()
        far.subscribe("one", waiter)
        await asyncio.sleep(1.5)
        assert waiter.woken == []  # silence alone is no fault
        own_redis.hang()
        try:
            hung = time.perf_counter()
            await until(lambda: waiter.since(hung))
            began = time.perf_counter()
            await near.publish("one")
            assert time.perf_counter() - began < 4
        finally:
            own_redis.resume()
        resumed = time.perf_counter()
        await until(lambda: waiter.since(resumed))
        await until(lambda: caplog.text.count(BACK) == caplog.text.count(AWAY) == 2)


@pytest.mark.parametrize("state", ["listening", "away", "hanging", "not there"])
async def test_stop_is_quick_and_leaves_nothing(own_redis, state, expect_log):
    client = redis.connect(own_redis.url)
    broker = RedisBroker(client, "node")
    before = asyncio.all_tasks()
    if state == "not there":
        own_redis.stop()
        expect_log(AWAY)
    broker.start()
    await asyncio.sleep(0.3)
    if state == "away":
        expect_log(AWAY)
        await asyncio.to_thread(own_redis.stop)
        await asyncio.sleep(0.3)
    if state in ("away", "not there"):
        for number in range(20):
            await broker.publish(f"{number}")
    if state == "hanging":
        own_redis.hang()
    await took_less_than(1.0, broker.stop())
    await took_less_than(1.0, broker.stop())
    await took_less_than(1.0, client.aclose())  # finishes what the broker said last
    assert asyncio.all_tasks() - before == set()


async def took_less_than(seconds: float, work: Awaitable[Any]) -> None:
    began = time.perf_counter()
    await work
    assert time.perf_counter() - began < seconds


async def test_the_log_names_no_password(own_redis, expect_log, caplog):
    expect_log(AWAY)
    client = redis.connect(own_redis.url.replace("://", "://anna:the-secret@"))
    broker = RedisBroker(client, "node")
    broker.start()
    await until(lambda: AWAY in caplog.text)
    await broker.stop()
    await client.aclose()
    assert "the-secret" not in caplog.text
    assert caplog.text.count(AWAY) == 1
