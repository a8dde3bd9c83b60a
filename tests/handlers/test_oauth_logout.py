"""A site logs its visitor out (OpenID Connect RP-Initiated Logout 1.0): at once, or after a question."""

from __future__ import annotations

import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from flows.signing import Signer
from tests.handlers.relying_party import OTHER, SITE, RelyingParty, session_of
from tests.harness import Browser, Whole, running

BYE = SITE["post_logout_redirect_uris"][0]
NATIVE: dict[str, Any] = {
    **SITE,
    "id": "native",
    "post_logout_redirect_uris": ["com.example.app:/bye", "https://shop.example.com/bye?a=b"],
}


@pytest.fixture
async def whole(tmp_path):
    async with running(tmp_path, sites=[SITE, OTHER, NATIVE], wechat={"pool_size": 0}) as whole:
        yield whole


def logout_path(**parameters: str) -> str:
    return "/oauth2/logout?" + urlencode(parameters)


async def logged_in(whole: Whole, site: dict[str, Any] = SITE, number: int = 0) -> tuple[Browser, str]:
    """A browser, and the ID token that the site got of its login."""
    browser = whole.browser()
    await whole.log_in(browser, whole.person(number))
    return browser, (await RelyingParty(whole, site).given(browser))["id_token"]


async def is_in(browser: Browser) -> bool:
    return (await browser.get("/api/v1/me")).code == 200


async def is_asked(browser: Browser, path: str) -> tuple[str, str]:
    """The question's form: where it leads, and its XSRF token. Nobody has been logged out by it."""
    page = await browser.get(path)
    assert page.code == 200
    assert "Location" not in page.headers
    body = page.body.decode()
    action = unescape(re.search(r'<form action="([^"]*)" method="post"', body)[1])
    assert action == path, "it has all that the site said"
    assert await is_in(browser)
    return action, re.search(r'name="_xsrf" value="([^"]+)"', body)[1]


async def submit(browser: Browser, action: str, fields: dict[str, str], origin: str = "") -> Any:
    """A form, sent from a page of ours or of `origin`."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-XSRFToken": ""}
    if origin:
        headers["Origin"] = origin
    return await browser.request("POST", action, body=urlencode(fields), headers=headers)


async def test_with_the_id_token_of_this_login_at_once(whole):
    browser, hint = await logged_in(whole)
    shop = RelyingParty(whole)
    tokens, session = await shop.given(browser), await session_of(whole, browser)
    answer = await browser.get(
        logout_path(id_token_hint=hint, post_logout_redirect_uri=BYE, state="st&te", client_id="shop")
    )
    assert (answer.code, answer.headers["Location"]) == (302, f"{BYE}?state=st%26te")
    assert "saoma-session" not in browser.cookies
    assert await shop.all_over(tokens)

    async def work(transaction):
        return await transaction.sessions.by_id(session.id)

    assert (await whole.storage.transact(work)).revoked


async def test_an_id_token_that_is_over_will_do(whole):
    """It says which login is meant; that takes no fresh one (1.0, 4)."""
    browser, hint = await logged_in(whole)
    whole.clock.pass_(5 * 86400)
    answer = await browser.get(logout_path(id_token_hint=hint))
    assert (answer.code, answer.headers["Location"]) == (302, "/")
    assert not await is_in(browser)


async def hints(whole: Whole, browser: Browser) -> dict[str, str]:
    """ID tokens, and what looks like one, that are not of the browser's login."""
    await whole.log_in(browser, whole.person())  # its former login is over
    shop = RelyingParty(whole)
    _, elsewhere = await logged_in(whole)
    _, of_another = await logged_in(whole, number=1)
    own = (await shop.given(browser))["id_token"]
    session = await session_of(whole, browser)
    claims = {"iss": whole.base_url, "aud": "shop", "sub": session.user_id, "sid": session.id}
    stranger = RSAKey.generate_key(2048, {"kid": "x", "alg": "RS256"})
    header, payload, signature = own.split(".")
    other_payload = elsewhere.split(".")[1]
    logout_token = await Signer(whole.server.context).logout_token(
        whole.server.settings.sites[0], session.user_id, session.id, "jti"
    )
    return {
        "none": "",
        "of the person's other browser": elsewhere,
        "of another person": of_another,
        "of a stranger's key": jwt.encode({"alg": "RS256", "kid": "x"}, claims, stranger),
        "with another body": f"{header}.{other_payload}.{signature}",
        "without a signature": f"{header}.{payload}.",
        "cut short": own[:-8],
        "a logout token": logout_token,
        "a session": session.id,
        "an access token": (await shop.given(browser))["access_token"],
        "nonsense": "签名",
    }


