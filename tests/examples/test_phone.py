"""The app's page in Chromium, with its backend as a real child process and a running saoma."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from tests.harness import Browser as Client
from tests.harness import Whole, document, running
from tests.pages.faults import faults_of
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

BACKEND = Path(__file__).parents[2] / "examples" / "phone" / "backend.py"
KEY = "a key that the app's backend shares with saoma"
APP = {"issuer": "https://app.example.com", "key": KEY}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}

# A camera that sees one code, in a browser that can read it.
CAMERA = """
window.BarcodeDetector = class {
  static async getSupportedFormats() { return ["qr_code"]; }
  async detect() { return window.sight ? [{ rawValue: window.sight }] : []; }
};
window.stopped = 0;
navigator.mediaDevices.getUserMedia = async () => {
  if (window.refused) throw new DOMException("no", "NotAllowedError");
  const canvas = document.createElement("canvas");
  canvas.getContext("2d").fillRect(0, 0, 9, 9);
  const stream = canvas.captureStream(10);
  const [track] = stream.getTracks();
  const stop = track.stop.bind(track);
  track.stop = () => { window.stopped += 1; stop(); };
  return stream;
};
"""


@asynccontextmanager
async def backend(login_server: str, key: str = KEY) -> AsyncIterator[str]:
    """The backend, once it serves; its origin."""
    environment = {
        "PATH": os.environ["PATH"],
        "LOGIN_SERVER": login_server,
        "APP_ISSUER": APP["issuer"],
        "APP_KEY": key,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, BACKEND, "--port", str(free_port()),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 10)
        assert line, "the backend did not start"
        yield line.decode().strip().rstrip("/")
    finally:
        process.terminate()
        await process.communicate()


@dataclass
class Scene:
    """saoma, a browser that waits at its login page, and the phone's page."""

    whole: Whole
    origin: str
    page: Page
    client: Client
    ticket: str

    @property
    def link(self) -> str:
        return f"{self.whole.base_url}/s/{self.ticket}"

    async def enter(self) -> None:
        """Opens the app and says who it is."""
        await self.page.goto(self.origin)
        await self.page.click("[data-person=u1001]")
        await self.expect_state("SCAN")

    async def paste(self, link: str = "") -> None:
        await self.page.fill("#link", link or self.link)
        await self.page.click("#paste")

    async def expect_state(self, state: str) -> None:
        await expect(self.page.locator("main")).to_have_attribute("data-state", state, timeout=10_000)

    async def expect_reason(self, reason: str) -> None:
        await self.expect_state("PROBLEM")
        await expect(self.page.locator("[data-reason].chosen")).to_have_attribute("data-reason", reason)
        await expect(self.page.locator("[data-reason].chosen")).to_be_visible()


@asynccontextmanager
async def a_phone(browser: Browser, script: str = "", **options) -> AsyncIterator[Page]:
    """A page in a browser of its own; fails on an error of a script or of the policy."""
    context = await browser.new_context(**{"locale": "zh-CN", **PHONE, **options})
    page = await context.new_page()
    if script:
        await page.add_init_script(script)
    errors = faults_of(page)
    yield page
    await context.close()
    assert not errors


@asynccontextmanager
async def scene(
    browser: Browser, tmp_path: Path, script: str = "", locale: str = "zh-CN", key: str = KEY, **settings
) -> AsyncIterator[Scene]:
    async with (
        running(tmp_path, app={**APP, **settings.pop("app", {})}, **settings) as whole,
        backend(whole.base_url, key) as origin,
        a_phone(browser, script, locale=locale) as page,
    ):
        client = whole.browser()
        yield Scene(whole, origin, page, client, await client.open_login("/login?method=app"))


async def test_confirm(browser, tmp_path):
    async with scene(browser, tmp_path) as given:
        page = given.page
        requests: list[str] = []
        page.on("request", lambda request: requests.append(json.dumps([request.url, request.headers])))
        await given.enter()
        await expect(page.locator("#no-camera")).to_be_visible()  # Debian's Chromium reads no codes
        await given.paste()
        await given.expect_state("ASK")
        for name, value in {"site": "saoma", "browser": "Chrome", "system": "Windows"}.items():
            await expect(page.locator(f"[data-seen={name}]")).to_have_text(value)
        await expect(page.locator("[data-seen=address]")).to_have_text("127.0.0.1")
        await expect(page.locator("[data-seen=time]")).to_have_text(re.compile(r"^20\d\d/\d+/\d+ "))
        assert await given.client.state(given.ticket) == "SCANNED"
        yes, no = page.locator("#confirm"), page.locator("#cancel")
        await expect(yes).to_have_text("确认登录", use_inner_text=True)
        await expect(no).to_have_text("不是我，取消", use_inner_text=True)
        size = "button => [button.offsetWidth, button.offsetHeight]"
        assert await yes.evaluate(size) == await no.evaluate(size), "neither is the easier one to press"
        await yes.click()
        await given.expect_state("CONFIRMED")
        user = document(await given.client.exchange(given.ticket))["user"]
        assert user["name"] == "林小满"
        assert user["identities"] == [{"provider": "app", "subject": "u1001", "following": True}]
        await page.click("section[data-for=CONFIRMED] .again")
        await given.paste()
        await given.expect_state("CONFIRMED")  # nothing is left to ask
        # The page has talked to its backend alone and has seen no token.
        assert all(json.loads(request)[0].startswith(given.origin) for request in requests)
        assert "authorization" not in "".join(requests).lower()
        assert await page.evaluate("document.cookie") == ""


