"""Profiles come after the login, few at once, once a day."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tornado.httpclient import AsyncHTTPClient

from emulator import Disclosure, Emulator
from emulator.platform import USER_INFO
from flows.profiles import MAX_WAITING, PARALLEL, ProfileFetcher
from storage.records import Profile
from tests.flows.world import World, until
from wechat import client
from wechat.client import WechatClient


@pytest_asyncio.fixture
async def emulator(world: World, monkeypatch) -> AsyncIterator[Emulator]:
    """Serves the world's platform; its deliveries then ask for real profiles."""
    monkeypatch.setattr(client, "RETRY_PAUSES", (0.001, 0.001))
    emulator = Emulator.start(world.account, now=world.clock)
    world.platform.base_url = emulator.base_url  # of the codes
    yield emulator
    await emulator.stop()


@pytest_asyncio.fixture
async def profiles(world: World, emulator: Emulator) -> AsyncIterator[ProfileFetcher]:
    http = AsyncHTTPClient(force_instance=True)
    wechat = WechatClient(
        appid=world.account.appid,
        secret=world.account.secret,
        api_base=emulator.base_url,
        stable=True,
        now=world.clock,
        http=http,
    )
    fetcher = ProfileFetcher(world.context, wechat)
    world.deliveries._profiles = fetcher
    fetcher.start()
    yield fetcher
    await fetcher.stop()
    http.close()


CHEN = 2  # tells everything


async def identity(world: World, openid: str):
    (known,) = (await world.user(openid)).identities
    return known


async def test_a_login_never_waits_for_a_profile(world: World, emulator: Emulator, profiles):
    emulator.platform.delay(USER_INFO, 0.3)
    person = world.person(CHEN)
    async with asyncio.timeout(0.25):
        collected = await world.logged_in(person)
    assert collected.user.name == ""
    await profiles.idle()
    assert (await world.user(person)).name == "陈默"
    assert (await world.user(person)).unionid == "o6_bmjrPTlm6_2sgVt7hMZOPchen"
    assert (await identity(world, person)).profile.city == "深圳"


async def test_two_at_once_at_most(world: World, emulator: Emulator, profiles):
    assert PARALLEL == 2
    for number in range(6):
        emulator.platform.add_person(f"p{number}", openid=f"o{number}", following=True)
    await profiles._client.token.get()
    emulator.platform.delay(USER_INFO, 0.1, times=6)
    for number in range(6):
        await world.follow(f"o{number}")
    await until(lambda: emulator.platform.calls[USER_INFO] == 2)
    await asyncio.sleep(0.05)
    assert emulator.platform.calls[USER_INFO] == 2
    await profiles.idle()
    assert emulator.platform.calls[USER_INFO] == 6


async def test_once_a_day(world: World, emulator: Emulator, profiles):
    person = world.person(1)  # tells nothing but a unionid
    for _ in range(3):
        await world.logged_in(person)
        await profiles.idle()
        world.clock.pass_(1000)
    assert emulator.platform.calls[USER_INFO] == 1
    world.clock.pass_(86_400)
    await world.logged_in(person)
    await profiles.idle()
    assert emulator.platform.calls[USER_INFO] == 2


async def test_somebody_who_is_waited_for_is_not_asked_for_twice(world: World, emulator: Emulator, profiles):
    await profiles._client.token.get()
    emulator.platform.delay(USER_INFO, 0.2)
    for _ in range(3):
        await world.logged_in(world.person(CHEN))
        world.clock.pass_(1)
    await profiles.idle()
    assert emulator.platform.calls[USER_INFO] == 1


@pytest.mark.parametrize("disclosure", [Disclosure.BLANK, Disclosure.ABSENT])
async def test_blank_fields_keep_what_is_known(world: World, emulator: Emulator, profiles, disclosure):
    person = world.person(CHEN)
    await world.logged_in(person)
    await profiles.idle()
    known = (await identity(world, person)).profile
    assert known.nickname == "陈默"
    emulator.platform.people[person].disclosure = disclosure
    world.clock.pass_(86_400)
    await world.logged_in(person)
    await profiles.idle()
    assert emulator.platform.calls[USER_INFO] == 2
    assert (await identity(world, person)).profile == known


async def test_a_profile_that_comes_after_an_unfollow_is_dropped(world: World, emulator: Emulator, profiles):
    person = world.person(CHEN)
    await profiles._client.token.get()
    emulator.platform.delay(USER_INFO, 0.1)
    await world.follow(person)
    await until(lambda: emulator.platform.calls[USER_INFO] == 1)
    world.clock.pass_(1)
    await world.unfollow(person)
    await profiles.idle()
    assert (await identity(world, person)).profile == Profile()
    assert (await world.user(person)).unionid == ""
    world.clock.pass_(1)
    await world.follow(person)
    await profiles.idle()
    assert (await world.user(person)).name == "陈默"


async def test_a_failure_is_told_and_the_next_login_asks_again(
    world: World, emulator: Emulator, profiles, expect_log, caplog
):
    person = world.person(CHEN)
    expect_log("errcode 48001")
    emulator.platform.fail(USER_INFO, 48001)
    await world.logged_in(person)
    await profiles.idle()
    assert (await identity(world, person)).profile == Profile()
    await world.logged_in(person)
    await profiles.idle()
    assert (await world.user(person)).name == "陈默"
    assert person not in caplog.text, "openids are hashed in the log"


async def test_another_persons_profile_is_dropped(world: World, emulator: Emulator, profiles, expect_log):
    expect_log("another person's profile")
    emulator.platform.answer(USER_INFO, b'{"subscribe":1,"openid":"oSomebodyElse","nickname":"x"}')
    await world.logged_in(world.person(CHEN))
    await profiles.idle()
    assert (await world.user(world.person(CHEN))).name == ""
    assert await world.user("oSomebodyElse") is None


async def test_half_an_emoji_costs_nobody_the_rest_of_the_profile(world: World, emulator: Emulator, profiles):
    person = world.person()
    told = f'{{"subscribe":1,"openid":"{person}","nickname":"cut \\ud83d","unionid":"u1"}}'
    emulator.platform.answer(USER_INFO, told.encode())
    await world.logged_in(person)
    await profiles.idle()
    user = await world.user(person)
    assert (user.name, user.unionid) == ("cut", "u1")


async def test_one_unionid_makes_one_person(world: World, emulator: Emulator, profiles):
    for name in ("one", "two"):
        emulator.platform.add_person(name, openid=f"o-{name}", following=True, unionid="u-same")
    first = await world.logged_in("o-one")
    await profiles.idle()
    world.clock.pass_(1)
    second = await world.logged_in("o-two")
    await profiles.idle()
    assert (await world.user("o-one")).id == (await world.user("o-two")).id == first.user.id
    assert (await world.user("o-one")).previous_ids == (second.user.id,)


async def test_a_full_queue_leaves_people_to_their_next_login(world: World, emulator: Emulator):
    fetcher = ProfileFetcher(world.context, None)  # type: ignore[arg-type]
    await world.follow(world.person())
    user = await world.user()
    for number in range(MAX_WAITING + 10):
        fetcher.want(user, f"o{number}")
    assert fetcher._queue.qsize() == MAX_WAITING
    assert len(fetcher._wanted) == MAX_WAITING


@pytest.mark.parametrize("started", [True, False])
async def test_stopping(world: World, emulator: Emulator, started: bool):
    fetcher = ProfileFetcher(world.context, None)  # type: ignore[arg-type]
    if started:
        fetcher.start()
        await asyncio.sleep(0)
    async with asyncio.timeout(2):
        await fetcher.stop()
