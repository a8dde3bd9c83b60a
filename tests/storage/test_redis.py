"""What is Redis's own: round trips, its expiry, a Redis that is away, locked or badly set up."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from errors import StoreUnavailable, TicketUnknown
from storage import redis
from storage.redis import MAX_CONNECTIONS, PREFIX, SLACK_SECONDS, RedisTickets
from tests.storage.samples import ticket
from tickets import Event, Scanner, State, Ticket, advance

ANNA = Scanner("app", "Anna")


async def same_id(user_id: str) -> Sequence[str]:
    return (user_id,)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Redis]:
    client = redis.connect(url)
    try:
        yield client
    finally:
        await client.aclose()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with connected(redis_url) as client:
        yield client


@pytest.fixture
def tickets(client: Redis) -> RedisTickets:
    return RedisTickets(client, same_id)


def alive(id: str = "ticket", life: float = 300.0, **fields: Any) -> Ticket:
    """By the clock that Redis has."""
    return ticket(id, created_at=time.time(), expires_at=time.time() + life, **fields)


def scan(known: Ticket) -> Ticket:
    return advance(known, Event.SCAN, time.time(), scanner=ANNA, user_id="anna")


async def calls(client: Redis) -> int:
    """Commands since the last reset, each of a script's callers counted once."""
    stats = await client.info("commandstats")
    ours = {"cmdstat_evalsha", "cmdstat_eval", "cmdstat_script|load"}
    scripts = sum(stats[name]["calls"] for name in ours if name in stats)
    plain = stats.get("cmdstat_get", {"calls": 0})["calls"]
    # Each run of the script reads once by itself.
    return plain - sum(stats[n]["calls"] for n in ("cmdstat_evalsha",) if n in stats) + scripts


async def test_a_transition_after_a_read_is_one_round_trip(client, tickets):
    await tickets.create(alive())  # the script is known from now on
    now = time.time()
    await tickets.get("ticket", now=now)
    await client.config_resetstat()
    await tickets.update("ticket", scan, now=now)
    assert await calls(client) == 1
    await tickets.update("ticket", lambda known: advance(known, Event.CONFIRM, now, scanner=ANNA), now=now)
    assert await calls(client) == 2
    await tickets.update("ticket", scan, now=now)  # a repeat writes nothing at all
    assert await calls(client) == 2


async def test_a_change_in_between_is_seen(client, tickets):
    """What was read may be old: the change is made from what is there, or not at all."""
    await tickets.create(alive())
    now = time.time()
    await tickets.get("ticket", now=now)
    await RedisTickets(client, same_id).update("ticket", scan, now=now)
    seen: list[State] = []

    def confirm(known: Ticket) -> Ticket:
        seen.append(known.state)
        return scan(known)

    assert (await tickets.update("ticket", confirm, now=now)).scanner == ANNA
    assert seen == [State.WAITING, State.SCANNED]
    await client.delete(f"{PREFIX}ticket:ticket")
    with pytest.raises(TicketUnknown):
        await tickets.update("ticket", lambda known: advance(known, Event.ABANDON, now), now=now)
    assert await client.exists(f"{PREFIX}ticket:ticket") == 0  # nothing comes back to life


async def test_redis_deletes_by_itself_a_while_after_the_end(client, tickets):
    await tickets.create(alive(life=30))
    left = await client.pttl(f"{PREFIX}ticket:ticket")
    assert 29_000 < left - SLACK_SECONDS * 1000 <= 30_000
    await tickets.update("ticket", scan, now=time.time())  # leaves 60 s at least
    for key in ("ticket:ticket", "tickets-of:anna"):
        left = await client.pttl(PREFIX + key)
        assert 59_000 < left - SLACK_SECONDS * 1000 <= 60_000, key


@pytest.mark.parametrize("ahead", [-3600, 3600])
async def test_its_clock_is_nobodys(client, tickets, ahead):
    """A node's clock, and Redis's an hour from it: tickets and the list live as long as by the node's."""
    now = time.time() - ahead
    await tickets.create(ticket("ticket", created_at=now, expires_at=now + 300))
    assert await tickets.get("ticket", now=now + 299) is not None
    await tickets.update("ticket", lambda known: replace(known, user_id="anna"), now=now + 100)
    for key in ("ticket:ticket", "tickets-of:anna"):
        left = await client.pttl(PREFIX + key)
        assert 199_000 < left - SLACK_SECONDS * 1000 <= 200_000, key


async def test_what_is_over_is_not_there_though_redis_has_it(client, tickets):
    await tickets.create(alive(life=0.2))
    assert await tickets.get("ticket", now=time.time()) is not None
    await asyncio.sleep(0.25)
    assert await client.exists(f"{PREFIX}ticket:ticket") == 1
    assert await tickets.get("ticket", now=time.time()) is None
    with pytest.raises(TicketUnknown):
        await tickets.update("ticket", scan, now=time.time())


