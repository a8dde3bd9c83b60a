"""A site sends its visitor to us and gets them back, on another origin, in Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import pytest
from playwright.async_api import Browser, expect
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from tests.handlers.relying_party import RelyingParty
from tests.harness import running
from tests.whole.test_in_chromium import a_page, shown_code

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Callback(RequestHandler):
    def get(self) -> None:
        self.set_header("Content-Type", "text/html")
        self.finish("<h1>back at the shop</h1>")


@asynccontextmanager
async def a_shop() -> AsyncIterator[str]:
    """A site at another host than ours; the address of its callback."""
    sockets = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([(r"/.*", Callback)]))
    server.add_sockets(sockets)
    yield f"http://localhost:{sockets[0].getsockname()[1]}/callback"
    server.stop()
    await server.close_all_connections()


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
async def test_to_the_site_and_back(browser: Browser, tmp_path, scripts: bool):
    async with a_shop() as callback:
        site = {"id": "shop", "name": "Shop", "secret": "s" * 32, "redirect_uris": [callback]}
        async with (
            running(tmp_path, sites=[site]) as whole,
            a_page(browser, java_script_enabled=scripts) as page,
        ):
            shop = RelyingParty(whole, site)
            await page.goto(whole.base_url + shop.authorize_path())
            await expect(page.get_by_role("heading", level=1)).to_have_text("登录 Shop")
            outcome = await whole.emulator.phone.scan(whole.person(), await shown_code(page))
            assert outcome is not None
            assert outcome.accepted
            if not scripts:
                await page.get_by_role("button", name="我已在手机上确认，继续").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text("back at the shop")
            code = page.url.partition("code=")[2].partition("&")[0]
            assert f"state={shop.state}" in page.url
            claims = await shop.verified((await shop.tokens(code))["id_token"])
            assert claims["sub"] == (await whole.user(whole.person())).id


async def test_the_sign_out_button_leads_back_to_the_site(browser: Browser, tmp_path):
    """A form's way is checked to its end by the page's policy."""
    async with a_shop() as callback:
        site = {
            "id": "shop",
            "name": "Shop",
            "secret": "s" * 32,
            "redirect_uris": [callback],
            "post_logout_redirect_uris": [callback],
        }
        async with running(tmp_path, sites=[site]) as whole, a_page(browser) as page:
            visitor = whole.browser()
            await whole.log_in(visitor, whole.person())
            cookie = {"name": "saoma-session", "value": visitor.cookies["saoma-session"]}
            await page.context.add_cookies([{**cookie, "url": whole.base_url}])
            asked = urlencode({"client_id": "shop", "post_logout_redirect_uri": callback, "state": "s"})
            await page.goto(f"{whole.base_url}/oauth2/logout?{asked}")
            await page.locator("main button").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text("back at the shop")
            assert page.url == f"{callback}?state=s"
            assert (await visitor.get("/api/v1/me")).code == 401
