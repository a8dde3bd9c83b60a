"""Draws the pictures of the pages: `make picture`. A server, the emulated phone and Debian's Chromium."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, Page, async_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from flows import admin  # noqa: E402
from tests.handlers.test_confirm import link_of  # noqa: E402
from tests.harness import Whole, running  # noqa: E402

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
PAGES = ROOT / "docs" / "pages"
STATES = ("LOADING", "WAITING", "SCANNED", "SUCCESS", "CANCELLED", "INVALID", "FAILED")
DESKTOP = {"width": 1120, "height": 620}
WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 760}
SETTINGS: dict[str, Any] = {
    "site": {"name": "书虫书店", "icp": "京ICP备12345678号", "privacy_url": "https://shop.example/privacy"},
    "app": {"issuer": "https://app.example", "key": "x" * 32, "link": "shop://login?u={url}"},
    "wechat": {"confirm": "new_browser"},
    "sites": [
        {"id": "forum", "name": "书友论坛", "secret": "s" * 32, "redirect_uris": ["https://forum.example/cb"]}
    ],
}
ANDROID = "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36"
WECHAT = f"{ANDROID} MicroMessenger/8.0.60"
SHOW = """(state) => {
  const page = document.getElementById("login");
  page.dataset.state = state;
  page.querySelector(".name").textContent = state === "SUCCESS" ? "林小满" : "林**";
  page.querySelector(".initial").textContent = "林";
}"""


async def main() -> None:
    PAGES.mkdir(exist_ok=True)
    for old in PAGES.glob("*.png"):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), **SETTINGS) as whole, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            await login_page(browser, whole)
            await on_phones(browser, whole)
            await people_and_operators(browser, whole)
            await browser.close()


@asynccontextmanager
async def a_page(browser: Browser, viewport: Any, **options: Any) -> AsyncIterator[Page]:
    options = {"locale": "zh-CN", "reduced_motion": "reduce", **options}
    context = await browser.new_context(viewport=viewport, **options)
    yield await context.new_page()
    await context.close()


async def take(page: Page, name: str, *, whole_page: bool = False) -> None:
    await page.screenshot(path=PAGES / f"{name}.png", full_page=whole_page)


async def login_page(browser: Browser, whole: Whole) -> None:
    async with a_page(browser, DESKTOP) as page:
        await page.goto(f"{whole.base_url}/login?wait=1")
        await page.screenshot(path=ROOT / "docs" / "login.png")
        for state in STATES:
            await page.evaluate(SHOW, state)
            await take(page, f"login-{state.lower()}")
    async with a_page(browser, DESKTOP, locale="en-GB", color_scheme="dark") as page:
        await page.goto(f"{whole.base_url}/login?wait=1")
        await take(page, "login-dark-en")


async def on_phones(browser: Browser, whole: Whole) -> None:
    for name, agent, method in (
        ("phone-wechat", WECHAT, "wechat"),
        ("phone-save", ANDROID, "wechat"),
        ("phone-app", ANDROID, "app"),
    ):
        async with a_page(browser, PHONE, user_agent=agent) as page:
            await page.goto(f"{whole.base_url}/login?wait=1&method={method}", wait_until="networkidle")
            await take(page, name)


async def people_and_operators(browser: Browser, whole: Whole) -> None:
    """One login with its question on the phone, then what the person and the admin see."""
    for number, other_person in enumerate(whole.emulator.platform.people):
        if number:
            other = whole.browser()
            await whole.scan(await other.open_login(), other_person)
    person = whole.person()
    entry = urlsplit(await admin.new_link(whole.server.context)).path
    async with a_page(browser, WIDE) as page, a_page(browser, PHONE, user_agent=WECHAT) as phone:
        await page.goto(whole.base_url + entry)
        await page.locator("main form button").click()
        await page.wait_for_selector("[data-state=WAITING]")
        ticket_id = await page.locator("#login").get_attribute("data-ticket")
        assert ticket_id
        await whole.scan(ticket_id, person)
        await phone.goto(whole.base_url + await link_of(whole, person))
        await take(phone, "phone-confirm")
        await phone.locator("button[value=yes]").click()
        await take(phone, "phone-confirmed")
        await page.wait_for_url(f"{whole.base_url}/admin/enter")
        await page.locator("main form button").click()
        await page.wait_for_url(f"{whole.base_url}/admin")
        await page.goto(whole.base_url)
        await page.locator("input[name=name]").fill("林小满")
        await page.locator(".profile button").click()
        await phone.locator("main a").click()
        await phone.wait_for_url("**/not-me/*")
        await take(phone, "phone-not-me")
        await page.goto(f"{whole.base_url}/account")
        await take(page, "account", whole_page=True)
        await page.goto(f"{whole.base_url}/admin", wait_until="networkidle")
        await take(page, "admin-overview", whole_page=True)
        for name in ("people", "logins"):
            await page.goto(f"{whole.base_url}/admin/{name}")
            await take(page, f"admin-{name}")
        user = await whole.user(person)
        assert user is not None
        await page.goto(f"{whole.base_url}/admin/people/{user.id}")
        await take(page, "admin-person", whole_page=True)


if __name__ == "__main__":
    asyncio.run(main())
