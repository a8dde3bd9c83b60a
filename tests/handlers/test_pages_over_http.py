"""The pages as a browser gets them: tickets kept over a reload, cookies, sign-out, names, "not me"."""

from __future__ import annotations

import html
import re
from http.cookies import Morsel, SimpleCookie
from urllib.parse import quote, urlencode

import pytest

from tests.handlers.attacks import aimed
from tests.harness import document, running

HTTPS = {
    "server": {"base_url": "https://login.example.com", "allowed_redirects": ["https://www.example.com"]}
}


def cookies_set(response) -> dict[str, Morsel[str]]:
    return {
        name: morsel
        for header in response.headers.get_list("Set-Cookie")
        for name, morsel in SimpleCookie(header).items()
    }


def ticket_cookies(browser) -> list[str]:
    return [name for name in browser.cookies if "saoma-ticket-" in name]


# --- The login page's ticket.


async def test_a_reload_shows_the_same_ticket(whole):
    browser = whole.browser()
    first = await browser.open_login("/login?next=/a")
    assert await browser.open_login("/login?next=/a") == first
    assert await browser.open_login("/login?next=/a&lang=en") == first
    other = await browser.open_login("/login?next=/b")
    assert other != first
    assert await browser.open_login("/login?next=/a") == first
    assert await browser.open_login("/login") not in (first, other)
    assert await whole.browser().open_login("/login?next=/a") != first
    # Only while it waits, and long enough to be scanned.
    await whole.scan(first, whole.person())
    assert await browser.open_login("/login?next=/a") != first
    whole.clock.pass_(300 - 29)
    assert await browser.open_login("/login?next=/b") != other


async def test_a_second_tab_does_not_lock_out_the_first(whole):
    browser = whole.browser()
    first = await browser.open_login("/login?next=/a")
    second = await browser.open_login("/login?next=/b")
    await whole.scan(first, whole.person())
    await whole.scan(second, whole.person(1))
    for ticket_id in (first, second):
        assert await browser.state(ticket_id) == "CONFIRMED"
        assert (await browser.exchange(ticket_id)).code == 200


async def test_at_most_eight_tickets_the_oldest_goes(whole):
    browser = whole.browser()
    opened = []
    for number in range(12):
        opened.append(await browser.open_login(f"/login?next=/{number}"))
        assert len(ticket_cookies(browser)) <= 8
    assert ticket_cookies(browser) == [f"saoma-ticket-{known}" for known in opened[-8:]]
    await whole.scan(opened[-8], whole.person())
    assert (await browser.exchange(opened[-8])).code == 200
    for _ in range(12):
        made = document(await browser.post("/api/v1/tickets"))
        assert len(ticket_cookies(browser)) <= 8
    assert f"saoma-ticket-{made['id']}" in browser.cookies


async def test_a_thousand_planted_cookies_are_no_tickets(whole):
    browser = whole.browser()
    browser.cookies = {f"saoma-ticket-{'A' * 22}{number:02}": "planted" for number in range(60)}
    used = whole.transactions()
    ticket_id = await browser.open_login()
    assert len(used) <= 2, "one look at what is held, one new ticket"
    assert len(ticket_cookies(browser)) == 8
    assert "A" * 22 not in ticket_id
    assert browser.cookies[f"saoma-ticket-{ticket_id}"] != "planted"


async def test_a_planted_secret_is_not_adopted(whole):
    """Neither for a ticket that is somebody else's, nor in place of the browser's own."""
    owner, victim = whole.browser(), whole.browser()
    theirs = await owner.open_login()
    victim.cookies[f"saoma-ticket-{theirs}"] = "planted"
    assert await victim.open_login() != theirs
    own = await victim.open_login()
    secret = victim.cookies[f"saoma-ticket-{own}"]
    victim.cookies[f"saoma-ticket-{own}"] = "planted"
    again = await victim.open_login()
    assert again != own
    assert victim.cookies[f"saoma-ticket-{again}"] not in ("planted", secret)


