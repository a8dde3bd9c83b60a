"""A world with sites that listen, in which time passes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.app.keys import ISSUER, SECRET
from tests.clock import Clock
from tests.flows.announcements.told import LOGS_OUT, SHOP
from tests.flows.world import World, made


@pytest.fixture(autouse=True)
def a_clock_that_ticks(monkeypatch) -> None:
    """No two things happen at the same time, as in life."""

    def tick(clock: Clock) -> float:
        clock.seconds += 1e-5
        return clock.seconds

    monkeypatch.setattr(Clock, "__call__", tick)


@pytest.fixture
async def world(tmp_path) -> AsyncIterator[World]:
    async with made(tmp_path, sites=[SHOP, LOGS_OUT], app={"issuer": ISSUER, "key": SECRET}) as world:
        yield world
