"""One timer for many waits."""

from __future__ import annotations

import asyncio

import pytest

from wheel import TICK_SECONDS, Wheel


class Wait:
    def __init__(self) -> None:
        self.due_at: list[float] = []

    def due(self) -> None:
        self.due_at.append(asyncio.get_running_loop().time())


async def until_due(*waits: Wait) -> None:
    async with asyncio.timeout(10):
        while not all(wait.due_at for wait in waits):
            await asyncio.sleep(0.01)


async def test_none_is_due_before_its_time_and_all_are_due_once():
    wheel, began = Wheel(tick=0.05), asyncio.get_running_loop().time()
    waits = {seconds: Wait() for seconds in (0.3, 0.0, 0.1, 0.2, -1.0)}
    for seconds, wait in waits.items():
        wheel.add(wait, seconds)
    await until_due(*waits.values())
    await asyncio.sleep(0.1)
    for seconds, wait in waits.items():
        assert len(wait.due_at) == 1
        assert wait.due_at[0] - began >= max(0.0, seconds) - 0.001
    firsts = [waits[seconds].due_at[0] for seconds in (0.0, 0.1, 0.2, 0.3)]
    assert firsts == sorted(firsts)


async def test_one_that_comes_later_and_is_due_sooner_is_not_kept_waiting():
    wheel, late, soon = Wheel(tick=0.05), Wait(), Wait()
    wheel.add(late, 60)
    wheel.add(soon, 0.05)
    await until_due(soon)
    assert not late.due_at


async def test_what_was_discarded_is_never_due():
    wheel, gone, there = Wheel(tick=0.05), Wait(), Wait()
    slot = wheel.add(gone, 0.1)
    wheel.add(there, 0.1)
    wheel.discard(gone, slot)
    wheel.discard(gone, slot)
    wheel.discard(gone, slot + 99)
    await until_due(there)
    assert not gone.due_at


async def test_a_wait_may_add_and_discard_others_while_it_is_due():
    wheel = Wheel(tick=0.05)
    again, other = Wait(), Wait()

    class Adds(Wait):
        def due(self) -> None:
            super().due()
            wheel.add(again, 0.0)
            wheel.discard(other, other_slot)

    first = Adds()
    wheel.add(first, 0.05)
    other_slot = wheel.add(other, 0.3)
    await until_due(first, again)
    await asyncio.sleep(0.4)
    assert not other.due_at


async def test_nothing_runs_while_nobody_waits():
    loop, wheel, wait = asyncio.get_running_loop(), Wheel(tick=0.02), Wait()
    wheel.add(wait, 0.02)
    await until_due(wait)
    assert wheel._timer is None
    assert loop.time() > 0
    wheel.add(again := Wait(), 0.02)
    await until_due(again)


async def test_thousands_cost_one_timer(monkeypatch: pytest.MonkeyPatch):
    loop, timers = asyncio.get_running_loop(), 0
    call_at = loop.call_at

    def counted(*arguments, **named):
        nonlocal timers
        timers += 1
        return call_at(*arguments, **named)

    monkeypatch.setattr(loop, "call_at", counted)
    wheel = Wheel()
    for number in range(5000):
        wheel.add(Wait(), 100 + number / 100)
    assert timers == 1
    assert TICK_SECONDS < 1
