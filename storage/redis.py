"""Tickets in Redis, for a cluster: each change is one conditional write of the whole ticket.

Needs Redis 6.2 or newer with an append-only file and no eviction (`maxmemory-policy noeviction`). The
database, not Redis, decides the one winner of an exchange: a Redis that forgets costs a scan, never a login.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, SSLConnection
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from errors import StoreUnavailable, TicketUnknown
from storage import base, codec
from storage.redis_client import Client, Script
from storage.shared import Shared
from tickets import State, Ticket

PREFIX = "saoma:"
MAX_CONNECTIONS = 64  # a pool that waits for a free one: redis-py's default raises at 100
ANSWER_SECONDS = 2.0
MAX_TRIES = 50
# Redis is told how long to keep a ticket, not until when: its clock may be another. What it deletes has been
# over for a while.
SLACK_SECONDS = 60.0
# Whoever asks for marks has the database to ask instead, and does not wait for a Redis that hangs.
MARK_SECONDS = 0.5

_HASHES = ("secret_hash", "browser_hash")  # bytes, which JSON has none of

log = logging.getLogger("saoma.storage")

# The ticket if it still is what was read ('': not there), together with the list of its person's tickets:
# one round trip. The list lives as long as the longest-lived of them.
_SWAP = Script("""
local current = redis.call('GET', KEYS[1])
if (current or '') ~= ARGV[1] then return {0, current} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if #KEYS == 2 then
    redis.call('SADD', KEYS[2], ARGV[4])
    if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
end
return {1, false}
""")


def connect(url: str) -> Client:
    """A client with a pool of its own. Raises StoreUnavailable for an address that cannot be understood."""
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            health_check_interval=30,
            # With them on, redis-py takes connections that the server has closed for good ones.
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        # Tries the address's options; connects to nothing yet.
        pool.make_connection()  # type: ignore[no-untyped-call]
    except Exception:  # of many kinds: the address's options go deep into the library
        # What the library says may quote the address, and with it the password.
        raise StoreUnavailable("redis.url is no address that Redis's client understands.") from None
    return cast(Client, Client.from_pool(pool))


async def faults(client: Client) -> list[str]:
    """What is set so that Redis may lose tickets. Raises StoreUnavailable."""
    try:
        persistence, memory = await client.info("persistence"), await client.info("memory")
    except AuthenticationError as error:
        raise StoreUnavailable("redis.url: Redis does not know this user and password.") from error
    except ResponseError as error:
        raise StoreUnavailable("redis.url: Redis lets us in, but not do what is needed.") from error
    except (RedisError, OSError) as error:
        tls = issubclass(client.connection_pool.connection_class, SSLConnection)
        words = "did not answer over TLS (rediss://)" if tls else "did not answer"
        raise StoreUnavailable(f"redis.url: Redis {words}.") from error
    found = []
    if not persistence.get("aof_enabled"):
        found.append("Redis keeps no append-only file (appendonly no): a restart forgets waiting logins")
    if memory.get("maxmemory_policy") != "noeviction":
        found.append("Redis may evict tickets (maxmemory-policy should be noeviction)")
    return found


class RedisTickets(base.Tickets):
    """For one piece of work: what `get` read is what `update` starts from."""

    def __init__(self, client: Client, ids_of: Callable[[str], Awaitable[Sequence[str]]]) -> None:
        """`ids_of` gives a person's id and the ids merged into it."""
        self._client = client
        self._ids_of = ids_of
        self._read: dict[str, bytes] = {}

    async def create(self, ticket: Ticket) -> None:
        made, _ = await self._swapped(b"", ticket, ticket.created_at)
        if not made:
            raise ValueError("the id is taken")

    async def get(self, ticket_id: str, *, now: float) -> Ticket | None:
        raw = await _answered(self._client.ask("GET", _key(ticket_id)))
        return self._alive(ticket_id, raw, now)

    async def get_many(self, ticket_ids: Iterable[str], *, now: float) -> dict[str, Ticket]:
        ids = list(ticket_ids)
        raws = await _answered(self._client.ask("MGET", *map(_key, ids))) if ids else []
        found = {known: self._alive(known, raw, now) for known, raw in zip(ids, raws, strict=True)}
        return {known: ticket for known, ticket in found.items() if ticket is not None}

    async def update(self, ticket_id: str, change: Callable[[Ticket], Ticket], *, now: float) -> Ticket:
        raw = self._read.get(ticket_id)
        if raw is None:
            raw = await _answered(self._client.ask("GET", _key(ticket_id)))
        for _ in range(MAX_TRIES):
            ticket = self._alive(ticket_id, raw, now)
            if ticket is None or raw is None:
                raise TicketUnknown
            changed = change(ticket)
            if changed is ticket:
                return ticket
            done, there = await self._swapped(raw, changed, now)
            if done:
                if there is not None:
                    self._read[ticket_id] = there
                return changed
            raw = there  # somebody was faster: once more from what is there now
        raise StoreUnavailable

    async def pending_of_user(self, user_id: str, *, now: float) -> Sequence[Ticket]:
        ids = await self._ids_of(user_id)
        if not ids:
            return []
        members = await _answered(self._client.ask("SUNION", *map(_user_key, ids)))
        found = await self.get_many((member.decode("utf-8") for member in members), now=now)
        return [ticket for ticket in found.values() if ticket.state in (State.SCANNED, State.CONFIRMED)]

    async def _swapped(self, former: bytes, ticket: Ticket, now: float) -> tuple[bool, bytes | None]:
        """Puts `ticket` in the place of `former`: whether that was there, and what is there now."""
        fresh = _encode(ticket)
        keys = [_key(ticket.id)] + ([_user_key(ticket.user_id)] if ticket.user_id else [])
        life = int((ticket.expires_at + SLACK_SECONDS - now) * 1000)  # more than 0: it was alive at `now`
        arguments = (former, fresh, life, ticket.id)
        done, current = await _answered(self._client.run(_SWAP, keys, arguments))
        return (True, fresh) if done else (False, current)

    def _alive(self, ticket_id: str, raw: bytes | None, now: float) -> Ticket | None:
        self._read.pop(ticket_id, None)
        if raw is None:
            return None
        try:
            ticket = _decode(raw)
            gone = ticket.id != ticket_id or ticket.expired(now)
        except (ValueError, TypeError, KeyError):
            # No ticket of ours, whoever wrote it: a scan is lost, and nothing else is held up by it.
            log.error("Redis holds something that is no ticket in a ticket's place")
            return None
        if gone:
            return None
        self._read[ticket_id] = raw
        return ticket


