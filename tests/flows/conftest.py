from collections.abc import AsyncIterator

import pytest_asyncio

from tests.flows.world import World, made


@pytest_asyncio.fixture
async def world(tmp_path) -> AsyncIterator[World]:
    async with made(tmp_path) as world:
        yield world
