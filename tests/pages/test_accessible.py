"""WCAG 2.2 AA by axe-core: every state of the login page and every other page, both themes and languages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from flows import admin
from tests.handlers.test_confirm import link_of
from tests.harness import Whole, running
from tests.pages.stage import Stage, address

pytestmark = pytest.mark.asyncio(loop_scope="session")

RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
STATES = ("LOADING", "WAITING", "SCANNED", "CONFIRMED", "SUCCESS", "CANCELLED", "INVALID", "FAILED")
ADMIN_PAGES = ("", "/people", "/logins", "/sites", "/settings", "/audit")
THEMES: tuple[Any, ...] = ("light", "dark")
# Contrast is the theme's, words are the language's: each is looked at once.
BOTH = [("light", "zh-CN"), ("dark", "en")]
UNKNOWN = ("/nowhere", "/confirm/unknown", "/not-me/unknown")
SHOP = {"id": "shop", "name": "书店", "secret": "s" * 32, "redirect_uris": ["https://shop.example/callback"]}


async def check(page: Page, what: str) -> None:
    found = (await Axe().run(page, options=RULES)).response
    assert found["passes"], what
    faults = [(fault["id"], node["html"], node.get("failureSummary", ""))
              for fault in found["violations"] for node in fault["nodes"]]  # fmt: skip
    assert faults == [], what


@pytest.mark.parametrize(("theme", "language"), BOTH)
async def test_every_state_of_the_login_page(page: Page, stage: Stage, theme: Any, language: str) -> None:
    await page.emulate_media(color_scheme=theme)
    stage.page |= {"methods": ("wechat", "app"), "on_phone": True, "demo_link": "/demo", "app_link": "/open"}
    stage.page["picture_link"] = "/api/v1/tickets/ticket-1/qr.png"
    await page.goto(stage.origin + address("/login", lang=language, method="app"))
    for state in STATES:
        await page.evaluate(
            """(state) => {
                const { dataset } = document.getElementById("login");
                Object.assign(dataset, { state, offline: "" });
                document.querySelector(".name").textContent = "W**";
            }""",
            state,
        )
        await check(page, state)
    stage.page["ticket"] = None
    await page.goto(stage.origin + address("/login", lang=language))
    await check(page, "no code")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Whole]:
    folder = tmp_path_factory.mktemp("accessible")
    wechat = {"confirm": "new_browser", "pool_size": 4}
    async with running(folder, sites=[SHOP], wechat=wechat, site={"name": "书店"}) as whole:
        yield whole


@pytest.mark.parametrize(("theme", "language"), BOTH)
async def test_every_page_of_the_whole(browser: Browser, whole: Whole, theme: Any, language: str) -> None:
    context = await browser.new_context(locale=language, color_scheme=theme, reduced_motion="reduce")
    page, phone = await context.new_page(), await context.new_page()
    person = whole.person(BOTH.index((theme, language)))

    async def see(path: str) -> None:
        answer = await page.goto(whole.base_url + path)
        assert answer is not None
        assert answer.url == whole.base_url + path
        assert answer.status == (404 if path.startswith(UNKNOWN) else 200), path
        await check(page, path)

    for path in ("/", "/s/unknown", *UNKNOWN):
        await see(path)
    whole.clock.pass_(1)
    entry = urlsplit(await admin.new_link(whole.server.context)).path
    await see(entry)
    await page.locator("main form button").click()
    await expect(page.locator("#login")).to_have_attribute("data-state", "WAITING")
    ticket_id = await page.locator("#login").get_attribute("data-ticket")
    assert ticket_id
    assert (await whole.scan(ticket_id, person)).accepted
    await phone.goto(whole.base_url + await link_of(whole, person))
    await check(phone, "confirm")
    await phone.locator("button[value=yes]").click()
    await check(phone, "confirmed")
    await page.wait_for_url(whole.base_url + "/admin/enter")
    await check(page, "admin?")
    await phone.locator("main a").click()
    await phone.wait_for_url("**/not-me/*")
    await check(phone, "not me")
    for path in ("/", "/account", "/account/leave", "/oauth2/logout"):
        await see(path)
    await page.goto(whole.base_url + "/admin/enter")
    await page.locator("main form button").first.click()
    await page.wait_for_url(whole.base_url + "/admin")
    for path in ADMIN_PAGES:
        await see("/admin" + path)
    user = await whole.user(person)
    assert user is not None
    await see(f"/admin/people/{user.id}")
    await context.close()


@pytest.mark.parametrize("theme", THEMES)
async def test_the_widget(browser: Browser, whole: Whole, theme: str) -> None:
    context = await browser.new_context(locale="zh-CN", reduced_motion="reduce")
    page = await context.new_page()
    query = {
        "client_id": "shop",
        "redirect_uri": "https://shop.example/callback",
        "response_type": "code",
        "scope": "openid",
        "state": "s",
        "code_challenge": "c" * 43,
        "code_challenge_method": "S256",
        "color_scheme": theme,
        "origin": "https://shop.example",
    }
    await page.goto(whole.base_url + address("/widget", **query))
    for state in STATES[1:]:
        await page.evaluate("state => { document.getElementById('login').dataset.state = state; }", state)
        await check(page, state)
    await context.close()
