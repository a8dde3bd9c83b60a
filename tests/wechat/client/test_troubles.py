"""What goes wrong at the platform, and what is told of it: never a secret."""

from __future__ import annotations

import asyncio
import json
import logging
import socket

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from emulator import Emulator
from emulator.platform import CALLBACK_IP, QRCODE_CREATE, STABLE_TOKEN, TOKEN, USER_INFO
from tests.clock import Clock
from tests.wechat.client.calling import BOTH, CANARY, Make
from wechat import api, client
from wechat.api import PlatformError
from wechat.client import PlatformUnreachable


async def test_busy_is_tried_again_and_then_fine(emulator: Emulator, make: Make, expect_log):
    wechat = make()
    emulator.platform.fail(QRCODE_CREATE, -1, times=2)
    expect_log("WeChat is busy")
    assert await wechat.create_code("scene", 60)
    assert emulator.platform.calls[QRCODE_CREATE] == 3
    assert wechat.troubles == {}, "over, once a call succeeds"


async def test_busy_is_given_up_after_three_tries(emulator: Emulator, make: Make, expect_log, monkeypatch):
    pauses = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    wechat = make()
    await wechat.token.get()
    emulator.platform.fail(QRCODE_CREATE, -1, times=99)
    expect_log("WeChat is busy")
    monkeypatch.setattr(client, "RETRY_PAUSES", (0.2, 0.8))
    monkeypatch.setattr(asyncio, "sleep", noted)
    with pytest.raises(PlatformError) as error:
        await wechat.create_code("scene", 60)
    assert error.value.code == api.BUSY
    assert emulator.platform.calls[QRCODE_CREATE] == 3
    ours = [pause for pause in pauses if pause > 0]  # the emulator sleeps too, for no time
    assert len(ours) == 2
    assert 0.1 <= ours[0] <= 0.3, "and not all servers at the same moment"
    assert 0.4 <= ours[1] <= 1.2


@pytest.mark.parametrize("errcode", [40003, 40013, 40164, 45011, 48001])
async def test_other_errors_are_not_tried_again(emulator: Emulator, make: Make, expect_log, errcode: int):
    wechat = make()
    emulator.platform.fail(USER_INFO, errcode, times=99)
    expect_log(f"{USER_INFO}: .*errcode {errcode}")
    with pytest.raises(PlatformError) as error:
        await wechat.follower("oX")
    assert error.value.code == errcode
    assert emulator.platform.calls[USER_INFO] == 1
    assert wechat.troubles[USER_INFO].words == error.value.plain_words


async def test_a_used_up_quota_stops_that_call_alone(
    emulator: Emulator, make: Make, clock: Clock, expect_log
):
    wechat = make()
    emulator.platform.fail(QRCODE_CREATE, 45009)
    expect_log(f"{QRCODE_CREATE}: The daily quota of this call is used up")
    for _ in range(5):
        with pytest.raises(PlatformError) as error:
            await wechat.create_code("scene", 60)
        assert error.value.code == api.QUOTA_USED_UP
    assert emulator.platform.calls[QRCODE_CREATE] == 1
    await wechat.check_callback_addresses()
    clock.pass_(client.QUOTA_PAUSE)
    assert await wechat.create_code("scene", 60)


@BOTH
async def test_a_used_up_quota_of_tokens_stops_asking_for_them(
    emulator: Emulator, make: Make, clock: Clock, expect_log, stable: bool, path: str
):
    wechat = make(stable=stable)
    emulator.platform.fail(path, 45009)
    expect_log(f"{path}: The daily quota of this call is used up")
    for _ in range(5):
        with pytest.raises(PlatformError) as error:
            await wechat.create_code("scene", 60)
        assert error.value.code == api.QUOTA_USED_UP
        clock.pass_(client.REFRESH_PAUSE + 1)
    assert emulator.platform.calls[path] == 1
    clock.pass_(client.QUOTA_PAUSE)
    assert await wechat.create_code("scene", 60)


async def test_no_answer_in_time(emulator: Emulator, make: Make, expect_log, monkeypatch):
    wechat = make()
    await wechat.token.get()
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.05)
    emulator.platform.delay(USER_INFO, 0.3, times=3)
    expect_log("WeChat's API did not answer")
    with pytest.raises(PlatformUnreachable):
        await wechat.follower("oX")
    assert emulator.platform.calls[USER_INFO] == 3
    await asyncio.sleep(0.3)  # until the emulator has given up on its late answers


async def test_a_late_first_answer_is_made_good_by_the_second(
    emulator: Emulator, make: Make, expect_log, monkeypatch
):
    wechat = make()
    await wechat.token.get()
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
    emulator.platform.delay(QRCODE_CREATE, 0.4)
    expect_log("WeChat's API did not answer")
    assert await wechat.create_code("scene", 60)
    await asyncio.sleep(0.25)


async def test_nobody_listens(make: Make, expect_log):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        wechat = make(api_base=f"http://127.0.0.1:{unused.getsockname()[1]}")
        expect_log("did not answer. .ConnectionRefusedError")
        with pytest.raises(PlatformUnreachable):
            await wechat.check_callback_addresses()


