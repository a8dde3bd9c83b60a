"""The in-memory map of waiters."""

from __future__ import annotations

from functools import partial

from broker.local import LocalBroker


async def test_a_publication_wakes_all_who_wait_for_that_ticket():
    broker = LocalBroker()
    woken: list[str] = []
    for name in ("a", "b"):
        broker.subscribe("one", partial(woken.append, name))
    broker.subscribe("two", lambda: woken.append("two"))
    await broker.publish("one")
    assert woken == ["a", "b"]
    await broker.publish("three")
    assert woken == ["a", "b"]
    assert (broker.waiting, broker.tickets) == (3, 2)


async def test_nothing_is_left_when_the_last_has_gone():
    broker = LocalBroker()
    wakes = [(ticket, lambda: None) for ticket in ("one", "one", "two")]
    for ticket, wake in wakes:
        broker.subscribe(ticket, wake)
    for ticket, wake in wakes:
        broker.unsubscribe(ticket, wake)
        broker.unsubscribe(ticket, wake)  # again: no harm, and nobody else's
    assert (broker.waiting, broker.tickets) == (0, 0)


async def test_one_of_two_waits_of_the_same_waiter_ends():
    broker, woken = LocalBroker(), []

    def wake() -> None:
        woken.append(1)

    broker.subscribe("one", wake)
    broker.subscribe("one", wake)
    broker.unsubscribe("one", wake)
    await broker.publish("one")
    assert woken == [1]
    assert (broker.waiting, broker.tickets) == (1, 1)


async def test_who_has_gone_is_not_woken():
    broker, woken = LocalBroker(), []

    def wake() -> None:
        woken.append(1)

    broker.subscribe("one", wake)
    broker.unsubscribe("one", wake)
    await broker.publish("one")
    assert woken == []


async def test_waiters_may_come_and_go_while_they_are_woken():
    broker, woken = LocalBroker(), []

    def leaver() -> None:
        woken.append("leaver")
        broker.unsubscribe("one", leaver)

    broker.subscribe("one", leaver)
    broker.subscribe("one", lambda: woken.append("other"))
    await broker.publish("one")
    assert woken == ["leaver", "other"], "none is skipped"
    await broker.publish("one")
    assert woken == ["leaver", "other", "other"]
