"""What goes to Redis together, and what becomes of it when Redis does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError, RedisError, ResponseError

from storage import redis, redis_client
from storage.redis_client import Client, Script


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with redis.connect(redis_url) as client:
        yield client


@pytest.fixture
def sizes(monkeypatch) -> list[int]:
    """Commands in each round trip."""
    sizes: list[int] = []
    make = Client.pipeline

    def counted(self, *arguments, **named):
        pipeline = make(self, *arguments, **named)
        execute = pipeline.execute

        async def executed(*arguments, **named):
            sizes.append(len(pipeline.command_stack))
            return await execute(*arguments, **named)

        monkeypatch.setattr(pipeline, "execute", executed)
        return pipeline

    monkeypatch.setattr(Client, "pipeline", counted)
    return sizes


async def test_what_one_turn_asks_for_is_one_round_trip(client, sizes):
    answers = [client.ask("SET", f"{number}", number) for number in range(10)]
    assert all(await asyncio.gather(*answers))
    answers = [client.ask("GET", f"{number}") for number in range(10)]
    assert await asyncio.gather(*answers) == [b"%d" % number for number in range(10)]
    assert sizes == [10, 10]


async def test_what_is_asked_for_meanwhile_goes_out_next(client, sizes):
    first = asyncio.ensure_future(client.ask("PING"))
    await asyncio.sleep(0)
    later = [client.ask("PING") for _ in range(5)]
    await asyncio.gather(first, *later)
    assert sizes == [1, 5]


async def test_not_too_many_together(client, sizes, monkeypatch):
    monkeypatch.setattr(redis_client, "MAX_TOGETHER", 4)
    await asyncio.gather(*(client.ask("PING") for _ in range(10)))
    assert sizes == [4, 4, 2]


async def test_an_error_is_of_one_command(client):
    await client.rpush("list", "x")
    good, bad, good_too = client.ask("ECHO", "1"), client.ask("GET", "list"), client.ask("ECHO", "2")
    assert await good == b"1"
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await bad
    assert await good_too == b"2"


async def test_a_script_that_redis_does_not_know_or_no_longer_does(client, sizes):
    script = Script("return KEYS[1] .. ARGV[1]")
    for _ in range(2):
        assert await asyncio.gather(*(client.run(script, ["a"], [number]) for number in (1, 2))) == [
            b"a1",
            b"a2",
        ]
    assert sizes == [2, 2, 2]
    await client.script_flush()
    assert await client.run(script, ["a"], ["b"]) == b"ab"


async def test_who_gives_up_holds_up_nobody(client):
    gone, there = client.ask("PING"), client.ask("ECHO", "x")
    gone.cancel()
    assert await there == b"x"
    assert gone.cancelled()


async def test_who_waits_for_the_next_round_trip_is_told_when_one_fails(own_redis):
    async with redis.connect(own_redis.url) as client:
        assert await client.ask("ECHO", "x") == b"x"
        own_redis.stop()
        first = client.ask("PING")
        await asyncio.sleep(0)
        for answer in (first, client.ask("PING")):
            with pytest.raises((RedisError, OSError)):
                await answer
        own_redis.start()
        assert await client.ask("ECHO", "x") == b"x"


async def test_the_last_words_are_said(redis_url, client):
    other = redis.connect(redis_url)
    said = other.ask("SET", "said", "x")
    await other.aclose()
    assert said.done()
    assert await client.get("said") == b"x"


async def test_closed_while_redis_hangs(own_redis):
    client = redis.connect(own_redis.url)
    await client.ask("PING")
    own_redis.hang()
    try:
        unsaid = client.ask("PING")
        await asyncio.wait_for(client.aclose(), 1.5)
        with pytest.raises(ConnectionError):
            await unsaid
    finally:
        own_redis.resume()