async def test_redis_forgets_in_the_end(client, tickets, monkeypatch):
    monkeypatch.setattr(redis, "SLACK_SECONDS", 0.0)
    await tickets.create(alive(life=0.2, state=State.SCANNED, scanner=ANNA, user_id="anna"))
    await asyncio.sleep(0.4)
    assert await client.keys("*") == []


async def test_the_list_of_a_person_lives_as_long_as_their_longest_ticket(client, tickets):
    """An old code that is scanned late must not take the newer ones out of an unfollow's reach."""
    for id, life in (("long", 300), ("short", 10)):
        await tickets.create(alive(id, life))
        await tickets.update(id, scan, now=time.time())
    assert await client.pttl(f"{PREFIX}tickets-of:anna") > 350_000
    pending = await tickets.pending_of_user("anna", now=time.time())
    assert {known.id for known in pending} == {"long", "short"}


@pytest.mark.parametrize(
    "junk",
    [
        *(b"", b"{", b"[]", b"null", b"5", b"{}", b"\xff\xfe", b'{"secret_hash": 5}'),
        *(b'{"secret_hash": "zz"}', b'{"secret_hash": "00"}'),
    ],
)
async def test_what_is_no_ticket(client, tickets, expect_log, junk):
    expect_log("no ticket in a ticket's place")
    await tickets.create(alive("good", state=State.SCANNED, scanner=ANNA, user_id="anna"))
    await tickets.create(alive(state=State.SCANNED, scanner=ANNA, user_id="anna"))
    await client.set(f"{PREFIX}ticket:ticket", junk)
    assert await tickets.get("ticket", now=time.time()) is None
    with pytest.raises(TicketUnknown):
        await tickets.update("ticket", scan, now=time.time())
    assert [known.id for known in await tickets.pending_of_user("anna", now=time.time())] == ["good"]


async def test_ticket_of_a_node_that_knows_less(client, tickets):
    """While nodes are renewed one after the other, older ones write tickets without the newest fields."""
    made = alive()
    await tickets.create(made)
    row = json.loads(await client.get(f"{PREFIX}ticket:ticket"))
    for name in ("browser_hash", "agreed", "scanned_at"):
        del row[name]
    await client.set(f"{PREFIX}ticket:ticket", json.dumps(row))
    assert await tickets.get("ticket", now=time.time()) == made


@pytest.mark.parametrize(
    ("name", "value"),
    [("state", "DONE"), ("expires_at", "soon"), ("id", "another"), ("next", None), ("secret_hash", None)],
)
async def test_a_ticket_with_one_wrong_value(client, tickets, name, value, caplog):
    await tickets.create(alive())
    row = json.loads(await client.get(f"{PREFIX}ticket:ticket"))
    del row[name]
    if value is not None:
        row[name] = value
    await client.set(f"{PREFIX}ticket:ticket", json.dumps(row))
    logger = redis.log
    logger.disabled = True
    try:
        assert await tickets.get("ticket", now=time.time()) is None
    finally:
        logger.disabled = False


async def test_another_kind_of_value_in_a_tickets_place(client, tickets):
    await client.rpush(f"{PREFIX}ticket:ticket", "x")
    with pytest.raises(StoreUnavailable):
        await tickets.get("ticket", now=time.time())


async def test_two_hundred_at_once(client, tickets):
    """Many more than there are connections: they wait for one, and nobody is turned away."""
    await tickets.create(alive())
    found = await asyncio.gather(*(tickets.get("ticket", now=time.time()) for _ in range(200)))
    assert [known.id for known in found] == ["ticket"] * 200
    assert (await client.info("clients"))["connected_clients"] <= MAX_CONNECTIONS + 5


# Redis away.


async def is_unavailable(tickets: RedisTickets) -> float:
    """Seconds until that is known."""
    began = time.perf_counter()
    with pytest.raises(StoreUnavailable):
        await tickets.get("ticket", now=time.time())
    return time.perf_counter() - began


async def test_stopped_and_started_again(own_redis):
    async with connected(own_redis.url) as client:
        tickets = RedisTickets(client, same_id)
        await tickets.create(alive())
        own_redis.stop()
        assert await is_unavailable(tickets) < 1
        own_redis.start()
        assert (await tickets.get("ticket", now=time.time())).id == "ticket"  # it keeps a file
        # It knows no script any more.
        assert (await tickets.update("ticket", scan, now=time.time())).state is State.SCANNED


