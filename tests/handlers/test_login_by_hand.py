"""The login page for browsers without scripts: the person scans, confirms, and presses a button."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import urlencode, urlsplit

import pytest

from tests.handlers.relying_party import SITE, RelyingParty
from tests.harness import Browser, running

APP = {"issuer": "https://app.example", "key": "k" * 32}


@pytest.fixture
async def whole(tmp_path):
    async with running(tmp_path, sites=[SITE], app=APP) as whole:
        yield whole


def form_of(page: str) -> dict[str, str]:
    """The hidden fields of the page's form for browsers without scripts."""
    form = re.search(r'<form class="by-hand".*?</form>', page, re.DOTALL)[0]
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form)
    xsrf = re.findall(r'name="_xsrf" value="([^"]+)"', form)
    return {name: unescape(value) for name, value in fields} | {"_xsrf": xsrf[0]}


async def press(browser: Browser, fields: dict[str, str], **headers: str):
    return await browser.post(
        "/login",
        urlencode(fields),
        **{"Content-Type": "application/x-www-form-urlencoded", "X-XSRFToken": "", **headers},
    )


async def test_from_the_site_and_back(whole):
    browser, shop = whole.browser(), RelyingParty(whole)
    page_address = (await browser.get(shop.authorize_path())).headers["Location"]
    page = await browser.get(page_address)
    fields = form_of(page.body.decode())
    assert (await whole.scan(fields["ticket"], whole.person())).accepted
    pressed = await press(browser, fields)
    assert pressed.code == 303, pressed.body
    brought = shop.brought(await browser.get(pressed.headers["Location"]))
    assert (await shop.tokens(brought["code"]))["id_token"]


async def test_the_form_may_lead_to_the_site(whole):
    """Browsers hold each redirect after a form against the page's policy."""
    browser, shop = whole.browser(), RelyingParty(whole)
    page = await browser.get((await browser.get(shop.authorize_path())).headers["Location"])
    policy = page.headers["Content-Security-Policy"]
    assert "form-action 'self' https://shop.example.com;" in policy
    assert "<h1>登录 Shop</h1>" in page.body.decode() or "Log in to Shop" in page.body.decode()
    page = await browser.get("/login")
    assert "form-action 'self';" in page.headers["Content-Security-Policy"]


async def test_pressed_too_early(whole):
    browser = whole.browser(**{"Accept-Language": "en"})
    fields = form_of((await browser.get("/login")).body.decode())
    pressed = await press(browser, fields)
    page = pressed.body.decode()
    assert pressed.code == 200
    assert "has not confirmed yet" in page
    assert form_of(page)["ticket"] == fields["ticket"]
    await whole.scan(fields["ticket"], whole.person())
    pressed = await press(browser, form_of(page))
    assert (pressed.code, pressed.headers["Location"]) == (303, "/")
    assert (await browser.get("/api/v1/me")).code == 200


async def test_pressed_twice(whole):
    browser = whole.browser()
    fields = form_of((await browser.get("/login")).body.decode())
    await whole.scan(fields["ticket"], whole.person())
    assert (await press(browser, fields)).code == 303
    assert (await press(browser, fields)).code == 303
    assert (await browser.get("/api/v1/me")).code == 200


async def test_pressed_too_late(whole):
    browser = whole.browser()
    fields = form_of((await browser.get("/login?next=/%3Fa=b")).body.decode())
    whole.clock.pass_(600)
    pressed = await press(browser, fields)
    page = pressed.body.decode()
    assert pressed.code == 404
    assert 'data-state="INVALID"' in page
    assert 'name="next" value="/?a=b"' in page


async def test_the_ticket_of_another_browser(whole):
    fields = form_of((await whole.browser().get("/login")).body.decode())
    await whole.scan(fields["ticket"], whole.person())
    other = whole.browser()
    own = form_of((await other.get("/login")).body.decode())
    pressed = await press(other, {**own, "ticket": fields["ticket"]})
    assert pressed.code == 404
    assert (await other.get("/api/v1/me")).code == 401


async def test_a_blocked_person(whole):
    browser = whole.browser()
    fields = form_of((await browser.get("/login")).body.decode())
    await whole.scan(fields["ticket"], whole.person())
    user = await whole.user(whole.person())
    await whole.storage.transact(lambda transaction: transaction.users.set_blocked(user.id, True))
    pressed = await press(browser, fields)
    assert pressed.code == 403
    assert 'data-state="FAILED"' in pressed.body.decode()
    assert re.search(r'data-reason="login_refused" class="chosen"', pressed.body.decode())
    assert (await browser.get("/api/v1/me")).code == 401


async def test_a_ticket_that_was_given_up(whole):
    browser = whole.browser()
    page = (await browser.get("/login")).body.decode()
    browser.xsrf = re.search(r'data-xsrf="([^"]+)"', page)[1]
    fields = form_of(page)
    assert (await browser.post(f"/api/v1/tickets/{fields['ticket']}/abandon")).code == 200
    pressed = await press(browser, fields)  # the answer to giving up has taken its cookie
    assert pressed.code == 404


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Origin": ""}])
async def test_a_form_of_somebody_elses(whole, headers):
    browser = whole.browser()
    fields = form_of((await browser.get("/login")).body.decode())
    await whole.scan(fields["ticket"], whole.person())
    assert (await press(browser, fields, **headers)).code == 403
    assert (await press(browser, {**fields, "_xsrf": ""})).code == 403


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
async def test_a_target_that_is_not_allowed(whole, target):
    """The ticket knows where to go; the form only says where to begin again."""
    browser = whole.browser()
    fields = form_of((await browser.get("/login")).body.decode())
    await whole.scan(fields["ticket"], whole.person())
    pressed = await press(browser, {**fields, "next": target})
    assert urlsplit(pressed.headers["Location"]).path == "/"


async def test_a_form_without_a_ticket(whole):
    browser = whole.browser()
    fields = form_of((await browser.get("/login")).body.decode())
    del fields["ticket"]
    assert (await press(browser, fields)).code == 400


async def test_the_page_comes_again_by_itself_where_the_person_chose_that(whole):
    browser = whole.browser(**{"Accept-Language": "en"})
    page = await browser.get("/login?next=/%3Fa=b")
    fields = form_of(page.body.decode())
    assert "Refresh" not in page.headers
    link = unescape(re.search(r'href="(/login\?again=[^"]+)"', page.body.decode())[1])
    page = await browser.get(link)
    assert (page.headers["Refresh"], form_of(page.body.decode())["ticket"]) == ("5", fields["ticket"])
    await whole.scan(fields["ticket"], whole.person())
    page = await browser.get(link)
    assert "Refresh" not in page.headers
    assert "Your phone has confirmed" in page.body.decode()
    assert (await browser.get("/api/v1/me")).code == 401  # looking logs nobody in
    pressed = await press(browser, form_of(page.body.decode()))
    assert (pressed.code, pressed.headers["Location"]) == (303, "/?a=b")


async def test_a_page_that_comes_again_too_late(whole):
    browser = whole.browser()
    fields = form_of((await browser.get("/login")).body.decode())
    whole.clock.pass_(600)
    page = await browser.get(f"/login?again={fields['ticket']}&method=wechat")
    assert (page.code, "Refresh" in page.headers) == (404, False)
    assert 'data-state="INVALID"' in page.body.decode()
    other = await whole.browser().get(f"/login?again={fields['ticket']}&method=wechat")
    assert other.code == 404
