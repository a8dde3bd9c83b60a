"""The widget on pages of strangers, with others who talk, and with options that are wrong."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, expect

from tests.pages.team import Team, a_page, called, calls, frames_of, shown_ticket, start

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_stranger_can_show_it_nowhere(browser: Browser, teams: tuple[Team, Team]) -> None:
    shop, stranger = teams
    asked: list[str] = []
    async with a_page(browser, stranger, blocked="frame-ancestors") as page:
        page.on("request", lambda request: asked.append(urlsplit(request.url).path))
        # As itself, its place is not the site's; as the site, the browser does not show what comes.
        await start(page, shop, redirect_uri=f"{shop.origin}/callback")
        assert await called(page, 1) == [["one", "error", "refused"]]
        own = await page.locator("#box iframe").get_attribute("src") or ""
        assert (await page.request.get(own)).status == 400
        forged = own.replace(str(stranger.port), str(shop.port))
        assert forged != own
        good = await page.request.get(forged)
        assert good.status == 200
        assert f"frame-ancestors {shop.origin}" in good.headers["content-security-policy"]
        await page.evaluate("address => { document.querySelector('iframe').src = address }", forged)
        await asyncio.sleep(0.5)
        shown = [frame.url for frame in page.frames[1:]]
        assert shown == ["chrome-error://chromewebdata/"], shown
        assert "/widget/tickets" not in asked
        assert await page.evaluate("messages") == []
        assert len(await calls(page)) == 1


async def test_in_a_tab_of_its_own_it_tells_nobody(browser: Browser, shop: Team) -> None:
    """Somebody opens the address for a victim, keeping a hand on the window: nothing is posted to it."""
    async with a_page(browser, shop) as page:
        await start(page, shop)
        await shown_ticket(page)
        address = await page.locator("#box iframe").get_attribute("src")
        await page.evaluate("address => { window.opened = open(address) }", address)
        async with asyncio.timeout(10):
            while len(page.context.pages) < 2:
                await asyncio.sleep(0.02)
        tab = page.context.pages[1]
        await expect(tab.locator("#login")).to_have_attribute("data-ticket", re.compile(".+"))
        before = len(await page.evaluate("messages"))
        ticket = await tab.locator("#login").get_attribute("data-ticket") or ""
        assert (await shop.whole.scan(ticket, shop.whole.person())).accepted
        await expect(tab.locator("#login")).to_have_attribute("data-state", "SUCCESS")
        assert len(await page.evaluate("messages")) == before
        assert await calls(page) == []


async def test_what_others_say_is_not_heard(browser: Browser, teams: tuple[Team, Team], shop: Team) -> None:
    stranger = teams[1]
    shop.more_frames = f" {stranger.origin}"
    async with a_page(browser, shop) as page:
        await start(page, shop)
        await start(page, shop, button="#login", state="layer")
        await page.click("#login")
        await shown_ticket(page)
        await shown_ticket(page, "dialog")
        heard = len(await page.evaluate("messages"))
        await page.evaluate(
            """(address) => {
              const liar = document.createElement("iframe");
              liar.src = address;
              document.body.append(liar);
              // The page itself is no more believed, nor is a frame of ours that another widget has.
              const said = { code: "forged", state: "one" };
              for (const saoma of ["CODE", "CLOSE", "INVALID"]) postMessage({ saoma, ...said }, "*");
              const forged = new MessageEvent("message", {
                origin: new URL(document.querySelector("#box iframe").src).origin,
                source: window,
                data: { saoma: "CODE", code: "forged", state: "one" },
              });
              dispatchEvent(forged);
            }""",
            f"{stranger.origin}/liar",
        )
        await page.wait_for_function("count => messages.length >= count", arg=heard + 8)
        # Nor what another page says that has come into our frame.
        ours = "address => document.querySelectorAll('div iframe').forEach((one) => (one.src = address))"
        await page.evaluate(ours, f"{stranger.origin}/liar")
        await page.wait_for_function("count => messages.length >= count", arg=heard + 16)
        assert await calls(page) == []
        await expect(page.get_by_role("dialog")).to_be_visible()
        assert page.url == f"{shop.origin}/"


async def test_an_answer_to_another_request_is_not_heard(browser: Browser, shop: Team) -> None:
    async with a_page(browser, shop) as page:
        await start(page, shop)
        await shown_ticket(page)
        said = "parent.postMessage({ saoma: 'CODE', code: 'x', state: 'other' }, '*')"
        heard = len(await page.evaluate("messages"))
        await frames_of(page, shop)[0].evaluate(said)
        await page.wait_for_function("count => messages.length > count", arg=heard)
        assert await calls(page) == []


# ---- Options


WRONG_OPTIONS = [
    ("", "client_id is required"),
    ("{}", "client_id is required"),
    ("{client_id: 'shop', state: 's'}", "redirect_uri is required"),
    ("{...good, state: undefined}", "state is required"),
    ("{...good, state: ''}", "state should be a string"),
    ("{...good, state: 7}", "state should be a string"),
    ("{...good, onSuccess: 'go'}", "onSuccess should be a function"),
    ("{...good, onSucces() {}}", "there is no option onSucces"),
    ("{...good, el: '#nowhere'}", "el is not on the page: #nowhere"),
    ("{...good, el: null}", "el is not on the page: null"),
    ("{...good, button: '#nowhere'}", "button is not on the page: #nowhere"),
    ("{...good, el: '#box', button: '#login'}", "a box (el) has no button"),
    ("{...good, redirect_uri: '/callback'}", "redirect_uri should begin with https://"),
    ("{...good, redirect_uri: 'javascript:alert(1)'}", "redirect_uri should begin with https://"),
    ("{...good, redirect_uri: 'https://api.example/'}", "redirect_uri is on another host"),
]


async def test_wrong_options(browser: Browser, shop: Team) -> None:
    async with a_page(browser, shop) as page:
        for options, message in WRONG_OPTIONS:
            said = await page.evaluate(
                f"""(uri) => {{
                  const good = {{ client_id: "shop", redirect_uri: uri, state: "s" }};
                  try {{ new SaomaLogin({options}) }} catch (error) {{ return error.message }}
                  return "nothing";
                }}""",
                f"{shop.origin}/callback",
            )
            assert said.startswith(f"SaomaLogin: {message}"), (options, said)
        assert await page.locator("iframe").count() == 0


async def test_an_answer_for_another_host_goes_to_who_asked_for_it(browser: Browser, shop: Team) -> None:
    async with a_page(browser, shop) as page:
        made = """(more) => {
          const abroad = { client_id: "shop", redirect_uri: "https://api.example/", state: "s", ...more };
          return !!new SaomaLogin(more ? abroad : { ...abroad, onSuccess() {} });
        }"""
        for more in (None, {"code_challenge": "x" * 43}):
            assert await page.evaluate(made, more)


async def test_it_has_to_be_loaded_by_a_script_element(browser: Browser, shop: Team) -> None:
    async with a_page(browser, shop) as page:
        script = await (await page.request.get(f"{shop.whole.base_url}/static/saoma.js")).text()
        await page.evaluate(script)
        said = await page.evaluate("try { new SaomaLogin({}) } catch (error) { error.message }")
        assert said.startswith("SaomaLogin: load saoma.js by a <script src>")
