"""A cluster's store: two halves, one contract."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from errors import StoreUnavailable
from storage import base, mongodb, redis, sqlite
from storage.base import TIMEOUT_SECONDS, Transaction
from storage.records import User
from storage.split import SplitStorage
from tests.storage.samples import grant, notice, session, signing_key, ticket
from tickets import Event, Scanner, State, Ticket, advance

ANNA = Scanner("app", "Anna")


def alive(id: str = "ticket", **fields: object) -> Ticket:
    return ticket(id, created_at=time.time(), expires_at=time.time() + 300, **fields)


@pytest.fixture
async def store(redis_url: str, tmp_path) -> AsyncIterator[SplitStorage]:
    client = redis.connect(redis_url)
    store = SplitStorage(sqlite.open(tmp_path / "saoma.db"), client)
    yield store
    await store.close()
    await client.aclose()


async def test_each_half_in_its_place(redis_url, mongodb_url):
    client, database = redis.connect(redis_url), await mongodb.open(mongodb_url)
    store = SplitStorage(database, client)

    async def work(transaction: Transaction) -> None:
        await transaction.tickets.create(alive(state=State.SCANNED, scanner=ANNA, user_id="anna"))
        await transaction.sessions.create(session())
        await transaction.grants.create(grant())
        await transaction.outbox.add(notice())
        await transaction.signing_keys.add(signing_key())

    await store.transact(work)

    async def of_database(transaction: Transaction) -> tuple[object, object]:
        found = await transaction.tickets.get("ticket", now=time.time())
        return found, await transaction.sessions.get(session().token_hash)

    async def for_sites(transaction: Transaction) -> tuple[object, object, object]:
        kept = await transaction.grants.get("grant", now=0), await transaction.outbox.newest()
        return *kept, await transaction.signing_keys.all(now=0)

    assert await database.transact(of_database) == (None, session())
    assert await database.transact(for_sites) == (grant(), [notice()], [signing_key()])
    assert sorted(await client.keys("*")) == [b"saoma:ticket:ticket", b"saoma:tickets-of:anna"]
    await store.ping()
    await store.sweep(now=time.time())
    await store.close()
    await client.aclose()


class Counting(base.Storage):
    """A database that counts its transactions; each is done `times` times, the last one counts."""

    def __init__(self, inner: base.Storage, times: int = 1) -> None:
        self.inner, self.times, self.transactions = inner, times, 0

    async def transact(self, work):
        self.transactions += 1
        for _ in range(self.times - 1):
            await self.inner.transact(work)
        return await self.inner.transact(work)

    async def sweep(self, *, now: float) -> None: ...

    async def ping(self) -> None: ...

    async def close(self) -> None:
        await self.inner.close()


async def meet_anna(transaction: Transaction, name: str = "Anna") -> User:
    return await transaction.users.upsert_identity(
        "app", name, following=True, event_at=1, new_id=name.lower(), now=1
    )


async def people_of(database: base.Storage) -> int:
    return await database.transact(lambda transaction: transaction.users.count())


@pytest.fixture
async def counting(redis_url: str, tmp_path) -> AsyncIterator[tuple[SplitStorage, Counting]]:
    client, database = redis.connect(redis_url), Counting(sqlite.open(tmp_path / "saoma.db"))
    store = SplitStorage(database, client)
    yield store, database
    await store.close()
    await client.aclose()


async def test_what_is_asked_of_the_database_between_two_calls_for_tickets_is_one_transaction(counting):
    store, database = counting
    stored: list[int] = []

    async def work(transaction: Transaction) -> str:
        await transaction.tickets.create(alive())
        await meet_anna(transaction)
        await meet_anna(transaction, "Bert")
        await transaction.tickets.get("ticket", now=time.time())
        stored.append(await people_of(database.inner))  # by now it is durable
        await transaction.users.set_blocked("anna", True)
        user = await transaction.users.get("anna")
        return f"{user.id} {user.blocked}"

    assert await store.transact(work) == "anna True"
    assert database.transactions == 2
    assert stored == [2]


async def test_tickets_alone_need_no_database(counting):
    store, database = counting
    await store.transact(lambda transaction: transaction.tickets.create(alive()))
    assert database.transactions == 0


async def test_an_error_of_the_work_takes_nothing_back(counting):
    store, database = counting

    async def work(transaction: Transaction) -> None:
        await meet_anna(transaction)
        raise LookupError

    with pytest.raises(LookupError):
        await store.transact(work)
    assert await people_of(database.inner) == 1


async def test_an_error_of_the_database_takes_back_the_calls_before_it(counting):
    store, database = counting

    async def work(transaction: Transaction) -> None:
        await meet_anna(transaction)
        await transaction.tickets.create(alive())
        await meet_anna(transaction, "Bert")
        await meet_anna(transaction, "\ud800")

    with pytest.raises(ValueError, match="surrogate"):
        await store.transact(work)
    assert await people_of(database.inner) == 1


async def test_a_database_that_does_its_transaction_again_is_refused(counting):
    """The work has gone on meanwhile."""
    store, database = counting
    database.times, calls = 2, 0

    async def work(transaction: Transaction) -> None:
        nonlocal calls
        calls += 1
        await meet_anna(transaction)
        await transaction.tickets.create(alive())
        calls += 10

    with pytest.raises(StoreUnavailable):
        await store.transact(work)
    assert calls == 1


async def test_one_that_others_have_failed_beside(redis_url, tmp_path):
    """SQLite does a group of works again, each for itself, where one of them has failed."""
    client, database = redis.connect(redis_url), sqlite.open(tmp_path / "saoma.db")
    store = SplitStorage(database, client)

    async def good(transaction: Transaction) -> str:
        return (await meet_anna(transaction)).id

    async def bad(transaction: Transaction) -> None:
        await meet_anna(transaction, "Bert")
        await meet_anna(transaction, "\ud800")

    outcomes = await asyncio.gather(store.transact(good), store.transact(bad), return_exceptions=True)
    assert outcomes[0] == "anna" or isinstance(outcomes[0], StoreUnavailable)
    assert isinstance(outcomes[1], ValueError)
    assert await people_of(database) == (outcomes[0] == "anna")
    assert await store.transact(good) == "anna"
    await store.close()
    await client.aclose()


async def test_tickets_of_a_forgotten_person_can_still_be_taken_back(store):
    async def work(transaction: Transaction) -> list[str]:
        user = await transaction.users.upsert_identity(
            "app", "Anna", following=True, event_at=1, new_id="anna", now=1
        )
        await transaction.tickets.create(alive())
        now = time.time()
        await transaction.tickets.update(
            "ticket", lambda known: advance(known, Event.SCAN, now, scanner=ANNA, user_id=user.id), now=now
        )
        await transaction.users.forget(user.id)
        return [known.id for known in await transaction.tickets.pending_of_user(user.id, now=now)]

    assert await store.transact(work) == ["ticket"]


class Slow(base.Storage):
    """A database that takes its time with every call."""

    def __init__(self, inner: base.Storage, seconds: float) -> None:
        self.inner, self.seconds = inner, seconds

    async def transact(self, work):
        await asyncio.sleep(self.seconds)
        return await self.inner.transact(work)

    async def sweep(self, *, now: float) -> None: ...

    async def ping(self) -> None: ...

    async def close(self) -> None:
        await self.inner.close()


async def test_many_slow_calls_together_keep_to_the_time(redis_url, tmp_path):
    """WeChat has its 503 within 4 s, whatever the work is made of."""
    client = redis.connect(redis_url)
    store = SplitStorage(Slow(sqlite.open(tmp_path / "saoma.db"), 1.5), client)

    async def work(transaction: Transaction) -> None:
        for _ in range(5):
            await transaction.users.get("anna")
            await transaction.tickets.get("ticket", now=0)

    began = time.perf_counter()
    with pytest.raises(StoreUnavailable):
        await store.transact(work)
    assert time.perf_counter() - began < TIMEOUT_SECONDS + 0.4
    await store.close()
    await client.aclose()


async def test_redis_that_hangs_in_the_middle(own_redis, tmp_path):
    client = redis.connect(own_redis.url)
    store = SplitStorage(Slow(sqlite.open(tmp_path / "saoma.db"), 1.0), client)

    async def work(transaction: Transaction) -> Ticket | None:
        await transaction.users.get("anna")
        await transaction.users.get("anna")
        return await transaction.tickets.get("ticket", now=0)

    await store.ping()
    own_redis.hang()
    try:
        began = time.perf_counter()
        with pytest.raises(StoreUnavailable):
            await store.transact(work)
        assert time.perf_counter() - began < 4
        began = time.perf_counter()
        with pytest.raises(StoreUnavailable):
            await store.ping()
        assert time.perf_counter() - began < 4
    finally:
        own_redis.resume()
    assert await store.transact(work) is None
    await store.ping()
    await store.close()
    await client.aclose()


async def test_a_full_redis_is_not_ready(own_redis, tmp_path):
    client = redis.connect(own_redis.url)
    store = SplitStorage(sqlite.open(tmp_path / "saoma.db"), client)
    await client.config_set("maxmemory", 1)
    with pytest.raises(StoreUnavailable):
        await store.ping()
    await client.config_set("maxmemory", 0)
    await store.ping()
    await store.close()
    await client.aclose()


async def test_who_gives_up_leaves_no_connection_in_disorder(store):
    """A cancelled call must not leave its answer to the next one on the connection."""
    for id in ("one", "two"):

        async def create(transaction: Transaction, id: str = id) -> None:
            await transaction.tickets.create(alive(id))

        await store.transact(create)

    async def get(id: str) -> str:
        async def work(transaction: Transaction) -> str:
            found = await transaction.tickets.get(id, now=time.time())
            assert found is not None
            return found.id

        return await store.transact(work)

    for turn in range(100):
        cancelled = [asyncio.create_task(get("one")) for _ in range(5)]
        for _ in range(turn % 7):
            await asyncio.sleep(0)
        for task in cancelled:
            task.cancel()
        assert await asyncio.gather(*(get("two") for _ in range(5))) == ["two"] * 5
        await asyncio.gather(*cancelled, return_exceptions=True)
