"""The provider, step by step over HTTP, as sites use it."""

from __future__ import annotations

import json

from tests.handlers.relying_party import PUBLIC, SITE, RelyingParty
from tests.harness import running


async def test_a_login_from_the_site_and_back(tmp_path):
    async with running(tmp_path, sites=[SITE]) as whole:
        browser, shop = whole.browser(), RelyingParty(whole)
        brought = await shop.log_in(browser, whole.person())
        assert set(brought) == {"code", "state", "iss"}
        assert (brought["state"], brought["iss"]) == (shop.state, whole.base_url)
        tokens = await shop.tokens(brought["code"])
        claims = await shop.verified(tokens["id_token"])
        user = await whole.user(whole.person())
        assert claims["sub"] == user.id
        assert claims["nonce"] == shop.nonce
        assert (claims["amr"], claims["acr"]) == (["wechat"], "urn:saoma:scanned")
        info = json.loads((await shop.userinfo(tokens["access_token"])).body)
        assert info["sub"] == user.id
        assert info["name"]


async def test_who_is_logged_in_comes_back_at_once(tmp_path):
    async with running(tmp_path, sites=[SITE, PUBLIC]) as whole:
        browser, page = whole.browser(), RelyingParty(whole, PUBLIC)
        await whole.log_in(browser, whole.person())
        brought = await page.authorize(browser)
        tokens = await page.tokens(brought["code"])
        assert (await page.userinfo(tokens["access_token"])).code == 200
