"""Whether somebody has to log in, anew or at all, and what a site is told of the login that it got."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from flows import authorize
from flows.sessions import Current
from flows.signing import Signer
from oidc.requests import Refused
from storage.records import Profile
from tests.handlers.relying_party import OTHER, PUBLIC, SITE, SITES, RelyingParty, session_of
from tests.handlers.test_app import APP, bearer
from tests.harness import Browser, Whole, document, running

ES256 = {**SITE, "id": "curve", "id_token_alg": "ES256"}


@pytest.fixture
async def whole(tmp_path):
    async with running(tmp_path, sites=[*SITES, ES256], wechat={"pool_size": 0}) as whole:
        yield whole


async def asked(shop: RelyingParty, browser: Browser, **changes: str | None) -> str:
    """Where our login page leads back to; the request must not have been answered without it."""
    answer = await browser.get(shop.authorize_path(**changes))
    assert answer.code == 302
    page = urlsplit(answer.headers["Location"])
    assert (page.scheme, page.netloc, page.path) == ("", "", "/login")
    return parse_qs(page.query)["next"][0]


async def asks_again(browser: Browser, path: str) -> bool:
    """Whether the address leads to the login page rather than to the site."""
    return (await browser.get(path)).headers["Location"].startswith("/login?")


async def log_in_for(whole: Whole, browser: Browser, path: str, person: str = "") -> None:
    await whole.log_in(browser, person or whole.person(), f"/login?next={quote(path, safe='')}")


async def claims_of(shop: RelyingParty, brought: dict[str, str]) -> dict[str, Any]:
    return await shop.verified((await shop.tokens(brought["code"]))["id_token"])


# prompt


async def test_prompt_none_asks_nobody(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    refused = await shop.authorize(browser, prompt="none")
    assert refused.keys() == {"error", "error_description", "state", "iss"}
    assert (refused["error"], refused["state"], refused["iss"]) == (
        "login_required",
        shop.state,
        whole.base_url,
    )
    await whole.log_in(browser, whole.person())
    assert "code" in await shop.authorize(browser, prompt="none")
    await browser.post("/api/v1/sessions/current/revoke")
    assert (await shop.authorize(browser, prompt="none"))["error"] == "login_required"


async def test_a_session_that_ends_at_this_moment_is_none(whole):
    """It was good when it was looked at, and is not when the code is made."""
    browser, shop, context = whole.browser(), RelyingParty(whole), whole.server.context
    await whole.log_in(browser, whole.person())
    stale = Current(await session_of(whole, browser), await whole.user(whole.person()))
    await browser.post("/api/v1/sessions/current/revoke")
    ways = {prompt: urlsplit(shop.authorize_path(prompt=prompt)).query for prompt in ("", "none")}
    seen = authorize.read(context, ways[""])
    assert await authorize.authorize(context, Signer(context), seen, stale) is None
    with pytest.raises(Refused) as refused:
        await authorize.authorize(context, Signer(context), authorize.read(context, ways["none"]), stale)
    assert refused.value.error.code == "login_required"


@pytest.mark.parametrize("prompt", ["login", "select_account", "login consent"])
async def test_prompt_login_takes_a_new_login_and_one_is_enough(whole, prompt):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    first = await claims_of(shop, await shop.authorize(browser))
    whole.clock.pass_(100)
    again = await asked(shop, browser, prompt=prompt)
    assert await asks_again(browser, again), "the way back does not do instead of the login"
    await log_in_for(whole, browser, again)
    second = await claims_of(shop, shop.brought(await browser.get(again)))
    assert second["sub"] == first["sub"]
    assert second["sid"] != first["sid"]
    assert second["auth_time"] >= first["auth_time"] + 99


async def test_prompt_login_where_nobody_is_logged_in_takes_one_login(whole):
    shop = RelyingParty(whole)
    assert "code" in await shop.log_in(whole.browser(), whole.person(), prompt="login")


async def test_prompt_consent_asks_nothing_more(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    assert "code" in await shop.authorize(browser, prompt="consent")


async def test_a_login_in_another_tab_meanwhile_counts(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    whole.clock.pass_(100)
    again = await asked(shop, browser, prompt="login")
    whole.clock.pass_(100)
    await whole.log_in(browser, whole.person())
    assert "code" in shop.brought(await browser.get(again))


# max_age and auth_time


async def test_max_age(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    whole.clock.pass_(100)
    for enough in ("200", "999999999", ""):
        assert "code" in await shop.authorize(browser, max_age=enough)
    for too_old in ("99", "0", "1"):
        assert (await shop.authorize(browser, max_age=too_old, prompt="none"))["error"] == "login_required"
        again = await asked(shop, browser, max_age=too_old)
        assert await asks_again(browser, again)
    await log_in_for(whole, browser, again)
    claims = await claims_of(shop, shop.brought(await browser.get(again)))
    assert claims["auth_time"] >= whole.clock() - 20


async def test_max_age_of_nothing_is_met_by_a_login_made_for_it(whole):
    """Though it is some moments old when the browser is back."""
    browser, shop = whole.browser(), RelyingParty(whole)
    again = await asked(shop, browser, max_age="0")
    await log_in_for(whole, browser, again)
    whole.clock.pass_(30)
    assert "code" in shop.brought(await browser.get(again))


async def test_auth_time_is_that_of_the_login(whole):
    browser, shop, forum = whole.browser(), RelyingParty(whole), RelyingParty(whole, OTHER)
    await whole.log_in(browser, whole.person())
    session = await session_of(whole, browser)
    whole.clock.pass_(500)
    for site in (shop, forum):
        tokens = await site.given(browser)
        claims = await site.verified(tokens["id_token"])
        assert claims["auth_time"] == int(session.created_at)
        assert claims["sid"] == session.id
        assert claims["iat"] >= claims["auth_time"] + 500
        assert claims["nonce"] == site.nonce
        assert (await site.seen(tokens["access_token"]))["auth_time"] == claims["auth_time"]


async def test_a_site_without_a_nonce_is_told_none(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    assert "nonce" not in await shop.verified((await shop.given(browser, nonce=None))["id_token"])


# The note that says since when a login counts.


async def test_a_forged_or_foreign_note_counts_for_nothing(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    again = await asked(shop, browser, prompt="login")
    path, _, note = again.partition("&saoma_asked=")
    at, _, proof = note.partition(".")
    other = await asked(shop, browser, prompt="login", nonce="another")
    whole.clock.pass_(10)
    login = await session_of(whole, browser)
    before = int(login.created_at) - 100
    for forged in (
        f"{path}&saoma_asked={before}.{proof}",
        f"{path}&saoma_asked=0.{proof}",
        f"{path}&saoma_asked={at}.{'0' * 64}",
        f"{path}&saoma_asked={at}.{proof[:-1]}",
        f"{path}&saoma_asked={at}.{proof.upper()}",
        f"{path}&saoma_asked={at}",
        f"{path}&saoma_asked=",
        f"{path}&saoma_asked={before}.{other.rpartition('.')[2]}",
        f"{path.replace('openid', 'openid+')}&saoma_asked={note}",
        f"{path}&x=1&saoma_asked={note}",
        f"{path}&saoma_asked={note}&x=1",
        f"{path}&saoma_asked={note}&saoma_asked={at}.{'0' * 64}",
        again.replace("saoma_asked", "saoma%5Fasked"),
    ):
        assert await asks_again(browser, forged), forged


async def test_a_replayed_note_is_good_for_its_own_request_and_an_hour(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    whole.clock.pass_(100)
    again = await asked(shop, browser, prompt="login")
    await log_in_for(whole, browser, again)
    claims = [await claims_of(shop, shop.brought(await browser.get(again))) for _ in range(2)]
    assert claims[0]["auth_time"] == claims[1]["auth_time"], "which the site sees"
    stranger = whole.browser()
    assert await asks_again(stranger, again), "it logs nobody in"
    whole.clock.pass_(3600)
    assert await asks_again(browser, again)


async def test_a_note_of_a_stranger_takes_no_older_login(whole):
    """Somebody sends the person an address that they got themselves, later than the person's login."""
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    whole.clock.pass_(100)
    theirs = await asked(shop, whole.browser(), prompt="login")
    assert await asks_again(browser, theirs)


