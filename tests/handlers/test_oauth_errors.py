"""What goes wrong at the provider is told in OAuth's words, and nothing is given away by it."""

from __future__ import annotations

import logging

import pytest

from errors import StoreUnavailable
from flows import grants
from flows.signing import Signer
from tests.handlers.relying_party import SITE, SITES, RelyingParty, told
from tests.harness import document, running


@pytest.fixture
async def whole(tmp_path):
    async with running(tmp_path, sites=SITES, wechat={"pool_size": 0}) as whole:
        yield whole


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
