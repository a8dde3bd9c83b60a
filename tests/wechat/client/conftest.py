"""A platform, and clients of it whose pauses are short."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tornado.httpclient import AsyncHTTPClient

from emulator import Account, Emulator
from tests.clock import Clock
from tests.harness import new_account
from tests.wechat.client.calling import CANARY, Make
from wechat import client
from wechat.client import WechatClient


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_PAUSES", (0.001, 0.002))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def emulator(clock: Clock) -> AsyncIterator[Emulator]:
    known = new_account()
    account = Account(
        known.appid, CANARY, known.token, known.encoding_aes_key, known.mode, "http://127.0.0.1:9/"
    )
    emulator = Emulator.start(account, now=clock)
    yield emulator
    await emulator.stop()


@pytest_asyncio.fixture
async def http() -> AsyncIterator[AsyncHTTPClient]:
    http = AsyncHTTPClient(force_instance=True, max_clients=100)
    yield http
    http.close()


@pytest.fixture
def make(emulator: Emulator, clock: Clock, http: AsyncHTTPClient) -> Make:
    account = emulator.platform.account

    def make(*, stable: bool = True, api_base: str = "", secret: str = CANARY) -> WechatClient:
        base = api_base or emulator.base_url
        return WechatClient(
            appid=account.appid, secret=secret, api_base=base, stable=stable, now=clock, http=http
        )

    return make
