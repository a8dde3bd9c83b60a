import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from emulator import Emulator, Platform
from tests.clock import Clock
from tests.emulator.server import Callback, account
from wechat.callback import Mode


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def platform(clock: Clock) -> Platform:
    return Platform(account(), base_url="http://127.0.0.1:1", now=clock, token=secrets.token_urlsafe)


@pytest.fixture
def mode() -> Mode:
    return Mode.SAFE


@pytest_asyncio.fixture
async def callback(mode: Mode) -> AsyncIterator[Callback]:
    callback = Callback(mode)
    yield callback
    await callback.stop()


@pytest_asyncio.fixture
async def emulator(callback: Callback, mode: Mode) -> AsyncIterator[Emulator]:
    emulator = Emulator.start(account(mode, callback.url))
    yield emulator
    await emulator.stop()
