"""Codes that end, are renewed, or come after the page."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import pytest
from playwright.async_api import Browser, Page, expect

from tests.pages.login import WEI, button, panel, reason, show, watched
from tests.pages.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_silent_renewals_end_after_three(page: Page, stage: Stage) -> None:
    stage.lifetime = 3  # that it has not ended before the page is there
    await show(page, stage)
    await watched(stage)
    stage.lifetime = 1.2
    await expect(panel(page, "二维码已失效，点击刷新")).to_be_visible(timeout=30_000)
    assert len(stage.bodies) == 3
    assert len(stage.tickets) == 4
    await asyncio.sleep(1)
    assert len(stage.tickets) == 4


async def test_a_ticket_unknown_from_the_start_is_not_renewed_silently(page: Page, stage: Stage) -> None:
    stage.page["ticket"] = SimpleNamespace(
        id="unknown", state="WAITING", method="wechat", expires_in=300, interval=1, number=0
    )
    await show(page, stage)
    await expect(panel(page, "二维码已失效，点击刷新")).to_be_visible()
    assert stage.bodies == []


async def test_the_page_knows_the_end_by_itself(page: Page, stage: Stage) -> None:
    await show(page, stage)
    await watched(stage)
    stage.ticket.expires_at = time.time() + 2
    stage.become("SCANNED", WEI)
    await expect(panel(page, "扫描成功，请在手机上确认")).to_be_visible()
    stage.silent = True
    await expect(panel(page, "二维码已失效，点击刷新")).to_be_visible()
    assert stage.bodies == []


async def test_a_ticket_that_ended_out_of_sight_is_renewed_when_seen(page: Page, stage: Stage) -> None:
    hide = "hidden => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"
    await show(page, stage)
    await watched(stage)
    await page.evaluate(hide, True)
    stage.become("INVALID")
    await expect(panel(page, "二维码已失效，点击刷新")).to_be_visible()
    assert stage.bodies == []
    await page.evaluate(hide, False)
    await expect(panel(page, "请使用微信扫描二维码登录")).to_be_visible()
    assert len(stage.bodies) == 1


async def test_too_many_codes(page: Page, stage: Stage) -> None:
    stage.problem = {"code": "too_many_requests", "status": 429, "retry_after": 1}
    await show(page, stage)
    await watched(stage)
    stage.become("CANCELLED")
    await button(page, "重新扫码").click()
    await expect(reason(page, "操作过于频繁，请稍候再试。")).to_be_visible()
    await expect(page.locator("#retry")).to_be_disabled()
    stage.problem = None
    await expect(page.locator("#retry")).to_be_enabled()
    await button(page, "重试").click()
    await expect(panel(page, "请使用微信扫描二维码登录")).to_be_visible()
    assert len(stage.bodies) == 2


async def test_a_fresh_code_is_fetched_when_the_server_is_back(page: Page, stage: Stage) -> None:
    await show(page, stage)
    await watched(stage)
    stage.become("CANCELLED")
    await expect(panel(page, "此次登录已取消")).to_be_visible()
    await stage.stop()
    await button(page, "重新扫码").click()
    await expect(page.locator("#offline")).to_be_visible()
    stage.start()
    await expect(panel(page, "请使用微信扫描二维码登录")).to_be_visible(timeout=8000)
    await expect(page.locator("#offline")).to_be_hidden()


async def test_the_demo_link_follows_the_code(page: Page, stage: Stage) -> None:
    stage.page["demo_link"] = "http://127.0.0.1/q/ticket-1"
    await show(page, stage)
    await watched(stage)
    stage.become("CANCELLED")
    await button(page, "重新扫码").click()
    link = page.get_by_role("link", name="演示")
    await expect(link).to_have_attribute("href", "http://weixin.qq.com/q/ticket-2")


# ---- A page that did not wait for its code


async def test_the_code_comes_after_the_page(page: Page, stage: Stage) -> None:
    stage.loading = True
    held = asyncio.Event()

    async def hold(route: Any) -> None:
        await held.wait()
        await route.continue_()

    await page.route("**/api/v1/tickets", hold)
    await show(page, stage, next="/cart")
    await expect(panel(page, "正在获取二维码…")).to_be_visible()
    await expect(page.get_by_role("img", name="登录二维码")).to_have_count(0)
    before = await page.locator(".tile").bounding_box()
    assert before is not None
    held.set()
    await expect(panel(page, "请使用微信扫描二维码登录")).to_be_visible()
    await expect(page.get_by_role("img", name="登录二维码").first).to_be_visible()
    assert await page.locator(".tile").bounding_box() == before
    assert stage.bodies == [{"method": "wechat", "next": "/cart"}]
    await watched(stage)
    stage.become("CONFIRMED", WEI)
    await page.wait_for_url("**/?welcome")


async def test_no_code_comes_after_the_page(page: Page, stage: Stage) -> None:
    stage.loading = True
    stage.problem = {"code": "method_unavailable", "status": 503}
    await show(page, stage)
    await expect(panel(page, "登录没有完成")).to_be_visible()
    await expect(reason(page, "此登录方式暂时不可用。")).to_be_visible()
    stage.problem = None
    await button(page, "重试").click()
    await expect(panel(page, "请使用微信扫描二维码登录")).to_be_visible()


async def test_the_server_goes_away_before_the_code_comes(page: Page, stage: Stage) -> None:
    stage.loading = True
    await page.route("**/api/v1/tickets", lambda route: route.abort())
    await show(page, stage)
    await expect(page.locator("#offline")).to_be_visible()
    await expect(panel(page, "正在获取二维码…")).to_be_visible()
    await page.unroute("**/api/v1/tickets")
    await expect(panel(page, "请使用微信扫描二维码登录")).to_be_visible(timeout=8000)


async def test_without_scripts_a_link_asks_for_the_code(browser: Browser, stage: Stage) -> None:
    stage.loading = True
    context = await browser.new_context(locale="zh-CN", java_script_enabled=False)
    page = await context.new_page()
    await show(page, stage, next="/cart")
    stage.loading = False
    await page.get_by_role("link", name="显示二维码").click()
    await expect(panel(page, "请使用微信扫描二维码登录")).to_be_visible()
    assert dict(parse_qsl(page.url.partition("?")[2])) == {"wait": "1", "method": "wechat", "next": "/cart"}
    await context.close()
