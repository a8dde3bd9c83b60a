"""What is seen of the widget, from the first code to the end, with the network away and back."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.handlers.test_app import bearer
from tests.harness import document
from tests.pages.team import Team, a_page, called, calls, frames_of, heading, inside, shown_ticket, start

pytestmark = pytest.mark.asyncio(loop_scope="session")


PHONE = "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36"


async def test_the_smallest_box_can_be_scanned(browser: Browser, shop: Team) -> None:
    zbarimg = shutil.which("zbarimg")
    if zbarimg is None:
        pytest.skip("needs zbarimg (Debian's zbar-tools)")
    for scheme, more in (("light", {}), ("dark", {}), ("light", {"user_agent": PHONE, "locale": "en"})):
        async with a_page(browser, shop, viewport={"width": 276, "height": 600}, **more) as page:
            await start(page, shop, color_scheme=scheme)
            await expect(inside(page).locator("#save")).to_have_count(1 if more else 0)
            ticket = await shown_ticket(page)
            assert (await page.locator("#box iframe").bounding_box())["width"] == 260
            room = (
                await inside(page)
                .locator("html")
                .evaluate("root => [root.scrollWidth, root.scrollHeight, innerWidth, innerHeight]")
            )
            assert room[:2] == room[2:], "all of it is seen"
            reader = await asyncio.create_subprocess_exec(
                zbarimg, "--quiet", "--raw", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            text, _ = await reader.communicate(await page.screenshot())
            assert text.decode().strip() == (await shop.whole.ticket(ticket)).code


async def test_the_smallest_box_has_room_for_name_and_number(browser: Browser, shop: Team) -> None:
    """In the longer language, on a phone, where there is a link below it too."""
    viewport = {"width": 276, "height": 600}
    async with a_page(browser, shop, viewport=viewport, user_agent=PHONE, locale="en") as page:
        await start(page, shop)
        await shown_ticket(page)
        person = inside(page).locator(".person")
        room = await person.evaluate(
            """person => {
                person.closest("#login").dataset.state = "SCANNED";
                person.querySelector(".name").textContent = "B**";
                person.querySelector(".number").hidden = false;
                person.querySelector(".number strong").textContent = "42";
                return [person.scrollHeight, person.clientHeight];
            }"""
        )
        assert room[0] <= room[1], "nothing sticks out"
        tile = await person.bounding_box()
        for part in (".name", ".number", ".quiet"):
            box = await person.locator(part).bounding_box()
            assert box["height"] >= 16, part
            assert box["y"] >= tile["y"], part
            assert box["y"] + box["height"] <= tile["y"] + tile["height"], part


@pytest.mark.parametrize(
    ("options", "system", "ground"),
    [
        ({}, "dark", "rgb(255, 255, 255)"),
        ({"color_scheme": "light"}, "dark", "rgb(255, 255, 255)"),
        ({"color_scheme": "dark"}, "light", "rgb(23, 31, 27)"),
        ({"color_scheme": "auto"}, "light", "rgb(255, 255, 255)"),
        ({"color_scheme": "auto"}, "dark", "rgb(23, 31, 27)"),
    ],
)
async def test_light_and_dark(browser: Browser, shop: Team, options, system, ground) -> None:
    async with a_page(browser, shop, color_scheme=system) as page:
        await start(page, shop, **options)
        await start(page, shop, button="#login", **options)
        await shown_ticket(page)
        await page.click("#login")
        for seen in (inside(page).locator("body"), page.locator("dialog > div")):
            await expect(seen).to_have_css("background-color", ground)


async def test_languages(browser: Browser, shop: Team) -> None:
    async with a_page(browser, shop) as page:
        await start(page, shop, lang="en")
        await expect(heading(page, "Scan with WeChat to log in")).to_be_visible()
        assert await page.locator("#box iframe").get_attribute("title") == "Log in by scanning"
        await shown_ticket(page)
        await start(page, shop, el="#second")
        await expect(heading(page, "请使用微信扫描二维码登录", "#second")).to_be_visible()
        await shown_ticket(page, "#second")


async def test_scanned_and_cancelled_and_nothing_personal_to_the_page(browser: Browser, shop: Team) -> None:
    phone = shop.whole.browser()

    async def tap(action: str, ticket: str, body: Any = None) -> Any:
        answer = await phone.post(f"/api/v1/tickets/{ticket}/{action}", body, **bearer("u1", name="小王"))
        assert answer.code == 200, answer.body
        return document(answer)

    async with a_page(browser, shop) as page:
        await start(page, shop)
        await shown_ticket(page)
        await inside(page).get_by_role("link", name="手机客户端").click()
        await expect(heading(page, "请使用 saoma 客户端扫描二维码登录")).to_be_visible()
        ticket = await shown_ticket(page)
        handle = (await tap("scan", ticket))["handle"]
        await expect(heading(page, "扫描成功，请在手机上确认")).to_be_visible()
        await expect(inside(page).get_by_role("status")).to_have_text("扫描成功，请在手机上确认")
        await expect(inside(page).locator(".name")).to_contain_text("小")  # veiled until it is confirmed
        await tap("cancel", ticket, {"handle": handle})
        await expect(heading(page, "此次登录已取消")).to_be_visible()
        await inside(page).get_by_role("button", name="重新扫码").press("Enter")
        await expect(heading(page, "请使用 saoma 客户端扫描二维码登录")).to_be_focused()
        assert await calls(page) == [["one", "scanned", None]]

        # Somebody else's turn: the first gives way before anything is collected.
        fresh = await shown_ticket(page)
        assert fresh != ticket
        await tap("scan", fresh)
        await inside(page).get_by_role("button", name="换个账号").click()
        await expect(inside(page).locator("#login")).not_to_have_attribute("data-ticket", fresh)
        assert (await shop.whole.ticket(fresh)).state == "CANCELLED"

        ticket = await shown_ticket(page)
        await tap("confirm", ticket, {"handle": (await tap("scan", ticket))["handle"]})
        assert [call[1] for call in await called(page, 4)] == ["scanned"] * 3 + ["success"]
        messages = await page.evaluate("messages")
        assert {message["origin"] for message in messages} == {shop.whole.base_url}
        code = messages.pop()["data"]
        assert code.keys() == {"saoma", "code", "state", "iss"}
        names = {"LOADING", "WAITING", "SCANNED", "CONFIRMED", "CANCELLED", "SUCCESS"}
        assert all(set(message["data"]) == {"saoma"} for message in messages)
        assert {message["data"]["saoma"] for message in messages} <= names


async def test_expired_then_renewed_by_hand(browser: Browser, shop: Team) -> None:
    whole = shop.whole
    look_again = "dispatchEvent(new Event('online'))"
    async with a_page(browser, shop) as page:
        await start(page, shop)
        seen = {await shown_ticket(page)}
        [frame] = frames_of(page, shop)
        for count in range(2, 5):  # while somebody looks it is renewed three times without a word
            whole.clock.pass_(301)
            await frame.evaluate(look_again)
            await until_changed(page, seen)
            assert len(seen) == count
        assert await calls(page) == []
        whole.clock.pass_(301)
        await frame.evaluate(look_again)
        await expect(heading(page, "二维码已失效，点击刷新")).to_be_visible()
        assert await called(page, 1) == [["one", "expired", None]]
        await inside(page).get_by_role("button", name="点击刷新").press("Space")
        await until_changed(page, seen)
        assert (await whole.scan(await shown_ticket(page), whole.person())).accepted
        assert [call[1] for call in await called(page, 3)] == ["expired", "scanned", "success"]
        for former in seen:
            assert (await whole.ticket(former)).site == "shop"


async def until_changed(page: Page, seen: set[str]) -> None:
    """Waits for a ticket that is not among those `seen`, and adds it."""
    root = inside(page).locator("#login")
    async with asyncio.timeout(10):
        while await root.get_attribute("data-ticket") in seen:
            await asyncio.sleep(0.02)
    await expect(inside(page).locator(".code img")).to_be_visible()
    seen.add(await root.get_attribute("data-ticket") or "")


async def test_the_network_away_and_back(browser: Browser, shop: Team) -> None:
    async with a_page(browser, shop) as page:
        await start(page, shop)
        ticket = await shown_ticket(page)
        await page.route("**/api/v1/tickets/**", lambda route: route.abort())
        await frames_of(page, shop)[0].evaluate("dispatchEvent(new Event('online'))")
        await expect(inside(page).locator(".offline")).to_be_visible()
        assert (await shop.whole.scan(ticket, shop.whole.person())).accepted
        await page.unroute("**/api/v1/tickets/**")
        assert [call[1] for call in await called(page, 2)] == ["scanned", "success"]


async def test_a_frame_out_of_sight_holds_no_connection(browser: Browser, shop: Team) -> None:
    hide = "hidden => Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })"
    polls: list[str] = []
    async with a_page(browser, shop) as page:
        page.on("request", lambda request: polls.append(request.url) if "wait=" in request.url else None)
        await page.add_init_script(f"({hide})(true)")
        await page.reload()
        await start(page, shop)
        ticket = await shown_ticket(page)
        await asyncio.sleep(0.3)
        assert polls == []
        [frame] = frames_of(page, shop)
        await frame.evaluate(hide, False)
        await frame.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        assert (await shop.whole.scan(ticket, shop.whole.person())).accepted
        assert [call[1] for call in await called(page, 2)] == ["scanned", "success"]
        assert polls


async def test_refused_by_the_server_later(browser: Browser, shop: Team) -> None:
    async with a_page(browser, shop) as page:
        problem = {"code": "too_many_requests", "status": 429}
        await page.route("**/widget/tickets?*", lambda route: route.fulfill(status=429, json=problem))
        await start(page, shop)
        await expect(heading(page, "登录没有完成")).to_be_visible()
        await expect(inside(page).locator(".reasons .chosen")).to_have_text("操作过于频繁，请稍候再试。")
        assert await called(page, 1) == [["one", "error", "failed"]]
        await page.unroute("**/widget/tickets?*")
        await inside(page).get_by_role("button", name="重试").click()
        await shown_ticket(page)
