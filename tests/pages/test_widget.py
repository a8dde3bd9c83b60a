"""The widget in a real browser: a team's page at another place, which gives no third party a cookie."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Frame, FrameLocator, Page, expect
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from handlers.base import BaseHandler
from oidc.grant import challenge_of
from tests.handlers.relying_party import RelyingParty
from tests.handlers.test_app import APP, bearer
from tests.harness import Whole, document, running

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGE = """<!doctype html>
<html lang="en"><title>{title}</title>
<h1>{title}</h1>
<p><button id="login">Log in</button> <button id="other">Something else</button></p>
<div id="box"></div><div id="second"></div>
<script src="{saoma}/static/saoma.js"></script>
{more}
"""
# As strict as a team's policy may be: no style in the markup, no eval, nothing inline.
POLICY = "default-src 'none'; script-src {saoma}; frame-src {saoma}{more}; base-uri 'none'"

# Puts the widget on the page as its script would, and writes down whatever it is told.
START = """(options) => {
  window.calls ??= [];
  window.messages ??= [];
  if (!messages.length) addEventListener("message", ({ data, origin }) => messages.push({ data, origin }));
  const note = (name) => (answer) => calls.push([options.state, name, answer?.code ?? null, answer ?? null]);
  const told = { onScanned: note("scanned"), onExpired: note("expired"), onError: note("error") };
  if (!options.redirects) told.onSuccess = note("success");
  delete options.redirects;
  (window.widgets ??= []).push(new SaomaLogin({ ...told, ...options }));
}"""


@dataclass
class Team:
    """A site of the team's: a page with the widget, and a backend behind it."""

    title: str
    port: int = 0
    more: str = ""  # in the page
    more_frames: str = ""  # in its policy
    seen: list[dict[str, str]] = field(default_factory=list)  # what came to the backend
    set_cookies: list[str] = field(default_factory=list)  # addresses of ours that set one
    whole: Whole | None = None
    server: HTTPServer | None = None

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def site(self) -> dict[str, Any]:
        return {
            "id": self.title.lower(),
            "name": self.title,
            "secret": self.title.lower() * 8,
            "redirect_uris": [f"{self.origin}/callback", f"{self.origin}/callback?from=widget"],
        }

    def listen(self) -> None:
        given = {"team": self}
        application = Application(
            [(r"/", Start, given), (r"/callback", Callback, given), (r"/cookie", Cookie), (r"/liar", Liar)],
            log_function=lambda handler: None,
        )
        self.server = HTTPServer(application)
        sockets = bind_sockets(self.port, "127.0.0.1")
        self.port = sockets[0].getsockname()[1]
        self.server.add_sockets(sockets)


class Start(RequestHandler):
    def initialize(self, team: Team) -> None:
        self.team = team

    async def get(self) -> None:
        saoma = self.team.whole.base_url
        self.set_header("Content-Security-Policy", POLICY.format(saoma=saoma, more=self.team.more_frames))
        self.write(PAGE.format(title=self.team.title, saoma=saoma, more=self.team.more))


class Callback(Start):
    """The team's backend: redeems the code with the verifier that the page has left in a cookie."""

    async def get(self) -> None:
        code = self.get_query_argument("code")
        verifier = self.get_cookie("saoma_code_verifier") or ""
        state = self.get_query_argument("state")
        self.team.seen.append({"query": self.request.query, "verifier": verifier, "state": state})
        self.clear_cookie("saoma_code_verifier", path="/callback")
        user = await redeemed(self.team, code, verifier, "?from=widget")
        self.write(f"<!doctype html><title>In</title><p>{user}</p>")


async def redeemed(team: Team, code: str, verifier: str, query: str = "") -> str:
    """Whose login it is: the person's id."""
    shop = RelyingParty(team.whole, team.site)
    shop.redirect_uri += query
    shop.verifier, shop.nonce = verifier, ""
    return (await shop.verified((await shop.tokens(code))["id_token"]))["sub"]


class Cookie(RequestHandler):
    """Tries to leave a cookie, as a third party that wants to know people again."""

    def get(self) -> None:
        self.set_header("Set-Cookie", "stranger=1; Path=/; SameSite=None; Secure")
        self.write("<!doctype html><p>cookie</p>")


