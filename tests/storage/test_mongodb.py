"""What is MongoDB's own: servers that go away, addresses, indexes, and merges that are broken off."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pymongo
import pytest

from errors import StoreUnavailable
from storage import mongodb, mongodb_sites
from storage.mongodb_people import People
from storage.records import Profile, User
from tests.storage.drivers import Store
from tests.storage.samples import NOW, grant, login, notice, session, ticket
from tests.storage.servers import MongodbServer

REFUSED = "saoma.storage: MongoDB did not do what was asked"
LIMIT_SECONDS = 4.0


async def opened(url: str) -> Store:
    async def open() -> mongodb.MongoStorage:
        return await mongodb.open(url)

    return Store(open, await open())


async def fails_in_time(call: Callable[[], Awaitable[object]]) -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as raised:
        await call()
    assert time.monotonic() - began < LIMIT_SECONDS
    assert raised.value.message == StoreUnavailable.message  # nothing of the driver's words


async def comes_back(store: Store) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            await store.storage.ping()
            return
        except StoreUnavailable:
            assert time.monotonic() < deadline, "it did not find the server again"
            await asyncio.sleep(0.1)


async def test_killed_server_is_unavailable_and_found_again(
    own_mongodb: MongodbServer, expect_log: Callable[[str], None]
) -> None:
    expect_log(REFUSED)
    store = await opened(f"{own_mongodb.url}/saoma")
    await store.tickets.create(ticket())
    own_mongodb.kill()
    await fails_in_time(lambda: store.tickets.get("ticket", now=NOW))
    own_mongodb.start()
    await comes_back(store)
    assert await store.tickets.get("ticket", now=NOW) == ticket()
    await store.storage.close()


async def test_server_that_hangs_is_unavailable_in_time(
    own_mongodb: MongodbServer, expect_log: Callable[[str], None]
) -> None:
    expect_log(REFUSED)
    store = await opened(f"{own_mongodb.url}/saoma")
    await store.tickets.create(ticket())
    own_mongodb.hang()
    await asyncio.gather(
        *(fails_in_time(lambda: store.tickets.get("ticket", now=NOW)) for _ in range(10)),
        *(fails_in_time(partial(store.logins.append, login(f"{n}"))) for n in range(10)),
    )
    own_mongodb.resume()
    await comes_back(store)
    assert await store.tickets.get("ticket", now=NOW) == ticket()
    await store.storage.close()


async def test_nobody_there_at_the_start(
    own_mongodb: MongodbServer, expect_log: Callable[[str], None]
) -> None:
    expect_log(REFUSED)
    own_mongodb.stop()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"storage\.url did not answer.*TimeoutError"):
        await mongodb.open(own_mongodb.url)
    assert time.monotonic() - began < LIMIT_SECONDS


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://",
        "http://127.0.0.1/saoma",
        "mongodb://user:s3cret/saoma",  # the host forgotten
        "mongodb://user:s3cret@x@127.0.0.1/saoma",  # not encoded
        "mongodb://127.0.0.1/sa oma$",
        "mongodb://127.0.0.1/saoma?s3cret=1",
        "mongodb://127.0.0.1/saoma?serverSelectionTimeoutMS=s3cret",
    ],
)
async def test_wrong_address_is_explained_without_the_password(url: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"storage\.url is no address") as raised:
        await mongodb.open(url)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__suppress_context__


async def test_database_is_named_by_the_path_or_saoma(own_mongodb: MongodbServer) -> None:
    for url in (own_mongodb.url, f"{own_mongodb.url}/another"):
        await (await mongodb.open(url)).close()
    with pymongo.MongoClient[dict[str, Any]](own_mongodb.url) as client:
        assert {"saoma", "another"} <= set(client.list_database_names())


async def test_expiring_by_the_server_is_used_or_done_without(
    mongodb_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "saoma.storage"):
        store = await opened(mongodb_url)
    with pymongo.MongoClient[dict[str, Any]](mongodb_url) as client:
        indexes = client.get_default_database()["tickets"].index_information()
    told = [line for line in caplog.messages if "the sweep will" in line]
    assert ("expires_on_1" in indexes) is not bool(told)
    await store.tickets.create(ticket())
    await store.storage.sweep(now=ticket().expires_at)
    assert await store.tickets.get("ticket", now=NOW) is None
    await store.storage.close()


async def test_too_large_is_a_value_not_an_outage(mongodb_url: str) -> None:
    store = await opened(mongodb_url)
    with pytest.raises(ValueError, match="not to be stored"):
        await store.logins.append(login(browser="x" * 17_000_000))
    await store.storage.ping()
    await store.storage.close()


async def test_of_many_that_wait_the_oldest_are_looked_at(
    mongodb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a site that is away there may be more than can be read in time; it is worked off from there."""
    monkeypatch.setattr(mongodb_sites, "MAX_WAITING", 2)
    store = await opened(mongodb_url)
    for n in range(3):
        await store.outbox.add(notice(f"{n}", person=f"{n}", created_at=NOW + n, due_at=NOW + 60 - n))

    async def claim(now: float) -> list[str]:
        claimed = await store.outbox.claim("webhook:shop", now=now, until=now + 30, limit=9)
        return [one.id for one in claimed]

    assert await store.outbox.next_due("webhook:shop") == NOW + 59
    assert await claim(NOW + 58) == []
    assert await claim(NOW + 60) == ["0", "1"]
    await store.outbox.settle(notice("1", created_at=NOW + 1, state="delivered"))
    assert await claim(NOW + 60) == ["2"]
    await store.storage.close()


