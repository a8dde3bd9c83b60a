"""The `store` of the suite, once for each driver."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.storage.drivers import FOR_TICKETS, WHOLE, Open, Store


@pytest.fixture(params=sorted(WHOLE, reverse=True))
def opener(request: pytest.FixtureRequest) -> Open:
    return WHOLE[request.param](request)


@pytest.fixture
async def store(opener: Open) -> AsyncIterator[Store]:
    """A new store of each driver that stores everything."""
    store = Store(opener, await opener())
    yield store
    await store.storage.close()


@pytest.fixture(params=sorted(FOR_TICKETS, reverse=True))
def ticket_opener(request: pytest.FixtureRequest) -> Open:
    return FOR_TICKETS[request.param](request)


@pytest.fixture
async def ticket_store(ticket_opener: Open) -> AsyncIterator[Store]:
    """A new store of each driver that stores tickets; nothing else of it may be used."""
    store = Store(ticket_opener, await ticket_opener())
    yield store
    await store.storage.close()
