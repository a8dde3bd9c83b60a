"""A server that is a process of its own: killed, told to stop, set up wrongly, tried out."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from urllib.parse import urlencode

import pytest
import yaml
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from emulator.phone import scan_fields, subscribe_fields
from emulator.platform import QRCODE_CREATE, STABLE_TOKEN
from tests.harness import CALLBACK, Browser, Child, document, write_settings
from tests.ports import free_port
from tests.whole.test_flows import backend
from wechat.replies import SUCCESS

FOLLOWER = 1


class Site:
    """The settings of a server on a port that stays the same over its restarts."""

    def __init__(self, folder, emulator, **more) -> None:
        self.emulator = emulator
        self.port = free_port()
        server = {"port": self.port, **more.pop("server", {})}
        account = emulator.platform.account
        self.settings = write_settings(folder, account, emulator.base_url, server=server, **more)
        self.url = f"http://127.0.0.1:{self.port}"
        emulator.deliver_to(self.url + CALLBACK)

    def child(self) -> Child:
        return Child.serving(self.settings)

    def browser(self) -> Browser:
        return Browser(self.url, {})

    def person(self, number: int = 0) -> str:
        return list(self.emulator.platform.people)[number]

    def code(self, ticket_id: str):
        codes = self.emulator.platform.codes.values()
        return next(code for code in codes if code.scene == ticket_id)

    async def scan(self, ticket_id: str, number: int = 0):
        outcome = await self.emulator.phone.scan(self.person(number), self.code(ticket_id).url)
        assert outcome is not None
        return outcome


# --- Killed.


@pytest.mark.parametrize("url", ["sqlite:data/saoma.db", "mongodb"])
async def test_a_login_survives_a_kill_between_event_and_exchange(tmp_path, emulator, url, request):
    if url == "mongodb":
        url = request.getfixturevalue("mongodb_url")
    site = Site(tmp_path, emulator, storage={"url": url})
    browser = site.browser()
    async with site.child() as child:
        await child.says("serving")
        waiting = await browser.open_login("/login?next=/a")
        ticket_id = await browser.open_login("/login?next=/deep")
        assert (await site.scan(ticket_id)).accepted
        assert await child.end(signal.SIGKILL) == -signal.SIGKILL
        await child.start()
        await child.says("serving")
        assert await browser.state(ticket_id) == "CONFIRMED"
        collected = await browser.exchange(ticket_id)
        assert (collected.code, document(collected)["next"]) == (200, "/deep")
        # Once more: between the exchange and whatever comes next.
        await child.end(signal.SIGKILL)
        await child.start()
        await child.says("serving")
        me = document(await browser.get("/api/v1/me"))
        assert me["identities"][0]["subject"] == site.person()
        # A code that was on a page before goes on, too, and a repeated exchange is none the worse.
        assert (await browser.exchange(ticket_id)).code == 200
        assert (await site.scan(waiting, FOLLOWER)).accepted
        assert (await browser.exchange(waiting)).code == 200


async def test_what_was_done_before_a_kill_is_not_done_again(tmp_path, emulator):
    site = Site(tmp_path, emulator)
    browser = site.browser()
    async with site.child() as child:
        await child.says("serving")
        ticket_id = await browser.open_login()
        push = emulator.courier.build(site.person(FOLLOWER), scan_fields(site.code(ticket_id)))
        first = await emulator.courier.post(push)
        assert (await browser.exchange(ticket_id)).code == 200
        await child.end(signal.SIGKILL)
        await child.start()
        await child.says("serving")
        again = await emulator.courier.post(push)
        assert again.clear_answer == first.clear_answer
        assert (await browser.get("/api/v1/me")).code == 200


# --- Told to stop.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_in_good_order(tmp_path, emulator, number):
    async with backend() as (hook, seen, answer):
        answer[0] = (200, b"success", 1.0)
        site = Site(tmp_path, emulator, wechat={"forward_url": hook})
        browser = site.browser()
        async with site.child() as child:
            await child.says("serving")
            ticket_id = await browser.open_login()
            async with browser.socket(ticket_id) as socket:
                assert json.loads(await socket.read_message())["state"] == "WAITING"
                poll = asyncio.ensure_future(browser.get(f"/api/v1/tickets/{ticket_id}?wait=30"))
                fields = {"MsgType": "text", "Content": "hi", "MsgId": 1}
                push = emulator.courier.build(site.person(FOLLOWER), fields)
                event = asyncio.ensure_future(emulator.courier.post(push))
                while not seen:
                    await asyncio.sleep(0.01)
                started = time.monotonic()
                assert await child.end(number, seconds=10) == 0
                assert time.monotonic() - started < 10
                assert (await event).answer == SUCCESS, "what WeChat delivered was answered"
                assert await socket.read_message() is None
                with pytest.raises(Exception, match=r"(?i)closed|empty|refused"):
                    await poll
        assert "Traceback" not in child.output
        assert "ERROR" not in child.output
        # And nothing was lost on the way.
        async with site.child() as child:
            await child.says("serving")
            assert await browser.state(ticket_id) == "WAITING"


async def test_a_page_that_never_reads_does_not_hold_up_the_end(tmp_path, emulator):
    site = Site(tmp_path, emulator)
    async with site.child() as child:
        await child.says("serving")
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"POST /wechat/callback HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\nhalf")
        await writer.drain()
        assert await child.end(signal.SIGTERM, seconds=10) == 0
        writer.close()
        del reader


# --- Set up wrongly.


async def test_all_faults_are_told_at_once(tmp_path):
    path = tmp_path / "settings.yaml"
    faults = {
        "server": {"port": 99999, "base_url": "login.example.com", "unknown_key": 1},
        "wechat": {"appid": "wx1", "mode": "open", "token": "a b"},
        "storage": {"url": "mysql://x"},
        "sites": [{"id": "a"}],
    }
    path.write_text(yaml.safe_dump(faults))
    async with Child.serving(path) as child:
        assert await child.ended() == 2
    for name in (
        "server.port",
        "server.base_url",
        "server.unknown_key",
        "wechat.mode",
        "wechat.token",
        "wechat.secret",
        "storage.url",
        "sites.0: should have a secret",
    ):
        assert name in child.output, child.output
    assert "Traceback" not in child.output
    assert not (tmp_path / "data").exists(), "nothing is made on faulty settings"


@pytest.mark.parametrize("text", ["", "[]"])
async def test_a_file_that_is_none(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    async with Child("check", "--settings", str(path)) as child:
        code = await child.ended()
    assert code == (0 if text == "" else 2), child.output
    assert "Traceback" not in child.output


async def test_no_file_at_all(tmp_path):
    async with Child.serving(tmp_path / "missing.yaml") as child:
        assert await child.ended() == 2
    assert "missing.yaml" in child.output
    assert "Traceback" not in child.output


async def test_an_environment_that_is_unknown(tmp_path, emulator):
    site = Site(tmp_path, emulator)
    environment = {"SAOMA_WECHAT_TOKNE": "x"}
    async with Child("check", "--settings", str(site.settings), environment=environment) as child:
        assert await child.ended() == 2
    assert "SAOMA_WECHAT_TOKNE" in child.output


async def test_a_port_that_is_taken(tmp_path, emulator):
    site = Site(tmp_path, emulator)
    taken = emulator.base_url.rpartition(":")[2]
    environment = {"SAOMA_SERVER_PORT": taken}
    async with Child("serve", "--settings", str(site.settings), environment=environment) as child:
        assert await child.ended() == 2
    assert f"127.0.0.1:{taken}" in child.output
    assert "Traceback" not in child.output


async def test_a_second_process_on_the_same_file(tmp_path, emulator):
    site = Site(tmp_path, emulator)
    async with site.child() as child:
        await child.says("serving")
        other = {"SAOMA_SERVER_PORT": str(free_port())}
        async with Child("serve", "--settings", str(site.settings), environment=other) as second:
            assert await second.ended() != 0
        assert "mongodb://" in second.output
        assert "Traceback" not in second.output
        ticket_id = await site.browser().open_login()
        assert (await site.scan(ticket_id)).accepted, "the first goes on"


async def test_a_store_that_cannot_be_used(tmp_path, emulator):
    (tmp_path / "data").write_text("not a folder")
    site = Site(tmp_path, emulator)
    async with site.child() as child:
        assert await child.ended() == 1
    assert "storage" in child.output
    assert "Traceback" not in child.output


# --- Tried out.


async def check(site: Site, *more: str) -> tuple[int, str]:
    async with Child("check", "--settings", str(site.settings), *more) as child:
        code = await child.ended()
    assert "Traceback" not in child.output
    assert site.emulator.platform.account.secret not in child.output
    return code, child.output


async def test_checks_that_find_nothing(tmp_path, emulator):
    site = Site(tmp_path, emulator)
    code, said = await check(site)
    assert code == 0, said
    assert emulator.platform.calls.total() == 0
    code, said = await check(site, "--online")
    assert code == 0, said
    assert said.count("ok ") >= 5
    assert "FAULT" not in said
    assert emulator.platform.calls[QRCODE_CREATE] == 1


@pytest.mark.parametrize(
    ("path", "errcode", "words"),
    [
        (STABLE_TOKEN, 40164, "IP"),
        (QRCODE_CREATE, 48001, "service account"),
    ],
)
async def test_checks_that_find_a_fault(tmp_path, emulator, path, errcode, words):
    site = Site(tmp_path, emulator)
    emulator.platform.fail(path, errcode, times=9)
    code, said = await check(site, "--online")
    assert code == 1
    (fault,) = (line for line in said.splitlines() if line.startswith("FAULT"))
    assert words in fault
    assert str(errcode) in fault


async def test_checks_of_an_account_with_another_secret_or_none_there(tmp_path, emulator):
    site = Site(tmp_path, emulator, wechat={"secret": "0" * 32})
    code, said = await check(site, "--online")
    assert (code, "AppSecret" in said) == (1, True), said
    emulator.platform.down = True
    code, said = await check(site, "--online")
    assert (code, "did not answer" in said) == (1, True), said


async def test_the_demo_logs_in_by_http_alone():
    async with Child("demo", "--port", str(free_port())) as child:
        said = await child.says("Ctrl+C ends it")
        addresses = re.findall(r"http://127\.0\.0\.1:\d+/", said)
        first = next(line for line in said.splitlines() if line.strip())
        assert addresses[0] in first, "the site's address comes first"
        site, phone = (address.rstrip("/") for address in addresses[:2])
        browser, client = Browser(site, {}), AsyncHTTPClient()
        ticket_id = await browser.open_login()
        page = (await browser.get("/login")).body.decode()
        code = re.search(rf'href="({re.escape(phone)}/q/[^"]+)"', page)
        assert code, "the page leads to the phone"
        opened = await client.fetch(code[1])
        form = opened.body.decode()
        person = re.search(r'name="person" value="([^"]+)"', form)
        assert person
        async with browser.socket(ticket_id) as socket:
            assert json.loads(await socket.read_message())["state"] == "WAITING"
            scan = urlencode({"person": person[1], "code": code[1]})
            request = HTTPRequest(f"{phone}/phone/scan", method="POST", body=scan, follow_redirects=False)
            await client.fetch(request, raise_error=False)
            assert json.loads(await socket.read_message())["state"] == "CONFIRMED"
        assert (await browser.exchange(ticket_id)).code == 200
        assert (await browser.get("/api/v1/me")).code == 200
        assert await child.end(signal.SIGINT, seconds=10) == 0
    assert "Traceback" not in child.output


async def test_nothing_secret_is_in_what_a_server_says(tmp_path, emulator):
    site = Site(tmp_path, emulator)
    browser = site.browser()
    async with site.child() as child:
        await child.says("serving")
        ticket_id = await browser.open_login("/login?next=/in-the-query")
        push = emulator.courier.build(site.person(), subscribe_fields(site.code(ticket_id)))
        attempt = await emulator.courier.post(push)
        await browser.exchange(ticket_id)
        link = re.search(r"/not-me/([\w-]+)", attempt.clear_answer)
        assert link
        await browser.get(link[0])
        assert await child.end(signal.SIGTERM) == 0
    account = emulator.platform.account
    for secret in (
        account.secret,
        account.token,
        account.encoding_aes_key,
        site.person(),
        "in-the-query",
        "signature",
        link[1],
        *browser.cookies.values(),
    ):
        assert secret not in child.output, secret