async def test_killed_after_a_change(own_redis):
    async with connected(own_redis.url) as client:
        await client.config_set("appendfsync", "always")
        tickets = RedisTickets(client, same_id)
        await tickets.create(alive())
        await tickets.update("ticket", scan, now=time.time())
        own_redis.kill()
        own_redis.start()
        await asyncio.sleep(0.05)  # until the connections notice
        assert (await tickets.get("ticket", now=time.time())).state is State.SCANNED


async def test_hanging(own_redis):
    async with connected(own_redis.url) as client:
        tickets = RedisTickets(client, same_id)
        await tickets.create(alive())
        own_redis.hang()
        try:
            assert await is_unavailable(tickets) < 4
            seconds = await asyncio.gather(*(is_unavailable(tickets) for _ in range(100)))
            assert max(seconds) < 4
        finally:
            own_redis.resume()
        assert (await tickets.get("ticket", now=time.time())).id == "ticket"


async def test_full(own_redis):
    async with connected(own_redis.url) as client:
        await client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable):
            await RedisTickets(client, same_id).create(alive())


# What `server.py check` says.

PASSWORD = "correct horse"


def said(error: BaseException | None) -> str:
    """All that could reach a log: the error and what it comes from."""
    words = ""
    while error is not None:
        words += f" {error!r} {error}"
        error = error.__cause__ or error.__context__
    return words


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("", "does not know this user and password"),
        (":wrong%20secret@", "does not know this user and password"),
        ("anna:wrong%20secret@", "does not know this user and password"),
        ("low:wrong%20secret@", "lets us in, but not do"),
    ],
)
async def test_locked(own_redis, user, words):
    async with connected(own_redis.url) as client:
        await client.acl_setuser("low", enabled=True, passwords=["+wrong secret"], commands=["+ping"])
        await client.config_set("requirepass", PASSWORD)
    async with connected(own_redis.url.replace("://", f"://{user}")) as client:
        with pytest.raises(StoreUnavailable, match=words) as refused:
            await redis.faults(client)
        with pytest.raises(StoreUnavailable) as failed:
            await RedisTickets(client, same_id).get("ticket", now=0)
    for error in (refused.value, failed.value):
        assert "secret" not in said(error)
    right = own_redis.url.replace("://", "://:correct%20horse@")
    async with connected(right) as client:
        assert await redis.faults(client) == []


async def test_tls_to_a_redis_without(own_redis):
    url = own_redis.url.replace("redis://", "rediss://:the-secret@")
    async with connected(url) as client:
        with pytest.raises(StoreUnavailable, match="TLS") as refused:
            await redis.faults(client)
        assert "the-secret" not in said(refused.value)
        assert await is_unavailable(RedisTickets(client, same_id)) < 4


async def test_nobody_there():
    async with connected("redis://:the-secret@127.0.0.1:1/0") as client:
        with pytest.raises(StoreUnavailable, match=r"redis\.url: Redis did not answer") as refused:
            await redis.faults(client)
        assert "the-secret" not in said(refused.value)


@pytest.mark.parametrize(
    "end",
    [
        "h:x/0",
        "h/0?db=x",
        "h/0?nonsense=1",
        "h/0?ssl_cert_reqs=none",
        "[::1/0",
        "h/0?retry=1",
    ],
)
def test_addresses_that_are_none(end):
    with pytest.raises(StoreUnavailable, match=r"redis\.url") as refused:
        redis.connect(f"redis://:the-secret@{end}")
    assert "the-secret" not in str(refused.value)
    assert refused.value.__suppress_context__  # what the library says stays out of a traceback


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, []),
        ({"appendonly": "no"}, ["appendonly no"]),
        ({"maxmemory-policy": "allkeys-lru"}, ["noeviction"]),
        ({"appendonly": "no", "maxmemory-policy": "volatile-ttl"}, ["appendonly no", "noeviction"]),
    ],
    ids=str,
)
async def test_what_may_lose_tickets(own_redis, options, words):
    async with connected(own_redis.url) as client:
        for name, value in options.items():
            await client.config_set(name, value)
        found = await redis.faults(client)
    assert len(found) == len(words)
    assert all(word in fault for word, fault in zip(words, found, strict=True))


async def test_connections_that_the_server_closed_are_not_used(own_redis):
    """After a restart, a failover or Redis's own idle time, no request may pay for them."""
    async with connected(own_redis.url) as client:
        tickets = RedisTickets(client, same_id)
        await asyncio.gather(*(tickets.get("ticket", now=0) for _ in range(20)))
        own_redis.stop()
        own_redis.start()
        await asyncio.sleep(0.05)
        found = await asyncio.gather(*(tickets.get("ticket", now=0) for _ in range(20)))
        assert found == [None] * 20