async def test_what_is_in_the_page(whole):
    page = await whole.browser().get("/login?next=/a%3Fx=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    text = page.body.decode()
    assert "<script>alert" not in text
    assert "<svg" in text
    assert not re.search(r"<script(?![^>]*\bsrc=)", text), "no inline code"
    assert not re.search(r"\son[a-z]+=", text)
    assert not re.search(r"\sstyle=", text)
    assert whole.emulator.base_url not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)


# --- Cookies.


async def test_cookies_on_loopback(whole):
    browser = whole.browser()
    page = await browser.get("/login")
    kept = cookies_set(page)
    assert len(kept) == 2
    for name, morsel in kept.items():
        assert morsel["httponly"], name
        assert morsel["samesite"] == "Lax"
        assert morsel["path"] == "/"
        assert not morsel["domain"]
        assert not morsel["secure"]
        assert not name.startswith("__Host-")


async def test_cookies_on_https(tmp_path):
    async with running(tmp_path, **HTTPS) as whole:
        browser = whole.browser()
        responses = [await browser.get("/login")]
        ticket_id = await browser.open_login()
        push = await aimed(whole, ticket_id)
        assert (await whole.post(push)).reply is not None
        responses.append(await browser.exchange(ticket_id))
        assert responses[-1].code == 200
        responses.append(await browser.get("/"))
        responses.append(await browser.post("/logout"))
        seen: dict[str, Morsel[str]] = {}
        for response in responses:
            seen |= cookies_set(response)
            assert response.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert {name.split("saoma-")[1].split("-")[0] for name in seen} == {"ticket", "xsrf", "session"}
        for name, morsel in seen.items():
            assert name.startswith("__Host-saoma-")
            assert morsel["secure"], name
            assert morsel["httponly"], name
            assert morsel["samesite"] == "Lax"
            assert morsel["path"] == "/"
            assert not morsel["domain"]
        # The names without the prefix are not ours: another host may have planted them.
        stranger = whole.browser()
        ticket_id = await browser.open_login()
        stranger.cookies[f"saoma-ticket-{ticket_id}"] = browser.cookies[f"__Host-saoma-ticket-{ticket_id}"]
        assert (await stranger.get(f"/api/v1/tickets/{ticket_id}")).code == 404


async def test_a_cookies_life_is_the_tickets_and_the_sessions(whole):
    browser = whole.browser()
    page = await browser.get("/login")
    (name,) = (name for name in cookies_set(page) if "ticket" in name)
    assert 300 <= int(cookies_set(page)[name]["max-age"]) <= 300 + 120
    ticket_id = name.removeprefix("saoma-ticket-")
    await browser.open_login()
    await whole.scan(ticket_id, whole.person())
    kept = cookies_set(await browser.exchange(ticket_id))
    assert int(kept["saoma-session"]["max-age"]) == 2_592_000
    assert int(kept[name]["max-age"]) <= 60
    assert len(kept["saoma-session"].value) >= 43


# --- Signing out.


async def test_signing_out_ends_the_session_on_the_server(whole):
    browser = whole.browser()
    await whole.log_in(browser, whole.person())
    token = browser.cookies["saoma-session"]
    response = await browser.post("/logout")
    assert (response.code, response.headers["Location"]) == (303, "/")
    assert "saoma-session" not in browser.cookies
    stolen = whole.browser()
    stolen.cookies["saoma-session"] = token
    assert (await stolen.get("/api/v1/me")).code == 401
    assert (await browser.post("/logout")).code == 303, "again is no fault"
    assert (await browser.get("/logout")).code == 405


async def test_a_session_is_not_another_browsers(whole):
    one, two = whole.browser(), whole.browser()
    await whole.log_in(one, whole.person())
    await whole.log_in(two, whole.person())
    await one.post("/logout")
    assert (await two.get("/api/v1/me")).code == 200


# --- Names.

NAMES = [
    "林小满",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7*7 }}{% raw x %}",
    "&lt;b&gt;",
    "' OR 1=1 --",
    "$ne",
    "مرحبا",
    "שלום",
    "🐼",
    "🏄\u200d♂️",
    "👨\u200d👩\u200d👧",
    "Ａ" * 64,
    "🐼" * 64,
    "=cmd()",
    "a\\u0000b",
]


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_is_text(whole, name):
    browser = whole.browser()
    await whole.log_in(browser, whole.person())
    response = await browser.post("/profile", urlencode({"name": name}))
    assert (response.code, response.headers.get("Location")) == (303, "/"), name
    assert document(await browser.get("/api/v1/me"))["name"] == name
    page = (await browser.get("/")).body.decode()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert html.escape(name, quote=True) in page
    again = await whole.log_in(whole.browser(), whole.person())
    assert again["user"]["name"] == name