async def test_with_any_other_hint_the_person_is_asked(whole):
    browser, former = await logged_in(whole)
    for name, hint in {**await hints(whole, browser), "of the former login": former}.items():
        path = logout_path(id_token_hint=hint, post_logout_redirect_uri=BYE, client_id="shop", state="s")
        action, xsrf = await is_asked(browser, path)
        assert action == path, name
    answer = await submit(browser, action, {"_xsrf": xsrf}, whole.base_url)
    assert (answer.code, answer.headers["Location"]) == (303, f"{BYE}?state=s")
    assert not await is_in(browser)


async def test_who_is_not_logged_in_is_sent_on(whole):
    _, hint = await logged_in(whole)
    for parameters in ({"id_token_hint": hint}, {"client_id": "shop"}):
        answer = await whole.browser().get(logout_path(post_logout_redirect_uri=BYE, **parameters))
        assert (answer.code, answer.headers["Location"]) == (302, BYE)
    answer = await whole.browser().get("/oauth2/logout")
    assert (answer.code, answer.headers["Location"]) == (302, "/")


async def test_the_button_takes_our_page_and_its_token(whole):
    """Nobody else's page can log the person out."""
    browser, _ = await logged_in(whole)
    action, xsrf = await is_asked(browser, "/oauth2/logout?state=s")
    stranger = whole.browser()
    await stranger.open_login()
    for fields, origin in (
        ({"_xsrf": "x"}, whole.base_url),
        ({"_xsrf": ""}, whole.base_url),
        ({"_xsrf": xsrf}, "https://evil.example"),
        ({"_xsrf": xsrf}, "null"),
        ({"_xsrf": stranger.xsrf}, whole.base_url),
    ):
        answer = await submit(browser, action, fields, origin)
        assert answer.code == 403, fields
        assert await is_in(browser)
    assert (await submit(browser, action, {"_xsrf": xsrf}, whole.base_url)).code == 303
    assert not await is_in(browser)


async def test_a_sites_form_is_asked_about_too(whole):
    """It comes without our cookie, so it goes on to GET; what it says is kept."""
    browser, hint = await logged_in(whole)
    fields = {"id_token_hint": hint, "post_logout_redirect_uri": BYE, "state": " s t "}
    posted = await submit(whole.browser(), "/oauth2/logout", fields, "https://shop.example.com")
    assert posted.code == 303
    target = urlsplit(posted.headers["Location"])
    assert target.path == "/oauth2/logout"
    assert {name: value for name, (value,) in parse_qs(target.query).items()} == fields
    assert await is_in(browser)
    answer = await browser.get(posted.headers["Location"])
    assert answer.headers["Location"] == f"{BYE}?state=+s+t+"
    assert not await is_in(browser)
    for body in (b"\xff", "a=b\r\nSet-Cookie: c=d", "x" * 4000):
        assert (await browser.request("POST", "/oauth2/logout", body=body)).code == 400


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/",
        BYE + "/",
        BYE + "?x=1",
        BYE + "#x",
        BYE + " ",
        " " + BYE,
        BYE + "\0",
        BYE.upper(),
        BYE.replace("https", "http"),
        BYE.replace("example.com", "example.com.evil.example"),
        BYE.replace("//", "//evil@"),
        BYE.replace("bye", "%62ye"),
        BYE.replace("/bye", "/x/../bye"),
        SITE["redirect_uris"][0],
        OTHER["post_logout_redirect_uris"][0],
        "//shop.example.com/bye",
        "/",
        "javascript:alert(1)",
    ],
)
async def test_an_address_that_is_not_registered_leads_nowhere_and_ends_nothing(whole, uri):
    browser, hint = await logged_in(whole)
    for parameters in ({"id_token_hint": hint}, {"client_id": "shop"}, {}):
        path = logout_path(post_logout_redirect_uri=uri, **parameters)
        for visitor in (browser, whole.browser()):
            answer = await visitor.get(path)
            assert answer.code == 400
            assert "Location" not in answer.headers
            assert b"evil" not in answer.body
    assert await is_in(browser)