async def test_documents_of_a_saoma_that_knew_less(mongodb_url: str) -> None:
    store = await opened(mongodb_url)
    await store.tickets.create(ticket())
    await store.sessions.create(session())
    with pymongo.MongoClient[dict[str, Any]](mongodb_url) as client:
        database = client.get_default_database()
        database["tickets"].update_one({}, {"$unset": {"browser_hash": "", "agreed": "", "scanned_at": ""}})
        database["sessions"].update_one({}, {"$unset": {"agreed": "", "browser": "", "system": ""}})
    assert await store.tickets.get("ticket", now=NOW) == ticket()
    assert await store.sessions.by_id("session") == session()
    await store.storage.close()


# What is left empty when everybody has been forgotten.
OF_PEOPLE = ("users", "identities", "unionids", "sessions", "logins", "grants")


class Killed(Exception):
    pass


class Breaking:
    """A database whose user is killed after so many writes."""

    def __init__(self, database: Any, writes: int) -> None:
        self._database = database
        self.writes_left = writes

    def __getitem__(self, name: str) -> _BreakingCollection:
        return _BreakingCollection(self, self._database[name])


class _BreakingCollection:
    def __init__(self, breaking: Breaking, collection: Any) -> None:
        self._breaking, self._collection = breaking, collection

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._collection, name)
        if name.startswith("find") and not name.endswith("update"):
            return method

        async def write(*arguments: Any, **options: Any) -> Any:
            if not self._breaking.writes_left:
                raise Killed
            self._breaking.writes_left -= 1
            return await method(*arguments, **options)

        return write


# PyMongo's own client: what `mongodb_people` asks of a database, Motor's successor has too.
Client = pymongo.AsyncMongoClient[dict[str, Any]]


@pytest.fixture
async def client(mongodb_url: str) -> AsyncIterator[Client]:
    async with Client(mongodb_url) as client:
        yield client


async def two_people(store: Store, n: int) -> None:
    for name, age in (("old", 200), ("young", 100)):
        id = f"{name} {n}"
        await store.users.upsert_identity(
            "wechat", id, following=True, event_at=NOW - age, new_id=id, now=NOW - age
        )
        await store.sessions.create(session(id, user_id=id))
        await store.logins.append(login(id, user_id=id))
        await store.grants.create(grant(id, user_id=id))
        await store.users.count_login(id, f"counted for {id}", now=NOW - age)
    await store.users.set_blocked(f"young {n}", True)
    await store.users.update_profile("wechat", f"old {n}", Profile("Anna"), unionid=f"union {n}", now=NOW)


async def merge(users: Any, n: int) -> User:
    user: User = await users.update_profile(
        "wechat", f"young {n}", Profile("Bert"), unionid=f"union {n}", now=NOW
    )
    return user


async def is_whole(store: Store, n: int) -> None:
    merged = await store.users.get(f"old {n}")
    assert merged == await store.users.get(f"young {n}")
    assert merged == await store.users.by_identity("wechat", f"young {n}")
    assert (merged.id, merged.previous_ids) == (f"old {n}", (f"young {n}",))
    assert (merged.blocked, merged.login_count, merged.unionid) == (True, 2, f"union {n}")
    assert len(merged.identities) == 2
    assert {kept.user_id for kept in await store.sessions.of_user(merged.id, now=NOW)} == {merged.id}
    assert len(await store.logins.newest(user_id=merged.id)) == 2


