"""The in-memory map of waiters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from broker.local import LocalBroker


async def test_a_publication_wakes_all_who_wait_for_that_ticket():
    broker = LocalBroker()
    woken: list[str] = []
    for name in ("a", "b"):
        await broker.subscribe("one", partial(woken.append, name))
    await broker.subscribe("two", lambda: woken.append("two"))
    await broker.publish("one")
    assert woken == ["a", "b"]
    await broker.publish("three")
    assert woken == ["a", "b"]
    assert (broker.waiting, broker.tickets) == (3, 2)


async def test_nothing_is_left_when_the_last_has_gone():
    broker = LocalBroker()
    ends = [await broker.subscribe(ticket, lambda: None) for ticket in ("one", "one", "two")]
    for end in ends:
        end()
        end()  # again: no harm, and nobody else's
    assert (broker.waiting, broker.tickets) == (0, 0)


async def test_ending_twice_ends_nobody_elses_wait():
    broker, woken = LocalBroker(), []

    def wake() -> None:
        woken.append(1)

    first = await broker.subscribe("one", wake)
    await broker.subscribe("one", wake)
    first()
    first()
    await broker.publish("one")
    assert woken == [1]
    assert (broker.waiting, broker.tickets) == (1, 1)


async def test_who_has_gone_is_not_woken():
    broker, woken = LocalBroker(), []
    end = await broker.subscribe("one", lambda: woken.append(1))
    end()
    await broker.publish("one")
    assert woken == []


async def test_waiters_may_come_and_go_while_they_are_woken():
    broker, woken = LocalBroker(), []
    ends: dict[str, Callable[[], None]] = {}

    def leaver() -> None:
        woken.append("leaver")
        ends["leaver"]()

    ends["leaver"] = await broker.subscribe("one", leaver)
    ends["other"] = await broker.subscribe("one", lambda: woken.append("other"))
    await broker.publish("one")
    assert woken == ["leaver", "other"], "none is skipped"
    await broker.publish("one")
    assert woken == ["leaver", "other", "other"]