async def test_a_site_may_have_a_parameter_of_that_name(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    brought = await shop.log_in(browser, whole.person(), saoma_asked="1.2")
    assert brought["state"] == shop.state
    assert "code" in await shop.authorize(browser, saoma_asked=f"1.{'0' * 64}")


async def test_the_address_does_not_grow_from_try_to_try(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    first = await asked(shop, browser)
    page = (await browser.get(first)).headers["Location"]
    assert len(parse_qs(urlsplit(page).query)["next"][0]) == len(first)


# id_token_hint


async def signed_in(whole: Whole, shop: RelyingParty, number: int) -> tuple[Browser, str]:
    """A browser and its ID token."""
    browser = whole.browser()
    await whole.log_in(browser, whole.person(number))
    return browser, (await shop.given(browser))["id_token"]


async def test_a_hint_of_who_is_logged_in(whole):
    shop, forum = RelyingParty(whole), RelyingParty(whole, OTHER)
    anna, hint = await signed_in(whole, shop, 0)
    for prompt in ("none", ""):
        assert "code" in await shop.authorize(anna, id_token_hint=hint, prompt=prompt)
    assert "code" in await forum.authorize(anna, id_token_hint=hint, prompt="none")
    whole.clock.pass_(86400)
    assert "code" in await shop.authorize(anna, id_token_hint=hint, prompt="none"), "however old"


async def test_a_hint_of_somebody_else(whole):
    """OpenID Connect Core, 3.1.2.1: no answer for a person whom the site does not mean."""
    shop = RelyingParty(whole)
    _, hint = await signed_in(whole, shop, 0)
    bert, _ = await signed_in(whole, shop, 1)
    assert (await shop.authorize(bert, id_token_hint=hint, prompt="none"))["error"] == "login_required"
    again = await asked(shop, bert, id_token_hint=hint)
    await log_in_for(whole, bert, again, whole.person(1))
    assert shop.brought(await bert.get(again))["error"] == "login_required", "Bert again"
    again = await asked(shop, bert, id_token_hint=hint)
    await log_in_for(whole, bert, again, whole.person(0))
    assert "code" in shop.brought(await bert.get(again)), "Anna"


async def test_a_hint_that_is_none_of_ours(whole):
    shop = RelyingParty(whole)
    anna, hint = await signed_in(whole, shop, 0)
    payload = json.dumps({"sub": (await whole.user(whole.person())).id, "iss": whole.base_url})
    stranger = RSAKey.generate_key(2048, {"kid": "x", "alg": "RS256"})
    foreign = jwt.encode({"alg": "RS256", "kid": "x"}, json.loads(payload), stranger)
    unsigned = f"{hint.partition('.')[0]}.{hint.split('.')[1]}."
    for odd in (foreign, unsigned, hint[:-4] + "AAAA", "x", "a.b.c", "..", "签名", "x" * 1500):
        silent = await shop.authorize(anna, id_token_hint=odd, prompt="none")
        assert silent["error"] == "login_required", odd
        assert "code" in await shop.authorize(anna, id_token_hint=odd), "it says nothing"
    assert "code" in await shop.authorize(anna, id_token_hint="", prompt="none")


# Who logged in, and how.


async def test_after_a_merge_the_login_that_was_merged_is_over_and_the_next_tells_both(whole):
    """The subject must not change under a login; the survivor's own goes on."""
    shop = RelyingParty(whole)
    elder = whole.browser()
    await whole.log_in(elder, whole.person(0))
    kept = await shop.given(elder)
    whole.clock.pass_(5)
    younger = whole.browser()
    await whole.log_in(younger, whole.person(1))
    tokens = await shop.given(younger)
    pending = (await shop.authorize(younger))["code"]
    former = (await shop.verified(tokens["id_token"]))["sub"]

    async def merge(transaction):
        for number in (0, 1):
            user = await transaction.users.update_profile(
                "wechat", whole.person(number), Profile(), unionid="union-1", now=whole.clock()
            )
        return user

    survivor = await whole.storage.transact(merge)
    assert survivor.previous_ids == (former,)
    assert await shop.all_over(tokens)
    assert await shop.redeemed(pending) == (400, "invalid_grant")
    assert await shop.active(kept["access_token"])
    renewed = document(await shop.refreshed(kept["refresh_token"]))
    hint = tokens["id_token"]
    brought = await shop.authorize(younger, prompt="none", id_token_hint=hint)
    for token in (renewed, await shop.tokens(brought["code"])):
        claims = await shop.verified(token["id_token"])
        assert (claims["sub"], claims["previous_subs"]) == (survivor.id, [former])
        info = document(await shop.userinfo(token["access_token"]))
        assert (info["sub"], info["previous_subs"]) == (survivor.id, [former])


async def test_a_site_that_wants_es256_gets_it(whole):
    browser, curve = whole.browser(), RelyingParty(whole, ES256)
    await whole.log_in(browser, whole.person())
    tokens = await curve.given(browser)
    assert (await curve.verified(tokens["id_token"], "ES256"))["aud"] == "curve"
    assert "code" in await curve.authorize(browser, prompt="none", id_token_hint=tokens["id_token"])


async def test_a_login_with_the_app_says_that_the_person_agreed(tmp_path):
    async with running(tmp_path, sites=[SITE], app=APP, wechat={"pool_size": 0}) as whole:
        browser, shop, phone = whole.browser(), RelyingParty(whole), whole.browser()
        path = (await browser.get(shop.authorize_path())).headers["Location"]
        ticket = await browser.open_login(f"{path}&method=app")
        scanned = await phone.post(f"/api/v1/tickets/{ticket}/scan", **bearer("u1", jti="1"))
        assert document(scanned)["site"] == "Shop", "the app shows the person which site it is"
        handle = {"handle": document(scanned)["handle"]}
        assert (
            await phone.post(f"/api/v1/tickets/{ticket}/confirm", handle, **bearer("u1", jti="2"))
        ).code == 200
        collected = document(await browser.exchange(ticket))
        claims = await claims_of(shop, shop.brought(await browser.get(collected["next"])))
        assert (claims["amr"], claims["acr"]) == (["app", "user"], "urn:saoma:confirmed")


async def test_the_sites_language_is_that_of_the_login_page(whole):
    shop = RelyingParty(whole)
    for asked_for, language in (("en", "en"), ("zh-CN en", "zh-CN"), ("xx", "zh-CN"), ("en\" x='", "zh-CN")):
        answer = await whole.browser().get(shop.authorize_path(ui_locales=asked_for))
        page = (await whole.browser().get(answer.headers["Location"])).body.decode()
        assert f'<html lang="{language}"' in page, asked_for


async def test_two_sites_know_one_person_by_one_name(whole):
    """One team's sites; `sub` is "public" in the words of the discovery document."""
    browser = whole.browser()
    await whole.log_in(browser, whole.person())
    subjects = set()
    for site in (SITE, OTHER, PUBLIC):
        rp = RelyingParty(whole, site)
        claims = await rp.verified((await rp.given(browser))["id_token"])
        assert claims["iat"] <= time.time() + 1
        subjects.add(claims["sub"])
    assert len(subjects) == 1
