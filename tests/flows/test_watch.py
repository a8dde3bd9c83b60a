"""Waiting: no change is missed, none is told that the store has not said, and nothing is left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from errors import StoreUnavailable
from flows import watch
from flows.tickets import abandon
from flows.watch import INVALID, Poll, View, Waiters, Watch, view
from storage.base import Storage
from tests.flows.world import Delegating, World, until
from tickets import State

WAITING, CONFIRMED, CONSUMED = State.WAITING, State.CONFIRMED, State.CONSUMED


class Changing(Delegating):
    """Lets something happen between a read and whatever comes after it."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.after: list[Callable] = []

    async def transact(self, work):
        result = await self.inner.transact(work)
        if self.after:
            await self.after.pop(0)()
        return result


class Away(Delegating):
    """Away as long as it is told."""

    away = False

    async def transact(self, work):
        if self.away:
            raise StoreUnavailable
        return await self.inner.transact(work)


Kind = TypeVar("Kind", bound=Delegating)


def behind(world: World, kind: type[Kind]) -> tuple[World, Kind]:
    """The same world, its waiters behind such a store."""
    store = kind(world.context.storage)
    return replace(world, context=replace(world.context, storage=store)), store


class Waiter:
    """A watch, and what it was told."""

    def __init__(self, world: World, held, secret: str = "") -> None:
        self.seen: list[View] = []
        self._arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watch = Watch(Waiters(world.context), held.ticket.id, secret or held.secret, self)
        self.close = self._watch.close

    async def open(self) -> None:
        """Returns when the state on arrival has been told. Raises StoreUnavailable."""
        self._watch.open()
        await self._arrived

    def told(self, seen: View) -> None:
        self.seen.append(seen)
        if not self._arrived.done():
            self._arrived.set_result(None)

    def store_is_away(self) -> None:
        self._arrived.set_exception(StoreUnavailable())


def told_by(world: World, held, secret: str = "") -> tuple[Waiter, list[View]]:
    waiter = Waiter(world, held, secret)
    return waiter, waiter.seen


def states(seen: list[View]) -> list[State]:
    return [known.state for known in seen]


async def poll(world: World, held, known: State | None, seconds: float) -> View:
    asked = Poll(Waiters(world.context), held.ticket.id, held.secret, known, seconds)
    try:
        return await asked.answer
    finally:
        asked.close()


def nobody_waits(world: World) -> bool:
    return world.broker.waiting == world.broker.tickets == 0


# --- the one look -----------------------------------------------------------------------------------------


async def test_a_look_names_nobody_before_the_scan(world: World):
    held = await world.ticket()
    seen = await view(world.context, held.ticket.id, held.secret)
    assert seen == View(WAITING, None, 300)
    await world.scan(held, world.person())
    seen = await view(world.context, held.ticket.id, held.secret)
    assert seen.state is CONFIRMED
    assert seen.user == await world.user()


@pytest.mark.parametrize("case", ["unknown", "wrong secret", "no secret", "expired"])
async def test_what_nobody_may_see_is_invalid(world: World, case: str):
    held = await world.confirmed()
    ticket_id, secret = held.ticket.id, held.secret
    match case:
        case "unknown":
            ticket_id = "nobody"
        case "wrong secret":
            secret = "x" * 43
        case "no secret":
            secret = ""
        case _:
            world.clock.pass_(301)
    assert await view(world.context, ticket_id, secret) == INVALID


# --- the watch --------------------------------------------------------------------------------------------


async def test_every_state_is_told_once(world: World):
    held = await world.ticket()
    waiter, seen = told_by(world, held)
    await waiter.open()
    assert states(seen) == [WAITING]
    for _ in range(3):
        await world.broker.publish(held.ticket.id)  # nothing has changed
    await world.scan(held, world.person())
    await until(lambda: len(seen) == 2)
    await world.collect(held)
    await until(lambda: len(seen) == 3)
    await asyncio.sleep(0.05)
    assert states(seen) == [WAITING, CONFIRMED, CONSUMED]
    assert nobody_waits(world), "it closes itself after a final state"


async def test_several_waiters_are_all_told(world: World):
    held, other = await world.ticket(), await world.ticket()
    waiters = [told_by(world, held) for _ in range(20)]
    bystander, unconcerned = told_by(world, other)
    for waiter, _ in waiters:
        await waiter.open()
    await bystander.open()
    await world.scan(held, world.person())
    await until(lambda: all(len(seen) == 2 for _, seen in waiters))
    assert states(unconcerned) == [WAITING]
    assert world.broker.waiting == 21
    assert world.broker.tickets == 2
    for waiter, _ in [*waiters, (bystander, None)]:
        waiter.close()
        waiter.close()
    assert nobody_waits(world)