@pytest.mark.parametrize("name", ["a" * 65, "a\u202eb", "\u2066x", "a\x7f"])
async def test_a_name_that_is_none(whole, name):
    browser = whole.browser()
    await whole.log_in(browser, whole.person())
    await browser.post("/profile", urlencode({"name": "Alice"}))
    response = await browser.post("/profile", urlencode({"name": name}))
    assert response.code == 400
    assert document(await browser.get("/api/v1/me"))["name"] == "Alice"


async def test_a_name_that_is_taken_back(whole):
    browser = whole.browser()
    await whole.log_in(browser, whole.person(2))
    await whole.server.profiles.idle()
    for given, shown in (
        ("Chen", "Chen"),
        ("  a \t b\n", "a b"),
        ("a\0b\x1b[31m", "a b [31m"),
        ("a\u2028b", "a b"),
        ("", "陈默"),
    ):
        assert (await browser.post("/profile", urlencode({"name": given}))).code == 303
        assert document(await browser.get("/api/v1/me"))["name"] == shown


@pytest.mark.parametrize("body", ["", "name=%ff", "name=a&name=b", '{"name": "x"}', "name[$ne]=x"])
async def test_a_form_that_is_odd_changes_nothing_bad(whole, body):
    browser = whole.browser()
    await whole.log_in(browser, whole.person())
    assert (await browser.post("/profile", body)).code in (303, 400)
    assert document(await browser.get("/api/v1/me"))["name"] in ("b", "WeChat user", "微信用户")


async def test_a_stranger_has_no_name_to_change(whole):
    browser = whole.browser()
    await browser.open_login()
    response = await browser.post("/profile", urlencode({"name": "x"}))
    assert response.code == 401
    assert response.headers["Content-Type"].startswith("text/html")


# --- "Not me".


async def linked(whole, collected: bool):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    outcome = await whole.scan(ticket_id, whole.person())
    link = re.search(r"/not-me/[\w-]+", outcome.reply_text)
    assert link, outcome.reply_text
    if collected:
        assert (await browser.exchange(ticket_id)).code == 200
    return browser, ticket_id, link[0]


async def test_looking_at_a_not_me_link_changes_nothing(whole):
    browser, ticket_id, path = await linked(whole, collected=True)
    before = await whole.stored(ticket_id)
    phone = whole.browser(**{"User-Agent": "MicroMessenger/8.0"})
    for _ in range(3):
        page = await phone.get(path)
        assert page.code == 200
        assert "127.0.0.1" in page.body.decode()
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert 'name="referrer"' not in page.body.decode(), "it would overrule the header"
    assert await whole.stored(ticket_id) == before
    assert (await browser.get("/api/v1/me")).code == 200


async def test_a_not_me_link_ends_the_login_once_and_without_cookies(whole):
    browser, ticket_id, path = await linked(whole, collected=True)
    async with browser.socket(await browser.open_login()):
        phone = whole.browser()
        bare = {"Origin": "", "X-XSRFToken": ""}
        assert (await phone.post(path, "", **bare)).code == 200
        assert (await browser.get("/api/v1/me")).code == 401
        assert (await phone.post(path, "", **bare)).code == 404
        assert (await phone.get(path)).code == 404
    assert (await browser.exchange(ticket_id)).code in (403, 404, 409), "a repeat does not bring it back"
    assert (await browser.get("/api/v1/me")).code == 401
    # The person may come back.
    await whole.log_in(browser, whole.person())


async def test_a_not_me_link_before_the_login_is_collected(whole):
    browser, ticket_id, path = await linked(whole, collected=False)
    async with browser.socket(ticket_id) as socket:
        assert "CONFIRMED" in await socket.read_message()
        assert (await whole.browser().post(path, "")).code == 200
        assert "CANCELLED" in await socket.read_message()
    assert (await browser.exchange(ticket_id)).code == 409


