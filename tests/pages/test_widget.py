"""The widget in a real browser: a team's page at another place, which gives no third party a cookie."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Browser, expect

from oidc.grant import challenge_of
from tests.handlers.relying_party import RelyingParty
from tests.pages.team import (
    Team,
    a_page,
    called,
    calls,
    frames_of,
    heading,
    in_order,
    inside,
    redeemed,
    shown_ticket,
    start,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_this_browser_keeps_no_cookie_of_a_third_party(browser: Browser, shop: Team) -> None:
    foreign = shop.origin.replace("localhost", "127.0.0.1")
    shop.more, shop.more_frames = f'<iframe src="{foreign}/cookie"></iframe>', f" {foreign}"
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(shop.origin)
    await expect(page.frame_locator("iframe").get_by_text("cookie")).to_be_visible()
    assert await context.cookies() == []
    await page.goto(f"{shop.origin}/cookie")
    assert [cookie["name"] for cookie in await context.cookies()] == ["stranger"], "the first party may"
    await context.close()


# ---- A login


async def test_a_box_that_leads_on_to_the_teams_backend(browser: Browser, shop: Team) -> None:
    whole = shop.whole
    async with a_page(browser, shop) as page:
        await start(
            page, shop, redirects=True, state="a b&c", redirect_uri=f"{shop.origin}/callback?from=widget"
        )
        ticket = await shown_ticket(page)
        frame = page.locator("#box iframe")
        assert await frame.get_attribute("title") == "扫码登录"
        assert (await frame.bounding_box())["height"] >= 320
        [framed] = frames_of(page, shop)
        asked = parse_qs(urlsplit(framed.url).query)
        assert asked["origin"] == [shop.origin]
        assert asked["scope"] == ["openid"]
        cookie: dict[str, Any] = {}

        async def look(route: Any) -> None:
            cookie.update((await page.context.cookies())[0])
            await route.continue_()

        await page.route("**/callback?*", look)
        assert await page.context.cookies() == [], "the verifier stays in the page until there is a code"
        assert (await whole.scan(ticket, whole.person())).accepted
        await expect(heading(page, "登录成功，正在跳转…")).to_be_visible()
        await expect(inside(page).locator(".name")).to_have_text("微信用户")
        await page.wait_for_url("**/callback?*")
        user = await whole.user(whole.person())
        await expect(page.locator("p")).to_have_text(user.id)

        [came] = shop.seen
        brought = parse_qs(came["query"])
        assert brought.keys() == {"from", "code", "state", "iss"}
        assert (brought["state"], brought["iss"]) == (["a b&c"], [whole.base_url])
        assert asked["code_challenge"] == [challenge_of(came["verifier"])]
        assert (cookie["name"], cookie["path"]) == ("saoma_code_verifier", "/callback")
        assert (cookie["domain"], cookie["sameSite"]) == ("localhost", "Lax")
        assert 0 < cookie["expires"] - await page.evaluate("Date.now() / 1000") <= 60
        assert await page.context.cookies() == [], "the backend has taken it back"


async def test_a_layer_by_a_button_and_a_page_that_decides_itself(browser: Browser, shop: Team) -> None:
    whole = shop.whole
    async with a_page(browser, shop, locale="en-US", viewport={"width": 900, "height": 600}) as page:
        await start(page, shop, button="#login", nonce="n-1")
        layer = page.get_by_role("dialog", name="Log in by scanning")
        await expect(layer).to_have_count(0)
        await page.click("#login")
        await expect(layer).to_be_visible()
        assert await shown_ticket(page, "dialog")
        await expect(heading(page, "Scan with WeChat to log in", "dialog")).to_be_visible()

        # The keyboard is in it, and comes back to where it was.
        focused = (
            "document.activeElement.closest('dialog') !== null || document.activeElement === document.body"
        )
        for _ in range(8):
            await page.keyboard.press("Tab")
            assert await page.evaluate(focused)
        await page.get_by_role("button", name="Close").focus()
        await page.keyboard.press("Escape")
        await expect(layer).to_have_count(0)
        await expect(page.locator("#login")).to_be_focused()

        for close in (
            lambda: inside(page, "dialog").locator("h2").first.press("Escape"),  # in the frame
            lambda: page.get_by_role("button", name="Close").click(),
            lambda: page.mouse.click(5, 5),  # beside it
            lambda: page.evaluate("widgets[0].close()"),
        ):
            await page.keyboard.press("Enter")
            await shown_ticket(page, "dialog")
            await close()
            await expect(layer).to_have_count(0)
            await page.locator("#login").focus()

        await page.keyboard.press("Enter")
        ticket = await shown_ticket(page, "dialog")
        [framed] = frames_of(page, shop)
        challenge = parse_qs(urlsplit(framed.url).query)["code_challenge"]
        assert (await whole.scan(ticket, whole.person(1))).accepted
        assert [call[1] for call in await called(page, 2)] == ["scanned", "success"]
        await expect(layer).to_have_count(0)
        answer = (await page.evaluate("calls"))[1][3]
        assert answer.keys() == {"code", "state", "iss", "code_verifier"}
        assert (answer["state"], answer["iss"]) == ("one", whole.base_url)
        assert challenge == [challenge_of(answer["code_verifier"])]
        assert await page.context.cookies() == [], "who decides has the verifier at hand"
        assert page.url == f"{shop.origin}/"
        party = RelyingParty(whole, shop.site)
        party.verifier, party.nonce = answer["code_verifier"], "n-1"
        claims = await party.verified((await party.tokens(answer["code"]))["id_token"])
        assert claims["nonce"] == "n-1"

        await page.evaluate("widgets[0].destroy()")
        await page.click("#login")
        await in_order(lambda: None)
        await expect(layer).to_have_count(0)


async def test_a_challenge_of_the_backends_stays_its_own(browser: Browser, shop: Team) -> None:
    verifier = "the-verifier-that-only-the-backend-of-the-team-knows"
    async with a_page(browser, shop) as page:
        await start(page, shop, code_challenge=challenge_of(verifier))
        assert (await shop.whole.scan(await shown_ticket(page), shop.whole.person())).accepted
        await called(page, 2)
        answer = (await page.evaluate("calls"))[1][3]
        assert answer.keys() == {"code", "state", "iss"}
        assert (
            await redeemed(shop, answer["code"], verifier) == (await shop.whole.user(shop.whole.person())).id
        )
        assert await page.context.cookies() == []


async def test_challenges_are_right(browser: Browser, shop: Team) -> None:
    async with a_page(browser, shop) as page:
        challenges = await page.evaluate(
            """(uri) => {
              let fill = 0;
              crypto.getRandomValues = (bytes) => bytes.map((_, at) => fill * 37 + at * fill);
              const seen = [];
              for (fill = 0; fill < 60; fill += 1) {
                const widget = new SaomaLogin({ client_id: "shop", redirect_uri: uri, state: "s" });
                widget.open();
                seen.push(new URL(document.querySelector("iframe").src).searchParams.get("code_challenge"));
                widget.close();
              }
              return seen;
            }""",
            f"{shop.origin}/callback",
        )
        for fill, challenge in enumerate(challenges):
            drawn = bytes((fill * 37 + at * fill) % 256 for at in range(32))
            assert challenge == challenge_of(base64url(drawn)), fill


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_two_widgets_on_one_page(browser: Browser, shop: Team) -> None:
    whole = shop.whole
    async with a_page(browser, shop) as page:
        await start(page, shop)
        await start(page, shop, el="#second", state="two")
        first, second = await shown_ticket(page), await shown_ticket(page, "#second")
        assert first != second
        assert (await whole.scan(second, whole.person())).accepted
        assert [call[:2] for call in await called(page, 2)] == [["two", "scanned"], ["two", "success"]]
        assert (await whole.scan(first, whole.person(1))).accepted
        assert [call[:2] for call in (await called(page, 4))[2:]] == [["one", "scanned"], ["one", "success"]]
        codes = {call[2] for call in await calls(page) if call[1] == "success"}
        assert len(codes) == 2
