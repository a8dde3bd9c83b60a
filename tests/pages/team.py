"""A team's page with the widget, at another place than saoma, and the backend behind it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, Frame, FrameLocator, Page, expect
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from tests.handlers.relying_party import RelyingParty
from tests.harness import Whole
from tests.pages.faults import faults_of

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


@asynccontextmanager
async def a_page(browser: Browser, team: Team, *, blocked: str = "", **options: Any) -> AsyncIterator[Page]:
    """The team's page in a Chinese browser of its own: no fault of script or policy, no cookie of ours.

    `blocked` is what the browser has to say that it did not allow.
    """
    context = await browser.new_context(**{"locale": "zh-CN", "reduced_motion": "reduce", **options})
    page = await context.new_page()
    errors = faults_of(page)
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
