"""The login page in a real browser: every state, every way of watching, and what people do."""

from __future__ import annotations

import asyncio
import re
import time
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import png
import pytest
import zxingcpp
from playwright.async_api import Browser, Page, expect

import codes
from tests.pages.stage import Stage, address, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

WEI = {"name": "Wei 🐼", "picture": "/picture.svg"}


async def show(page: Page, stage: Stage, **query: str) -> None:
    await page.goto(stage.origin + address("/login", **query))


async def watched(stage: Stage) -> None:
    await until(lambda: len(stage.open_sockets) == 1)


def panel(page: Page, text: str) -> Any:
    return page.get_by_role("heading", name=text)


def reason(page: Page, text: str) -> Any:
    return page.locator(".reasons").get_by_text(text)


def button(page: Page, text: str) -> Any:
    return page.get_by_role("button", name=text)


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


# ---- Ends and fresh codes


async def test_silent_renewals_end_after_three(page: Page, stage: Stage) -> None:
    stage.lifetime = 0.8
    await show(page, stage)
    await expect(panel(page, "二维码已失效，点击刷新")).to_be_visible(timeout=12000)
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
