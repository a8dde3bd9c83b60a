"""A server for the tests of the handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.harness import Whole, running


@pytest.fixture
async def whole(tmp_path) -> AsyncIterator[Whole]:
    """With the default settings, in safe mode, on loopback."""
    async with running(tmp_path) as whole:
        yield whole