@pytest.mark.parametrize("repair", ["again", "a look at the younger", "sweep"])
async def test_merge_killed_anywhere_is_repaired(mongodb_url: str, client: Client, repair: str) -> None:
    store = await opened(mongodb_url)
    killed = 0
    for n in range(40):
        await two_people(store, n)
        try:
            await merge(People(Breaking(client.get_default_database(), n)), n)
        except Killed:
            killed += 1
        else:
            break
        people = client.get_default_database()["users"]
        merged = await people.count_documents({"_id": f"young {n}", "merged_into": f"old {n}"})
        blocked = await people.count_documents({"_id": f"old {n}", "blocked": True})
        assert blocked or not merged, "there is no moment without the block"
        if repair == "a look at the younger":
            young = await store.users.get(f"young {n}")
            assert young.blocked
            if young.id == f"old {n}":
                assert (len(young.identities), young.login_count) == (2, 2)
        elif repair == "sweep":
            await store.storage.sweep(now=NOW)
            old = await store.users.get(f"old {n}")
            assert (len(old.identities), old.login_count) in ((1, 1), (2, 2))
        await merge(store.users, n)
        await is_whole(store, n)
        await merge(store.users, n)
        await is_whole(store, n)
    assert killed >= 8, "there are that many steps at least"
    await store.storage.close()


async def merges_into(client: Client, former: str, survivor: str) -> None:
    """What a merge that was killed after its first step leaves."""
    people = client.get_default_database()["users"]
    await people.update_one({"_id": former}, {"$set": {"merged_into": survivor}})


async def test_two_merges_killed_one_behind_the_other(mongodb_url: str, client: Client) -> None:
    store = await opened(mongodb_url)
    await two_people(store, 0)
    await store.users.upsert_identity(
        "wechat", "oldest", following=True, event_at=NOW, new_id="oldest", now=NOW - 300
    )
    await merges_into(client, "young 0", "old 0")
    await merges_into(client, "old 0", "oldest")
    merged = await store.users.get("young 0")
    assert (merged.id, merged.previous_ids) == ("oldest", ("old 0", "young 0"))
    assert (merged.blocked, merged.login_count, len(merged.identities)) == (True, 2, 3)
    assert merged == await store.users.get("oldest") == await store.users.get("old 0")
    await store.storage.close()


async def test_forget_takes_who_was_half_merged_along(mongodb_url: str, client: Client) -> None:
    store = await opened(mongodb_url)
    await two_people(store, 0)
    await merges_into(client, "young 0", "old 0")
    await store.users.forget("old 0")
    for collection in OF_PEOPLE:
        assert await client.get_default_database()[collection].count_documents({}) == 0, collection
    await store.storage.close()


async def test_forget_killed_anywhere_is_finished_by_running_again(mongodb_url: str, client: Client) -> None:
    store = await opened(mongodb_url)
    killed = 0
    for n in range(40):
        await two_people(store, n)
        await merge(store.users, n)
        try:
            await People(Breaking(client.get_default_database(), n)).forget(f"old {n}")
        except Killed:
            killed += 1
        await store.users.forget(f"old {n}")
        for name in (f"old {n}", f"young {n}"):
            assert await store.users.get(name) is None
            assert await store.users.by_identity("wechat", name) is None
            assert await store.sessions.get(session(name).token_hash) is None
        assert await store.logins.newest() == []
        for collection in OF_PEOPLE:
            assert await client.get_default_database()[collection].count_documents({}) == 0, collection
        if killed <= n:
            break
    assert killed >= 6
    await store.storage.close()


async def test_first_event_killed_anywhere_is_finished_by_the_next(mongodb_url: str, client: Client) -> None:
    store = await opened(mongodb_url)
    for n in range(2):
        event = {"following": True, "event_at": NOW, "now": NOW}
        with pytest.raises(Killed):
            await People(Breaking(client.get_default_database(), n)).upsert_identity(
                "wechat", f"openid {n}", new_id=f"killed {n}", **event
            )
        assert await store.users.by_identity("wechat", f"openid {n}") is None
        user = await store.users.upsert_identity("wechat", f"openid {n}", new_id=f"next {n}", **event)
        assert len(user.identities) == 1
        assert user == await store.users.by_identity("wechat", f"openid {n}")
    assert len((await store.users.search("")).users) == 2
    await store.storage.close()


async def test_who_was_merged_into_somebody_forgotten_can_come_back(mongodb_url: str, client: Client) -> None:
    """The rare case that the two happen at once: the merge leads nowhere."""
    store = await opened(mongodb_url)
    await two_people(store, 0)
    await merges_into(client, "young 0", "old 0")
    await client.get_default_database()["users"].delete_one({"_id": "old 0"})
    assert await store.users.get("young 0") is None
    user = await store.users.upsert_identity(
        "wechat", "young 0", following=True, event_at=NOW, new_id="new", now=NOW
    )
    assert [identity.subject for identity in user.identities] == ["young 0"]
    await store.storage.close()