async def test_site_and_hint_must_belong_together(whole):
    browser, hint = await logged_in(whole)
    forum_bye = OTHER["post_logout_redirect_uris"][0]
    for parameters in (
        {"client_id": "forum"},
        {"client_id": "nobody"},
        {"client_id": "Shop"},
        {"client_id": "forum", "post_logout_redirect_uri": forum_bye},
        {"client_id": "forum", "post_logout_redirect_uri": BYE},
        {"post_logout_redirect_uri": forum_bye},
    ):
        assert (await browser.get(logout_path(id_token_hint=hint, **parameters))).code == 400, parameters
    for parameters in (
        {"post_logout_redirect_uri": BYE},
        {"post_logout_redirect_uri": BYE, "client_id": "forum"},
    ):
        assert (await browser.get(logout_path(**parameters))).code == 400, parameters
    assert await is_in(browser)


async def test_a_parameter_given_twice_is_refused(whole):
    browser, hint = await logged_in(whole)
    good = {"id_token_hint": hint, "post_logout_redirect_uri": BYE, "client_id": "shop", "state": "s"}
    for name, value in good.items():
        for second in (value, "", "x"):
            path = f"{logout_path(**good)}&{name}={quote(second)}"
            assert (await browser.get(path)).code == 400
    for odd in ("%ff", "x" * 3000, "%ed%a0%80"):
        assert (await browser.get(f"/oauth2/logout?state={odd}")).code == 400
    assert await is_in(browser)


@pytest.mark.parametrize(
    ("uri", "source", "back"),
    [
        ("com.example.app:/bye", "com.example.app:", "com.example.app:/bye?state=s"),
        (
            "https://shop.example.com/bye?a=b",
            "https://shop.example.com",
            "https://shop.example.com/bye?a=b&state=s",
        ),
        ("", "", "/"),
    ],
)
async def test_the_policy_lets_the_form_lead_to_the_site_and_to_no_other(whole, uri, source, back):
    """Browsers follow no redirect of a form that `form-action` does not name."""
    browser, _ = await logged_in(whole, NATIVE)
    path = logout_path(client_id="native", post_logout_redirect_uri=uri, state="s")
    page = await browser.get(path)
    (sources,) = re.findall(r"form-action ([^;]*);", page.headers["Content-Security-Policy"])
    assert sources.split() == ["'self'", *source.split()]
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    action, xsrf = await is_asked(browser, path)
    assert (await submit(browser, action, {"_xsrf": xsrf}, whole.base_url)).headers["Location"] == back


async def test_what_a_site_says_stays_text_on_the_page(whole):
    browser, _ = await logged_in(whole)
    page = await browser.get("/oauth2/logout?state=" + quote('"><script>alert(1)</script>'))
    raw = await browser.get('/oauth2/logout?state="><script>alert(1)</script>')
    assert b"<script>alert" not in page.body + raw.body


async def test_the_store_away_is_no_logout_and_no_lie(whole):
    browser, hint = await logged_in(whole)
    whole.store_goes_away()
    answer = await browser.get(logout_path(id_token_hint=hint))
    assert answer.code == 503
    assert "saoma-session" in browser.cookies, "it is still good, so it is kept"
