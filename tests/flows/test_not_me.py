"""The link in the message after a login."""

from __future__ import annotations

import asyncio
import re

import pytest

from errors import TransitionRefused
from flows import not_me, sessions
from storage.records import Link
from tests.flows.world import World
from tickets import State, hash_secret


async def scanned(world: World):
    """A confirmed ticket and the token in its link."""
    held = await world.ticket()
    told = await world.scan(held, world.person())
    found = re.search(r"https://login\.example\.com/not-me/(\S+)", told)
    assert found, told
    return held, found[1]


async def test_the_link_is_random_and_only_its_hash_is_stored(world: World):
    held, token = await scanned(world)
    _, other = await scanned(world)
    assert token != other
    assert len(token) * 6 >= 128
    stored = await world.do(lambda transaction: transaction.links.get(hash_secret(token), now=world.clock()))
    assert stored.ticket_id == held.ticket.id
    assert token not in repr(stored)


async def test_looking_changes_nothing(world: World):
    """Messengers and scanners open links by themselves."""
    held, token = await scanned(world)
    collected = await world.collect(held)
    for _ in range(3):
        link = await not_me.look(world.context, token)
        assert link is not None
        assert (link.browser, link.system, link.address) == ("Chrome", "Windows", "203.0.113.5")
    assert await sessions.current(world.context, collected.token) is not None
    assert (await world.stored(held)).state is State.CONSUMED


async def test_it_ends_a_login_that_was_collected(world: World):
    held, token = await scanned(world)
    collected = await world.collect(held)
    other = await world.logged_in()
    link = await not_me.end_login(world.context, token)
    assert link is not None
    assert await sessions.current(world.context, collected.token) is None
    assert await sessions.current(world.context, other.token) is not None, "the person's other logins stay"
    with pytest.raises(TransitionRefused):
        await world.collect(held)


async def test_it_ends_a_login_that_was_not_collected_yet(world: World):
    held, token = await scanned(world)
    woken: list[int] = []
    world.broker.subscribe(held.ticket.id, lambda: woken.append(1))
    assert await not_me.end_login(world.context, token)
    assert (await world.stored(held)).state is State.CANCELLED
    assert woken == [1]
    with pytest.raises(TransitionRefused):
        await world.collect(held)
    assert await world.live_sessions() == []


async def test_it_ends_a_login_whose_ticket_has_long_gone(world: World):
    held, token = await scanned(world)
    collected = await world.collect(held)
    world.clock.pass_(3600)
    await world.context.storage.sweep(now=world.clock())
    assert await not_me.end_login(world.context, token)
    assert await sessions.current(world.context, collected.token) is None


async def test_it_works_once(world: World):
    _, token = await scanned(world)
    outcomes = await asyncio.gather(*(not_me.end_login(world.context, token) for _ in range(10)))
    assert sum(outcome is not None for outcome in outcomes) == 1
    assert await not_me.look(world.context, token) is None


@pytest.mark.parametrize(("seconds", "works"), [(86_399, True), (86_400, False)])
async def test_it_works_for_a_day(world: World, seconds: float, works: bool):
    held, token = await scanned(world)
    collected = await world.collect(held)
    world.clock.pass_(seconds)
    assert (await not_me.look(world.context, token) is not None) is works
    assert (await not_me.end_login(world.context, token) is not None) is works
    assert (await sessions.current(world.context, collected.token) is None) is works


@pytest.mark.parametrize("token", ["", "unknown", "\ud800", "a" * 5000])
async def test_a_link_that_is_none(world: World, token: str):
    await scanned(world)
    assert await not_me.look(world.context, token) is None
    assert await not_me.end_login(world.context, token) is None


async def test_a_link_for_something_else_is_none_of_these(world: World):
    held, _ = await scanned(world)
    link = Link(hash_secret("t"), "admin", held.ticket.id, "u", world.clock(), world.clock() + 100)
    await world.do(lambda transaction: transaction.links.create(link))
    assert await not_me.look(world.context, "t") is None
    assert await not_me.end_login(world.context, "t") is None
    assert (await world.stored(held)).state is State.CONFIRMED
    stored = await world.do(lambda transaction: transaction.links.get(hash_secret("t"), now=world.clock()))
    assert stored is not None, "nor is it used up"


async def test_collecting_and_ending_at_once_leaves_no_session(world: World):
    for _ in range(10):
        held, token = await scanned(world)
        await asyncio.gather(
            world.collect(held), not_me.end_login(world.context, token), return_exceptions=True
        )
        assert await world.live_sessions() == []
