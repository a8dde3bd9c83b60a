"""The team's own app on the emulator's phones, against a running server."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from tornado.httpclient import HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from emulator import AppBackend, Emulator
from emulator.own_app import UNREACHABLE, Step
from emulator.people import Speaker
from emulator.phone import AppNotSetUp, NotAsked
from tests.emulator.server import code, fetch
from tests.harness import Browser, Whole, document, running

KEY = "a key that the emulated backend shares with saoma"
ISSUER = "https://app.example.com"


@asynccontextmanager
async def installed(tmp_path, *, number_match: bool = False, **changed: str) -> AsyncIterator[Whole]:
    """A server with the app on everybody's phone."""
    app = {"issuer": ISSUER, "key": KEY, "number_match": number_match}
    async with running(tmp_path, app=app) as whole:
        known = {"issuer": ISSUER, "audience": "saoma", "key": KEY, "server": whole.base_url}
        whole.emulator.install_app(AppBackend(**{**known, **changed}))
        yield whole


async def open_login(whole: Whole) -> tuple[Browser, str, str]:
    """A browser, its ticket, and what the code on its screen says."""
    browser = whole.browser()
    ticket = await browser.open_login("/login?method=app")
    return browser, ticket, f"{whole.base_url}/s/{ticket}"


# --- by the Python interface ----------------------------------------------------------------------------


async def test_confirm(tmp_path):
    async with installed(tmp_path) as whole:
        browser, ticket, link = await open_login(whole)
        phone, person = whole.emulator.phone, whole.person()
        asked = await phone.app_scan(person, f" {link}\n")
        assert asked.step is Step.ASKING
        assert (asked.site, asked.browser, asked.system) == ("saoma", "Chrome", "Windows")
        assert asked.address == "127.0.0.1"
        assert await browser.state(ticket) == "SCANNED"
        assert (await phone.app_scan(person, link)).handle == asked.handle, "a second look changes nothing"
        done = await phone.app_confirm(person, link)
        assert done.step is Step.CONFIRMED
        assert (await phone.app_scan(person, link)).step is Step.CONFIRMED, "nothing is left to ask"
        user = document(await browser.exchange(ticket))["user"]
        assert user["name"] == whole.emulator.platform.people[person].name
        assert user["identities"] == [{"provider": "app", "subject": f"app-{person}", "following": True}]


async def test_cancel(tmp_path):
    async with installed(tmp_path) as whole:
        browser, ticket, link = await open_login(whole)
        phone, person = whole.emulator.phone, whole.person()
        await phone.app_scan(person, link)
        assert (await phone.app_cancel(person, link)).step is Step.CANCELLED
        assert await browser.state(ticket) == "CANCELLED"
        with pytest.raises(NotAsked):
            await phone.app_confirm(person, link)


async def test_what_the_app_says_no_to(tmp_path):
    async with installed(tmp_path) as whole:
        _, _, link = await open_login(whole)
        phone, (first, second) = whole.emulator.phone, (whole.person(0), whole.person(1))
        await phone.app_scan(first, link)
        assert (await phone.app_scan(second, link)).fault == "transition_refused"
        with pytest.raises(NotAsked):
            await phone.app_confirm(second, link)
        _, _, other = await open_login(whole)
        with pytest.raises(NotAsked):
            await phone.app_confirm(first, other)
        whole.clock.pass_(10_000)
        late = await phone.app_confirm(first, link)
        assert (late.step, late.fault) == (Step.FAILED, "ticket_unknown")
        assert (await phone.app_scan(first, f"{whole.base_url}/s/never-issued")).fault == "ticket_unknown"