async def _answered(operation: Awaitable[Any]) -> Any:
    try:
        return await operation
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable from error


def _key(ticket_id: str) -> str:
    codec.scalars(id=ticket_id)
    return f"{PREFIX}ticket:{ticket_id}"


def _user_key(user_id: str) -> str:
    codec.scalars(id=user_id)
    return f"{PREFIX}tickets-of:{user_id}"


def _encode(ticket: Ticket) -> bytes:
    row = codec.scalars(**codec.ticket_row(ticket))
    row |= {name: row[name].hex() for name in _HASHES}
    return json.dumps(row).encode("ascii")


def _decode(raw: bytes) -> Ticket:
    row = json.loads(raw)
    row |= {name: bytes.fromhex(row[name]) for name in _HASHES if name in row}
    return codec.ticket_of(row)


# A lease is given up only by who has it: it may have run out and be somebody else's by now.
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class RedisShared(Shared):
    def __init__(self, client: Client, node: str, account: str = "") -> None:
        """`node` names this process among its like; what it shares is for one `account` of WeChat's alone."""
        self._client = client
        self._node = node
        self._prefix = f"{PREFIX}{account}:" if account else PREFIX
        self._release = client.register_script(_RELEASE)
        self._marks = _Marks(client, f"{self._prefix}marks")

    async def get(self, name: str) -> str | None:
        return _text(await _answered(self._client.get(self._prefix + name)))

    async def put(self, name: str, value: str, *, seconds: float) -> None:
        await _answered(self._client.set(self._prefix + name, value, px=max(1, int(seconds * 1000))))

    async def push(self, name: str, value: str) -> None:
        await _answered(self._client.rpush(self._prefix + name, value))

    async def pop(self, name: str) -> str | None:
        return _text(await _answered(self._client.lpop(self._prefix + name)))

    async def first(self, name: str) -> str | None:
        return _text(await _answered(self._client.lindex(self._prefix + name, 0)))

    async def length(self, name: str) -> int:
        return int(await _answered(self._client.llen(self._prefix + name)))

    async def lease(self, name: str, *, seconds: float) -> bool:
        key, life = f"{self._prefix}lease:{name}", max(1, int(seconds * 1000))
        return bool(await _answered(self._client.set(key, self._node, nx=True, px=life)))

    async def release(self, name: str) -> None:
        await _answered(self._release(keys=[f"{self._prefix}lease:{name}"], args=[self._node]))

    async def marks(self, names: Sequence[str]) -> list[str]:
        return await self._marks.of(names)

    async def renew(self, names: Iterable[str]) -> None:
        await self._marks.renew(names)


class _Marks:
    """A hash of random marks; the callers' names are few, so it does not grow.

    One question is with Redis at a time. Who asks meanwhile waits for the next one, which is for all of them:
    an answer to a question that was on its way already might be older than theirs.
    """

    def __init__(self, client: Client, key: str) -> None:
        self._client = client
        self._key = key
        self._asking: list[tuple[Sequence[str], asyncio.Future[list[str]]]] = []
        self._answering: asyncio.Task[None] | None = None

    async def of(self, names: Sequence[str]) -> list[str]:
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._asking.append((names, future))
        if self._answering is None:
            self._answering = asyncio.create_task(self._answer())
        try:
            async with asyncio.timeout(MARK_SECONDS):
                return await future
        except TimeoutError as error:
            raise StoreUnavailable from error

    async def renew(self, names: Iterable[str]) -> None:
        mark = _new_mark()
        fields = [part for name in dict.fromkeys(names) for part in (name, mark)]
        await _answered(self._client.ask("HSET", self._key, *fields))

    async def _answer(self) -> None:
        try:
            while self._asking:
                asking, self._asking = self._asking, []
                try:
                    known = await self._read({name for names, _ in asking for name in names})
                except StoreUnavailable as error:
                    for _, future in asking + self._asking:
                        if not future.done():
                            future.set_exception(error)
                    self._asking = []
                    continue
                for names, future in asking:
                    if not future.done():  # else whoever asked has gone
                        future.set_result([known[name] for name in names])
        finally:
            self._answering = None

    async def _read(self, wanted: Iterable[str]) -> dict[str, str]:
        names = list(wanted)
        found = await _answered(self._client.hmget(self._key, names))
        if None in found:
            async with self._client.pipeline(transaction=False) as pipeline:
                for name, mark in zip(names, found, strict=True):
                    if mark is None:  # the first node that misses it makes it, for all
                        pipeline.hsetnx(self._key, name, _new_mark())
                pipeline.hmget(self._key, names)
                found = (await _answered(pipeline.execute()))[-1]
        if None in found:
            raise StoreUnavailable  # forgotten again, in between
        return {name: mark.decode("ascii") for name, mark in zip(names, found, strict=True)}


def _new_mark() -> str:
    return secrets.token_hex(8)


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8")
