"""The login page in a real browser: every state, and every way of watching."""

from __future__ import annotations

import png
import pytest
import zxingcpp
from playwright.async_api import Page, expect

from tests.pages.login import WEI, button, panel, reason, show, watched
from tests.pages.stage import Stage, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


# ---- States


async def test_waiting_shows_the_code_and_the_way(page: Page, stage: Stage) -> None:
    await show(page, stage, next="/cart")
    root = page.locator("#login")
    await expect(panel(page, "请使用微信扫描二维码登录")).to_be_visible()
    await expect(page.get_by_role("img", name="登录二维码")).to_be_visible()
    await expect(page.get_by_role("listitem")).to_have_count(3)
    await expect(root).to_have_attribute("data-ticket", "ticket-1")
    await expect(root).to_have_attribute("data-next", "/cart")
    for text in ("扫描成功，请在手机上确认", "此次登录已取消", "二维码已失效，点击刷新", "登录没有完成"):
        await expect(panel(page, text)).to_be_hidden()
    assert await page.locator(".tile svg").first.evaluate("code => code.getBoundingClientRect().width") == 240


async def test_the_code_is_read_off_the_screen(page: Page, stage: Stage) -> None:
    await show(page, stage)
    width, height, rows, _ = png.Reader(bytes=await page.locator(".code").screenshot()).asRGB8()
    screen = memoryview(b"".join(map(bytes, rows))).cast("B", (height, width, 3))
    assert [code.text for code in zxingcpp.read_barcodes(screen)] == ["http://weixin.qq.com/q/ticket-1"]


async def test_scanned_covers_the_code_and_names_the_person(page: Page, stage: Stage) -> None:
    await show(page, stage)
    await watched(stage)
    stage.become("SCANNED", WEI)
    await expect(panel(page, "扫描成功，请在手机上确认")).to_be_visible()
    await expect(page.locator(".name")).to_have_text("Wei 🐼")
    await expect(page.locator(".picture")).to_be_visible()
    await expect(page.get_by_role("status")).to_have_text("扫描成功，请在手机上确认")
    covered = "() => document.elementFromPoint(...centre).closest('.cover') !== null"
    box = await page.locator(".code").bounding_box()
    assert box is not None
    centre = f"[{box['x'] + box['width'] / 2}, {box['y'] + box['height'] / 2}]"
    assert await page.evaluate(covered.replace("centre", centre))


@pytest.mark.parametrize("way", ["socket", "poll"])
async def test_scanned_shows_the_number_for_the_phone(page: Page, stage: Stage, way: str) -> None:
    stage.sockets = "served" if way == "socket" else "refused"
    number = page.locator(".number")
    await show(page, stage, method="app")
    await expect(number).to_be_hidden()
    stage.become("SCANNED", WEI, number=42)
    await expect(number).to_be_visible()
    await expect(number).to_have_text("请在手机上输入数字： 42")
    await expect(page.get_by_role("status")).to_have_text("扫描成功，请在手机上确认 请在手机上输入数字： 42")
    await button(page, "换个账号").click()
    await expect(number).to_be_hidden()
    await expect(page.locator("#login")).to_have_attribute("data-ticket", "ticket-2")
    stage.become("SCANNED", WEI)
    await expect(panel(page, "扫描成功，请在手机上确认")).to_be_visible()
    await expect(number).to_be_hidden()


async def test_confirmed_is_collected_and_goes_on(page: Page, stage: Stage) -> None:
    await show(page, stage, next="/cart")
    await watched(stage)
    stage.become("CONFIRMED", WEI)
    await expect(panel(page, "登录成功，正在跳转…")).to_be_visible()
    await expect(button(page, "不是我？换个账号")).to_be_visible()
    await expect(page.get_by_role("link", name="继续")).to_have_attribute("href", stage.origin + "/?welcome")
    await expect(page.locator(".name")).to_have_text("Wei 🐼")
    await page.wait_for_url("**/?welcome")
    assert stage.seen["POST /api/v1/tickets/ticket-1/exchange"] == 1


async def test_collected_by_another_tab_goes_on_as_well(page: Page, stage: Stage) -> None:
    await show(page, stage, next="/?cart")
    await watched(stage)
    stage.become("CONSUMED", WEI)
    await page.wait_for_url("**/?cart")
    assert stage.seen["POST /api/v1/tickets/ticket-1/exchange"] == 0


async def test_cancelled_offers_another_scan(page: Page, stage: Stage) -> None:
    await show(page, stage, next="/cart")
    await watched(stage)
    stage.become("CANCELLED")
    await expect(panel(page, "此次登录已取消")).to_be_visible()
    await until(lambda: not stage.open_sockets)
    await button(page, "重新扫码").press("Enter")
    await expect(panel(page, "请使用微信扫描二维码登录")).to_be_visible()
    await expect(page.locator("#login")).to_have_attribute("data-ticket", "ticket-2")
    await expect(page.locator(".code img")).to_have_attribute("src", "/api/v1/tickets/ticket-2/qr.svg")
    await expect(page.locator(".code img")).to_have_attribute("alt", "登录二维码：请用手机微信扫描")
    assert stage.bodies == [{"method": "wechat", "next": "/cart"}]
    # The button that had the focus is gone: the keyboard is at the news.
    assert await page.evaluate("document.activeElement.textContent") == "请使用微信扫描二维码登录"
    await watched(stage)
    stage.become("SCANNED", WEI)
    await expect(panel(page, "扫描成功，请在手机上确认")).to_be_visible()


