"""A person's own page over HTTP: what it shows, what it ends, and for whom."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest

from tests.handlers.relying_party import SITE, RelyingParty
from tests.harness import Browser, Whole, running

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def whole(tmp_path):
    async with running(tmp_path, sites=[SITE]) as whole:
        yield whole


async def page_of(browser: Browser, path: str = "/account") -> str:
    answer = await browser.get(path)
    assert answer.code == 200, answer.headers
    page = answer.body.decode()
    if found := re.search(r'name="_xsrf" value="([^"]+)"', page):
        browser.xsrf = found[1]
    return page


async def someone(whole: Whole, number: int = 0, **headers: str) -> Browser:
    browser = whole.browser(**{"Accept-Language": "en", **headers})
    await whole.log_in(browser, whole.person(number))
    return browser


async def test_what_it_shows(whole):
    browser = await someone(whole)
    await RelyingParty(whole).log_in(browser, whole.person(), prompt="login")
    page = await page_of(browser)
    for told in ("Chrome, Windows", "127.0.0.1", "this browser", "<li>Shop</li>", "logged in", "linked"):
        assert told in page, told
    assert page.count('name="session" value="') == 2  # this one, and all


async def test_who_is_not_logged_in_does_that_first(whole):
    answer = await whole.browser().get("/account")
    assert (answer.code, answer.headers["Location"]) == (303, "/login?next=/account")


async def test_one_session_ends(whole):
    here, there = await someone(whole), await someone(whole, **{"User-Agent": "Firefox/140.0 Linux"})
    page = await page_of(here)
    row = re.search(r'Firefox, Linux.*?name="session" value="([^"]+)"', page, re.DOTALL)
    answer = await here.post("/account/end", urlencode({"session": row[1]}), **FORM)
    assert (answer.code, answer.headers["Location"]) == (303, "/account")
    assert (await there.get("/api/v1/me")).code == 401
    assert (await here.get("/api/v1/me")).code == 200


async def test_all_sessions_end(whole):
    here, there = await someone(whole), await someone(whole)
    await page_of(here)
    answer = await here.post("/account/end", urlencode({"session": "all"}), **FORM)
    assert (answer.code, answer.headers["Location"]) == (303, "/")
    assert [(await browser.get("/api/v1/me")).code for browser in (here, there)] == [401, 401]


async def test_somebody_elses_session(whole):
    mine, theirs = await someone(whole), await someone(whole, 1)
    session_id = re.search(r'name="session" value="([^"]+)"', await page_of(theirs))[1]
    await page_of(mine)
    assert (await mine.post("/account/end", urlencode({"session": session_id}), **FORM)).code == 404
    assert (await theirs.get("/api/v1/me")).code == 200


async def test_leaving(whole):
    browser = await someone(whole)
    page = await page_of(browser, "/account/leave")
    assert "cannot be undone" in page
    assert await whole.user(whole.person()) is not None  # looking deletes nothing
    answer = await browser.post("/account/leave", "", **FORM)
    assert (answer.code, "Everything is deleted" in answer.body.decode()) == (200, True)
    assert await whole.user(whole.person()) is None
    assert (await browser.get("/api/v1/me")).code == 401


@pytest.mark.parametrize("path", ["/account/end", "/account/leave"])
async def test_a_form_of_somebody_elses(whole, path):
    browser = await someone(whole)
    await page_of(browser)
    body = urlencode({"session": "all"})
    assert (await browser.post(path, body, **FORM, Origin="https://evil.example")).code == 403
    assert (await browser.post(path, body, **{**FORM, "X-XSRFToken": ""})).code == 403
    assert (await browser.get("/api/v1/me")).code == 200


async def test_the_name(whole):
    browser = await someone(whole)
    await page_of(browser)
    form = urlencode({"name": "小明 <b>", "next": "/account"})
    answer = await browser.post("/profile", form, **FORM)
    assert (answer.code, answer.headers["Location"]) == (303, "/account")
    assert "<bdi>小明 &lt;b&gt;</bdi>" in await page_of(browser)
    assert "Delete everything of 小明 &lt;b&gt;?" in await page_of(browser, "/account/leave")
    evil = urlencode({"name": "x", "next": "https://evil.example"})
    assert (await browser.post("/profile", evil, **FORM)).code == 400