@pytest.mark.parametrize(
    "changed", [{"key": "x" * 32}, {"issuer": "https://other.example"}, {"audience": "other"}]
)
async def test_a_backend_that_saoma_does_not_know(tmp_path, changed):
    async with installed(tmp_path, **changed) as whole:
        browser, ticket, link = await open_login(whole)
        refused = await whole.emulator.phone.app_scan(whole.person(), link)
        assert (refused.step, refused.fault) == (Step.FAILED, "unauthenticated")
        assert await browser.state(ticket) == "WAITING"


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"\xff", b""])
async def test_a_server_that_answers_with_something_else(emulator: Emulator, answer: bytes):
    class Other(RequestHandler):
        def post(self) -> None:
            self.finish(answer)

    sockets = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([(".*", Other)], log_function=lambda handler: None))
    server.add_sockets(sockets)
    address = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    emulator.install_app(AppBackend(ISSUER, "saoma", KEY, address))
    person = next(iter(emulator.platform.people))
    assert (await emulator.phone.app_scan(person, f"{address}/s/abc")).fault == UNREACHABLE
    server.stop()
    await server.close_all_connections()
    assert (await emulator.phone.app_scan(person, f"{address}/s/abc")).fault == UNREACHABLE


async def test_a_token_goes_to_the_own_server_alone(emulator: Emulator):
    server = "https://login.example.com"
    emulator.install_app(AppBackend(ISSUER, "saoma", KEY, server))
    person = next(iter(emulator.platform.people))
    assert emulator.phone.is_app_code(f"{server}/s/abc")
    for foreign in (
        "https://evil.example/s/abc",
        f"{server}.evil.example/s/abc",
        f"{server}@evil.example/s/abc",
        f"{server}/s/abc/../../x",
        f"{server}/s/abc?x=1",
        f"{server}/s/",
        f"{server}/s/{'a' * 65}",
        "http://login.example.com/s/abc",
        "",
    ):
        assert not emulator.phone.is_app_code(foreign)
        with pytest.raises(ValueError, match="not a code"):
            await emulator.phone.app_scan(person, foreign)


async def test_a_phone_without_the_app(emulator: Emulator):
    phone, person = emulator.phone, next(iter(emulator.platform.people))
    link = "http://127.0.0.1:9/s/abc"
    assert not phone.is_app_code(link)
    for act in (phone.app_scan, phone.app_confirm, phone.app_cancel):
        with pytest.raises(AppNotSetUp):
            await act(person, link)
    form = urlencode({"person": person, "link": link})
    assert (await fetch(f"{emulator.base_url}/phone/app/confirm", method="POST", body=form)).code == 404
    await press(emulator, "scan", person=person, code=link)
    said = emulator.platform.people[person].chat[-1]
    assert said.speaker is Speaker.WECHAT, "WeChat makes nothing of the code"
    assert link in said.text


def test_the_key_is_never_shown():
    assert KEY not in repr(AppBackend(ISSUER, "saoma", KEY, "http://127.0.0.1:9"))


# --- by the page ----------------------------------------------------------------------------------------


async def press(emulator: Emulator, action: str, **form: str) -> tuple[str, str]:
    """Submits a form of the phone's: where it led to, and the page there."""
    response = await fetch(f"{emulator.base_url}/phone/{action}", method="POST", body=urlencode(form))
    assert response.code == 303, response.body
    return response.headers["Location"], text(await fetch(emulator.base_url + response.headers["Location"]))


def text(response: HTTPResponse) -> str:
    return response.body.decode()


def seen(page: str) -> dict[str, str]:
    return {name: html.unescape(value) for name, value in re.findall(r'data-seen="(\w+)">([^<]*)</dd>', page)}


async def test_confirm_by_forms(tmp_path):
    async with installed(tmp_path) as whole:
        browser, ticket, link = await open_login(whole)
        emulator, person = whole.emulator, whole.person()
        query = urlencode({"person": person, "code": link})
        ready = text(await fetch(f"{emulator.base_url}/?{query}"))
        assert "Scan with the team's own app" in html.unescape(ready)
        assert 'id="look"' not in ready
        _, asked = await press(emulator, "scan", person=person, code=link)
        assert 'data-step="asking"' in asked
        told = seen(asked)
        assert (told["site"], told["browser"], told["system"]) == ("saoma", "Chrome", "Windows")
        assert told["address"] == "127.0.0.1"
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", told["time"])
        assert 'id="app-confirm"' in asked
        assert 'id="app-cancel"' in asked
        assert await browser.state(ticket) == "SCANNED"
        for _ in range(2):  # pressed twice
            where, done = await press(emulator, "app/confirm", person=person, link=link)
            assert 'data-step="confirmed"' in done
            assert 'id="app-confirm"' not in done
        assert parse_qs(urlsplit(where).query) == {"person": [person], "app": [link]}
        assert (await browser.exchange(ticket)).code == 200
        assert 'id="chat"' not in done
        assert 'id="chat"' in text(await fetch(f"{emulator.base_url}/?person={person}"))


