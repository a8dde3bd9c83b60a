"""`check --online`: whether the account can do what a login needs, in plain words."""

from __future__ import annotations

import time

import pytest
from tornado.httpclient import AsyncHTTPClient

from emulator import Emulator
from emulator.platform import CALLBACK_IP, QRCODE_CREATE, STABLE_TOKEN
from tests.harness import new_account
from wechat import client
from wechat.account_check import try_account
from wechat.client import WechatClient


async def findings(emulator: Emulator, *, secret: str = "") -> list[tuple[bool, str]]:
    account = emulator.platform.account
    http = AsyncHTTPClient(force_instance=True)
    wechat = WechatClient(
        appid=account.appid,
        secret=secret or account.secret,
        api_base=emulator.base_url,
        stable=True,
        now=time.time,
        http=http,
    )
    try:
        return [(finding.fine, finding.words) async for finding in try_account(wechat)]
    finally:
        http.close()
        await emulator.stop()


async def test_an_account_that_can_do_all_of_it():
    emulator = Emulator.start(new_account())
    found = await findings(emulator)
    assert [fine for fine, _ in found] == [True, True, True]
    assert emulator.platform.calls == {STABLE_TOKEN: 1, CALLBACK_IP: 1, QRCODE_CREATE: 1}
    (code,) = emulator.platform.codes.values()
    assert code.scene.startswith("check"), "no login can come of it"


@pytest.mark.parametrize(
    ("path", "errcode", "subject", "advice"),
    [
        (STABLE_TOKEN, 40013, "access token", "wechat.appid"),
        (STABLE_TOKEN, 40125, "access token", "wechat.secret"),
        (STABLE_TOKEN, 40164, "access token", "IP白名单"),
        (CALLBACK_IP, 45009, "API", "quota"),
        (QRCODE_CREATE, 48001, "codes", "verified service account"),
    ],
)
async def test_the_first_thing_that_fails_ends_it(
    expect_log, path: str, errcode: int, subject: str, advice: str
):
    emulator = Emulator.start(new_account())
    emulator.platform.fail(path, errcode)
    expect_log(f"errcode {errcode}")
    *before, (fine, words) = await findings(emulator)
    assert all(fine for fine, _ in before)
    assert not fine
    assert words.startswith(f"{subject}: ")
    assert advice in words
    assert str(errcode) in words
    assert len(before) == (STABLE_TOKEN, CALLBACK_IP, QRCODE_CREATE).index(path)


async def test_a_wrong_secret_is_named_and_not_shown(expect_log):
    emulator = Emulator.start(new_account())
    expect_log("errcode 40125")
    ((fine, words),) = await findings(emulator, secret="canaryWrongSecret")
    assert not fine
    assert "canaryWrongSecret" not in words


async def test_a_platform_that_is_away(expect_log, monkeypatch):
    monkeypatch.setattr(client, "RETRY_PAUSES", (0.001, 0.001))
    emulator = Emulator.start(new_account())
    emulator.platform.down = True
    expect_log("did not answer")
    ((fine, words),) = await findings(emulator)
    assert (fine, words) == (False, "access token: WeChat's API did not answer.")