async def test_a_not_me_link_is_good_for_a_day(whole):
    _, _, path = await linked(whole, collected=True)
    whole.clock.pass_(86_390)
    assert (await whole.browser().get(path)).code == 200
    whole.clock.pass_(11)
    assert (await whole.browser().get(path)).code == 404
    assert (await whole.browser().post(path, "")).code == 404
    for wrong in ("/not-me/x", "/not-me/" + "A" * 24):
        assert (await whole.browser().get(wrong)).code == 404


# --- Where `next` leads.

BAD_NEXT = [
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "\x01//evil.example",
    "https://evil.example",
    "https:evil.example",
    "https:/evil.example",
    "http://www.example.com",
    "https://www.example.com.evil.example",
    "https://www.example.com@evil.example/",
    "https://www.example.com:443@evil.example/",
    "https://user@www.example.com/",
    "https://www.example.com:8443/",
    "https://www.example.com\\@evil.example/",
    "https://evil.example#https://www.example.com",
    "https://evil.example?https://www.example.com/",
    "https://[www.example.com/",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)//https://www.example.com",
    "data:text/html,x",
    "vbscript:x",
    "ftp://www.example.com/",
    "evil.example",
    "?a=b",
    "#a",
    "..",
    "/a\r\nSet-Cookie: planted=1",
    "/" + "a" * 4096,
]


async def test_next_leads_nowhere_else(tmp_path):
    async with running(tmp_path, **HTTPS) as whole:
        used = whole.transactions()
        for target in BAD_NEXT:
            page = await whole.browser().get(f"/login?next={quote(target)}")
            assert page.code == 400, target
            assert "Location" not in page.headers
            assert "planted" not in page.headers.get("Set-Cookie", "")
            made = await whole.browser().post("/api/v1/tickets", {"next": target})
            assert made.code == 400, target
        assert not used


@pytest.mark.parametrize(
    "target", ["/", "/a/b?c=d#e", "/路径?q=中文", "https://www.example.com/a?b=c", "HTTPS://WWW.EXAMPLE.COM/"]
)
async def test_next_leads_where_it_may(tmp_path, target):
    async with running(tmp_path, **HTTPS) as whole:
        browser = whole.browser()
        ticket_id = await browser.open_login(f"/login?next={quote(target)}")
        assert (await whole.post(await aimed(whole, ticket_id))).reply is not None
        assert document(await browser.exchange(ticket_id))["next"] == target


async def test_next_is_checked_again_when_it_is_used(tmp_path):
    """The settings may have changed since."""
    target = "https://www.example.com/a"
    async with running(tmp_path, **HTTPS) as whole:
        browser = whole.browser()
        ticket_id = await browser.open_login(f"/login?next={quote(target)}")
        push = await aimed(whole, ticket_id)
        assert (await whole.post(push)).reply is not None
    changed = {"server": {"base_url": "https://login.example.com"}}
    async with running(tmp_path, account=whole.emulator.platform.account, **changed) as later:
        again = later.browser()
        again.cookies, again.xsrf = browser.cookies, browser.xsrf
        assert document(await again.exchange(ticket_id))["next"] == "/"


LANGUAGES = ["en", "zh-CN", "x", "", "%ff", "%0d%0aSet-Cookie:planted=1", "../..", "a" * 5000]


@pytest.mark.parametrize("path", ["/", "/login", "/nothing", "/not-me/x", "/logout"])
async def test_any_language_may_be_asked_for(whole, path):
    for lang in LANGUAGES:
        response = await whole.browser().get(f"{path}?lang={lang}")
        assert response.code == {"/": 200, "/login": 200, "/logout": 405}.get(path, 404), lang
        assert b"<html" in response.body
        assert "planted" not in response.headers.get("Set-Cookie", "")


@pytest.mark.parametrize("query", ["method=%ff", "next=%ff", "next=/%ff"])
async def test_a_query_that_is_no_text(whole, query):
    response = await whole.browser().get(f"/login?{query}")
    assert response.code == 400
    assert b"<html" in response.body