async def test_a_change_between_the_read_and_the_wait_is_told(world: World):
    behind_store, store = behind(world, Changing)
    held = await world.ticket()
    waiter, seen = told_by(behind_store, held)
    store.after = [lambda: world.scan(held, world.person())]
    await waiter.open()
    await until(lambda: states(seen)[-1] is CONFIRMED)
    assert states(seen) in ([WAITING, CONFIRMED], [CONFIRMED])
    waiter.close()


async def test_a_change_while_a_change_is_read_is_told(world: World):
    behind_store, store = behind(world, Changing)
    held = await world.ticket()
    waiter, seen = told_by(behind_store, held)
    await waiter.open()
    store.after = [lambda: world.collect(held)]
    await world.scan(held, world.person())
    await until(lambda: CONSUMED in states(seen))
    assert states(seen) == [WAITING, CONFIRMED, CONSUMED]


class Overtaken(Delegating):
    """A store with many connections: its first read is answered last."""

    reads = 0

    async def transact(self, work):
        self.reads += 1
        first = self.reads == 1
        result = await self.inner.transact(work)
        if first:
            await asyncio.sleep(0.1)
        return result


async def test_an_answer_that_was_overtaken_takes_nothing_back(world: World):
    behind_store, store = behind(world, Overtaken)
    held = await world.ticket()
    waiter, seen = told_by(behind_store, held)
    opening = asyncio.create_task(waiter.open())
    await until(lambda: store.reads == 1)
    await asyncio.sleep(0.03)  # read, but not answered
    await world.scan(held, world.person())
    await opening
    await until(lambda: CONFIRMED in states(seen))
    await asyncio.sleep(0.15)
    assert states(seen) in ([WAITING, CONFIRMED], [CONFIRMED])
    waiter.close()


async def test_a_long_poll_that_was_overtaken_tells_the_truth(world: World):
    behind_store, store = behind(world, Overtaken)
    held = await world.ticket()
    polling = asyncio.create_task(poll(behind_store, held, WAITING, 2))
    await until(lambda: store.reads == 1)
    await asyncio.sleep(0.03)
    await world.scan(held, world.person())
    assert (await polling).state is CONFIRMED
    assert nobody_waits(world)


async def test_expiry_is_told_without_a_sweep(world: World):
    held = await world.ticket(expires_at=world.clock() + 0.1)
    waiter, seen = told_by(world, held)
    await waiter.open()
    world.clock.pass_(0.1)
    await until(lambda: len(seen) == 2)
    assert states(seen) == [WAITING, State.INVALID]
    assert nobody_waits(world)


async def test_a_scan_moves_the_end(world: World):
    held = await world.ticket(expires_at=world.clock() + 0.15)
    waiter, seen = told_by(world, held)
    await waiter.open()
    await world.scan(held, world.person())
    await until(lambda: len(seen) == 2)
    world.clock.pass_(1)
    await asyncio.sleep(0.3)  # past the first end
    assert states(seen) == [WAITING, CONFIRMED], "the login has a minute to be collected"
    assert seen[-1].expires_in == pytest.approx(60, abs=0.2)
    waiter.close()


async def test_a_confirmed_login_that_nobody_collects_ends(world: World):
    held = await world.confirmed(expires_at=world.clock() + 1)
    world.clock.pass_(59.9)
    waiter, seen = told_by(world, held)
    await waiter.open()
    world.clock.pass_(0.1)
    await until(lambda: len(seen) == 2)
    assert states(seen) == [CONFIRMED, State.INVALID]


async def test_a_store_that_goes_and_comes_back(world: World, monkeypatch):
    monkeypatch.setattr(watch, "RETRY_SECONDS", 0.02)
    behind_store, store = behind(world, Away)
    held = await world.ticket()
    waiter, seen = told_by(behind_store, held)
    await waiter.open()
    store.away = True
    await world.scan(held, world.person())
    await asyncio.sleep(0.1)
    assert states(seen) == [WAITING], "nothing is told that the store has not said"
    assert world.broker.waiting == 1
    store.away = False
    await until(lambda: len(seen) == 2)
    assert states(seen) == [WAITING, CONFIRMED]
    waiter.close()
    assert nobody_waits(world)


