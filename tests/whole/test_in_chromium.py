"""The whole as a person meets it: real pages in Debian's Chromium, the emulator's phone, real stores."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from playwright.async_api import Browser, Page, expect
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from emulator import Emulator
from tests.harness import Whole, new_account, running
from tests.pages.faults import faults_of
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
QRCODE_CREATE = "/cgi-bin/qrcode/create"
USER_INFO = "/cgi-bin/user/info"


@pytest.fixture(params=["sqlite", "mongodb"])
def storage_url(request: pytest.FixtureRequest) -> str:
    return "sqlite:saoma.db" if request.param == "sqlite" else request.getfixturevalue("mongodb_url")


@asynccontextmanager
async def a_page(browser: Browser, **options):
    """A page in a browser of its own; fails on an error of a script or of the policy."""
    context = await browser.new_context(locale="zh-CN", **options)
    page = await context.new_page()
    errors = faults_of(page)
    yield page
    await context.close()
    assert not errors


async def open_login(page: Page, whole: Whole, path: str = "/login") -> str:
    """Opens the page, waits until it watches, and returns what its code says."""
    before = whole.server.broker.waiting
    await page.goto(whole.base_url + path)
    await wait_until(lambda: whole.server.broker.waiting > before)
    return await shown_code(page)


async def shown_code(page: Page) -> str:
    """The text in the code on the screen, read from a screenshot as a phone's camera would."""
    zbarimg = shutil.which("zbarimg")
    if zbarimg is None:
        pytest.skip("needs zbarimg (Debian's zbar-tools)")
    picture = await page.screenshot()
    reader = await asyncio.create_subprocess_exec(
        zbarimg, "--quiet", "--raw", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    text, _ = await reader.communicate(picture)
    assert text, "no code can be read from the screen"
    return text.decode().strip()


async def wait_until(condition, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def expect_state(page: Page, state: str, seconds: float = 10.0) -> None:
    await expect(page.locator("#login")).to_have_attribute("data-state", state, timeout=seconds * 1000)


async def log_in(page: Page, whole: Whole, openid: str) -> None:
    outcome = await whole.emulator.phone.scan(openid, await open_login(page, whole))
    assert outcome is not None
    assert outcome.accepted
    await page.wait_for_url(whole.base_url + "/")


async def test_a_login_from_first_follow_to_unfollow(browser, tmp_path, storage_url):
    async with running(tmp_path, storage={"url": storage_url}) as whole, a_page(browser) as page:
        phone, platform = whole.emulator.phone, whole.emulator.platform
        newcomer = platform.add_person("新来的").openid
        follower = platform.add_person("老朋友", following=True).openid

        code = await open_login(page, whole, "/login?next=/?from=shop")
        outcome = await phone.scan(newcomer, code)
        assert outcome.accepted
        assert whole.base_url in outcome.reply_text  # the way to say "that was not me"
        await expect_state(page, "SUCCESS")
        await page.wait_for_url("**/?from=shop")
        await expect(page.locator("main")).to_contain_text("微信用户")

        # Names are blank since 2021: a person may choose one.
        await page.fill("input[name=name]", "小王 <b>")
        await page.click("form[action='/profile'] button")
        await expect(page.locator("main")).to_contain_text("小王 <b>")

        async with a_page(browser) as other:
            await log_in(other, whole, follower)
            await expect(other.locator("main")).to_contain_text("微信用户")

        # The other login ended nothing here; leaving does.
        await page.reload()
        await expect(page.locator("main")).to_contain_text("小王")
        assert (await phone.unfollow(newcomer)).accepted
        await page.reload()
        await expect(page.locator("a[href^='/login']").first).to_be_visible()
        await wait_until(lambda: whole.server.broker.waiting == 0)
        assert whole.server.broker.tickets == 0


async def test_signing_out(browser, tmp_path, storage_url):
    async with running(tmp_path, storage={"url": storage_url}) as whole, a_page(browser) as page:
        await log_in(page, whole, whole.person())
        cookies = await page.context.cookies()
        await page.click("form[action='/logout'] button")
        await expect(page.locator("a[href^='/login']").first).to_be_visible()
        await page.context.add_cookies(cookies)  # what somebody may have copied is worth nothing any more
        await page.reload()
        await expect(page.locator("a[href^='/login']").first).to_be_visible()


async def test_following_without_a_code_logs_nobody_in(browser, tmp_path, storage_url):
    welcome = {"welcome": "欢迎！"}
    async with (
        running(tmp_path, storage={"url": storage_url}, wechat=welcome) as whole,
        a_page(browser) as page,
    ):
        await open_login(page, whole)
        person = whole.emulator.platform.add_person("路过").openid
        outcome = await whole.emulator.phone.follow(person)
        assert outcome.reply_text == "欢迎！"
        await page.wait_for_timeout(300)
        await expect_state(page, "WAITING")


async def test_an_expired_code(browser, tmp_path, storage_url):
    async with running(tmp_path, storage={"url": storage_url}) as whole, a_page(browser) as page:
        old = await open_login(page, whole)
        whole.clock.pass_(10_000)
        outcome = await whole.emulator.phone.scan(whole.person(), old)
        assert outcome is None  # WeChat itself sends nothing for a code that has expired
        await page.reload()
        fresh = await shown_code(page)
        assert fresh != old
        await wait_until(lambda: whole.server.broker.waiting == 1)
        assert (await whole.emulator.phone.scan(whole.person(), fresh)).accepted
        await page.wait_for_url(whole.base_url + "/")


async def test_a_forged_and_a_redelivered_event(browser, tmp_path, storage_url):
    async with running(tmp_path, storage={"url": storage_url}) as whole, a_page(browser) as page:
        code = await open_login(page, whole)
        emulator, person = whole.emulator, whole.person()
        forger = Emulator.start(new_account())  # another account's keys
        forger.deliver_to(emulator.platform.account.callback_url)
        scene = emulator.platform.find_code(code).scene
        fields = {"MsgType": "event", "Event": "SCAN", "EventKey": scene, "Ticket": "x"}
        attempt = await forger.courier.post(forger.courier.build(person, fields))
        assert (attempt.status, attempt.answer) == (403, b"")
        await forger.stop()
        await page.wait_for_timeout(200)
        await expect_state(page, "WAITING")

        outcome = await emulator.phone.scan(person, code)
        again = await emulator.courier.post(outcome.push)
        assert again.status == 200
        assert again.clear_answer == outcome.attempts[0].clear_answer
        await page.wait_for_url(whole.base_url + "/")
        await expect(page.locator("main")).to_contain_text("1")


async def test_a_relayed_text_message(browser, tmp_path, storage_url):
    class Backend(RequestHandler):
        received: list[bytes] = []  # noqa: RUF012  # one backend, one test

        def post(self) -> None:
            self.received.append(self.request.body)
            self.finish("success")

    sockets = bind_sockets(0, "127.0.0.1")
    backend = HTTPServer(Application([("/", Backend)], log_function=lambda _: None))
    backend.add_sockets(sockets)
    wechat = {"forward_url": f"http://127.0.0.1:{sockets[0].getsockname()[1]}/"}
    async with (
        running(tmp_path, storage={"url": storage_url}, wechat=wechat) as whole,
        a_page(browser) as page,
    ):
        await log_in(page, whole, whole.person())
        assert Backend.received == []  # a login is ours
        outcome = await whole.emulator.phone.send_text(whole.person(), "你好")
        assert outcome.accepted
        assert Backend.received == [outcome.push.body]
    backend.stop()
    await backend.close_all_connections()


async def test_wechats_api_slow_and_down(browser, tmp_path, storage_url, expect_log):
    expect_log(r"WeChat's API did not answer")
    async with running(tmp_path, storage={"url": storage_url}) as whole, a_page(browser) as page:
        while await whole.server.codes.ready() < 10:
            await asyncio.sleep(0.05)
        whole.emulator.platform.delay(USER_INFO, 20, times=5)
        await log_in(page, whole, whole.person())  # the profile may take as long as it likes
        whole.emulator.platform.down = True
        async with a_page(browser) as other:
            await log_in(other, whole, whole.person(1))  # from the pool, and no call is needed for the scan
        for _ in range(await whole.server.codes.ready()):
            await whole.server.codes.take()
        async with a_page(browser) as unlucky:
            response = await unlucky.goto(whole.base_url + "/login")
            assert response.status == 200
            await expect_state(unlucky, "FAILED")
            await expect(unlucky.locator(".reasons .chosen")).to_have_text("此登录方式暂时不可用。")
            whole.emulator.platform.heal()
            await unlucky.wait_for_timeout(2500)
            await log_in(unlucky, whole, whole.person(2))


async def test_another_account_after_a_bystander_scanned(browser, tmp_path):
    async with running(tmp_path) as whole, a_page(browser) as page:
        await page.route("**/", lambda route: route.abort())  # stay on the page that names who it is
        assert (await whole.emulator.phone.scan(whole.person(), await open_login(page, whole))).accepted
        await expect_state(page, "SUCCESS")
        await page.unroute("**/")
        await page.get_by_role("button", name=re.compile("换个账号")).click()
        await page.wait_for_url("**/login**")
        await wait_until(lambda: whole.server.broker.waiting == 1)
        me = await page.request.get(whole.base_url + "/api/v1/me")
        assert me.status == 401


async def test_killed_between_event_and_exchange(browser, tmp_path):
    """SIGKILL, and a new start on the same port: the page, reconnecting by itself, is logged in."""
    emulator = Emulator.start(new_account())
    account = emulator.platform.account
    port = free_port()
    emulator.deliver_to(f"http://127.0.0.1:{port}/wechat/callback")
    wechat = {name: getattr(account, name) for name in ("appid", "secret", "token", "encoding_aes_key")}
    file = tmp_path / "settings.yaml"
    file.write_text(
        yaml.safe_dump({"server": {"port": port}, "wechat": {**wechat, "api_base": emulator.base_url}})
    )
    server = await start_server(file, port)
    try:
        async with a_page(browser) as page:
            await page.route("**/exchange", lambda route: route.abort())  # nothing is collected before
            await page.goto(f"http://127.0.0.1:{port}/login")
            outcome = await emulator.phone.scan(next(iter(emulator.platform.people)), await shown_code(page))
            assert outcome.accepted
            server.send_signal(signal.SIGKILL)
            await asyncio.to_thread(server.wait)
            await page.unroute("**/exchange")
            await page.wait_for_timeout(500)
            server = await start_server(file, port)
            await page.wait_for_url(f"http://127.0.0.1:{port}/", timeout=20_000)
            me = await page.request.get(f"http://127.0.0.1:{port}/api/v1/me")
            assert me.status == 200, await me.text()
    finally:
        server.send_signal(signal.SIGTERM)
        await asyncio.to_thread(server.wait)
        await emulator.stop()


async def start_server(file: Path, port: int) -> subprocess.Popen[bytes]:
    """`server.py serve`, once it takes connections."""
    process = subprocess.Popen(
        [sys.executable, ROOT / "server.py", "serve", "--settings", file], stderr=subprocess.DEVNULL
    )
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        await writer.wait_closed()
        return process
    process.kill()
    raise AssertionError("the server did not start")


async def test_the_demo_by_clicks_alone(browser):
    """What a newcomer does after `make run`: open the site, open the phone, scan, be logged in."""
    demo = subprocess.Popen(
        [sys.executable, ROOT / "server.py", "demo", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert demo.stdout is not None
        site = re.search(r"http://\S+", await asyncio.to_thread(demo.stdout.readline))[0]
        async with a_page(browser, viewport={"width": 1280, "height": 900}) as page:
            await page.goto(site)
            await page.click("a[href^='/login']")
            async with page.context.expect_page() as opened:
                await page.click("a[href*='/q/']")
            phone = await opened.value
            await phone.click("#scan")
            await expect(phone.locator("#chat [data-speaker=account]")).to_contain_text("saoma")
            await page.wait_for_url(site)
            await expect(page.locator("form[action='/logout']")).to_be_visible()
            # On the phone: that was not me.
            async with page.context.expect_page() as opened:
                await phone.click("#chat [data-speaker=account] a")
            not_me = await opened.value
            await not_me.click("form button")
            await page.reload()
            await expect(page.locator("a[href^='/login']").first).to_be_visible()
    finally:
        demo.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(demo.wait, 15) == 0
        demo.stdout.close()