async def test_invalid_after_a_scan_waits_for_a_click(page: Page, stage: Stage) -> None:
    await show(page, stage)
    await watched(stage)
    stage.become("SCANNED", WEI)
    await expect(panel(page, "扫描成功，请在手机上确认")).to_be_visible()
    stage.become("INVALID")
    await expect(panel(page, "二维码已失效，点击刷新")).to_be_visible()
    assert stage.bodies == []
    await button(page, "点击刷新").focus()
    await page.keyboard.press("Space")
    await expect(panel(page, "请使用微信扫描二维码登录")).to_be_visible()


async def test_the_keyboard_goes_to_the_button_when_the_code_is_over_and_stays_else(
    page: Page, stage: Stage
) -> None:
    focused = "() => document.activeElement.className || document.activeElement.tagName"
    await show(page, stage)
    await watched(stage)
    stage.become("SCANNED", WEI)
    await expect(panel(page, "扫描成功，请在手机上确认")).to_be_visible()
    assert await page.evaluate(focused) == "BODY"
    stage.become("INVALID")
    await expect(button(page, "点击刷新")).to_be_focused()
    await page.keyboard.press("Enter")
    await watched(stage)
    await page.get_by_role("link", name="English").focus()
    stage.become("SCANNED", WEI)
    await expect(panel(page, "扫描成功，请在手机上确认")).to_be_visible()
    stage.become("INVALID")
    await expect(panel(page, "二维码已失效，点击刷新")).to_be_visible()
    await expect(page.get_by_role("link", name="English")).to_be_focused()


async def test_refusal_is_explained(page: Page, stage: Stage) -> None:
    stage.answers_to_exchange = [403]
    await show(page, stage)
    await watched(stage)
    stage.become("CONFIRMED", WEI)
    await expect(panel(page, "登录没有完成")).to_be_visible()
    await expect(reason(page, "此账号不能在这里登录。")).to_be_visible()
    await expect(reason(page, "出了点问题，请重试。")).to_be_hidden()
    await expect(page.get_by_role("status")).to_contain_text("此账号不能在这里登录。")
    await button(page, "重试").click()
    await expect(panel(page, "请使用微信扫描二维码登录")).to_be_visible()


async def test_nothing_jumps(page: Page, stage: Stage) -> None:
    for width in (1280, 390):
        await page.set_viewport_size({"width": width, "height": 844})
        for language in ("zh-CN", "en"):
            await show(page, stage, lang=language)
            places = await page.evaluate(
                """() => {
                    const root = document.getElementById("login");
                    const states = ["WAITING", "SCANNED", "SUCCESS", "CANCELLED", "INVALID", "FAILED"];
                    return states.map((state) => {
                        root.dataset.state = state;
                        root.toggleAttribute("data-offline", state !== "WAITING");
                        return ["#login", ".tile", ".steps"].map((part) => {
                            const { top, height } = document.querySelector(part).getBoundingClientRect();
                            return [top, height];
                        }).concat([[document.documentElement.scrollWidth <= innerWidth, 0]]);
                    });
                }"""
            )
            assert all(place == places[0] for place in places), (width, language)
            assert places[0][-1] == [True, 0], "wider than the screen"


# ---- Ways of watching


async def test_refused_sockets_fall_back_to_long_polls(page: Page, stage: Stage) -> None:
    stage.sockets = "refused"
    await show(page, stage)
    await until(lambda: stage.seen["long polls"] == 1)
    assert stage.seen["sockets"] == 2
    await expect(page.locator("#offline")).to_be_hidden()
    stage.become("SCANNED", WEI)
    await expect(panel(page, "扫描成功，请在手机上确认")).to_be_visible()
    await until(lambda: stage.seen["long polls"] == 2)
    stage.become("CONFIRMED", WEI)
    await page.wait_for_url("**/?welcome")


@pytest.mark.parametrize("fault", ["cut", "broken"])
async def test_cut_long_polls_fall_back_to_plain_polls(page: Page, stage: Stage, fault: str) -> None:
    stage.sockets = "refused"
    stage.long_polls = fault
    # Counted in the browser: below us, it tries a broken connection again by itself.
    held: list[str] = []
    page.on("request", lambda request: held.append(request.url) if "wait=" in request.url else None)
    await show(page, stage)
    await until(lambda: stage.seen["plain polls"] >= 6)
    assert len(held) == 2
    stage.become("SCANNED", WEI)
    await expect(panel(page, "扫描成功，请在手机上确认")).to_be_visible()
    assert len(held) == 2
    await expect(page.locator("#offline")).to_be_hidden()


async def test_comes_back_when_the_server_does(page: Page, stage: Stage) -> None:
    await show(page, stage)
    await watched(stage)
    await stage.stop()
    await expect(page.locator("#offline")).to_be_visible()
    await expect(page.get_by_role("status")).to_have_text("网络不稳定，正在重试…")
    # It is still the same state; only the trouble is shown besides.
    await expect(panel(page, "请使用微信扫描二维码登录")).to_be_visible()
    stage.become("SCANNED", WEI)
    stage.start()
    await expect(panel(page, "扫描成功，请在手机上确认")).to_be_visible(timeout=8000)
    await expect(page.locator("#offline")).to_be_hidden()
    await watched(stage)
    await stage.stop()
    await expect(page.locator("#offline")).to_be_visible()
    stage.become("CONFIRMED", WEI)
    stage.start()
    await page.wait_for_url("**/?welcome", timeout=12000)


async def test_exchange_is_repeated_after_a_cut_connection(page: Page, stage: Stage) -> None:
    stage.answers_to_exchange = [0, 503]
    await show(page, stage)
    await watched(stage)
    stage.become("CONFIRMED", WEI)
    await expect(page.locator("#offline")).to_be_visible()
    await page.wait_for_url("**/?welcome", timeout=15000)
    assert stage.answers_to_exchange == []
