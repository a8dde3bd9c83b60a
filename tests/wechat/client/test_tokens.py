"""The access token: fetched once for all, ahead of its end, and anew when it is refused."""

from __future__ import annotations

import asyncio

import pytest

from emulator import Emulator
from emulator.platform import CALLBACK_IP, QRCODE_CREATE, STABLE_TOKEN, TOKEN
from tests.clock import START, Clock
from tests.wechat.client.calling import BOTH, Make
from wechat import api, client
from wechat.api import PlatformError


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
