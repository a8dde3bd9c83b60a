"""The session's cookie for a whole domain, and those that other hosts of it plant beside ours."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from http.cookies import Morsel, SimpleCookie

import pytest
from tornado.httpclient import HTTPResponse

from handlers.cookies import MAX_SESSIONS, session_values
from tests.handlers.test_app import APP, bearer
from tests.harness import Browser, Whole, document, running

CHECK = "/api/authz/auth-request"
NAME = "__Secure-saoma-session"
HTTPS = {"server": {"base_url": "https://login.example.com"}, "session": {"cookie_domain": "example.com"}}


def put(response: HTTPResponse) -> dict[str, Morsel[str]]:
    """The cookies that an answer sets."""
    return {
        name: morsel
        for header in response.headers.get_list("Set-Cookie")
        for name, morsel in SimpleCookie(header).items()
    }


@pytest.fixture
async def whole(tmp_path) -> AsyncIterator[Whole]:
    async with running(tmp_path, app=APP, **HTTPS) as whole:
        yield whole


async def confirmed(whole: Whole, browser: Browser, person: str) -> str:
    """A ticket of the browser's that the person has confirmed in the team's app."""
    ticket_id, phone = await browser.open_login("/login?method=app"), whole.browser()
    path, token = f"/api/v1/tickets/{ticket_id}", bearer(person, jti=secrets.token_hex(8))
    handle = document(await phone.post(f"{path}/scan", **token))["handle"]
    assert (await phone.post(f"{path}/confirm", {"handle": handle}, **token)).code == 200
    return ticket_id


async def exchanged(whole: Whole, browser: Browser, person: str = "me") -> HTTPResponse:
    answer = await browser.exchange(await confirmed(whole, browser, person))
    assert answer.code == 200
    return answer


async def logged_in(whole: Whole, person: str = "me") -> Browser:
    browser = whole.browser()
    await exchanged(whole, browser, person)
    return browser


async def test_it_goes_to_the_whole_domain_and_is_taken_back_there(whole: Whole):
    browser = whole.browser()
    cookies = put(await exchanged(whole, browser))
    session = cookies[NAME]
    assert session["domain"] == "example.com"
    assert (session["path"], session["samesite"]) == ("/", "Lax")
    assert session["secure"]
    assert session["httponly"]
    others = {name: morsel for name, morsel in cookies.items() if name != NAME}
    assert others
    assert all(name.startswith("__Host-") and not morsel["domain"] for name, morsel in others.items())
    assert (await browser.get(CHECK)).code == 200
    for leaving in ("/logout", "/api/v1/sessions/current/revoke"):
        answer = await browser.post(leaving)
        gone = put(answer)[NAME]
        assert (gone.value, gone["domain"], gone["path"]) == ("", "example.com", "/")
        assert NAME not in browser.cookies
        await exchanged(whole, browser)


async def test_on_http_it_has_its_plain_name(tmp_path):
    settings = {"server": {"base_url": "http://login.example.com"}, "session": HTTPS["session"]}
    async with running(tmp_path, app=APP, **settings) as whole:
        browser = whole.browser()
        session = put(await exchanged(whole, browser))["saoma-session"]
        assert (session["domain"], session["secure"]) == ("example.com", "")
        assert (await browser.get(CHECK)).code == 200


async def test_without_the_setting_it_stays_with_this_host(tmp_path):
    async with running(tmp_path, app=APP, server=HTTPS["server"]) as whole:
        browser = whole.browser()
        session = put(await exchanged(whole, browser))["__Host-saoma-session"]
        assert (session["domain"], session["secure"]) == ("", True)
        value = browser.cookies["__Host-saoma-session"]
        for other in (NAME, "saoma-session", "__Secure-__Host-saoma-session", "__host-saoma-session"):
            assert (await browser.get(CHECK, Cookie=f"{other}={value}")).code == 401, other
        assert (await browser.get(CHECK)).code == 200


async def test_names_of_another_setting_count_for_nothing(whole: Whole):
    browser = await logged_in(whole)
    value = browser.cookies[NAME]
    for other in ("saoma-session", "__Host-saoma-session", "__secure-saoma-session"):
        assert (await browser.get(CHECK, Cookie=f"{other}={value}")).code == 401, other


async def test_a_planted_session_never_wins(whole: Whole):
    """Somebody below the domain sets their own session's cookie, for a path say, beside the person's."""
    person, attacker = await logged_in(whole), await logged_in(whole, "attacker")
    mine, planted = person.cookies[NAME], attacker.cookies[NAME]
    for cookie in (f"{NAME}={planted}; {NAME}={mine}", f"{NAME}={mine}; other=1;{NAME}={planted}"):
        for path in (CHECK, "/api/authz/forward-auth", "/oauth2/auth", "/api/v1/me"):
            assert (await person.get(path, Cookie=cookie)).code == 401, path
        assert b"/login" in (await person.get("/", Cookie=cookie)).body
    assert (await person.get(CHECK)).code == 200


async def test_what_is_planted_and_means_nothing_locks_nobody_out(whole: Whole):
    person = await logged_in(whole)
    mine, user_id = person.cookies[NAME], (await person.get(CHECK)).headers["Remote-User"]
    for planted in ("nonsense", "", mine, '"', "\xff"):
        for cookie in (f"{NAME}={planted}; {NAME}={mine}", f"{NAME}={mine}; {NAME}={planted}"):
            answer = await person.get(CHECK, Cookie=cookie)
            assert (answer.code, answer.headers["Remote-User"]) == (200, user_id), planted


async def test_a_login_ends_what_was_planted(whole: Whole):
    person, attacker = await logged_in(whole), await logged_in(whole, "attacker")
    mine, planted = person.cookies[NAME], attacker.cookies[NAME]
    ticket_id = await confirmed(whole, person, "me")
    held = "; ".join(f"{name}={value}" for name, value in person.cookies.items() if name != NAME)
    answer = await person.post(
        f"/api/v1/tickets/{ticket_id}/exchange", Cookie=f"{held}; {NAME}={mine}; {NAME}={planted}"
    )
    assert answer.code == 200
    fresh = put(answer)[NAME].value
    both = await person.get(CHECK, Cookie=f"{NAME}={fresh}; {NAME}={planted}")
    assert (both.code, both.headers["Remote-User"]) == (200, document(answer)["user"]["id"])
    for former in (mine, planted):
        assert (await person.get(CHECK, Cookie=f"{NAME}={former}")).code == 401


@pytest.mark.parametrize("path", ["/logout", "/oauth2/sign_out"])
async def test_a_sign_out_ends_all_of_them(whole: Whole, path: str):
    person, attacker = await logged_in(whole), await logged_in(whole, "attacker")
    mine, planted = person.cookies[NAME], attacker.cookies[NAME]
    xsrf = f"__Host-saoma-xsrf={person.cookies['__Host-saoma-xsrf']}"
    answer = await person.post(path, Cookie=f"{xsrf}; {NAME}={mine}; {NAME}={planted}")
    assert answer.code == 303
    for former in (mine, planted):
        assert (await person.get(CHECK, Cookie=f"{NAME}={former}")).code == 401


def test_of_too_many_none_counts():
    some = [f"{NAME}={number}" for number in range(MAX_SESSIONS)]
    assert session_values(["; ".join(some)], NAME) == tuple(map(str, range(MAX_SESSIONS)))
    assert session_values(["; ".join([*some, *some])], NAME) == tuple(map(str, range(MAX_SESSIONS)))
    assert session_values(some, NAME) == tuple(map(str, range(MAX_SESSIONS)))
    assert session_values(["; ".join([*some, f"{NAME}=more"])], NAME) == ()
    assert session_values([], NAME) == ()
