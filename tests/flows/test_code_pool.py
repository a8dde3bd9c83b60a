"""Codes made ahead, against the emulated platform."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from tornado.httpclient import AsyncHTTPClient

from emulator import Emulator
from emulator.platform import QRCODE_CREATE
from errors import MethodUnavailable
from flows import code_pool
from flows.code_pool import CodePool, NoCodeReady
from storage.shared import LocalShared
from tests.clock import Clock
from tests.flows.world import until
from tests.harness import new_account
from wechat import client
from wechat.client import WechatClient

AGE, LIFE = 1800, 360


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def emulator(clock: Clock) -> AsyncIterator[Emulator]:
    emulator = Emulator.start(new_account(), now=clock)
    yield emulator
    await emulator.stop()


Make = Callable[..., CodePool]


async def filled(pool: CodePool, size: int) -> None:
    async def full() -> bool:
        return await pool.ready() == size

    await until(full)


def waiting_ids(pool: CodePool) -> set[str]:
    """Of the codes in the pool, which lies in this process."""
    assert isinstance(pool._shared, LocalShared)
    return {json.loads(entry)["id"] for entry in pool._shared._queues[code_pool.QUEUE]}


@pytest_asyncio.fixture
async def make(emulator: Emulator, clock: Clock) -> AsyncIterator[Make]:
    http = AsyncHTTPClient(force_instance=True, max_clients=100)
    account = emulator.platform.account
    wechat = WechatClient(
        appid=account.appid,
        secret=account.secret,
        api_base=emulator.base_url,
        stable=True,
        now=clock,
        http=http,
    )
    pools = []

    def make(size: int = 5, *, budget: int | None = None) -> CodePool:
        pool = CodePool(
            wechat,
            size=size,
            max_age=AGE,
            code_life=LIFE,
            daily_budget=budget,
            now=clock,
            token=secrets.token_urlsafe,
        )
        pools.append(pool)
        pool.start()
        return pool

    yield make
    for pool in pools:
        await pool.stop()
    http.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_PAUSES", (0.001, 0.001))
    monkeypatch.setattr(code_pool, "FIRST_PAUSE", 0.02)


async def test_the_pool_fills_and_a_page_does_not_wait_for_wechat(emulator: Emulator, make: Make):
    pool = make(6)
    await filled(pool, 6)
    assert emulator.platform.calls[QRCODE_CREATE] == 6
    emulator.platform.delay(QRCODE_CREATE, 1.0, times=100)
    begun = time.monotonic()
    taken = [await pool.take() for _ in range(6)]
    assert time.monotonic() - begun < 0.5
    assert len({code.id for code in taken}) == 6
    assert all(emulator.platform.codes[code.ticket].scene == code.id for code in taken)
    assert all(emulator.platform.codes[code.ticket].url == code.url for code in taken)


async def test_an_entry_leaves_once_however_many_ask(emulator: Emulator, make: Make):
    pool = make(10)
    await filled(pool, 10)
    taken = await asyncio.gather(*(pool.take() for _ in range(30)))
    assert len({code.id for code in taken}) == len({code.ticket for code in taken}) == 30
    await filled(pool, 10)
    assert not waiting_ids(pool) & {code.id for code in taken}


async def test_a_code_lives_as_long_as_it_may_wait_and_its_ticket_may_live(
    emulator: Emulator, make: Make, clock: Clock
):
    pool = make(1)
    await filled(pool, 1)
    made_at = clock()
    clock.pass_(AGE - 1)
    taken = await pool.take()
    code = emulator.platform.codes[taken.ticket]
    assert taken.made_at == made_at
    assert code.expires_at == made_at + AGE + LIFE
    assert code.expires_at - clock() >= LIFE, "enough for the ticket, however late it leaves"


async def test_an_id_has_at_least_128_random_bits_and_fits_a_scene(make: Make):
    pool = make(1)
    taken = await pool.take()
    assert len(taken.id) == 24
    assert code_pool.ID_BYTES * 8 >= 128


async def test_old_codes_are_dropped(emulator: Emulator, make: Make, clock: Clock):
    pool = make(3)
    await filled(pool, 3)
    old = waiting_ids(pool)
    clock.pass_(AGE)
    assert (await pool.take()).id not in old
    await filled(pool, 3)
    assert not waiting_ids(pool) & old


async def test_the_filler_sees_to_old_codes_without_anybody_asking(make: Make, clock: Clock, monkeypatch):
    monkeypatch.setattr(code_pool, "LOOK_SECONDS", 0.05)
    pool = make(2)
    await filled(pool, 2)
    old = waiting_ids(pool)
    clock.pass_(AGE)
    await until(lambda: len(waiting_ids(pool)) == 2 and not waiting_ids(pool) & old)


async def test_no_pool_makes_each_code_on_the_spot(emulator: Emulator, make: Make):
    pool = make(0)
    await asyncio.sleep(0.05)
    assert emulator.platform.calls[QRCODE_CREATE] == 0
    await pool.take()
    assert emulator.platform.calls[QRCODE_CREATE] == 1


async def test_an_empty_pool_waits_for_a_while_and_then_says_so(emulator: Emulator, make: Make, monkeypatch):
    assert code_pool.EMPTY_POOL_SECONDS == 3
    monkeypatch.setattr(code_pool, "EMPTY_POOL_SECONDS", 0.1)
    pool = make(0)
    emulator.platform.delay(QRCODE_CREATE, 0.5)
    begun = time.monotonic()
    with pytest.raises(MethodUnavailable) as error:
        await pool.take()
    assert time.monotonic() - begun > 0.08
    assert error.value.status == 503
    assert await pool.take()
    await asyncio.sleep(0.5)


async def test_those_who_queue_at_an_empty_pool_are_told_in_time_too(
    emulator: Emulator, make: Make, monkeypatch
):
    pool = make(0)
    await pool.take()
    monkeypatch.setattr(code_pool, "EMPTY_POOL_SECONDS", 0.4)
    emulator.platform.delay(QRCODE_CREATE, 2.0, times=100)
    asking = asyncio.gather(*(pool.take() for _ in range(20)), return_exceptions=True)
    outcomes = await asking  # before WeChat has answered anybody
    assert emulator.platform.calls[QRCODE_CREATE] == 1 + code_pool.MAX_PARALLEL, "WeChat is not flooded"
    assert {type(outcome) for outcome in outcomes} == {MethodUnavailable}
    await asyncio.sleep(0.6)


@pytest.mark.parametrize("errcode", [48001, 45009, -1])
async def test_what_wechat_refuses_is_not_available(emulator: Emulator, make: Make, expect_log, errcode):
    pool = make(0)
    emulator.platform.fail(QRCODE_CREATE, errcode, times=3)
    expect_log(f"errcode {errcode}")
    with pytest.raises(MethodUnavailable) as error:
        await pool.take()
    assert "WeChat gives no code" in error.value.message
    assert str(errcode) not in error.value.message


async def test_the_days_budget(emulator: Emulator, make: Make, clock: Clock):
    pool = make(0, budget=100)
    for _ in range(10):  # a tenth of it may go at once
        await pool.take()
    asked = emulator.platform.calls[QRCODE_CREATE]
    for _ in range(50):
        with pytest.raises(MethodUnavailable):
            await pool.take()
    assert emulator.platform.calls[QRCODE_CREATE] == asked == 10, "not one call more"
    clock.pass_(864)
    await pool.take()
    with pytest.raises(MethodUnavailable):
        await pool.take()


async def test_the_filler_keeps_to_the_budget(emulator: Emulator, make: Make, clock: Clock):
    pool = make(20, budget=50)
    await filled(pool, 5)
    await asyncio.sleep(0.1)
    assert emulator.platform.calls[QRCODE_CREATE] == 5
    clock.pass_(86400 * 0.04)
    # Codes made at the start are too old by now; what came back makes two new ones.
    await until(lambda: emulator.platform.calls[QRCODE_CREATE] == 7)


async def test_a_day_of_page_views_cannot_use_up_wechats_quota(emulator: Emulator, make: Make, clock: Clock):
    pool = make(0, budget=100)
    given_out = 0
    for _ in range(24 * 12):
        clock.pass_(300)
        for _ in range(3):
            try:
                await pool.take()
                given_out += 1
            except MethodUnavailable:
                break
    assert given_out <= 110
    assert given_out >= 100


async def test_after_failures_the_pauses_grow_and_success_ends_them(
    emulator: Emulator, make: Make, expect_log, monkeypatch
):
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        if seconds >= 1:
            pauses.append(seconds)
        await sleep(0.001)

    monkeypatch.setattr(code_pool, "FIRST_PAUSE", 1.0)
    monkeypatch.setattr(asyncio, "sleep", noted)
    expect_log("errcode 48001")
    emulator.platform.fail(QRCODE_CREATE, 48001, times=10**4)
    pool = make(1)
    await until(lambda: len(pauses) >= 9)
    assert pauses[:9] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    emulator.platform.heal()
    await filled(pool, 1)
    pauses.clear()
    emulator.platform.fail(QRCODE_CREATE, 48001)
    await pool.take()
    await filled(pool, 1)
    assert pauses == [1]


async def test_the_pool_recovers_by_itself(emulator: Emulator, make: Make, expect_log):
    emulator.platform.down = True
    expect_log("did not answer")
    pool = make(3)
    await asyncio.sleep(0.1)
    assert await pool.ready() == 0
    emulator.platform.heal()
    client_pause = client.REFRESH_PAUSE
    assert client_pause
    # The token's failure is remembered for a moment of the clock's.
    pool._now.pass_(client_pause)  # type: ignore[attr-defined]
    await filled(pool, 3)


async def test_a_fault_of_ours_is_logged_and_does_not_end_the_filling(make: Make, expect_log, monkeypatch):
    tries = []

    async def broken(scene, seconds):
        tries.append(scene)
        raise RuntimeError("a bug")

    pool = make(1)
    await filled(pool, 1)
    create = pool._client.create_code
    monkeypatch.setattr(pool._client, "create_code", broken)
    expect_log("the pool of codes could not be filled")
    await pool.take()
    await until(lambda: len(tries) >= 2)
    monkeypatch.setattr(pool._client, "create_code", create)
    await filled(pool, 1)


@pytest.mark.parametrize("steps", range(6))
async def test_stopping_right_after_a_page_view(make: Make, steps: int):
    """asyncio.wait_for of Python 3.11 forgets a cancellation that comes together with the event."""
    pool = make(1)
    await filled(pool, 1)
    await asyncio.sleep(0.02)
    pool._wanted.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    async with asyncio.timeout(2):
        await pool.stop()


async def test_a_request_that_nobody_waits_for_any_more_is_no_error(
    emulator: Emulator, make: Make, monkeypatch
):
    monkeypatch.setattr(code_pool, "EMPTY_POOL_SECONDS", 0.05)
    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.2)
    pool = make(0)
    await pool._client.token.get()
    emulator.platform.delay(QRCODE_CREATE, 0.4)
    with pytest.raises(MethodUnavailable):
        await pool.take()
    await asyncio.sleep(0.4)  # no line in the log


async def test_stopping_in_the_middle(emulator: Emulator, make: Make):
    emulator.platform.delay(QRCODE_CREATE, 0.2, times=10)
    pool = make(4)
    await asyncio.sleep(0.05)
    await pool.stop()
    assert pool._filler is not None
    assert pool._filler.cancelled()
    await asyncio.sleep(0.2)


async def test_who_is_impatient_waits_a_moment_and_makes_it_fill(emulator: Emulator, make: Make):
    pool = make(2)
    await filled(pool, 2)
    emulator.platform.delay(QRCODE_CREATE, 5, times=9)
    for _ in range(2):
        await pool.take(patient=False)
    with pytest.raises(NoCodeReady):
        async with asyncio.timeout(code_pool.MOMENT_SECONDS + 2):
            await pool.take(patient=False)
    emulator.platform.heal()
    assert await pool.take(patient=False)


async def test_codes_of_a_time_that_is_to_come_are_dropped(emulator: Emulator, make: Make, clock: Clock):
    """They were made while the clock was an hour ahead, or it is an hour behind: WeChat's knows their end."""
    pool = make(3)
    await filled(pool, 3)
    old = waiting_ids(pool)
    clock.pass_(-3600)
    assert (await pool.take()).id not in old
