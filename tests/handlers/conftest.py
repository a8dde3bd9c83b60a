"""A server for the tests of the handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.harness import Whole, running


@pytest.fixture
async def whole(tmp_path) -> AsyncIterator[Whole]:
    """With the default settings, in safe mode, on loopback; a small pool of codes is filled sooner."""
    async with running(tmp_path, wechat={"pool_size": 3}) as whole:
        yield whole