class Liar(RequestHandler):
    """A frame that says to the page around it what ours would."""

    def get(self) -> None:
        said = [
            {"saoma": "CODE", "code": "forged", "state": "one", "iss": "x"},
            {"saoma": "SCANNED"},
            {"saoma": "INVALID"},
            {"saoma": "CLOSE"},
        ]
        lies = "".join(f"parent.postMessage({json.dumps(lie)}, '*');" for lie in said)
        self.write(f"<!doctype html><script>{lies}</script>")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def teams(tmp_path_factory) -> AsyncIterator[tuple[Team, Team]]:
    """A registered team and one that is not, and the server that both put on their pages."""
    shop, stranger = Team("Shop"), Team("Stranger")
    for team in (shop, stranger):
        team.listen()
    async with running(tmp_path_factory.mktemp("widget"), sites=[shop.site], app=APP) as whole:
        shop.whole = stranger.whole = whole
        with pytest.MonkeyPatch.context() as patch:

            def set_cookie(handler: BaseHandler, *_: Any, **__: Any) -> None:
                shop.set_cookies.append(handler.request.path)

            patch.setattr(BaseHandler, "set_cookie", set_cookie)
            yield shop, stranger
    for team in (shop, stranger):
        team.server.stop()
        await team.server.close_all_connections()


@pytest.fixture
def shop(teams: tuple[Team, Team]) -> Team:
    teams[0].more = teams[0].more_frames = ""
    teams[0].seen.clear()
    return teams[0]


@asynccontextmanager
async def a_page(browser: Browser, team: Team, *, blocked: str = "", **options: Any) -> AsyncIterator[Page]:
    """The team's page in a Chinese browser of its own: no fault of script or policy, no cookie of ours.

    `blocked` is what the browser has to say that it did not allow.
    """
    context = await browser.new_context(**{"locale": "zh-CN", "reduced_motion": "reduce", **options})
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console",
        lambda line: errors.append(line.text) if "Content Security Policy" in line.text else None,
    )
    try:
        await page.goto(team.origin)
        yield page
        kept = [cookie for cookie in await context.cookies() if cookie["domain"] != "localhost"]
    finally:
        await context.close()
    assert [error for error in errors if not blocked or blocked not in error] == []
    assert not blocked or any(blocked in error for error in errors)
    assert kept == []
    assert team.set_cookies == [], "nor did the server try"


async def start(page: Page, team: Team, **options: Any) -> None:
    """Makes the widget; `redirects` leaves out `onSuccess`."""
    needed = {"client_id": "shop", "redirect_uri": f"{team.origin}/callback", "state": "one"}
    place = {} if "button" in options else {"el": "#box"}
    await page.evaluate(START, {**needed, **place, **options})


def inside(page: Page, where: str = "#box") -> FrameLocator:
    return page.frame_locator(f"{where} iframe")


async def shown_ticket(page: Page, where: str = "#box") -> str:
    """The ticket whose code is seen, once the frame waits for it."""
    root = inside(page, where).locator("#login")
    await expect(root).to_have_attribute("data-ticket", re.compile(".+"))
    await expect(inside(page, where).locator(".code img")).to_be_visible()
    return await root.get_attribute("data-ticket") or ""


def frames_of(page: Page, team: Team) -> list[Frame]:
    return [frame for frame in page.frames if frame.url.startswith(team.whole.base_url)]


async def calls(page: Page) -> list[Any]:
    """[state, name, code or null] of each callback so far."""
    return [call[:3] for call in await page.evaluate("window.calls ?? []")]


async def called(page: Page, count: int) -> list[Any]:
    await page.wait_for_function("count => calls.length >= count", arg=count)
    return await calls(page)


def heading(page: Page, text: str, where: str = "#box") -> Any:
    return inside(page, where).get_by_role("heading", name=text)


async def in_order(check: Callable[[], Any]) -> None:
    """Gives whatever might still come the time to come."""
    await asyncio.sleep(0.3)
    check()


# ---- The condition


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


# ---- What is seen


async def test_the_smallest_box_can_be_scanned(browser: Browser, shop: Team) -> None:
    zbarimg = shutil.which("zbarimg")
    if zbarimg is None:
        pytest.skip("needs zbarimg (Debian's zbar-tools)")
    phone = "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/140.0 Mobile Safari/537.36"
    for scheme, more in (("light", {}), ("dark", {}), ("light", {"user_agent": phone, "locale": "en"})):
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


# ---- Strangers


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
