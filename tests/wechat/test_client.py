"""The client against the emulated platform, over HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from emulator import Account, Emulator
from emulator.platform import CALLBACK_IP, QRCODE_CREATE, STABLE_TOKEN, TOKEN, USER_INFO
from tests.harness import new_account
from wechat import api, client
from wechat.api import PlatformError
from wechat.client import PlatformUnreachable, WechatClient

START = 1_800_000_000.0
CANARY = "canarySecret0123456789"


class Clock:
    def __init__(self) -> None:
        self.seconds = START

    def __call__(self) -> float:
        return self.seconds

    def pass_(self, seconds: float) -> None:
        self.seconds += seconds


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


Make = Callable[..., WechatClient]


@pytest.fixture
def make(emulator: Emulator, clock: Clock, http: AsyncHTTPClient) -> Make:
    account = emulator.platform.account

    def make(*, stable: bool = True, api_base: str = "", secret: str = CANARY) -> WechatClient:
        base = api_base or emulator.base_url
        return WechatClient(
            appid=account.appid, secret=secret, api_base=base, stable=stable, now=clock, http=http
        )

    return make


BOTH = pytest.mark.parametrize(("stable", "path"), [(True, STABLE_TOKEN), (False, TOKEN)])


# --- the access token -------------------------------------------------------------------------------------


@BOTH
async def test_fifty_calls_at_once_fetch_one_token(emulator: Emulator, make: Make, stable: bool, path: str):
    wechat = make(stable=stable)
    emulator.platform.delay(path, 0.05)
    codes = await asyncio.gather(*(wechat.create_code(f"scene-{n}", 60) for n in range(50)))
    assert len({code.ticket for code in codes}) == 50
    assert emulator.platform.calls[path] == 1
    assert emulator.platform.calls[QRCODE_CREATE] == wechat.calls[QRCODE_CREATE] == 50
    assert sum(emulator.platform.calls[other] for other in (STABLE_TOKEN, TOKEN)) == 1, "of one kind"


@BOTH
async def test_a_token_is_used_until_shortly_before_its_end(
    emulator: Emulator, make: Make, clock: Clock, stable: bool, path: str
):
    wechat = make(stable=stable)
    first = await wechat.token.get()
    assert wechat.token.expires_at == START + 7200
    clock.pass_(7200 - client.REFRESH_AHEAD - 1)
    assert await wechat.token.get() == first
    assert emulator.platform.calls[path] == 1
    clock.pass_(2)
    assert await wechat.token.get() != first
    assert emulator.platform.calls[path] == 2


@BOTH
@pytest.mark.parametrize("life", [1, 60, 299, 301])
async def test_a_short_lived_token_is_not_fetched_for_every_call(
    emulator: Emulator, make: Make, stable: bool, path: str, life: int
):
    emulator.platform.token_lifetime = life
    wechat = make(stable=stable)
    for _ in range(5):
        await wechat.token.get()
    assert emulator.platform.calls[path] == 1


@BOTH
@pytest.mark.parametrize(
    "spoil",
    [
        lambda platform, path: platform.fail(path, 40164),
        lambda platform, path: platform.fail(path, -1, times=3),
        lambda platform, path: platform.answer(path, b"<html>", 502, times=3),
        lambda platform, path: platform.answer(path, b"<html>"),
        lambda platform, path: platform.answer(path, b'{"access_token":"","expires_in":7200}'),
        lambda platform, path: platform.answer(path, b'{"access_token":"bad","expires_in":0}'),
        lambda platform, path: setattr(platform, "down", True),
    ],
    ids=["errcode", "busy", "502", "html", "empty token", "ended token", "down"],
)
async def test_a_refresh_ahead_of_the_end_that_fails_keeps_the_good_token(
    emulator: Emulator, make: Make, clock: Clock, expect_log, stable: bool, path: str, spoil
):
    wechat = make(stable=stable)
    first = await wechat.token.get()
    clock.pass_(7200 - client.REFRESH_AHEAD + 1)
    spoil(emulator.platform, path)
    expect_log(f"saoma.wechat: {path}: ")
    assert await wechat.token.get() == first
    asked = emulator.platform.calls[path]
    assert await wechat.token.get() == first
    assert emulator.platform.calls[path] == asked, "not asked again right away"
    emulator.platform.heal()
    clock.pass_(client.REFRESH_PAUSE)
    assert await wechat.token.get() != first


async def test_a_token_that_has_ended_is_not_used(emulator: Emulator, make: Make, clock: Clock, expect_log):
    wechat = make()
    await wechat.token.get()
    clock.pass_(7200)
    emulator.platform.fail(STABLE_TOKEN, 40164)
    expect_log("IP白名单")
    with pytest.raises(PlatformError):
        await wechat.token.get()
    assert emulator.platform.calls[STABLE_TOKEN] == 2
    with pytest.raises(PlatformError):
        await wechat.token.get()
    assert emulator.platform.calls[STABLE_TOKEN] == 2, "a failure is remembered for a moment"
    clock.pass_(client.REFRESH_PAUSE)
    assert await wechat.token.get()


async def test_many_who_wait_for_a_refresh_that_fails_are_all_told(
    emulator: Emulator, make: Make, expect_log
):
    wechat = make()
    emulator.platform.fail(STABLE_TOKEN, 40125)
    emulator.platform.delay(STABLE_TOKEN, 0.05)
    expect_log("AppSecret is wrong")
    outcomes = await asyncio.gather(*(wechat.token.get() for _ in range(20)), return_exceptions=True)
    assert [outcome.code for outcome in outcomes if isinstance(outcome, PlatformError)] == [40125] * 20
    assert emulator.platform.calls[STABLE_TOKEN] == 1


async def test_one_who_goes_away_takes_the_token_from_nobody(emulator: Emulator, make: Make):
    wechat = make()
    emulator.platform.delay(STABLE_TOKEN, 0.1)
    leaving, staying = asyncio.create_task(wechat.token.get()), asyncio.create_task(wechat.token.get())
    await asyncio.sleep(0.02)
    leaving.cancel()
    assert await staying
    assert emulator.platform.calls[STABLE_TOKEN] == 1


# --- a token that is refused ------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("errcode", sorted(api.TOKEN_REFUSED))
async def test_a_refused_token_is_fetched_once_and_the_call_repeated_once(
    emulator: Emulator, make: Make, expect_log, stable: bool, path: str, errcode: int
):
    wechat = make(stable=stable)
    await wechat.check_callback_addresses()
    emulator.platform.fail(QRCODE_CREATE, errcode)
    expect_log(f"errcode {errcode}")
    assert (await wechat.create_code("scene", 60)).ticket in emulator.platform.codes
    assert emulator.platform.calls[QRCODE_CREATE] == 2
    # The stable endpoint gives the same one again, and is then forced to give another.
    assert emulator.platform.calls[path] == (3 if stable else 2)


@BOTH
@pytest.mark.parametrize("order", ["expire_tokens", "revoke_tokens"])
async def test_a_token_that_the_platform_has_ended(
    emulator: Emulator, make: Make, expect_log, stable: bool, path: str, order: str
):
    wechat = make(stable=stable)
    await wechat.check_callback_addresses()
    getattr(emulator.platform, order)()
    expect_log("errcode 4[02]001")
    await asyncio.gather(*(wechat.check_callback_addresses() for _ in range(20)))
    assert emulator.platform.calls[path] == 2, "one refresh for all of them"
    assert emulator.platform.calls[CALLBACK_IP] == 1 + 2 * 20


@BOTH
async def test_a_token_that_is_refused_again_is_no_loop(
    emulator: Emulator, make: Make, expect_log, stable: bool, path: str
):
    wechat = make(stable=stable)
    emulator.platform.fail(QRCODE_CREATE, 40001, times=100)
    expect_log("errcode 40001")
    with pytest.raises(PlatformError) as error:
        await wechat.create_code("scene", 60)
    assert error.value.code == 40001
    assert emulator.platform.calls[QRCODE_CREATE] == 2


async def test_the_stable_endpoint_is_forced_at_most_once_a_minute(
    emulator: Emulator, make: Make, clock: Clock, expect_log, monkeypatch
):
    forced = []
    fetch = emulator.platform.fetch_stable_token

    def watched(grant_type: str, appid: str, secret: str, force: bool):
        forced.append(force)
        return fetch(grant_type, appid, secret, force)

    monkeypatch.setattr(emulator.platform, "fetch_stable_token", watched)
    wechat = make()
    emulator.platform.fail(QRCODE_CREATE, 40001, times=1000)
    expect_log("errcode 40001")
    for _ in range(30):
        with pytest.raises(PlatformError):
            await wechat.create_code("scene", 60)
        clock.pass_(1)
    assert forced.count(True) == 1
    clock.pass_(client.FORCE_PAUSE)
    with pytest.raises(PlatformError):
        await wechat.create_code("scene", 60)
    assert forced.count(True) == 2


async def test_ordinary_tokens_are_not_burnt_by_calls_that_are_always_refused(
    emulator: Emulator, make: Make, clock: Clock, expect_log
):
    """2,000 a day there are: whoever views pages must not be able to use them up (rule 9)."""
    wechat = make(stable=False)
    emulator.platform.fail(QRCODE_CREATE, 40001, times=1000)
    expect_log("errcode 40001")
    for _ in range(60):
        with pytest.raises(PlatformError):
            await wechat.create_code("scene", 60)
        clock.pass_(1)
    assert emulator.platform.calls[TOKEN] <= 3
    assert emulator.platform.calls[QRCODE_CREATE] <= 62, "nor is the same token tried a second time"


async def test_another_servers_ordinary_token_ends_ours_without_a_stop(
    emulator: Emulator, make: Make, clock: Clock, expect_log
):
    ours, theirs = make(stable=False), make(stable=False)
    await ours.check_callback_addresses()
    await theirs.check_callback_addresses()
    clock.pass_(301)
    expect_log("errcode 40001")
    await ours.check_callback_addresses()
    clock.pass_(301)
    await theirs.check_callback_addresses()


# --- what goes wrong --------------------------------------------------------------------------------------


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


# --- answers ----------------------------------------------------------------------------------------------


async def test_a_follower_as_the_platform_tells(emulator: Emulator, make: Make):
    wechat = make()
    stranger, blank, full, *_ = emulator.platform.people.values()
    assert not (await wechat.follower(stranger.openid)).following
    told = await wechat.follower(blank.openid)
    assert (told.following, told.nickname, told.unionid) == (True, "", "o6_bmasdasdsad6_2sgVt7hMZOPfL")
    told = await wechat.follower(full.openid)
    assert (told.nickname, told.city) == ("陈默", "深圳")
    assert told.picture == emulator.platform.picture_url(full)


async def test_a_code_has_the_life_and_the_scene_that_were_asked_for(
    emulator: Emulator, make: Make, clock: Clock
):
    scene = secrets.token_urlsafe(18)
    code = await make().create_code(scene, 300.9)
    known = emulator.platform.codes[code.ticket]
    assert (known.scene, known.url, known.expires_at) == (scene, code.url, START + 300)


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
