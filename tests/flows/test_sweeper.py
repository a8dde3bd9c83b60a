"""What is swept by a clock that may be wrong."""

from __future__ import annotations

import pytest

from flows.sweeper import TRUSTED_AFTER, Sweeper
from tests.clock import Clock
from tests.flows.world import World

HOUR = 3600.0


@pytest.fixture
def steady() -> Clock:
    return Clock()


async def kept(world: World, ticket_id: str) -> bool:
    """Whether the ticket is in the store, expired or not."""
    return await world.do(lambda transaction: transaction.tickets.get(ticket_id, now=0)) is not None


async def test_what_has_expired_goes(world: World, steady: Clock):
    sweeper, held = Sweeper(world.context, steady), await world.ticket()
    await sweeper.sweep()
    assert await kept(world, held.ticket.id)
    for clock in (world.clock, steady):
        clock.pass_(HOUR)
    await sweeper.sweep()
    assert not await kept(world, held.ticket.id)


async def test_an_hour_that_the_clock_is_ahead_deletes_nothing(world: World, steady: Clock, expect_log):
    sweeper, held = Sweeper(world.context, steady), await world.confirmed()
    await sweeper.sweep()
    expect_log(r"the clock was moved by \+3600 seconds")
    world.clock.pass_(HOUR)
    await sweeper.sweep()
    expect_log(r"the clock was moved by -3600 seconds")
    world.clock.pass_(-HOUR)
    await sweeper.sweep()
    assert (await world.collect(held)).token


async def test_a_clock_that_stays_ahead_is_believed_in_the_end(world: World, steady: Clock, expect_log):
    sweeper, held = Sweeper(world.context, steady), await world.ticket()
    await sweeper.sweep()
    expect_log("the clock was moved")
    world.clock.pass_(100 * HOUR)
    for _ in range(TRUSTED_AFTER):
        assert await kept(world, held.ticket.id)
        await sweeper.sweep()
        for clock in (world.clock, steady):
            clock.pass_(1)
    await sweeper.sweep()
    assert not await kept(world, held.ticket.id)