async def test_the_number_on_the_page(browser, tmp_path):
    async with scene(browser, tmp_path, app={"number_match": True}) as given:
        page, wrong = given.page, given.page.locator("#number-wrong")
        await given.enter()
        await given.paste()
        await given.expect_state("ASK")
        seen = document(await given.client.get(f"/api/v1/tickets/{given.ticket}"))
        await page.click("#confirm")
        await expect(page.locator("#number")).to_be_focused()  # nothing was sent without one
        for left in ("2", "1"):
            await page.fill("#number", "10" if seen["number"] != 10 else "11")
            await page.click("#confirm")
            await expect(page.locator("#tries-left")).to_have_text(left)
            await expect(wrong).to_be_visible()
        await page.fill("#number", str(seen["number"]))
        await page.click("#confirm")
        await given.expect_state("CONFIRMED")
        assert (await given.client.exchange(given.ticket)).code == 200


async def test_cancel_and_another(browser, tmp_path):
    async with scene(browser, tmp_path) as given:
        await given.enter()
        await given.paste()
        await given.page.click("#cancel")
        await given.expect_state("CANCELLED")
        assert await given.client.state(given.ticket) == "CANCELLED"
        await given.page.click("section[data-for=CANCELLED] .again")
        await given.expect_state("SCAN")
        assert await given.page.input_value("#link") == ""
        await given.paste()
        await given.expect_reason("transition_refused")


async def test_expired(browser, tmp_path):
    async with scene(browser, tmp_path, ticket={"lifetime": 30}) as given:
        await given.enter()
        await given.paste()
        await given.expect_state("ASK")
        given.whole.clock.pass_(100)
        await given.page.click("#confirm")
        await given.expect_reason("ticket_unknown")
        await given.page.click("section[data-for=PROBLEM] .again")
        await given.paste()
        await given.expect_reason("ticket_unknown")


async def test_a_person_who_may_not_log_in(browser, tmp_path):
    async with scene(browser, tmp_path) as given:
        await given.enter()
        await given.paste()
        await given.expect_state("ASK")
        storage = given.whole.storage

        async def block(transaction):
            user = await transaction.users.by_identity("app", "u1001")
            await transaction.users.set_blocked(user.id, True)

        await storage.transact(block)
        await given.page.click("#confirm")
        await given.expect_reason("login_refused")


async def test_a_handle_of_another_scan(browser, tmp_path):
    async with scene(browser, tmp_path) as given:
        await given.enter()
        await given.paste()
        await given.expect_state("ASK")
        wrong = json.dumps({"link": given.link, "handle": "x" * 64})
        await given.page.route("**/confirm", lambda route: route.continue_(post_data=wrong))
        await given.page.click("#confirm")
        await given.expect_reason("handle_wrong")


async def test_codes_that_are_none_of_ours(browser, tmp_path):
    async with scene(browser, tmp_path) as given:
        await given.enter()
        for link in ("https://evil.example/s/abc", f"{given.link}?x=1", f"{given.whole.base_url}/login"):
            await given.paste(link)
            await given.expect_reason("foreign_code")
            await expect(given.page.locator("#retry")).to_be_hidden()
            await given.page.click("section[data-for=PROBLEM] .again")
        assert await given.client.state(given.ticket) == "WAITING"


async def test_a_backend_that_saoma_does_not_know(browser, tmp_path):
    async with scene(browser, tmp_path, key="x" * 32) as given:
        await given.enter()
        await given.paste()
        await given.expect_reason("unauthenticated")


async def test_saoma_away_and_back(browser, tmp_path):
    async with scene(browser, tmp_path) as given:
        await given.enter()
        await given.paste()
        await given.expect_state("ASK")
        await given.page.route("**/confirm", lambda route: route.abort())
        await given.page.click("#confirm")
        await given.expect_reason("unreachable")
        await given.page.unroute("**/confirm")
        await given.page.click("#retry")
        await given.expect_state("CONFIRMED")


async def test_no_saoma_at_all(browser):
    away = f"http://127.0.0.1:{free_port()}"
    async with backend(away) as origin, a_phone(browser) as page:
        await page.goto(origin)
        await page.click("[data-person=u1002]")
        await page.fill("#link", f"{away}/s/abc")
        await page.click("#paste")
        await expect(page.locator("[data-reason].chosen")).to_have_attribute("data-reason", "unreachable")


