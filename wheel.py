"""One timer for many waits: each comes to its end within a tick of its time."""

from __future__ import annotations

import asyncio
from typing import Protocol

TICK_SECONDS = 0.25


class Timed(Protocol):
    def due(self) -> None:
        """Its time has come. Called by the loop; must not raise."""


class Wheel:
    """Waits by the tick in which they end. Belongs to the running loop; nothing runs while nobody waits."""

    def __init__(self, tick: float = TICK_SECONDS) -> None:
        self._loop = asyncio.get_running_loop()
        self._tick = tick
        self._slots: dict[int, set[Timed]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, wait: Timed, seconds: float) -> int:
        """Calls `wait.due()` after that long, at most a tick later; returns the slot for `discard`."""
        slot = int((self._loop.time() + max(0.0, seconds)) / self._tick) + 1
        self._slots.setdefault(slot, set()).add(wait)
        if self._timer is None:
            self._turn_at(slot)
        elif slot * self._tick < self._timer.when():
            self._timer.cancel()
            self._turn_at(slot)
        return slot

    def discard(self, wait: Timed, slot: int) -> None:
        """Forgets a wait that `add` put into the slot, if it has not come to its end."""
        waits = self._slots.get(slot)
        if waits is not None:
            waits.discard(wait)

    def _turn_at(self, slot: int) -> None:
        self._timer = self._loop.call_at(slot * self._tick, self._turn)

    def _turn(self) -> None:
        now = int(self._loop.time() / self._tick)
        for slot in sorted(slot for slot in self._slots if slot <= now):
            for wait in self._slots.pop(slot):
                wait.due()
        self._timer = None
        if self._slots:
            self._turn_at(min(self._slots))
