"""The provider, step by step over HTTP, as sites use it and as others misuse it."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections import Counter
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from errors import StoreUnavailable
from flows import grants
from flows.signing import Signer
from oidc.grant import challenge_of
from oidc.requests import IDENTITIES, SCOPES, UNIONID
from tests.handlers.relying_party import OTHER, PUBLIC, SITE, SITES, RelyingParty, session_of, told
from tests.handlers.test_tickets_api import basic
from tests.harness import document, running

INVALID_GRANT = (400, "invalid_grant")
INVALID_CLIENT = (401, "invalid_client")
INVALID_REQUEST = (400, "invalid_request")


@pytest.fixture
async def whole(tmp_path):
    async with running(tmp_path, sites=SITES, wechat={"pool_size": 0}) as whole:
        yield whole


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


# The document that says what there is.


async def test_what_the_discovery_document_says_is_so(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    answer = await browser.get("/.well-known/openid-configuration")
    said = document(answer)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "no-cache" not in answer.headers.get("Pragma", "")
    assert said["issuer"] == whole.base_url
    assert (await browser.get("/.well-known/oauth-authorization-server")).body == answer.body
    bare = {"Origin": "", "X-XSRFToken": ""}
    for name, address in said.items():
        if name.endswith(("_endpoint", "_uri")):
            method = "POST" if name[:5] in ("token", "intro", "revoc") else "GET"
            there = await whole.browser().request(method, address, headers=bare)
            assert there.code in (200, 302, 400, 401), name
    for prompt in said["prompt_values_supported"]:
        assert (await browser.get(shop.authorize_path(prompt=prompt))).code == 302
    tokens = await shop.given(browser, scope=" ".join(said["scopes_supported"]))
    assert tokens["scope"].split() == said["scopes_supported"]
    assert (await shop.verified(tokens["id_token"])).keys() <= set(said["claims_supported"])
    assert json.loads(shop_header(tokens["id_token"]))["alg"] in said["id_token_signing_alg_values_supported"]
    assert set(said["token_endpoint_auth_methods_supported"]) == {
        "client_secret_basic",
        "client_secret_post",
        "none",
    }
    assert "none" not in said["introspection_endpoint_auth_methods_supported"]


def shop_header(token: str) -> bytes:
    return base64.urlsafe_b64decode(token.partition(".")[0] + "==")


async def test_login_page_and_phone_name_the_site(whole):
    """Rule 3: the person reads where they are being logged in."""
    browser, shop = whole.browser(**{"Accept-Language": "en"}), RelyingParty(whole)
    page = (await browser.get(shop.authorize_path())).headers["Location"]
    ticket_id = await browser.open_login(page)
    assert "Log in to Shop" in (await browser.get(page)).body.decode()
    outcome = await whole.scan(ticket_id, whole.person())
    assert "Shop" in outcome.reply_text
    assert "Shop" not in (await whole.browser(**{"Accept-Language": "en"}).get("/login")).body.decode()


@pytest.mark.parametrize(
    "changes", [{"redirect_uri": "https://evil.example/"}, {"client_id": "forum"}, {"code_challenge": None}]
)
async def test_login_page_names_no_site_that_it_does_not_lead_to(whole, changes):
    shop = RelyingParty(whole)
    page = (await whole.browser().get(f"/login?next={quote(shop.authorize_path(**changes), safe='')}")).body
    assert b"Shop" not in page
    assert b"Forum" not in page


# Rule 24: who gets a code, and where it goes.


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/callback",
        "https://shop.example.com/callback/",
        "https://shop.example.com/callback?x=1",
        "https://shop.example.com/callback#x",
        "https://SHOP.example.com/callback",
        "https://shop.example.com:443/callback",
        "https://user@shop.example.com/callback",
        "https://shop.example.com/%63allback",
        "https://shop.example.com/x/../callback",
        "https://forum.example.com/callback",
        "http://shop.example.com/callback",
        "https://shop.example.com/callback ",
        " https://shop.example.com/callback",
        "https://shop.example.com/callback\0",
        "",
        None,
    ],
)
@pytest.mark.parametrize("logged_in", [True, False], ids=["logged in", "not"])
async def test_rule_24_no_redirect_on_mismatch(whole, uri, logged_in):
    """A page of ours, by GET and by POST, logged in or not, also where all else is wrong."""
    browser, shop = whole.browser(), RelyingParty(whole)
    if logged_in:
        await whole.log_in(browser, whole.person())
    for more in ({}, {"state": None, "response_type": "token"}, {"prompt": "none"}):
        path = shop.authorize_path(redirect_uri=uri, **more)
        answer = await browser.get(path)
        assert answer.code == 400
        assert "Location" not in answer.headers
        assert b"evil.example" not in answer.body
        posted = await browser.request("POST", "/oauth2/authorize", body=urlsplit(path).query)
        assert posted.code == 303
        assert urlsplit(posted.headers["Location"]).path == "/oauth2/authorize"
        assert (await browser.get(posted.headers["Location"])).code == 400


async def test_rule_24_state_and_pkce_are_required_and_iss_is_in_every_answer(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    for changes, error in (
        ({"state": None}, "invalid_request"),
        ({"state": ""}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "id_token token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"request": "a.b.c"}, "request_not_supported"),
    ):
        brought = await shop.authorize(browser, **changes)
        assert (brought["error"], brought["iss"]) == (error, whole.base_url), changes
        assert "code" not in brought
        assert brought.get("state") == (None if "state" in changes else shop.state)
    assert (await shop.authorize(browser))["iss"] == whole.base_url


async def test_an_answer_keeps_the_query_of_its_address(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    shop.redirect_uri = SITE["redirect_uris"][1]
    brought = await shop.authorize(browser)
    assert brought["a"] == "b"
    assert (await shop.tokens(brought["code"]))["access_token"]


@pytest.mark.parametrize("state", ["状态 & =?#%+\"'<>", " blanks ", "%00%0d%0a", "x" * 1024])
async def test_state_comes_back_to_the_letter(whole, state):
    """By way of the login page, too, and of a form."""
    browser, shop = whole.browser(), RelyingParty(whole)
    shop.state = state
    assert (await shop.log_in(browser, whole.person(), state=state))["state"] == state
    assert (await shop.authorize(browser, state=state))["state"] == state
    query = urlsplit(shop.authorize_path(state=state)).query
    posted = await browser.request("POST", "/oauth2/authorize", body=query)
    assert shop.brought(await browser.get(posted.headers["Location"]))["state"] == state


async def test_a_request_may_come_by_post_from_the_sites_page(whole):
    """Without our cookie and from a foreign origin: so it goes on to GET, which brings the cookie."""
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    query = urlsplit(shop.authorize_path()).query
    posted = await whole.browser().request(
        "POST",
        "/oauth2/authorize",
        body=query,
        headers={"Origin": "https://shop.example.com", "Content-Type": "application/x-www-form-urlencoded"},
    )
    assert (posted.code, posted.headers["Location"]) == (303, f"/oauth2/authorize?{query}")
    assert "code" in shop.brought(await browser.get(posted.headers["Location"]))


@pytest.mark.parametrize(
    "body", ["x" * 4000, "a=b\r\nSet-Cookie: c=d", "状态=1", b"\xff\xfe", "a=%ff", '{"a": 1}', "a=1&" * 60]
)
async def test_a_post_that_is_no_form_goes_nowhere(whole, body):
    answer = await whole.browser().request("POST", "/oauth2/authorize", body=body)
    assert answer.code == 400
    assert "Location" not in answer.headers
    assert "Set-Cookie" not in answer.headers


async def test_a_programs_session_opens_no_other_site(whole):
    """The token that a site got for its own program would let it be the person at every other site."""
    program, bare = whole.browser(), {"Origin": "", "X-XSRFToken": ""}
    made = document(
        await program.post("/api/v1/tickets", {"client": "api"}, **basic("shop", SITE["secret"]), **bare)
    )
    await whole.scan(made["id"], whole.person())
    secret = {"Authorization": f"Ticket {made['secret']}"}
    token = document(await program.post(f"/api/v1/tickets/{made['id']}/exchange", **secret, **bare))["token"]
    for headers in ({"Authorization": f"Bearer {token}"}, {"Cookie": f"saoma-session={token}"}):
        assert (await program.get("/api/v1/me", **headers)).code == 200
        page = RelyingParty(whole, PUBLIC)
        answer = await program.get(page.authorize_path(), **headers)
        assert answer.headers["Location"].startswith("/login?")
        silent = page.brought(await program.get(page.authorize_path(prompt="none"), **headers))
        assert silent["error"] == "login_required"


# Rule 24: a code is bound, short-lived and good once.


async def test_rule_24_a_code_is_bound_to_site_address_and_verifier(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    forum, page = RelyingParty(whole, OTHER), RelyingParty(whole, PUBLIC)
    brought = await shop.log_in(browser, whole.person())
    code = brought["code"]
    other_verifier = forum.verifier
    for changes in (
        {"code": code[:-1]},
        {"code": code + "x"},
        {"code": code.swapcase()},
        {"code": code.partition(".")[2]},
        {"code": code.partition(".")[0] + "."},
        {"code": "x" * 5000},
        {"code": "\0"},
        {"code": "状态.码"},
        {"redirect_uri": SITE["redirect_uris"][1]},
        {"redirect_uri": shop.redirect_uri + "/"},
        {"redirect_uri": "https://evil.example/"},
        {"code_verifier": other_verifier},
        {"code_verifier": challenge_of(shop.verifier)},
        {"code_verifier": shop.verifier[:-1]},
        {"code_verifier": "short"},
        {"code_verifier": "v" * 129},
        {"code_verifier": "é" * 43},
    ):
        assert await shop.redeemed(code, **changes) == INVALID_GRANT, changes
    for rival in (forum, page):
        form = shop.code_form(code)
        assert told(await rival.token(form)) == INVALID_GRANT
    for name in ("code", "redirect_uri", "code_verifier", "grant_type"):
        form = shop.code_form(code)
        assert told(await shop.token({**form, name: ""})) == INVALID_REQUEST
        del form[name]
        assert told(await shop.token(form)) == INVALID_REQUEST
    assert await shop.redeemed(code) == (200, ""), "all that has cost the code nothing"


async def test_rule_24_a_code_is_good_for_60_seconds(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    late, soon = [(await shop.authorize(browser))["code"] for _ in range(2)]
    whole.clock.pass_(55)
    assert await shop.redeemed(soon) == (200, "")
    whole.clock.pass_(6)
    assert await shop.redeemed(late) == INVALID_GRANT


async def test_a_code_that_nobody_redeems_leaves_nothing_behind(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    used, _unused = [(await shop.authorize(browser))["code"] for _ in range(2)]
    assert await shop.redeemed(used) == (200, "")
    session = await session_of(whole, browser)
    whole.clock.pass_(61)

    async def work(transaction):
        return await transaction.grants.of_session(session.id, now=whole.clock())

    (kept,) = await whole.storage.transact(work)
    assert kept.redeemed
    assert kept.expires_at == session.expires_at


async def test_rule_24_a_code_is_bound_to_its_session(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    code = (await shop.authorize(browser))["code"]
    await browser.get("/")
    browser.xsrf = browser.xsrf or ""
    assert (await browser.post("/api/v1/sessions/current/revoke")).code == 204
    assert await shop.redeemed(code) == INVALID_GRANT


async def test_rules_24_and_25_codes_and_tokens_are_opaque_and_kept_hashed(whole, tmp_path):
    browser, shop = whole.browser(), RelyingParty(whole)
    code = (await shop.log_in(browser, whole.person()))["code"]
    tokens = await shop.tokens(code)
    renewed = document(await shop.refreshed(tokens["refresh_token"]))
    await whole.storage.ping()
    kept = b"".join(file.read_bytes() for file in (tmp_path / "data").iterdir() if "saoma.db" in file.name)
    assert len(kept) > 10_000
    for token in (
        code,
        *(given[kind] for given in (tokens, renewed) for kind in ("access_token", "refresh_token")),
    ):
        grant_id, *parts = token.split(".")
        assert grant_id.encode() in kept
        for part in parts:
            assert part.encode() not in kept


async def test_rule_24_reuse_of_a_code_revokes_what_it_gave(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    code = (await shop.authorize(browser))["code"]
    tokens, another = await shop.tokens(code), await shop.given(browser)
    assert await shop.redeemed(code, code_verifier="v" * 43) == INVALID_GRANT
    assert told(await RelyingParty(whole, OTHER).token(shop.code_form(code))) == INVALID_GRANT
    assert await shop.active(tokens["access_token"]), "who cannot show what belongs to it ends nothing"
    whole.clock.pass_(300)
    assert await shop.redeemed(code) == INVALID_GRANT
    assert await shop.all_over(tokens)
    assert await shop.active(another["access_token"]), "another code of the same login gave that one"


async def test_rule_24_one_winner_among_fifty(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    code = (await shop.log_in(browser, whole.person()))["code"]
    answers = await asyncio.gather(*(shop.token(shop.code_form(code)) for _ in range(50)))
    assert Counter(map(told, answers)) == {(200, ""): 1, INVALID_GRANT: 49}
    (won,) = [document(answer) for answer in answers if answer.code == 200]
    assert await shop.all_over(won), "somebody has used it a second time"


# Rule 25: tokens.


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


# How a site shows that it is itself.


ODD: dict[str, Any] = {
    **SITE,
    "id": "odd_site-1",
    "secret": "a+b%20c:d&e=f/g~é字 " + "s" * 20,
    "previous_secret": "old" * 12,
}


def basic_header(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


def eager(text: str) -> str:
    """Percent-encoded with every letter that is no letter, as some libraries do."""
    return "".join(
        letter if letter.isalnum() and letter.isascii() else quote(letter, safe="") for letter in text
    )


def all_encoded(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


async def test_a_secret_may_be_sent_in_every_right_way(tmp_path):
    async with running(tmp_path, sites=[ODD, PUBLIC], wechat={"pool_size": 0}) as whole:
        browser, odd = whole.browser(), RelyingParty(whole, ODD)
        await whole.log_in(browser, whole.person())
        name, secret, former = ODD["id"], ODD["secret"], ODD["previous_secret"]
        none = {"Authorization": ""}
        ways = [
            (basic_header(urlencode({name: ""})[:-1], urlencode({secret: ""})[:-1]), {}),
            (basic_header(name, quote(secret, safe="")), {"client_id": name}),
            (basic_header(name, eager(secret)), {}),
            (basic_header(all_encoded(name), all_encoded(secret)), {"client_id": name}),
            (basic_header(name, secret), {}),  # as curl does it
            (basic_header(name, former), {}),
            ({"Authorization": basic_header(name, former)["Authorization"].replace("Basic", "bAsIc")}, {}),
            (none, {"client_id": name, "client_secret": secret}),
            (none, {"client_id": name, "client_secret": former}),
            (basic_header(name, former), {"client_secret": ""}),
        ]
        for headers, more in ways:
            code = (await odd.authorize(browser))["code"]
            answer = await odd.token(odd.code_form(code, **more), **headers)
            assert told(answer) == (200, ""), (headers, more)
        page = RelyingParty(whole, PUBLIC)
        for headers, more in ((basic_header("page", ""), {}), (none, {"client_secret": ""})):
            code = (await page.authorize(browser))["code"]
            assert told(await page.token(page.code_form(code, **more), **headers)) == (200, "")


async def test_who_shows_it_wrongly_is_refused(tmp_path):
    async with running(tmp_path, sites=[ODD, OTHER, PUBLIC], wechat={"pool_size": 0}) as whole:
        browser, odd = whole.browser(), RelyingParty(whole, ODD)
        await whole.log_in(browser, whole.person())
        code = (await odd.authorize(browser))["code"]
        name, secret = ODD["id"], ODD["secret"]
        none = {"Authorization": ""}
        wrong = [
            (none, {}),
            (none, {"client_id": name}),
            (none, {"client_id": name, "client_secret": ""}),
            (none, {"client_id": name, "client_secret": "x" * 32}),
            (none, {"client_id": name, "client_secret": urlencode({secret: ""})[:-1]}),
            (none, {"client_id": name, "client_secret": OTHER["secret"]}),
            (none, {"client_id": "nobody", "client_secret": secret}),
            (none, {"client_id": "forum", "client_secret": secret}),
            (none, {"client_id": "page", "client_secret": secret}),
            (none, {"client_id": "", "client_secret": secret}),
            (basic_header(name, ""), {}),
            (basic_header(name, "x" * 32), {}),
            (basic_header(name.upper(), secret), {}),
            (basic_header("forum", secret), {}),
            (basic_header("page", secret), {}),
            (basic_header("page", "x"), {}),
            (basic_header("", ""), {}),
            (basic_header("", secret), {"client_id": name}),
            ({"Authorization": "Basic !!!"}, {"client_id": name}),
            ({"Authorization": "Basic " + base64.b64encode(name.encode()).decode()}, {}),
            ({"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}, {}),
            ({"Authorization": f"Bearer {secret[-20:]}"}, {}),
        ]
        for headers, more in wrong:
            answer = await odd.token(odd.code_form(code, **more), **headers)
            assert told(answer) == INVALID_CLIENT, (headers, more)
            assert answer.headers["WWW-Authenticate"] == 'Basic realm="saoma"'
        twice = [
            (basic_header(name, secret), {"client_id": name, "client_secret": secret}),
            (basic_header(name, secret), {"client_secret": "x"}),
            (basic_header(name, secret), {"client_id": "forum"}),
        ]
        for headers, more in twice:
            assert told(await odd.token(odd.code_form(code, **more), **headers)) == INVALID_REQUEST
        in_the_address = urlencode({"client_id": name, "client_secret": secret, **odd.code_form(code)})
        answer = await odd.post(f"token?{in_the_address}", {}, **none)
        assert told(answer) == INVALID_CLIENT, "nothing of the address counts"
        assert await odd.redeemed(code) == (200, ""), "all that has cost the code nothing"


# Errors, headers, other origins.


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        ("", "application/x-www-form-urlencoded", "invalid_request"),
        ("grant_type=password", "application/x-www-form-urlencoded", "unsupported_grant_type"),
        ("grant_type=client_credentials", "application/x-www-form-urlencoded", "unsupported_grant_type"),
        ("grant_type=implicit", "application/x-www-form-urlencoded; charset=utf-8", "unsupported_grant_type"),
        ("grant_type=refresh_token", "application/x-www-form-urlencoded", "invalid_request"),
        ("grant_type=a&grant_type=a", "application/x-www-form-urlencoded", "invalid_request"),
        ("grant_type=&grant_type=a", "application/x-www-form-urlencoded", "invalid_request"),
        ("grant_type=%ff", "application/x-www-form-urlencoded", "invalid_request"),
        ("grant_type=%ed%a0%80", "application/x-www-form-urlencoded", "invalid_request"),
        ("grant_type=%00", "application/x-www-form-urlencoded", "unsupported_grant_type"),
        ("x=" + "x" * 60_000, "application/x-www-form-urlencoded", "invalid_request"),
        ('{"grant_type": "refresh_token"}', "application/json", "invalid_request"),
        ("grant_type=refresh_token", "text/plain", "invalid_request"),
        ("grant_type=refresh_token", "", "invalid_request"),
        ("--x\r\n\r\n--x--", "multipart/form-data; boundary=x", "invalid_request"),
    ],
)
async def test_errors_are_in_oauths_words(whole, body, kind, error):
    shop = RelyingParty(whole)
    sent = {"Content-Type": kind, "Authorization": shop.basic(), "Origin": "", "X-XSRFToken": ""}
    answer = await whole.browser().request("POST", "/oauth2/token", body=body, headers=sent)
    assert told(answer) == (400, error)
    assert answer.headers["Pragma"] == "no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("endpoint", ["token", "introspect", "revoke"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
async def test_other_methods_are_refused(whole, endpoint, method):
    answer = await whole.browser().request(method, f"/oauth2/{endpoint}")
    assert answer.code == 405
    if method != "HEAD":
        assert document(answer)["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("token", "challenge"),
    [
        ("", 'Bearer realm="saoma"'),
        ("x", 'Bearer realm="saoma", error="invalid_token"'),
        ("x.y", 'Bearer realm="saoma", error="invalid_token"'),
        ("é.y", 'Bearer realm="saoma", error="invalid_token"'),
        ("x" * 5000 + ".y", 'Bearer realm="saoma", error="invalid_token"'),
    ],
)
async def test_userinfo_says_how_to_authenticate(whole, token, challenge):
    for method in ("GET", "POST"):
        sent = {"Authorization": f"Bearer {token}".strip(), "Origin": "", "X-XSRFToken": ""}
        answer = await whole.browser().request(method, "/oauth2/userinfo", headers=sent)
        assert told(answer) == (401, "invalid_token")
        assert answer.headers["WWW-Authenticate"] == challenge


async def test_userinfo_takes_no_other_token(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    brought = await shop.log_in(browser, whole.person())
    tokens = await shop.tokens(brought["code"])
    session = browser.cookies["saoma-session"]
    for token in (brought["code"], tokens["refresh_token"], tokens["id_token"], session):
        assert (await shop.userinfo(token)).code == 401
    assert (await browser.get("/oauth2/userinfo")).code == 401, "a cookie counts for nothing"
    address = f"/oauth2/userinfo?access_token={tokens['access_token']}"
    assert (await whole.browser().get(address)).code == 401, "no token in an address"
    assert (
        await whole.browser().get("/api/v1/me", Authorization=f"Bearer {tokens['access_token']}")
    ).code == 401


async def test_scripts_of_public_sites_alone_are_answered_across_origins(whole):
    for path, method in (("token", "POST"), ("userinfo", "GET"), ("revoke", "POST"), ("introspect", "POST")):
        for origin, allowed in (
            ("https://page.example.com", "https://page.example.com"),
            ("https://shop.example.com", None),
            ("https://evil.example", None),
            ("https://page.example.com.evil.example", None),
            ("http://page.example.com", None),
            ("null", None),
            ("*", None),
            ("", None),
        ):
            for asked in (method, "OPTIONS"):
                headers = {"Origin": origin, "Access-Control-Request-Method": method, "X-XSRFToken": ""}
                answer = await whole.browser().request(asked, f"/oauth2/{path}", headers=headers)
                assert answer.headers.get("Access-Control-Allow-Origin") == allowed
                assert "Access-Control-Allow-Credentials" not in answer.headers
                assert answer.headers["Vary"] == "Origin"
    preflight = await whole.browser().request(
        "OPTIONS", "/oauth2/token", headers={"Origin": "https://page.example.com"}
    )
    assert preflight.code == 204
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    for path in ("/oauth2/jwks", "/.well-known/openid-configuration"):
        answer = await whole.browser().get(path, Origin="https://evil.example")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    for path in ("/oauth2/authorize", "/oauth2/logout"):
        answer = await whole.browser().get(path, Origin="https://page.example.com")
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_nothing_of_a_query_or_form_is_logged(whole, caplog):
    caplog.set_level(logging.DEBUG)
    browser, shop = whole.browser(), RelyingParty(whole)
    brought = await shop.log_in(browser, whole.person())
    tokens = await shop.tokens(brought["code"])
    await shop.refreshed(tokens["refresh_token"])
    await shop.seen(tokens["access_token"])
    await shop.userinfo(tokens["access_token"])
    hint = tokens["id_token"]
    await browser.get(f"/oauth2/logout?id_token_hint={hint}")
    await browser.get(shop.authorize_path(redirect_uri="https://evil.example/"))
    written = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("saoma"))
    assert "GET /oauth2/authorize" in written
    assert "POST /oauth2/token" in written
    assert "GET /oauth2/logout" in written
    secret = (
        *tokens.values(),
        shop.state,
        shop.nonce,
        shop.verifier,
        brought["code"],
        SITE["secret"],
        "evil.example",
    )
    for value in (*map(str, secret), *(part for token in secret for part in str(token).split("."))):
        assert len(value) < 5 or value not in written
    assert "?" not in written


async def test_the_store_away_means_no_token_and_no_code(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    await whole.log_in(browser, whole.person())
    tokens = await shop.given(browser)
    code = (await shop.authorize(browser))["code"]
    whole.store_goes_away()
    answers = [
        await shop.token(shop.code_form(code)),
        await shop.refreshed(tokens["refresh_token"]),
        await shop.userinfo(tokens["access_token"]),
        await shop.post("introspect", {"token": tokens["access_token"]}),
        await shop.post("revoke", {"token": tokens["access_token"]}),
    ]
    for answer in answers:
        assert told(answer) == (503, "temporarily_unavailable")
    for path in (shop.authorize_path(), shop.authorize_path(prompt="none")):
        page = await browser.get(path)
        assert page.code == 503
        assert "Location" not in page.headers


async def test_keys_are_told_while_the_store_is_away(whole):
    known = (await whole.browser().get("/oauth2/jwks")).body
    whole.store_goes_away()
    whole.clock.pass_(120)
    answer = await whole.browser().get("/oauth2/jwks")
    assert (answer.code, answer.body) == (200, known)


async def test_where_there_is_no_key_to_be_had_no_code_is_used_up(whole):
    """Else a second try with it would end the login."""
    browser, shop = whole.browser(), RelyingParty(whole)
    code = (await shop.log_in(browser, whole.person()))["code"]
    transact = whole.storage.transact

    async def without_keys(work):
        if "Signer" in work.__qualname__:
            raise StoreUnavailable
        return await transact(work)

    whole.storage.transact = without_keys
    assert await shop.redeemed(code) == (503, "temporarily_unavailable")
    whole.storage.transact = transact
    tokens = await shop.tokens(code)
    fresh = Signer(whole.server.context)
    whole.storage.transact = without_keys
    site, refresh = whole.server.settings.site_of("shop"), tokens["refresh_token"]
    with pytest.raises(StoreUnavailable):
        await grants.refresh(whole.server.context, fresh, site, refresh_token=refresh, scope="")
    whole.storage.transact = transact
    assert told(await shop.refreshed(refresh)) == (200, "")


async def test_an_answer_goes_to_no_other_host(whole):
    shop = RelyingParty(whole)
    answer = await whole.browser().get(shop.authorize_path(), Host="evil.example")
    assert answer.code == 421
    answer = await whole.browser().get("/.well-known/openid-configuration", Host="evil.example")
    assert answer.code == 421
    assert b"evil.example" not in answer.body
