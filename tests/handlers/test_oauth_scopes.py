"""What a site may ask for is what its `scopes` in the settings have."""

from __future__ import annotations

from typing import get_args

import pytest

from config.values import Scope
from oidc.requests import IDENTITIES, SCOPES
from tests.handlers.relying_party import OTHER, SITE, RelyingParty, told
from tests.harness import document, running

ALLOWED = ["openid", "profile", "offline_access"]


def test_the_settings_know_each_scope():
    assert get_args(Scope) == SCOPES


@pytest.fixture
async def whole(tmp_path):
    async with running(tmp_path, sites=[SITE, OTHER], wechat={"pool_size": 0}) as whole:
        yield whole


async def test_openids_are_told_to_no_site_that_is_not_named_for_it(whole):
    browser, forum = whole.browser(), RelyingParty(whole, OTHER)
    scope = f"openid {IDENTITIES}"
    refused = await forum.authorize(browser, scope=scope)
    assert (refused["error"], refused["state"]) == ("invalid_scope", forum.state)
    assert refused["iss"] == whole.base_url
    assert IDENTITIES in refused["error_description"]
    await whole.log_in(browser, whole.person())
    assert (await forum.authorize(browser, scope=scope))["error"] == "invalid_scope"
    assert (await forum.given(browser, scope=" ".join(ALLOWED)))["scope"].split() == ALLOWED
    shop = RelyingParty(whole, SITE)
    assert IDENTITIES in (await shop.given(browser, scope=scope))["scope"]


async def test_what_a_site_may_not_have_any_more_is_gone_with_the_next_refresh(tmp_path):
    async with running(tmp_path, sites=[SITE], wechat={"pool_size": 0}) as whole:
        browser, shop = whole.browser(), RelyingParty(whole)
        tokens = await shop.tokens(
            (await shop.log_in(browser, whole.person(), scope=" ".join(SCOPES)))["code"]
        )
        assert IDENTITIES in document(await shop.userinfo(tokens["access_token"]))
    narrower = {**SITE, "scopes": ALLOWED}
    async with running(tmp_path, sites=[narrower], wechat={"pool_size": 0}) as whole:
        shop = RelyingParty(whole, narrower)
        refused = await shop.refreshed(tokens["refresh_token"], scope=IDENTITIES)
        assert told(refused) == (400, "invalid_scope")
        again = document(await shop.refreshed(tokens["refresh_token"]))
        assert again["scope"].split() == ALLOWED
        assert IDENTITIES not in document(await shop.userinfo(again["access_token"]))
    async with running(tmp_path, sites=[{**SITE, "scopes": ["openid"]}], wechat={"pool_size": 0}) as whole:
        shop = RelyingParty(whole)
        assert told(await shop.refreshed(again["refresh_token"])) == (400, "unauthorized_client")
        assert not await shop.active(again["refresh_token"])
        assert await shop.active(again["access_token"])


async def test_without_offline_access_there_is_no_refresh_token(tmp_path):
    site = {**SITE, "scopes": ["openid", "profile"]}
    async with running(tmp_path, sites=[site], wechat={"pool_size": 0}) as whole:
        browser, shop = whole.browser(), RelyingParty(whole)
        tokens = await shop.tokens((await shop.log_in(browser, whole.person()))["code"])
        assert "refresh_token" not in tokens
        assert await shop.active(tokens["access_token"])
        refused = await shop.authorize(browser, scope="openid offline_access")
        assert refused["error"] == "invalid_scope"