@pytest.mark.parametrize("status", [400, 404, 500, 502, 503])
async def test_another_status_is_no_answer(emulator: Emulator, make: Make, expect_log, status: int):
    wechat = make()
    emulator.platform.answer(CALLBACK_IP, b'{"errcode":0,"ip_list":[]}', status, times=3)
    expect_log(f"HTTP status {status}")
    with pytest.raises(PlatformUnreachable):
        await wechat.check_callback_addresses()
    assert emulator.platform.calls[CALLBACK_IP] == 3


async def test_a_redirect_is_not_followed(make: Make, emulator: Emulator, expect_log):
    seen: list[str] = []

    class Redirect(RequestHandler):
        def prepare(self) -> None:
            seen.append(self.request.uri or "")
            if self.request.path != "/elsewhere":
                self.redirect("/elsewhere", status=307)

    sockets = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([("/.*", Redirect)], log_function=lambda _: None))
    server.add_sockets(sockets)
    wechat = make(api_base=f"http://127.0.0.1:{sockets[0].getsockname()[1]}")
    expect_log("HTTP status 307")
    with pytest.raises(PlatformUnreachable):
        await wechat.token.get()
    assert seen == [STABLE_TOKEN] * 3
    server.stop()
    await server.close_all_connections()


async def test_the_same_trouble_is_told_once_in_a_while(
    emulator: Emulator, make: Make, clock: Clock, expect_log, caplog
):
    wechat = make()
    emulator.platform.fail(USER_INFO, 48001, times=99)
    expect_log("errcode 48001")

    async def told() -> int:
        with pytest.raises(PlatformError):
            await wechat.follower("oX")
        return sum("48001" in record.getMessage() for record in caplog.records)

    assert [await told() for _ in range(3)] == [1, 1, 1]
    clock.pass_(client.REPORT_PAUSE)
    assert await told() == 2


# --- what is told to nobody -------------------------------------------------------------------------------


async def test_secrets_and_tokens_are_in_no_log_line(
    emulator: Emulator, make: Make, clock: Clock, expect_log, caplog, monkeypatch
):
    caplog.set_level(logging.DEBUG)
    expect_log("saoma.wechat")
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.05)
    platform = emulator.platform
    tokens = []
    for stable, path in ((True, STABLE_TOKEN), (False, TOKEN)):
        wechat = make(stable=stable)
        tokens.append(await wechat.token.get())

        async def spoil(call=USER_INFO, wechat=wechat) -> None:
            with pytest.raises((PlatformError, PlatformUnreachable)) as error:
                await wechat.follower("oX")
            assert not any(secret in repr(error.value) for secret in (CANARY, *tokens))

        platform.fail(USER_INFO, 40001, times=2)
        await spoil()
        tokens.append(await wechat.token.get())
        for order in (
            lambda: platform.answer(USER_INFO, b"no", 500, times=3),
            lambda: platform.answer(USER_INFO, b"no JSON"),
            lambda: platform.delay(USER_INFO, 0.2, times=3),
            lambda: setattr(platform, "down", True),
        ):
            order()
            await spoil()
            platform.heal()
        clock.pass_(7201)
        platform.fail(path, 40125)
        await spoil()
        clock.pass_(client.FORCE_PAUSE)
        platform.answer(path, json.dumps({"access_token": "x"}).encode())
        await spoil()
        clock.pass_(client.FORCE_PAUSE)
        platform.down = True
        await spoil()
        platform.heal()
    lines = "\n".join(record.getMessage() + (record.exc_text or "") for record in caplog.records)
    assert "saoma.wechat" in {record.name for record in caplog.records}
    for secret in (CANARY, *tokens):
        assert secret not in lines
    await asyncio.sleep(0.2)


async def test_what_a_platform_repeats_of_our_secrets_is_not_logged(
    emulator: Emulator, make: Make, expect_log, caplog
):
    wechat = make()
    token = await wechat.token.get()
    told = {"errcode": 40099, "errmsg": f"odd token {token} of {CANARY}"}
    emulator.platform.answer(USER_INFO, json.dumps(told).encode())
    expect_log("errcode 40099")
    with pytest.raises(PlatformError) as error:
        await wechat.follower("oX")
    for shown in (caplog.text, str(error.value), error.value.plain_words, repr(wechat.troubles)):
        assert token not in shown
        assert CANARY not in shown


async def test_a_clock_that_is_set_back_prolongs_no_pause(
    emulator: Emulator, make: Make, clock: Clock, expect_log
):
    wechat = make()
    emulator.platform.fail(STABLE_TOKEN, 40164)
    expect_log("IP白名单")
    with pytest.raises(PlatformError):
        await wechat.token.get()
    clock.pass_(-3600)
    token = await wechat.token.get()
    emulator.platform.fail(QRCODE_CREATE, 45009)
    expect_log("The daily quota of this call is used up")
    with pytest.raises(PlatformError):
        await wechat.create_code("scene", 60)
    clock.pass_(-3600)
    assert await wechat.create_code("scene", 60)
    emulator.platform.revoke_tokens()
    expect_log("40001")
    await wechat.check_callback_addresses()
    assert (other := await wechat.token.get()) != token, "one that is refused is replaced"
    clock.pass_(-3600)
    emulator.platform.revoke_tokens()
    await wechat.check_callback_addresses()
    assert await wechat.token.get() != other