async def test_a_store_that_is_away_on_arrival(world: World):
    behind_store, store = behind(world, Away)
    store.away = True
    held = await world.ticket()
    waiter, seen = told_by(behind_store, held)
    with pytest.raises(StoreUnavailable):
        await waiter.open()
    with pytest.raises(StoreUnavailable):
        await poll(behind_store, held, None, 1)
    assert seen == []
    assert nobody_waits(world)


async def test_after_closing_nothing_is_told(world: World):
    behind_store, store = behind(world, Changing)
    held = await world.ticket()
    waiter, seen = told_by(behind_store, held)
    await waiter.open()

    async def close() -> None:
        waiter.close()

    store.after = [close]  # while the change is being read
    await world.scan(held, world.person())
    await asyncio.sleep(0.1)
    assert states(seen) == [WAITING]
    assert nobody_waits(world)


async def test_a_person_of_another_ticket_is_told_to_nobody(world: World):
    held = await world.ticket()
    waiter, seen = told_by(world, held, secret="another")
    await waiter.open()
    assert seen == [INVALID]
    await world.scan(held, world.person())
    await asyncio.sleep(0.05)
    assert seen == [INVALID]
    assert nobody_waits(world)


# --- the long poll ----------------------------------------------------------------------------------------


async def timed(waiting) -> tuple[View, float]:
    begun = time.monotonic()
    return await waiting, time.monotonic() - begun


async def test_another_state_than_the_one_named_is_answered_at_once(world: World):
    held = await world.confirmed()
    seen, seconds = await timed(poll(world, held, WAITING, 5))
    assert (seen.state, seen.user) == (CONFIRMED, await world.user())
    assert seconds < 1


async def test_a_state_that_no_ticket_has_is_another(world: World):
    held = await world.ticket()
    seen, seconds = await timed(poll(world, held, State.SCANNED, 5))
    assert seen.state is WAITING
    assert seconds < 1


@pytest.mark.parametrize("known", [WAITING, None])
async def test_a_change_is_answered_when_it_comes(world: World, known: State | None):
    held = await world.ticket()
    polls = [asyncio.create_task(poll(world, held, known, 5)) for _ in range(5)]
    await until(lambda: world.broker.waiting == 5)
    await asyncio.sleep(0.05)
    assert not any(waiting.done() for waiting in polls)
    await world.scan(held, world.person())
    assert {(await waiting).state for waiting in polls} == {CONFIRMED}
    assert nobody_waits(world)


@pytest.mark.parametrize("known", [WAITING, None])
async def test_no_change_is_answered_with_the_state_as_it_is(world: World, known: State | None):
    held = await world.ticket()
    seen, seconds = await timed(poll(world, held, known, 0.1))
    assert seen.state is WAITING
    assert 0.09 < seconds < 1
    assert nobody_waits(world)


async def test_a_poll_without_a_wait(world: World):
    held = await world.ticket()
    assert (await poll(world, held, None, 0)).state is WAITING
    assert (await poll(world, held, WAITING, 0)).state is WAITING


@pytest.mark.parametrize("known", [None, "same"])
@pytest.mark.parametrize("case", ["consumed", "cancelled", "expired", "unknown", "no secret"])
async def test_final_and_unknown_are_answered_at_once(world: World, case: str, known: str | None):
    held = await world.confirmed()
    expected = State.INVALID
    match case:
        case "consumed":
            await world.collect(held)
            expected = CONSUMED
        case "cancelled":
            await abandon(world.context, held.ticket.id, held.secret)
            expected = State.CANCELLED
        case "expired":
            world.clock.pass_(301)
        case "unknown":
            held = replace(held, ticket=replace(held.ticket, id="nobody"))
        case _:
            held = replace(held, secret="")
    seen, seconds = await timed(poll(world, held, expected if known else None, 5))
    assert seen.state is expected
    assert seconds < 1
    assert nobody_waits(world)


async def test_a_ticket_that_expires_during_the_poll(world: World):
    held = await world.ticket(expires_at=world.clock() + 0.1)
    polling = asyncio.create_task(timed(poll(world, held, WAITING, 5)))
    await until(lambda: world.broker.waiting)
    world.clock.pass_(0.1)
    seen, seconds = await polling
    assert seen == INVALID
    assert seconds < 1


async def test_whoever_goes_away_leaves_nothing(world: World):
    held = await world.ticket()
    polling = asyncio.create_task(poll(world, held, None, 5))
    await until(lambda: world.broker.waiting)
    polling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await polling
    assert nobody_waits(world)
