"""The provider, step by step over HTTP: who gets a code, and where it goes."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, urlsplit

import pytest

from tests.handlers.programs import basic
from tests.handlers.relying_party import PUBLIC, SITE, SITES, RelyingParty
from tests.harness import document, running


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
