"""`GET /api/v1/wechat/access_token`: the account's one token, for the team's other programs."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from contextlib import AsyncExitStack

import pytest

from emulator.platform import CALLBACK_IP, STABLE_TOKEN, TOKEN, ApiError
from flows import access_token
from storage.rates import Rate
from tests.handlers.programs import PROBLEM, basic
from tests.harness import Whole, document, running
from wechat import client

PATH = "/api/v1/wechat/access_token"
SHOP = {"id": "shop", "name": "Shop", "secret": "s" * 40, "wechat_access_token": True}
MENU = {"id": "menu", "name": "Menu", "secret": "m" * 40, "wechat_access_token": True}
OTHER = {"id": "other", "name": "Other", "secret": "o" * 40}
PUBLIC = {"id": "page", "name": "Page", "public": True, "redirect_uris": ["https://page.example/"]}
SITES = [SHOP, MENU, OTHER, PUBLIC]

BOTH = pytest.mark.parametrize(("kind", "path"), [("stable", STABLE_TOKEN), ("ordinary", TOKEN)])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(client, "RETRY_PAUSES", (0.001, 0.002))


def lending(folder, **document):
    return running(folder, sites=SITES, wechat={"pool_size": 1, **document.pop("wechat", {})}, **document)


async def asked(whole: Whole, site: dict = SHOP, rejected: str | None = None):
    query = f"?rejected={rejected}" if rejected is not None else ""
    return await whole.browser().get(PATH + query, **basic(site["id"], site["secret"]))


async def lent(whole: Whole, site: dict = SHOP, rejected: str | None = None) -> str:
    response = await asked(whole, site, rejected)
    assert response.code == 200, response.body
    return document(response)["access_token"]


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def fetches(whole: Whole) -> int:
    return sum(whole.emulator.platform.calls[path] for path in (STABLE_TOKEN, TOKEN))


@BOTH
async def test_a_site_gets_the_token_that_we_use_ourselves(tmp_path, kind, path):
    async with lending(tmp_path, wechat={"access_token": kind}) as whole:
        response = await asked(whole)
        assert response.code == 200
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Cache-Control"] == "no-store"
        told = document(response)
        assert told.keys() == {"access_token", "expires_in"}
        assert type(told["expires_in"]) is int
        assert 7190 <= told["expires_in"] <= 7200
        whole.emulator.platform.require_token(told["access_token"])
        assert {await lent(whole, site) for site in (SHOP, MENU) * 5} == {told["access_token"]}
        assert whole.emulator.platform.calls[path] == fetches(whole) == 1


@BOTH
async def test_what_is_lent_is_good_for_a_while(tmp_path, kind, path):
    async with lending(tmp_path, wechat={"access_token": kind}) as whole:
        first = await lent(whole)
        for passed in range(0, 4 * 7200, 100):
            if passed % 3000 == 0:
                told = document(await asked(whole))
                assert told["expires_in"] >= client.LEAST_LEFT
                whole.emulator.platform.require_token(told["access_token"])
            whole.clock.pass_(100)
        assert fetches(whole) <= 6
        assert await lent(whole) != first
        with pytest.raises(ApiError):
            whole.emulator.platform.require_token(first)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "unauthenticated"),
        (basic("shop", "m" * 40), 401, "unauthenticated"),
        (basic("shop", ""), 401, "unauthenticated"),
        (basic("nobody", "s" * 40), 401, "unauthenticated"),
        (basic("page", ""), 401, "unauthenticated"),
        ({"Authorization": "Basic shop"}, 401, "unauthenticated"),
        ({"Authorization": f"Bearer {'s' * 40}"}, 401, "unauthenticated"),
        (basic("other", "o" * 40), 403, "access_token_not_allowed"),
    ],
)
async def test_who_may_not_have_it(tmp_path, headers, status, code):
    async with lending(tmp_path) as whole:
        token, _ = await whole.server.codes._client.token.lend()
        response = await whole.browser().get(PATH, **headers)
        assert (response.code, document(response)["code"]) == (status, code)
        assert response.headers["Content-Type"] == PROBLEM
        assert ("WWW-Authenticate" in response.headers) == (status == 401)
        assert token not in response.body.decode()


async def test_a_login_gives_no_right_to_it(tmp_path):
    async with lending(tmp_path) as whole:
        browser = whole.browser()
        await whole.log_in(browser, whole.person(1))
        assert (await browser.get(PATH)).code == 401


async def test_a_page_of_another_origin_cannot_read_it(tmp_path):
    """A browser may know the site's password and send it by itself."""
    async with lending(tmp_path) as whole:
        headers = {**basic("shop", "s" * 40), "Origin": "https://evil.example"}
        response = await whole.browser().get(PATH, **headers)
        assert not [name for name in response.headers if name.startswith("Access-Control")]


