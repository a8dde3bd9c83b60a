"""How long a session is remembered, and what is told while the store or its marks are away."""

from __future__ import annotations

import asyncio

import pytest

from errors import StoreUnavailable
from flows import session_memory
from flows.session_memory import HEARD_SECONDS, KEPT_SECONDS, LIFE_SECONDS
from tests.flows.session_memory.remembering import DAY, Remembering, block


async def test_it_does_not_outlive_the_session(here: Remembering):
    limits = here.context.settings.session
    collected = await here.remembered()
    for _ in range(10):
        here.world.clock.pass_(limits.lifetime / 10 - 1)
        assert await here.current(collected) is not None
    here.world.clock.pass_(9)
    assert await here.current(collected) is not None
    here.world.clock.pass_(1)
    assert await here.current(collected) is None


async def test_use_is_noted_when_it_is_due(here: Remembering):
    collected = await here.remembered()
    for _ in range(9):
        here.world.clock.pass_(6 * DAY / 2)
        assert await here.current(collected) is not None, "7 days without use would have ended it"
        assert await here.asks(collected) == 0


async def test_the_database_is_asked_again_after_a_while(here: Remembering):
    collected = await here.remembered()
    here.world.clock.pass_(LIFE_SECONDS - 1)
    await here.memory.current(["somebody else's"])  # the store is there
    assert await here.asks(collected) == 0
    here.world.clock.pass_(1)
    await here.memory.current(["somebody else's"])
    assert await here.asks(collected) == 1
    assert await here.asks(collected) == 0


async def test_a_store_that_has_not_been_heard_of_is_asked(here: Remembering):
    collected, other = await here.remembered(), await here.remembered(1)
    here.world.clock.pass_(HEARD_SECONDS)
    assert await here.asks(collected) == 1
    assert await here.asks(other) == 0  # one question for all


async def test_nobody_passes_once_the_store_is_known_to_be_away(here: Remembering, monkeypatch):
    collected = await here.remembered()

    async def away(work):
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(here.store, "transact", away)
        here.world.clock.pass_(HEARD_SECONDS)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await here.current(collected)
    assert await here.current(collected) is not None


async def test_a_clock_that_is_set_back_lengthens_nothing(here: Remembering):
    collected = await here.remembered()
    here.world.clock.pass_(-3600)
    assert await here.asks(collected) == 1


async def test_the_longest_unused_is_forgotten(here: Remembering, monkeypatch):
    monkeypatch.setattr(session_memory, "MAX_REMEMBERED", 2)
    first, second = await here.remembered(), await here.remembered(1)
    await here.current(first)
    third = await here.world.logged_in(here.world.person(2))
    await here.current(third)
    assert [await here.asks(one) for one in (first, third)] == [0, 0]
    assert await here.asks(second) > 0


async def test_who_is_not_seen_for_a_while_is_forgotten(here: Remembering):
    for number in range(3):
        await here.remembered(number)
    here.world.clock.pass_(KEPT_SECONDS + 1)
    await here.remembered(3)
    assert len(here.memory._known) == 1


async def test_nothing_negative_is_remembered(here: Remembering):
    collected = await here.remembered()
    await block(here, collected)
    assert await here.current(collected) is None
    await here.do(lambda t: t.users.set_blocked(collected.user.id, False))
    assert await here.current(collected) is not None


# A store that does not answer.


async def test_while_the_store_is_known_to_be_away_nothing_is_told_from_memory(here: Remembering):
    collected = await here.remembered()
    here.store.away = True
    with pytest.raises(StoreUnavailable):
        await here.memory.current(["somebody else's"])
    with pytest.raises(StoreUnavailable):
        await here.current(collected)
    here.store.away = False
    assert await here.current(collected) is not None
    assert await here.asks(collected) == 0


async def test_a_change_that_failed_may_have_happened(here: Remembering):
    collected = await here.remembered()
    here.store.breaks_off = True
    with pytest.raises(StoreUnavailable):
        await block(here, collected)
    here.store.breaks_off = False
    assert await here.current(collected) is None


# Several tokens at once.


async def test_of_several_the_one_that_is_alive_counts(here: Remembering):
    collected = await here.remembered()
    current = await here.memory.current(["unknown", collected.token, ""])
    assert current is not None
    assert current.user.id == collected.user.id


async def test_of_two_that_are_alive_none_counts(here: Remembering):
    mine, planted = await here.remembered(), await here.remembered(1)
    assert await here.memory.current([mine.token, planted.token]) is None
    assert await here.memory.current([]) is None
    await block(here, planted)
    assert await here.memory.current([mine.token, planted.token]) is not None


# Marks that cannot be had.


async def test_without_marks_the_database_is_asked(here: Remembering):
    collected = await here.remembered()
    here.shared.away = True
    for _ in range(3):
        assert await here.asks(collected) == 1
    await here.store.transact(lambda t: t.users.set_blocked(collected.user.id, True))
    assert await here.current(collected) is None


async def test_what_was_remembered_before_the_marks_went_away_is_not_believed_after(here: Remembering):
    collected = await here.remembered()
    here.shared.away = True
    assert await here.current(collected) is not None
    await here.store.transact(lambda t: t.users.set_blocked(collected.user.id, True))  # no mark is renewed
    here.shared.away = False
    here.world.clock.pass_(1.1)
    assert await here.current(collected) is None


async def test_it_is_remembered_again_when_they_are_back(here: Remembering):
    collected = await here.remembered()
    here.shared.away = True
    await here.current(collected)
    here.shared.away = False
    here.world.clock.pass_(1.1)
    assert await here.asks(collected) > 0
    assert await here.asks(collected) == 0


async def test_a_change_whose_marks_could_not_be_renewed_is_made_up_for(here: Remembering, monkeypatch):
    monkeypatch.setattr("storage.watched.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("storage.watched.PATIENCE_SECONDS", 0.05)
    collected = await here.remembered()
    here.shared.away = True
    await block(here, collected)  # is acknowledged
    here.shared.away = False
    async with asyncio.timeout(5):
        while await here.current(collected) is not None:
            await asyncio.sleep(0.005)
