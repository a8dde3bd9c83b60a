"""Rule 25: what tokens are good for, and how they change and end."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from oidc.requests import IDENTITIES, SCOPES, UNIONID
from tests.handlers.programs import basic
from tests.handlers.relying_party import (
    INVALID_CLIENT,
    INVALID_GRANT,
    INVALID_REQUEST,
    OTHER,
    PUBLIC,
    SITE,
    SITES,
    RelyingParty,
    told,
)
from tests.harness import document, running


@pytest.fixture
async def whole(tmp_path):
    async with running(tmp_path, sites=SITES, wechat={"pool_size": 0}) as whole:
        yield whole


async def test_rule_25_a_refresh_rotates(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    tokens = await shop.tokens((await shop.log_in(browser, whole.person(), scope="openid"))["code"])
    assert tokens["token_type"] == "Bearer"
    assert 500 < tokens["expires_in"] <= 600
    first = await shop.verified(tokens["id_token"])
    whole.clock.pass_(120)
    renewed = document(await shop.refreshed(tokens["refresh_token"]))
    assert renewed.keys() == tokens.keys()
    for kind in ("access_token", "refresh_token", "id_token"):
        assert renewed[kind] != tokens[kind]
    second = await shop.verified(renewed["id_token"])
    for claim in ("sub", "aud", "iss", "auth_time", "sid", "amr"):
        assert second[claim] == first[claim]
    assert second["iat"] >= first["iat"] + 120
    assert "nonce" not in second
    assert await shop.active(tokens["access_token"]), "requests with it may be on their way"
    assert await shop.active(renewed["access_token"])
    assert not await shop.active(tokens["refresh_token"])
    assert await shop.active(renewed["refresh_token"])
    whole.clock.pass_(481)
    assert not await shop.active(tokens["access_token"])
    assert (await shop.userinfo(renewed["access_token"])).code == 200
    whole.clock.pass_(120)
    assert (await shop.userinfo(renewed["access_token"])).code == 401


@pytest.mark.parametrize("site", [SITE, PUBLIC], ids=["with a secret", "public"])
async def test_rule_25_reuse_of_a_refresh_token_kills_the_family(whole, site):
    browser, rp = whole.browser(), RelyingParty(whole, site)
    tokens = await rp.tokens((await rp.log_in(browser, whole.person()))["code"])
    renewed = document(await rp.refreshed(tokens["refresh_token"]))
    newest = document(await rp.refreshed(renewed["refresh_token"]))
    assert told(await rp.refreshed(tokens["refresh_token"])) == INVALID_GRANT
    for given in (tokens, renewed, newest):
        assert await rp.all_over(given)
    assert (await rp.userinfo((await rp.given(browser))["access_token"])).code == 200, (
        "the login is none the worse"
    )


async def test_rule_25_of_fifty_refreshes_at_once_one_wins_and_the_family_ends(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    tokens = await shop.tokens((await shop.log_in(browser, whole.person()))["code"])
    answers = await asyncio.gather(*(shop.refreshed(tokens["refresh_token"]) for _ in range(50)))
    assert Counter(map(told, answers)) == {(200, ""): 1, INVALID_GRANT: 49}
    (won,) = [document(answer) for answer in answers if answer.code == 200]
    assert await shop.all_over(won)


async def test_who_does_not_know_the_family_ends_nothing(whole):
    """An access token, which goes through more hands, or a guess do not."""
    browser, shop = whole.browser(), RelyingParty(whole)
    tokens = await shop.tokens((await shop.log_in(browser, whole.person()))["code"])
    grant_id, family, secret = tokens["refresh_token"].split(".")
    access = tokens["access_token"]
    for guess in (
        f"{grant_id}.{'x' * 32}.{secret}",
        f"{grant_id}.{secret}.{family}",
        f"{grant_id}.{secret}",
        f"{grant_id}..{secret}",
        f"{grant_id}.{family}.",
        f"{grant_id}.{family}",
        f"{grant_id[:-1]}.{family}.{secret}",
        f"{access}.{secret}",
        f"{access}.x",
        access,
        grant_id,
        "\0",
        ".",
        "x" * 5000,
    ):
        assert told(await shop.refreshed(guess)) == INVALID_GRANT
        assert (await shop.post("revoke", {"token": guess})).code == 200 or guess == access
        if guess == access:
            continue
    assert await shop.active(tokens["refresh_token"])


async def test_a_refresh_may_ask_for_less(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    brought = await shop.log_in(browser, whole.person(), scope=f"openid profile {IDENTITIES}")
    wide = await shop.tokens(brought["code"])
    narrow = document(await shop.refreshed(wide["refresh_token"], scope="openid"))
    assert narrow["scope"] == "openid"
    assert (await shop.seen(narrow["access_token"]))["scope"] == "openid"
    assert document(await shop.userinfo(narrow["access_token"])).keys() == {"sub"}
    claims = await shop.verified(narrow["id_token"])
    assert not {"name", "picture", IDENTITIES} & claims.keys()
    assert IDENTITIES in document(await shop.userinfo(wide["access_token"]))
    for more in ("openid offline_access", "admin"):
        refused = await shop.refreshed(narrow["refresh_token"], scope=more)
        assert told(refused) == (400, "invalid_scope")
    again = document(await shop.refreshed(narrow["refresh_token"]))
    assert again["scope"] == wide["scope"], "the grant keeps what it has"
    assert IDENTITIES in document(await shop.userinfo(again["access_token"]))
    without = document(await shop.refreshed(again["refresh_token"], scope="profile"))
    assert "id_token" not in without
    answer = await shop.userinfo(without["access_token"])
    assert told(answer) == (403, "insufficient_scope")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="saoma", error="insufficient_scope"'


@pytest.mark.parametrize("scope", [None, "", "profile", "unknown"])
async def test_without_openid_there_is_no_id_token(whole, scope):
    browser, shop = whole.browser(), RelyingParty(whole)
    tokens = await shop.tokens((await shop.log_in(browser, whole.person(), scope=scope))["code"])
    assert "id_token" not in tokens
    assert tokens["scope"] == ("profile" if scope == "profile" else "")
    assert (await shop.userinfo(tokens["access_token"])).code == 403
    assert await shop.active(tokens["access_token"])


async def test_identities_are_told_where_the_scope_asks(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    person = whole.person()
    tokens = await shop.tokens((await shop.log_in(browser, person, scope=" ".join(SCOPES)))["code"])
    info = document(await shop.userinfo(tokens["access_token"]))
    assert info[IDENTITIES] == [{"provider": "wechat", "subject": person, "following": True}]
    assert info.get(UNIONID, "") == (await whole.user(person)).unionid
    plain = await shop.given(browser)
    for told_of in (
        document(await shop.userinfo(plain["access_token"])),
        await shop.verified(plain["id_token"]),
    ):
        assert not {IDENTITIES, UNIONID} & told_of.keys()
        assert person not in json.dumps(told_of)


async def test_a_foreign_sites_tokens_are_good_for_nothing(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    forum, page = RelyingParty(whole, OTHER), RelyingParty(whole, PUBLIC)
    tokens = await shop.tokens((await shop.log_in(browser, whole.person()))["code"])
    access, refresh = tokens["access_token"], tokens["refresh_token"]
    for rival in (forum, page):
        assert told(await rival.refreshed(refresh)) == INVALID_GRANT
        for token in (access, refresh):
            assert told(await rival.post("revoke", {"token": token})) == (400, "unauthorized_client")
    for token in (access, refresh):
        assert await forum.seen(token) == {"active": False}
    assert await shop.active(access)
    assert await shop.active(refresh)
    own = (await forum.given(browser))["access_token"]
    mixed = f"{access.partition('.')[0]}.{own.partition('.')[2]}"
    assert (await forum.userinfo(mixed)).code == 401


async def test_rule_25_introspection_and_revocation_are_authenticated(whole):
    browser, shop, page = whole.browser(), RelyingParty(whole), RelyingParty(whole, PUBLIC)
    await whole.log_in(browser, whole.person())
    tokens, public = await shop.given(browser), await page.given(browser)
    for endpoint in ("introspect", "revoke"):
        for headers in (
            {"Authorization": ""},
            {"Authorization": basic("shop", "x" * 32)["Authorization"]},
            {"Authorization": basic("nobody", SITE["secret"])["Authorization"]},
            {"Authorization": f"Bearer {tokens['access_token']}"},
            {"Authorization": "", "Cookie": f"saoma-session={browser.cookies['saoma-session']}"},
        ):
            answer = await shop.post(endpoint, {"token": tokens["access_token"]}, **headers)
            assert told(answer) == INVALID_CLIENT
            assert answer.headers["WWW-Authenticate"] == 'Basic realm="saoma"'
    named = {"token": public["access_token"], "client_id": "page"}
    assert told(await page.post("introspect", named)) == INVALID_CLIENT, "a name alone does not do for that"
    assert await shop.active(tokens["access_token"])
    assert (await page.post("revoke", named)).code == 200
    assert (await page.userinfo(public["access_token"])).code == 401
    for endpoint in ("introspect", "revoke"):
        assert told(await shop.post(endpoint, {})) == INVALID_REQUEST
        assert told(await shop.post(endpoint, {"token": ""})) == INVALID_REQUEST


async def test_introspection_tells_what_a_token_is_good_for(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    brought = await shop.log_in(browser, whole.person())
    tokens = await shop.tokens(brought["code"])
    claims = await shop.verified(tokens["id_token"])
    seen = await shop.seen(tokens["access_token"])
    assert seen == {
        "active": True,
        "token_type": "Bearer",
        "client_id": "shop",
        "aud": "shop",
        "iss": whole.base_url,
        "sub": claims["sub"],
        "sid": claims["sid"],
        "auth_time": claims["auth_time"],
        "scope": "openid profile",
        "exp": claims["exp"],
    }
    longer = await shop.seen(tokens["refresh_token"])
    assert longer["exp"] > seen["exp"] + 2_000_000
    for other in (brought["code"], tokens["id_token"], "x", "x.y", "x.y.z", "\0", "状态.字", "x" * 9000):
        assert await shop.seen(other) == {"active": False}


async def test_revocation_of_each_kind(whole):
    """RFC 7009, 2.1."""
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    first = await shop.given(browser)
    renewed = document(await shop.refreshed(first["refresh_token"]))
    hint = {"token_type_hint": "refresh_token"}
    for token in ("unknown", first["access_token"], first["access_token"], "x.y.z"):
        assert (await shop.post("revoke", {"token": token, **hint})).code == 200
    assert not await shop.active(first["access_token"])
    assert await shop.active(renewed["access_token"]), "an access token ends alone"
    newest = document(await shop.refreshed(renewed["refresh_token"]))
    assert (await shop.post("revoke", {"token": newest["refresh_token"]})).code == 200
    assert await shop.all_over(newest), "a refresh token ends all of its grant"
    assert not await shop.active(renewed["access_token"])


async def test_an_old_refresh_token_given_back_ends_the_grant(whole):
    """The answer with its successor was lost, and the site wants to be rid of the login."""
    browser, shop = whole.browser(), RelyingParty(whole)
    tokens = await shop.tokens((await shop.log_in(browser, whole.person()))["code"])
    lost = document(await shop.refreshed(tokens["refresh_token"]))
    assert (await shop.post("revoke", {"token": tokens["refresh_token"]})).code == 200
    assert await shop.all_over(lost)


async def test_a_code_is_not_revoked_as_a_token(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    code = (await shop.log_in(browser, whole.person()))["code"]
    assert (await shop.post("revoke", {"token": code})).code == 200
    assert await shop.redeemed(code) == (200, "")