async def test_in_english_with_somebody_else(browser, tmp_path):
    async with scene(browser, tmp_path, locale="en-GB") as given:
        page = given.page
        await page.goto(f"{given.origin}/?code={given.link}")
        await expect(page.locator("h1:visible")).to_have_text("Who are you?", use_inner_text=True)
        await page.click("[data-person=u1001]")
        await page.click("#switch")
        await page.click("[data-person=u1003]")
        await expect(page.locator("#name")).to_have_text("Zoë Müller")
        assert await page.input_value("#link") == given.link
        assert await given.client.state(given.ticket) == "WAITING", "opening a link scans nothing"
        await page.reload()
        await given.expect_state("SCAN")
        await page.click("#paste")
        await expect(page.locator("#cancel")).to_have_text("Not me, cancel", use_inner_text=True)
        await expect(page.locator("main")).not_to_contain_text("确认", use_inner_text=True)


async def test_with_the_camera(browser, tmp_path):
    async with scene(browser, tmp_path, CAMERA) as given:
        page = given.page
        await given.enter()
        await expect(page.locator("#no-camera")).to_be_hidden()
        await page.evaluate("window.refused = true")
        await page.click("#camera")
        await expect(page.locator("#camera-refused")).to_be_visible()
        await page.evaluate("window.refused = false")
        await page.click("#camera")
        await expect(page.locator("#view")).to_be_visible()
        await expect(page.locator("#camera-refused")).to_be_hidden()
        await page.evaluate("link => { window.sight = link }", given.link)
        await given.expect_state("ASK")
        assert await page.evaluate("window.stopped") == 1, "the camera is off again"
        await page.click("#confirm")
        await given.expect_state("CONFIRMED")


async def test_what_saoma_tells_is_text(browser, tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    async with (
        running(tmp_path, app=APP, site={"name": evil}) as whole,
        backend(whole.base_url) as origin,
        a_phone(browser) as page,
    ):
        client = whole.browser(**{"User-Agent": "something"})
        given = Scene(whole, origin, page, client, await client.open_login("/login?method=app"))
        await given.enter()
        await given.paste()
        await expect(page.locator("[data-seen=site]")).to_have_text(evil)
        await expect(page.locator("[data-seen=browser]")).to_have_text("未知")


# --- the backend by HTTP alone --------------------------------------------------------------------------


async def post(origin: str, path: str, body: object, **headers: str) -> HTTPResponse:
    sent = {"Origin": origin, **headers}
    return await AsyncHTTPClient().fetch(
        f"{origin}/{path}",
        method="POST",
        body=body if isinstance(body, str) else json.dumps(body),
        headers={name: value for name, value in sent.items() if value},
        raise_error=False,
    )


async def test_only_its_own_page_is_answered():
    async with backend("http://127.0.0.1:9") as origin:
        person = {"person": "u1001"}
        assert (await post(origin, "session", person)).code == 200
        for foreign in ("", "null", "https://evil.example", origin.replace("127.0.0.1", "localhost")):
            refused = await post(origin, "session", person, Origin=foreign)
            assert refused.code == 403
            assert "Set-Cookie" not in refused.headers
        client = AsyncHTTPClient()
        for path in ("/", "/session", "/phone.js"):
            page = await client.fetch(origin + path)
            assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
            rebound = await client.fetch(origin + path, headers={"Host": "evil.example"}, raise_error=False)
            assert rebound.code == 403
        for path in ("/backend.py", "/README.md", "/..%2fbackend.py", "/phone.js/"):
            assert (await client.fetch(origin + path, raise_error=False)).code == 404


async def test_nobody_without_a_cookie_and_no_junk():
    async with backend("http://127.0.0.1:9") as origin:
        link = "http://127.0.0.1:9/s/abc"
        refused = await post(origin, "scan", {"link": link})
        assert (refused.code, document(refused)) == (401, {"code": "no_person"})
        forged = await post(origin, "scan", {"link": link}, Cookie="person=u1001")
        assert forged.code == 401
        cookie = (await post(origin, "session", {"person": "u1001"})).headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        for body in ("", "[]", "{", '{"link": 5}', {"person": "nobody"}, {"person": ["u1001"]}):
            for path in ("session", "scan", "confirm"):
                assert (await post(origin, path, body, Cookie=cookie.partition(";")[0])).code == 400
        away = await post(origin, "scan", {"link": link}, Cookie=cookie.partition(";")[0])
        assert (away.code, document(away)) == (502, {"code": "unreachable"})


@pytest.mark.parametrize(
    ("variable", "value"), [("LOGIN_SERVER", ""), ("APP_ISSUER", ""), ("APP_KEY", ""), ("APP_KEY", "short")]
)
async def test_a_variable_that_is_missing(variable, value):
    given = {"PATH": os.environ["PATH"], "LOGIN_SERVER": "http://x", "APP_ISSUER": "x", "APP_KEY": KEY}
    process = await asyncio.create_subprocess_exec(
        sys.executable, BACKEND, stderr=subprocess.PIPE, env={**given, variable: value}
    )
    _, complaint = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 2
    assert variable in complaint.decode()
