"""What people do at the login page, on a phone and without scripts too, and what names do to it."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import parse_qsl

import pytest
from playwright.async_api import Browser, Page, expect

import codes
from tests.pages.login import WEI, button, panel, show, watched
from tests.pages.stage import Stage, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


# ---- On a phone


@pytest.mark.parametrize("loading", [False, True])
async def test_links_and_picture_on_a_phone_follow_the_code(page: Page, stage: Stage, loading: bool) -> None:
    former = "TICKET" if loading else "ticket-1"
    stage.loading = loading
    stage.page |= {"on_phone": True, "app_link": f"/open?u=%2Fs%2F{former}"}
    stage.page["picture_link"] = f"/api/v1/tickets/{former}/qr.png"
    await show(page, stage, method="app")
    if not loading:
        await expect(page.locator(".code img")).to_have_attribute("src", "/api/v1/tickets/ticket-1/qr.png")
        await watched(stage)
        stage.become("CANCELLED")
        await button(page, "重新扫码").click()
    await expect(panel(page, "请用这部手机上的 saoma 客户端登录")).to_be_visible()
    ticket = stage.ticket.id
    picture = f"/api/v1/tickets/{ticket}/qr.png"
    await expect(page.locator(".code img")).to_have_attribute("src", picture)
    saved = page.get_by_role("link", name="保存二维码图片")
    await expect(saved).to_have_attribute("href", stage.origin + picture)
    await expect(page.locator("#app-link")).to_have_attribute(
        "href", f"{stage.origin}/open?u=%2Fs%2F{ticket}"
    )
    async with page.expect_download() as coming:
        await saved.click()
    assert (await coming.value).suggested_filename == "login.png"


async def test_in_wechat_the_code_is_a_picture_to_press(page: Page, stage: Stage) -> None:
    stage.page |= {"on_phone": True, "in_wechat": True, "picture_link": "/api/v1/tickets/ticket-1/qr.png"}
    await show(page, stage)
    await expect(panel(page, "长按识别二维码登录")).to_be_visible()
    await expect(page.locator(".code img")).to_have_attribute(
        "alt", "登录二维码：请长按，再选择识别图中二维码"
    )
    drawn, shown = await page.locator(".code img").evaluate("img => [img.naturalWidth, img.clientWidth]")
    modules = re.search(r'viewBox="0 0 ([0-9]+)', codes.svg("http://weixin.qq.com/q/ticket-1"))
    assert modules
    assert drawn / int(modules[1]) >= 3
    assert shown / int(modules[1]) >= 3
    await expect(page.get_by_role("link", name="保存二维码图片")).to_have_count(0)


# ---- What people do


async def test_another_account_after_a_scan(page: Page, stage: Stage) -> None:
    await show(page, stage)
    await watched(stage)
    stage.become("SCANNED", WEI)
    await button(page, "换个账号").click()
    await expect(page.locator("#login")).to_have_attribute("data-ticket", "ticket-2")
    await expect(panel(page, "请使用微信扫描二维码登录")).to_be_visible()
    assert stage.tickets[0].state == "CANCELLED"


async def test_another_account_after_the_login(page: Page, stage: Stage) -> None:
    await show(page, stage, next="/cart")
    await watched(stage)
    stage.become("CONFIRMED", WEI)
    await button(page, "不是我？换个账号").click()
    await expect(page.locator("#login")).to_have_attribute("data-ticket", "ticket-2")
    assert stage.seen["POST /logout"] == 1
    assert page.url == stage.origin + "/login?next=%2Fcart"
    await asyncio.sleep(1.6)
    assert page.url == stage.origin + "/login?next=%2Fcart", "it went on all the same"


async def test_leaving_closes_the_socket_and_coming_back_opens_one(page: Page, stage: Stage) -> None:
    stage.headers = {}  # what may not be stored is not kept for going back either
    await show(page, stage)
    await watched(stage)
    await page.goto(stage.origin + "/")
    await until(lambda: not stage.open_sockets)
    await page.evaluate("setTimeout(() => history.back())")  # go_back() waits for a load
    await watched(stage)
    assert len(stage.tickets) == 1, "the page was loaded anew, not kept"
    stage.become("SCANNED", WEI)
    await expect(panel(page, "扫描成功，请在手机上确认")).to_be_visible()


# ---- Strangers


async def test_names_stay_text(page: Page, stage: Stage) -> None:
    dialogs: list[Any] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog))
    image, script = "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>"
    for name in (image, script, "{{ 1 }}", "名" * 64):
        await show(page, stage)
        await watched(stage)
        stage.become("SCANNED", {"name": name, "picture": ""})
        await expect(page.locator(".name")).to_have_text(name)
        await expect(page.locator(".name *")).to_have_count(0)
        await expect(page.locator(".initial")).to_have_text(name[0].upper())
        width = "element => element.getBoundingClientRect().width"
        assert await page.locator(".name").evaluate(width) <= 240
    assert dialogs == []


async def test_a_person_without_a_name(page: Page, stage: Stage) -> None:
    await show(page, stage)
    await watched(stage)
    stage.become("SCANNED", {"name": "", "picture": ""})
    await expect(page.locator(".name")).to_have_text("微信用户")
    await expect(page.locator(".initial")).to_have_text("微")


async def test_pictures_from_elsewhere_are_not_asked_for(page: Page, stage: Stage) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    elsewhere = "//elsewhere.example/a.png"
    for picture in (f"https:{elsewhere}", elsewhere, "javascript:alert(1)", "data:text/html,x"):
        await show(page, stage)
        await watched(stage)
        stage.become("SCANNED", {"name": "Wei", "picture": picture})
        await expect(page.locator(".initial")).to_have_text("W")
        await expect(page.locator(".picture")).to_be_hidden()
        assert await page.locator(".picture").get_attribute("src") is None
    assert [url for url in asked if not url.startswith(stage.origin)] == []


async def test_a_missing_picture_leaves_the_initial(page: Page, stage: Stage) -> None:
    await show(page, stage)
    await watched(stage)
    stage.become("SCANNED", {"name": "Wei", "picture": "/nowhere.png"})
    await expect(page.locator(".picture")).to_be_hidden()
    await expect(page.locator(".initial")).to_be_visible()


# ---- Languages, and no script


async def test_english(page: Page, stage: Stage) -> None:
    await show(page, stage, next="/cart?a=1&b=2")
    await page.get_by_role("link", name="English").click()
    await expect(panel(page, "Scan with WeChat to log in")).to_be_visible()
    await expect(page.locator("html")).to_have_attribute("lang", "en")
    await expect(page.locator("#login")).to_have_attribute("data-next", "/cart?a=1&b=2")
    await watched(stage)
    stage.become("SCANNED", WEI)
    await expect(panel(page, "Scanned. Confirm on your phone")).to_be_visible()


async def test_the_own_app_has_its_own_words(page: Page, stage: Stage) -> None:
    stage.page["methods"] = ["wechat", "app"]
    await show(page, stage, method="app")
    await expect(panel(page, "请使用 saoma 客户端扫描二维码登录")).to_be_visible()
    await expect(page.get_by_role("link", name="手机客户端")).to_have_attribute("aria-current", "page")
    await expect(page.get_by_role("link", name="微信")).to_have_attribute("href", "/login?method=wechat")


async def test_without_a_ticket_the_problem_is_shown(page: Page, stage: Stage) -> None:
    stage.page |= {"ticket": None, "problem": "<b>今天的二维码已用完</b>"}
    await show(page, stage, next="/cart")
    await expect(page.get_by_role("alert")).to_have_text("<b>今天的二维码已用完</b>")
    del stage.page["ticket"], stage.page["problem"]
    await page.get_by_role("link", name="重试").click()
    await expect(page.locator("#login")).to_have_attribute("data-next", "/cart")
    await expect(panel(page, "请使用微信扫描二维码登录")).to_be_visible()


async def test_without_scripts_the_page_tells_what_to_do(browser: Browser, stage: Stage) -> None:
    context = await browser.new_context(locale="zh-CN", java_script_enabled=False)
    page = await context.new_page()
    await show(page, stage, next="/cart")
    await expect(panel(page, "请使用微信扫描二维码登录")).to_be_visible()
    await expect(page.get_by_role("img", name="登录二维码")).to_be_visible()
    async with page.expect_request("**/login") as sent:
        await page.get_by_role("button", name="我已在手机上确认，继续").click()
    request = await sent.value
    fields = dict(parse_qsl(request.post_data or ""))
    assert (request.method, fields["next"], fields["method"]) == ("POST", "/cart", "wechat")
    assert fields["ticket"] == stage.tickets[0].id
    assert fields["_xsrf"]
    await context.close()
