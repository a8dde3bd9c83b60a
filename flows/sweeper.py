"""Deletes what has expired; nothing depends on it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from flows.context import Context

PAUSE_SECONDS = 300.0
TRUSTED_AFTER = 24  # sweeps: a clock that was set forward is believed after two hours
JUMP_SECONDS = 60.0  # by which a clock must have been moved to be worth a line in the log

log = logging.getLogger("saoma")


class Sweeper:
    """A clock that is an hour ahead for a while must delete nothing that is alive by the right one.

    So what counts is the earliest that the clock has said lately, by its distance to one that nobody moves.
    """

    def __init__(self, context: Context, steady: Callable[[], float]) -> None:
        """`steady` gives seconds since whenever."""
        self._context = context
        self._steady = steady
        self._distances: deque[float] = deque(maxlen=TRUSTED_AFTER)

    async def sweep(self) -> None:
        """To be called every PAUSE_SECONDS. Raises StoreUnavailable."""
        steady = self._steady()
        distance = self._context.now() - steady
        moved = distance - self._distances[-1] if self._distances else 0.0
        if abs(moved) > JUMP_SECONDS:
            log.warning("the clock was moved by %+.0f seconds", moved)
        self._distances.append(distance)
        await self._context.storage.sweep(now=steady + min(self._distances))