async def test_without_wechat_there_is_none(tmp_path):
    closed = {"appid": "", "secret": "", "token": "", "encoding_aes_key": ""}
    async with running(tmp_path, sites=SITES, wechat=closed) as whole:
        response = await asked(whole)
        assert (response.code, document(response)["code"]) == (503, "access_token_unavailable")


@pytest.mark.parametrize("trouble", ["down", "refused"])
async def test_wechat_gives_none(tmp_path, expect_log, trouble):
    expect_log(STABLE_TOKEN)
    async with lending(tmp_path) as whole:
        platform = whole.emulator.platform
        first = await lent(whole)
        whole.clock.pass_(7200 - client.REFRESH_AHEAD + 10)
        if trouble == "down":
            platform.down = True
        else:
            platform.fail(STABLE_TOKEN, 40125, times=99)
        assert await lent(whole) == first, "the last minutes of a good one are better than none"
        whole.clock.pass_(client.REFRESH_AHEAD)
        response = await asked(whole)
        assert (response.code, document(response)["code"]) == (503, "access_token_unavailable")
        assert first not in response.body.decode()
        platform.heal()
        whole.clock.pass_(client.REFRESH_PAUSE)
        platform.require_token(await lent(whole))


async def test_each_site_has_a_rate_of_its_own(tmp_path):
    async with lending(tmp_path) as whole:
        answers = await asyncio.gather(*(asked(whole) for _ in range(int(access_token.RATE.capacity) + 5)))
        refused = [answer for answer in answers if answer.code == 429]
        assert 1 <= len(refused) <= 5
        assert document(refused[0])["code"] == "too_many_requests"
        assert 1 <= int(refused[0].headers["Retry-After"]) <= 60
        assert (await asked(whole, MENU)).code == 200
        whole.clock.pass_(60)
        assert (await asked(whole)).code == 200


async def test_the_rate_can_be_lifted(tmp_path, monkeypatch):
    monkeypatch.setattr(access_token, "RATE", Rate.per_minute("access-tokens", 1))
    async with lending(tmp_path, limits={"enabled": False}) as whole:
        assert [(await asked(whole)).code for _ in range(3)] == [200] * 3


