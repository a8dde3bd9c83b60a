"""A person deletes what is stored of them."""

from __future__ import annotations

from tests.harness import Browser, Whole, document


async def logged_in(whole: Whole) -> Browser:
    browser = whole.browser()
    await whole.log_in(browser, whole.person())
    return browser


async def test_a_person_deletes_what_is_stored_of_them(whole):
    browser, other = await logged_in(whole), await logged_in(whole)
    former = document(await browser.get("/api/v1/me"))["id"]
    assert [name for name in browser.cookies if "session" in name]
    gone = await browser.request("DELETE", "/api/v1/me")
    assert (gone.code, gone.body) == (204, b"")
    assert not [name for name in browser.cookies if "session" in name]
    assert await whole.user(whole.person()) is None
    assert (await other.get("/api/v1/me")).code == 401, "on every device"
    assert (await browser.request("DELETE", "/api/v1/me")).code == 401
    await whole.log_in(browser, whole.person())
    assert document(await browser.get("/api/v1/me"))["id"] != former


async def test_a_program_may_by_the_sessions_token(whole):
    browser = await logged_in(whole)
    (token,) = (value for name, value in browser.cookies.items() if name.endswith("session"))
    program = whole.browser(Authorization=f"Bearer {token}")
    assert (await program.request("DELETE", "/api/v1/me", headers={"Origin": ""})).code == 204
    assert await whole.user(whole.person()) is None


async def test_no_other_site_can_make_a_browser_do_it(whole):
    browser = await logged_in(whole)
    for headers in ({"Origin": "https://evil.example.com"}, {"Origin": ""}, {"X-XSRFToken": ""}):
        assert (await browser.request("DELETE", "/api/v1/me", headers=headers)).code == 403
    assert (await browser.get("/api/v1/me")).code == 200


async def test_nobody_deletes_nothing(whole):
    refused = await whole.browser(Authorization="Bearer none").request("DELETE", "/api/v1/me")
    assert (refused.code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
