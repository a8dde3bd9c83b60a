"""`server.py demo` by HTTP alone: both ways to log in, the demo link, the emulated phone."""

from __future__ import annotations

import asyncio
import html
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest_asyncio
from tornado.httpclient import HTTPResponse

from tests.emulator.server import fetch
from tests.harness import Browser, document

SERVER = Path(__file__).parents[2] / "server.py"


@pytest_asyncio.fixture
async def site() -> AsyncIterator[str]:
    """The address that the demo prints first."""
    demo = await asyncio.create_subprocess_exec(
        sys.executable, SERVER, "demo", "--port", "0", stdout=subprocess.PIPE
    )
    try:
        assert demo.stdout is not None
        line = (await asyncio.wait_for(demo.stdout.readline(), 15)).decode()
        found = re.search(r"http://[^\s/]+", line)
        assert found is not None, line
        yield found[0]
    finally:
        demo.terminate()
        await asyncio.wait_for(demo.communicate(), 15)


async def open_phone(browser: Browser, path: str) -> tuple[str, str, str, str]:
    """The login page's ticket and what its demo link leads to: the phone's address, its page, the code."""
    ticket = await browser.open_login(path)
    page = (await browser.get(path)).body.decode()
    link = re.search(r'class="demo"[^>]* href="([^"]+)"', page)
    assert link is not None
    address = html.unescape(link[1])
    opened = await fetch(address)
    if opened.code == 303:  # WeChat's codes lead to the phone by themselves
        address = f"http://{urlsplit(address).netloc}{opened.headers['Location']}"
        opened = await fetch(address)
    assert opened.code == 200
    phone = f"http://{urlsplit(address).netloc}"
    code = parse_qs(urlsplit(address).query)["code"][0]
    shown = opened.body.decode()
    assert f'value="{html.escape(code)}"' in shown
    return ticket, phone, shown, code


def person_of(phone_page: str) -> str:
    found = re.search(r'data-person="([^"]+)"', phone_page)
    assert found is not None
    return found[1]


async def press(phone: str, action: str, **form: str) -> HTTPResponse:
    """Submits a form of the phone's and follows to the page that comes."""
    response = await fetch(f"{phone}/phone/{action}", method="POST", body=urlencode(form))
    assert response.code == 303
    return await fetch(phone + response.headers["Location"])


async def test_both_ways_to_log_in(site: str) -> None:
    browser = Browser(site, {})
    page = (await browser.get("/login")).body.decode()
    assert page.index('href="/login?method=wechat"') < page.index('href="/login?method=app"')
    assert 'data-method="wechat"' in page

    ticket, phone, shown, code = await open_phone(browser, "/login")
    await press(phone, "scan", person=person_of(shown), code=code)
    collected = await browser.exchange(ticket)
    assert document(collected)["user"]["identities"][0]["provider"] == "wechat"

    ticket, phone, shown, code = await open_phone(browser, "/login?method=app")
    assert code == f"{site}/s/{ticket}"
    person = person_of(shown)
    asked = (await press(phone, "scan", person=person, code=code)).body.decode()
    assert 'data-step="asking"' in asked
    assert '<dd data-seen="browser">Chrome</dd>' in asked
    assert (await browser.state(ticket)) == "SCANNED"
    done = (await press(phone, "app/confirm", person=person, link=code)).body.decode()
    assert 'data-step="confirmed"' in done
    user = document(await browser.exchange(ticket))["user"]
    assert user["identities"][0]["provider"] == "app"
    assert user["name"] == "林小满"
    assert (await browser.get(user["picture"])).headers["Content-Type"] == "image/png"


async def test_an_ordinary_scanner_finds_the_way_to_the_phone(site: str) -> None:
    browser = Browser(site, {})
    ticket = await browser.open_login("/login?method=app")
    page = (await browser.get(f"/s/{ticket}")).body.decode()
    link = re.search(r'class="button" href="([^"]+)"', page)
    assert link is not None
    assert parse_qs(urlsplit(html.unescape(link[1])).query)["code"] == [f"{site}/s/{ticket}"]