async def test_the_number_on_the_page_by_forms(tmp_path):
    async with installed(tmp_path, number_match=True) as whole:
        browser, ticket, link = await open_login(whole)
        emulator, person = whole.emulator, whole.person()
        _, asked = await press(emulator, "scan", person=person, code=link)
        assert 'id="app-number"' in asked
        number = document(await browser.get(f"/api/v1/tickets/{ticket}"))["number"]
        wrong = "10" if number != 10 else "11"
        for left in (2, 1):
            _, asked = await press(emulator, "app/confirm", person=person, link=link, number=wrong)
            assert f"Tries left: {left}" in asked
        _, done = await press(emulator, "app/confirm", person=person, link=link, number=str(number))
        assert 'data-step="confirmed"' in done
        assert (await browser.exchange(ticket)).code == 200
        browser, ticket, link = await open_login(whole)
        await press(emulator, "scan", person=person, code=link)
        for _ in range(3):
            _, done = await press(emulator, "app/confirm", person=person, link=link, number="1")
        assert 'data-fault="number_wrong"' in done
        assert await browser.state(ticket) == "CANCELLED"


async def test_cancel_and_failure_by_forms(tmp_path):
    async with installed(tmp_path) as whole:
        browser, ticket, link = await open_login(whole)
        emulator, person = whole.emulator, whole.person()
        await press(emulator, "scan", person=person, code=link)
        _, refused = await press(emulator, "scan", person=whole.person(1), code=link)
        assert 'data-step="failed" data-fault="transition_refused"' in refused
        _, done = await press(emulator, "app/cancel", person=person, link=link)
        assert 'data-step="cancelled"' in done
        assert await browser.state(ticket) == "CANCELLED"


async def test_a_wechat_code_is_still_wechats(tmp_path):
    async with installed(tmp_path) as whole:
        emulator, person = whole.emulator, whole.person()
        _, page = await press(emulator, "scan", person=person, code=code(emulator.platform))
        assert 'id="app"' not in page
        assert emulator.platform.people[person].following


async def test_what_saoma_tells_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>\"'"
    async with running(tmp_path, app={"issuer": ISSUER, "key": KEY}, site={"name": evil}) as whole:
        whole.emulator.install_app(AppBackend(ISSUER, "saoma", KEY, whole.base_url))
        _, _, link = await open_login(whole)
        _, page = await press(whole.emulator, "scan", person=whole.person(), code=link)
        assert "<script" not in page
        assert seen(page)["site"] == evil


@pytest.mark.parametrize(
    ("form", "status"), [({}, 404), ({"person": "oNobody", "link": "x"}, 404), ({"person": ""}, 404)]
)
async def test_forms_that_are_incomplete(emulator: Emulator, form: dict[str, str], status: int):
    url = f"{emulator.base_url}/phone/app/confirm"
    assert (await fetch(url, method="POST", body=urlencode(form))).code == status


async def test_forms_of_other_sites(tmp_path):
    async with installed(tmp_path) as whole:
        _, _, link = await open_login(whole)
        await whole.emulator.phone.app_scan(whole.person(), link)
        response = await fetch(
            f"{whole.emulator.base_url}/phone/app/confirm",
            method="POST",
            body=urlencode({"person": whole.person(), "link": link}),
            headers={"Origin": "https://evil.example"},
        )
        assert response.code == 403
        screen = whole.emulator.platform.people[whole.person()].app_screen
        assert screen is not None
        assert screen.step is Step.ASKING
