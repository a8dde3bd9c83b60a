"""People follow, leave and come back."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from errors import TransitionRefused
from flows import sessions
from storage.records import Profile
from tests.clock import START
from tests.flows.world import World, made
from tickets import State


async def follows(world: World) -> bool:
    (identity,) = (await world.user()).identities
    return identity.following


async def test_a_follow_without_a_code_stores_the_person_and_logs_nobody_in(tmp_path):
    async with made(tmp_path, wechat={"welcome": "Welcome!"}) as world:
        held = await world.ticket()
        assert await world.follow(world.person()) == "Welcome!"
        assert await follows(world)
        assert world.wanted.openids == [world.person()]
        assert await world.stored(held) == held.ticket
        assert await world.live_sessions() == []


async def test_without_a_welcome_there_is_no_reply(world: World):
    assert await world.follow(world.person()) == ""


async def test_an_unfollow_ends_all_of_it(world: World):
    person = world.person()
    collected = await world.logged_in()
    confirmed = await world.confirmed()
    waiting = await world.ticket()
    other = await world.logged_in(world.person(1))
    woken: list[str] = []
    for held in (confirmed, waiting):
        world.broker.subscribe(held.ticket.id, partial(woken.append, held.ticket.id))
    world.clock.pass_(1)
    assert await world.unfollow(person) == "", "no reply reaches who has left"
    assert not await follows(world)
    assert await sessions.current(world.context, collected.token) is None
    assert (await world.stored(confirmed)).state is State.CANCELLED
    assert (await world.stored(waiting)).state is State.WAITING
    assert woken == [confirmed.ticket.id], "its page is told, and no other"
    with pytest.raises(TransitionRefused):
        await world.collect(confirmed)
    assert await sessions.current(world.context, other.token) is not None
    assert world.wanted.openids.count(person) == 2


async def test_an_unfollow_ends_the_sessions_of_its_method_alone(world: World):
    collected = await world.logged_in()
    user = await world.user()

    async def another_method(transaction):
        from dataclasses import replace

        session = await transaction.sessions.get(
            (await transaction.sessions.of_user(user.id, now=world.clock()))[0].token_hash
        )
        await transaction.sessions.create(
            replace(session, id="other", token_hash=b"x" * 32, ticket_id="other", provider="app")
        )

    await world.do(another_method)
    await world.unfollow(world.person())
    assert await sessions.current(world.context, collected.token) is None
    assert [session.provider for session in await world.live_sessions()] == ["app"]


async def test_sessions_may_be_kept_and_tickets_are_taken_back_all_the_same(tmp_path):
    async with made(tmp_path, wechat={"unfollow": "keep_sessions"}) as world:
        collected = await world.logged_in()
        confirmed = await world.confirmed()
        await world.unfollow(world.person())
        assert await sessions.current(world.context, collected.token) is not None
        assert (await world.stored(confirmed)).state is State.CANCELLED
        assert not await follows(world)


async def test_an_unfollow_erases_what_the_platform_told(world: World):
    await world.logged_in()
    user = await world.user()

    async def named(transaction):
        profile = Profile("陈默", "https://a.example/a.png", "中国", "广东", "深圳")
        await transaction.users.update_profile("wechat", world.person(), profile, unionid="", now=START)
        await transaction.users.set_chosen_name(user.id, "my own name")

    await world.do(named)
    await world.unfollow(world.person())
    (identity,) = (await world.user()).identities
    assert identity.profile == Profile()
    assert identity.profile_at == 0
    assert (await world.user()).id == user.id


async def test_who_comes_back_is_the_same_person_and_logs_in(world: World):
    first = await world.logged_in()
    world.clock.pass_(10)
    await world.unfollow(world.person())
    world.clock.pass_(10)
    held = await world.ticket()
    assert "logged in" in await world.follow(world.person(), held)
    second = await world.collect(held)
    assert second.user.id == first.user.id
    assert await sessions.current(world.context, first.token) is None, "an ended session stays ended"


async def test_a_block_survives_leaving_and_coming_back(world: World):
    await world.follow(world.person(), created_at=START - 10)
    user = await world.user()
    await world.do(lambda transaction: transaction.users.set_blocked(user.id, True))
    await world.unfollow(world.person(), created_at=START - 5)
    held = await world.ticket()
    assert "cannot log in" in await world.follow(world.person(), held)
    assert (await world.stored(held)).state is State.WAITING


async def test_an_older_unfollow_changes_nothing(world: World):
    await world.unfollow(world.person(), created_at=START - 10)  # nobody known yet
    collected = await world.logged_in()
    confirmed = await world.confirmed()
    await world.unfollow(world.person(), created_at=START - 5)
    assert await follows(world)
    assert await sessions.current(world.context, collected.token) is not None
    assert (await world.stored(confirmed)).state is State.CONFIRMED


async def test_an_older_follow_changes_nothing(world: World):
    await world.follow(world.person(), created_at=START - 20)
    await world.unfollow(world.person(), created_at=START)
    await world.follow(world.person(), created_at=START - 10)
    assert not await follows(world)


async def test_events_in_any_order_end_as_the_newest_says(world: World):
    await world.follow(world.person(), created_at=START - 40)
    events = [(world.follow, -30), (world.unfollow, -20), (world.follow, -10), (world.unfollow, 0)]
    for order in ([3, 0, 1, 2], [1, 3, 2, 0], [2, 3, 0, 1]):
        for place in order:
            event, seconds = events[place]
            await event(world.person(), created_at=START + seconds)
        assert not await follows(world)


async def test_an_unfollow_of_a_stranger(world: World):
    assert await world.unfollow("oNobody") == ""
    assert await world.user("oNobody") is None


async def test_unfollow_and_exchange_at_once(world: World):
    for round_ in range(10):
        world.clock.pass_(2)
        held = await world.ticket()
        await world.follow(world.person(), held)
        world.clock.pass_(1)
        await asyncio.gather(world.unfollow(world.person()), world.collect(held), return_exceptions=True)
        assert await world.live_sessions() == [], round_