async def test_the_log_tells_who_had_it_and_never_what(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    async with lending(tmp_path) as whole:
        token = await lent(whole)
        await lent(whole, MENU, rejected=digest(token))
        assert "the access token was given to site shop at 127.0.0.1" in caplog.text
        assert "site menu at 127.0.0.1 says that WeChat rejects the access token" in caplog.text
        for secret in (token, digest(token), SHOP["secret"], MENU["secret"]):
            assert secret not in caplog.text


# --- A caller says that WeChat rejects it.


@BOTH
async def test_a_token_that_another_program_has_ended_is_replaced_once(tmp_path, expect_log, kind, path):
    expect_log("errcode 40001")
    async with lending(tmp_path, wechat={"access_token": kind}) as whole:
        platform, first = whole.emulator.platform, await lent(whole)
        credentials = ("client_credential", platform.account.appid, platform.account.secret)
        if kind == "stable":
            platform.fetch_stable_token(*credentials, force_refresh=True)
        else:
            platform.fetch_token(*credentials)
            platform.require_token(first)  # WeChat's ordinary ones overlap for five minutes
            whole.clock.pass_(301)
        with pytest.raises(ApiError):
            platform.require_token(first)
        calls = fetches(whole)
        assert await lent(whole) == first, "until somebody says so"
        told = await asyncio.gather(
            *(lent(whole, site, rejected=digest(first).upper()) for site in (SHOP, MENU) * 10)
        )
        assert len(set(told)) == 1
        assert told[0] != first
        platform.require_token(told[0])
        assert fetches(whole) == calls + 1
        assert platform.calls[CALLBACK_IP] <= 2, "one check for all, and its repetition"


async def test_the_stable_endpoint_is_forced_where_it_repeats_the_rejected_one(tmp_path, expect_log):
    expect_log("errcode 40001")
    async with lending(tmp_path) as whole:
        first = await lent(whole)
        whole.emulator.platform.fail(CALLBACK_IP, 40001)
        second = await lent(whole, rejected=digest(first))
        assert second != first
        assert whole.emulator.platform.calls[STABLE_TOKEN] == 3
        whole.emulator.platform.require_token(second)


@BOTH
async def test_a_wrong_word_ends_no_token(tmp_path, kind, path):
    """WeChat's word counts: whoever cries wolf costs a check every ten seconds and nothing else."""
    async with lending(tmp_path, wechat={"access_token": kind}) as whole:
        first = await lent(whole)
        for _ in range(20):
            assert await lent(whole, rejected=digest(first)) == first
        assert whole.emulator.platform.calls[CALLBACK_IP] == 1
        whole.clock.pass_(access_token.CHECK_PAUSE)
        assert await lent(whole, rejected=digest(first)) == first
        assert whole.emulator.platform.calls[CALLBACK_IP] == 2
        assert fetches(whole) == 1


async def test_a_token_that_is_ours_no_longer_costs_nothing(tmp_path):
    async with lending(tmp_path) as whole:
        token = await lent(whole)
        assert await lent(whole, rejected=digest("an older one")) == token
        assert whole.emulator.platform.calls[CALLBACK_IP] == 0


@BOTH
async def test_wechat_that_rejects_every_token_is_not_asked_for_ever(tmp_path, expect_log, kind, path):
    """Forced stable tokens are 20 a day, ordinary ones 2,000."""
    expect_log("errcode 40001")
    async with lending(tmp_path, wechat={"access_token": kind}) as whole:
        token = await lent(whole)
        whole.emulator.platform.fail(CALLBACK_IP, 40001, times=1000)
        before = fetches(whole)
        for _ in range(30):
            answer = await asked(whole, rejected=digest(token))
            if answer.code == 200:
                token = document(answer)["access_token"]
            else:
                assert (answer.code, document(answer)["code"]) == (503, "access_token_unavailable")
            whole.clock.pass_(2)
        assert fetches(whole) - before <= (8 if kind == "stable" else 2)
        assert len(whole.emulator.platform._forced) <= 1


async def test_a_check_that_cannot_be_made_decides_nothing(tmp_path, expect_log):
    expect_log(CALLBACK_IP)
    async with lending(tmp_path) as whole:
        token = await lent(whole)
        whole.emulator.platform.down = True
        assert (await asked(whole, rejected=digest(token))).code == 503
        asked_for = whole.emulator.platform.calls[CALLBACK_IP]
        assert (await asked(whole, rejected=digest(token))).code == 503
        assert whole.emulator.platform.calls[CALLBACK_IP] == asked_for, "what came of it stands for a moment"
        assert await lent(whole) == token
        whole.emulator.platform.heal()
        whole.clock.pass_(access_token.CHECK_PAUSE)
        assert await lent(whole, rejected=digest(token)) == token


@pytest.mark.parametrize("rejected", ["", "x", "0" * 63, "0" * 65, "g" * 64, "０" * 64])
async def test_what_is_no_digest(tmp_path, rejected):
    async with lending(tmp_path) as whole:
        answer = await asked(whole, rejected=rejected)
        assert (answer.code, document(answer)["code"]) == (400, "bad_request")


# --- Several nodes.


async def test_all_nodes_lend_one_token(tmp_path, redis_url, expect_log):
    expect_log("errcode 40001")
    shared = {"redis": {"url": redis_url}, "server": {"secret_key": secrets.token_hex(32)}}
    async with AsyncExitStack() as stack:
        near = await stack.enter_async_context(lending(tmp_path / "near", **shared))
        far = await stack.enter_async_context(lending(tmp_path / "far", emulator=near.emulator, **shared))
        platform = near.emulator.platform
        first = await lent(near)
        assert await lent(far) == first
        assert fetches(near) == 1
        platform.revoke_tokens()
        second = await lent(near, rejected=digest(first))
        assert second != first
        assert await lent(far) == second, "without anybody having told it"
        assert await lent(far, rejected=digest(first)) == second
        platform.require_token(second)
        assert fetches(near) == 2
        for whole in (near, far):
            whole.clock.pass_(7200 - client.REFRESH_AHEAD + 5)
        third = await lent(far)
        assert third != second
        assert await lent(near) == third
        assert fetches(near) == 3
