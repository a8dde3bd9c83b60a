"""Forward-auth: who is let in, what proxies are told, and that every failure is a refusal."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import AsyncIterator
from html import unescape
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import pytest
from tornado.httpclient import HTTPResponse

from flows.sessions import Current
from handlers.authz import Check
from tests.harness import Browser, Whole, document, running

AUTH_REQUEST = "/api/authz/auth-request"
FORWARD_AUTH = "/api/authz/forward-auth"
OAUTH2_AUTH = "/oauth2/auth"
CHECKS = {AUTH_REQUEST: 200, FORWARD_AUTH: 200, OAUTH2_AUTH: 202}
IDENTITY = (
    "Remote-User",
    "Remote-Name",
    "Remote-Groups",
    "Remote-Email",
    "X-Auth-Request-User",
    "X-Auth-Request-Preferred-Username",
    "X-Auth-Request-Groups",
    "X-Auth-Request-Email",
)
APP = "https://app.example.com"
SITE = {"id": "shop", "name": "Shop", "secret": "s" * 32}


def identity(response: HTTPResponse) -> list[list[str]]:
    return [response.headers.get_list(name) for name in IDENTITY]


NOBODY = [[""]] * len(IDENTITY)


def refused(response: HTTPResponse) -> bool:
    return (response.code, identity(response)) == (401, NOBODY)


@pytest.fixture
async def whole(tmp_path) -> AsyncIterator[Whole]:
    server = {"allowed_redirects": [APP]}
    async with running(tmp_path, wechat={"pool_size": 3}, server=server, sites=[SITE]) as whole:
        yield whole


@pytest.fixture
async def browser(whole: Whole) -> Browser:
    """Somebody who is logged in."""
    browser = whole.browser()
    await whole.log_in(browser, whole.person())
    return browser


async def user_id(whole: Whole) -> str:
    user = await whole.user(whole.person())
    assert user is not None
    return user.id


async def block(whole: Whole, blocked: bool = True) -> None:
    known = await user_id(whole)

    async def work(transaction):
        await transaction.users.set_blocked(known, blocked)

    await whole.storage.transact(work)


@pytest.mark.parametrize(("path", "accepted"), CHECKS.items())
async def test_who_is_logged_in(whole: Whole, browser: Browser, path: str, accepted: int):
    await browser.post(
        "/profile", "name=小明 <b>,&amp;", **{"Content-Type": "application/x-www-form-urlencoded"}
    )
    answer = await browser.get(path)
    assert answer.code == accepted
    assert answer.body == b""
    known, name = await user_id(whole), answer.headers["Remote-Name"]
    assert unquote(name) == "小明 <b>,"
    assert re.fullmatch(r"[A-Za-z0-9%._~-]+", name)
    assert identity(answer) == [[known], [name], [""], [""], [known], [name], [""], [""]]
    assert answer.headers["Cache-Control"] == "no-store"
    for unwanted in ("Set-Cookie", "Location", "Server", "Content-Type", "Etag"):
        assert unwanted not in answer.headers, unwanted


@pytest.mark.parametrize("path", CHECKS)
async def test_who_is_not(whole: Whole, path: str):
    for cookie in (
        "",
        "saoma-session=",
        "saoma-session=unknown",
        "saoma-session",
        '; ;=;saoma-session="\xff',
    ):
        answer = await whole.browser().get(path, Cookie=cookie)
        assert refused(answer), cookie
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", CHECKS)
async def test_names_that_the_client_sends_are_not_sent_back(whole: Whole, path: str):
    answer = await whole.browser().get(path, **dict.fromkeys(IDENTITY, "admin"))
    assert refused(answer)


@pytest.mark.parametrize("path", CHECKS)
async def test_the_database_is_not_asked_again(whole: Whole, browser: Browser, path: str):
    assert whole.server.profiles is not None
    await whole.server.profiles.idle()  # what WeChat tells of the person changes them
    await browser.get(path)
    used = whole.transactions()
    for _ in range(20):
        assert (await browser.get(path)).code == CHECKS[path]
    assert used == []


@pytest.mark.parametrize("path", CHECKS)
async def test_a_sign_out_is_seen_at_once(whole: Whole, browser: Browser, path: str):
    cookies = dict(browser.cookies)
    for _ in range(2):
        assert (await browser.get(path)).code == CHECKS[path]
    await browser.post("/logout")
    browser.cookies = cookies
    assert refused(await browser.get(path))


@pytest.mark.parametrize("path", CHECKS)
async def test_a_block_is_seen_at_once(whole: Whole, browser: Browser, path: str):
    assert (await browser.get(path)).code == CHECKS[path]
    await block(whole)
    assert refused(await browser.get(path))
    await block(whole, False)
    assert (await browser.get(path)).code == CHECKS[path]


@pytest.mark.parametrize("path", CHECKS)
async def test_the_store_is_away(whole: Whole, browser: Browser, path: str):
    whole.store_goes_away()
    assert refused(await browser.get(path))


@pytest.mark.parametrize("path", CHECKS)
async def test_a_fault_of_ours(whole: Whole, browser: Browser, path: str, monkeypatch, expect_log):
    expect_log(r"(?s)saoma\.web: a check of forward-auth failed.*ZeroDivisionError")
    monkeypatch.setattr("flows.session_memory.SessionMemory.current", lambda self, tokens: 1 / 0)
    assert refused(await browser.get(path))


@pytest.mark.parametrize("path", CHECKS)
async def test_a_fault_after_the_person_was_found(
    whole: Whole, browser: Browser, path: str, monkeypatch, expect_log
):
    expect_log(r"(?s)saoma\.web: a check of forward-auth failed.*ZeroDivisionError")
    tell = Check._tell

    def tell_and_fail(check: Check, current: Current) -> None:
        tell(check, current)
        raise ZeroDivisionError

    monkeypatch.setattr(Check, "_tell", tell_and_fail)
    assert refused(await browser.get(path))


# Who asks, and how.


METHODS = ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "M-SEARCH", "x")
BODIES = {
    "": b"",
    "multipart/form-data; boundary=x": b"--no",
    "application/x-www-form-urlencoded": b"%\xff&=&",
}


async def test_any_method_from_any_host(whole: Whole, browser: Browser):
    """The proxy knows us by another name, and may repeat the method and the body of what it was sent."""
    cookies = {browser.cookies["saoma-session"]: True, "unknown": False}
    for path, method, kind, cookie in itertools.product(CHECKS, METHODS, BODIES, cookies):
        head = f"{method} {path} HTTP/1.1\r\nHost: saoma_check\r\nCookie: saoma-session={cookie}\r\n"
        head += f"Content-Type: {kind}\r\n" if kind else ""
        async with whole.wire() as wire:
            await wire.send(f"{head}Content-Length: {len(BODIES[kind])}\r\n\r\n".encode() + BODIES[kind])
            answer = await wire.answer()
        expected = CHECKS[path] if cookies[cookie] else 401
        assert (answer.status, answer.headers["Remote-User"] != "") == (expected, cookies[cookie]), method


@pytest.mark.parametrize("path", CHECKS)
async def test_a_program_by_its_session_token(whole: Whole, path: str):
    program = whole.browser(Authorization="Basic " + base64.b64encode(f"shop:{'s' * 32}".encode()).decode())
    made = document(await program.post("/api/v1/tickets", {"client": "api"}))
    await whole.scan(made["id"], whole.person())
    ticket = {"Authorization": f"Ticket {made['secret']}"}
    token = document(await program.post(f"/api/v1/tickets/{made['id']}/exchange", **ticket))["token"]
    for scheme in ("Bearer", "bearer"):
        answer = await whole.browser().get(path, Authorization=f"{scheme} {token}")
        assert answer.code == CHECKS[path]
        assert answer.headers["Remote-User"] == await user_id(whole)
    revoke = "/api/v1/sessions/current/revoke"
    assert (await whole.browser().post(revoke, Authorization=f"Bearer {token}")).code == 204
    assert refused(await whole.browser().get(path, Authorization=f"Bearer {token}"))


async def test_credentials_for_the_other_site_are_left_to_it(whole: Whole, browser: Browser):
    others = ("Bearer eyJ.of.another", "Basic YTpi", "Ticket x", "Bearer", "nonsense", " ")
    for path, other in itertools.product(CHECKS, others):
        assert (await browser.get(path, Authorization=other)).code == CHECKS[path], other
        assert refused(await whole.browser().get(path, Authorization=other)), other


async def test_a_token_counts_before_a_cookie(whole: Whole, browser: Browser):
    """Nobody but the client can have put it there."""
    token = browser.cookies["saoma-session"]
    other = whole.browser()
    await whole.log_in(other, whole.person(1))
    answer = await other.get(AUTH_REQUEST, Authorization=f"Bearer {token}")
    assert answer.headers["Remote-User"] == await user_id(whole)


# The way to the login page.

ADDRESSES = [
    (f"{APP}/a?b=c&d=%E9%BE%8D#e", f"{APP}/a?b=c&d=%E9%BE%8D#e"),
    (APP, APP),
    ("{base}/profile?x=1", "/profile?x=1"),
    ("{base}//evil.example", ""),
    ("{base}", ""),
    ("{base}.evil.example/", ""),
    ("{base}@evil.example/", ""),
    ("https://evil.example/", ""),
    ("https://app.example.com.evil.example/", ""),
    ("https://app.example.com@evil.example/", ""),
    ("https://app.example.com:444/", ""),
    ("http://app.example.com/", ""),
    ("//app.example.com/", ""),
    ("https:/\\app.example.com/", ""),
    ("javascript:alert(1)", ""),
    (f"{APP}/a b", ""),
    (f"{APP}/\ta", ""),
    (f"{APP}/" + "x" * 5000, ""),
    ("", ""),
]


def addresses(whole: Whole) -> list[tuple[str, str]]:
    return [(target.format(base=whole.base_url), expected) for target, expected in ADDRESSES]


def next_of(location: str, whole: Whole) -> str:
    """Where the login page at `location` leads on to, "" for nowhere; it has to be ours."""
    page, _, query = location.partition("?")
    assert page == f"{whole.base_url}/login"
    return parse_qs(query, strict_parsing=True)["next"][0] if query else ""


async def test_the_original_address(whole: Whole):
    browser = whole.browser()
    for target, expected in addresses(whole):
        answer = await browser.get(AUTH_REQUEST, **{"X-Original-URL": target})
        assert refused(answer)
        assert next_of(answer.headers["Location"], whole) == expected, target
        sign_in = await browser.get(f"/oauth2/sign_in?{urlencode({'rd': target})}")
        assert sign_in.code == 302
        assert next_of(sign_in.headers["Location"], whole) == expected, target
        proto, _, rest = target.partition("://")
        host, slash, uri = rest.partition("/")
        parts = {"X-Forwarded-Proto": proto, "X-Forwarded-Host": host, "X-Forwarded-Uri": slash + uri}
        forwarded = await browser.get(FORWARD_AUTH, **parts, **{"Sec-Fetch-Mode": "navigate"})
        assert (forwarded.code, identity(forwarded)) == (302, NOBODY)
        assert next_of(forwarded.headers["Location"], whole) == expected, target


async def test_an_address_in_chinese(whole: Whole):
    """Browsers encode it; what does not comes as bytes."""
    for sent, expected in ((f"{APP}/龍".encode(), f"{APP}/龍"), (f"{APP}/".encode() + b"\xff", "")):
        async with whole.wire() as wire:
            await wire.send(b"GET %s HTTP/1.1\r\nHost: x\r\nX-Original-URL: %s\r\n\r\n"
                            % (AUTH_REQUEST.encode(), sent))  # fmt: skip
            answer = await wire.answer()
            assert answer.status == 401
            assert next_of(answer.headers["Location"], whole) == expected


ODD = (b"\x01", b"\xff\xfe", b"https://[", b"https://a:b", b"%0d%0aSet-Cookie: a=b", b"x" * 9000)


async def test_no_header_makes_a_2xx_or_an_error(whole: Whole):
    names = (
        b"X-Original-URL",
        b"X-Forwarded-Host",
        b"X-Forwarded-Uri",
        b"Authorization",
        b"Cookie",
        b"Accept",
    )
    for header, value, path in itertools.product(names, ODD, CHECKS):
        async with whole.wire() as wire:
            await wire.send(b"GET %s HTTP/1.1\r\nHost: x\r\n%s: %s\r\n\r\n" % (path.encode(), header, value))
            answer = await wire.answer()
            assert answer.status in (400, 401), (path, header, value)
            assert "Set-Cookie" not in answer.headers


BROWSERS: list[tuple[dict[str, str], int]] = [
    ({"Accept": "text/html,application/xhtml+xml"}, 302),
    ({"Accept": "*/*"}, 401),
    ({}, 401),
    ({"Accept": "application/json"}, 401),
    ({"Accept": "text/html", "X-Requested-With": "XMLHttpRequest"}, 401),
    ({"Accept": "text/html", "Sec-Fetch-Mode": "cors"}, 401),
    ({"Accept": "*/*", "Sec-Fetch-Mode": "no-cors"}, 401),
    ({"Accept": "*/*", "Sec-Fetch-Mode": "websocket"}, 401),
    ({"Accept": "*/*", "Sec-Fetch-Mode": "navigate"}, 302),
    ({"Accept": "text/html", "X-Forwarded-Method": "HEAD"}, 302),
    ({"Accept": "text/html", "X-Forwarded-Method": "POST"}, 303),
    ({"Accept": "text/html", "X-Forwarded-Method": "PROPFIND"}, 303),
]


async def test_browsers_are_led_to_the_login_page_and_scripts_are_told(whole: Whole):
    asked = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example.com", "X-Forwarded-Uri": "/a?b"}
    for headers, expected in BROWSERS:
        answer = await whole.browser().get(FORWARD_AUTH, **asked, **headers)
        assert (answer.code, identity(answer)) == (expected, NOBODY), headers
        if expected == 401:
            assert "Location" not in answer.headers
        else:
            assert next_of(answer.headers["Location"], whole) == f"{APP}/a?b"


async def test_the_method_of_the_question_where_the_proxy_names_none(whole: Whole):
    browser = whole.browser(Accept="text/html")
    assert (await browser.get(FORWARD_AUTH)).code == 302
    assert (await browser.post(FORWARD_AUTH)).code == 303


async def test_a_browser_is_not_led_in_circles_while_the_store_is_away(whole: Whole, browser: Browser):
    whole.store_goes_away()
    assert refused(await browser.get(FORWARD_AUTH, Accept="text/html"))


async def test_who_may_pass_cannot_be_narrowed_down(browser: Browser):
    """oauth2-proxy would check it. We know no groups, so nobody is in one."""
    for asked in ("allowed_groups=admins", "allowed_emails=a@b", "allowed_groups", "allowed_x="):
        assert refused(await browser.get(f"{OAUTH2_AUTH}?{asked}")), asked
    assert (await browser.get(f"{OAUTH2_AUTH}?other=1")).code == 202


async def test_sign_in_below_another_name(whole: Whole):
    """oauth2-proxy's paths are set up below each site's own name."""
    answer = await whole.browser().get(
        "/oauth2/sign_in", Host="app.example.com", **{"X-Auth-Request-Redirect": f"{APP}/a"}
    )
    assert answer.code == 302
    assert next_of(answer.headers["Location"], whole) == f"{APP}/a"


async def test_the_login_page_leads_back(whole: Whole):
    browser = whole.browser()
    refusal = await browser.get(AUTH_REQUEST, **{"X-Original-URL": f"{APP}/a?b=c"})
    location = urlsplit(refusal.headers["Location"])
    answer = await whole.log_in(browser, whole.person(), f"{location.path}?{location.query}")
    assert answer["next"] == f"{APP}/a?b=c"
    assert (await browser.get(AUTH_REQUEST)).code == 200


# Signing out.


async def test_looking_at_the_sign_out_page_signs_nobody_out(whole: Whole, browser: Browser):
    page = await browser.get(f"/oauth2/sign_out?{urlencode({'rd': f'{APP}/bye?a=b'})}")
    assert page.code == 200
    action = re.search(r'<form action="([^"]+)" method="post">', page.body.decode())
    assert action is not None
    assert urlsplit(unescape(action[1])).path == "/oauth2/sign_out"
    assert f"form-action 'self' {APP};" in page.headers["Content-Security-Policy"]
    assert (await browser.get(AUTH_REQUEST)).code == 200
    in_chinese = re.search(r'href="(\?lang=zh[^"]+)"', page.body.decode())
    assert in_chinese is not None
    chinese = (await browser.get(f"/oauth2/sign_out{unescape(in_chinese[1])}")).body.decode()
    assert "要退出登录吗" in chinese
    assert action[0] in chinese


async def test_signing_out_by_the_button(whole: Whole, browser: Browser):
    page = (await browser.get(f"/oauth2/sign_out?{urlencode({'rd': f'{APP}/bye?a=b'})}")).body.decode()
    action = unescape(re.search(r'<form action="([^"]+)"', page)[1])  # type: ignore[index]
    token = re.search(r'name="_xsrf" value="([^"]+)"', page)[1]  # type: ignore[index]
    cookies, form = dict(browser.cookies), {"Content-Type": "application/x-www-form-urlencoded"}
    for headers in ({"Origin": "https://evil.example"}, {"Origin": ""}):
        answer = await browser.post(action, urlencode({"_xsrf": token}), **form, **headers)
        assert answer.code == 403
    assert (await browser.post(action, "_xsrf=x", **form, **{"X-XSRFToken": ""})).code == 403
    assert (await browser.get(AUTH_REQUEST)).code == 200
    answer = await browser.post(action, urlencode({"_xsrf": token}), **form, **{"X-XSRFToken": ""})
    assert (answer.code, answer.headers["Location"]) == (303, f"{APP}/bye?a=b")
    assert "saoma-session" not in browser.cookies
    browser.cookies = cookies
    assert refused(await browser.get(AUTH_REQUEST))


async def test_where_a_sign_out_leads(whole: Whole, browser: Browser):
    for target, expected in addresses(whole):
        path = f"/oauth2/sign_out?{urlencode({'rd': target})}"
        answer = await browser.post(path)
        assert (answer.code, answer.headers["Location"]) == (303, expected or "/"), target
        answer = await browser.get(path)
        assert (answer.code, answer.headers["Location"]) == (302, expected or "/"), "nobody is logged in"


async def test_only_the_checks_and_sign_in_take_any_host(whole: Whole):
    for path, code in (
        (AUTH_REQUEST, 401),
        ("/oauth2/sign_in", 302),
        ("/oauth2/sign_out", 421),
        ("/login", 421),
    ):
        assert (await whole.browser().get(path, Host="app.example.com")).code == code
