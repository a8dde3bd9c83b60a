"""The whole is tested in the same Chromium as the pages."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from emulator import Emulator
from tests.harness import new_account
from tests.pages.conftest import browser, chromium

__all__ = ["browser", "chromium"]


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """A platform that goes on while servers of its account come and go."""
    emulator = Emulator.start(new_account(), timeout=3.0)
    try:
        yield emulator
    finally:
        await emulator.stop()
