"""What holds for every request: whose it is, which headers the answer has, and what is no request of ours."""

from __future__ import annotations

import logging
import re
from dataclasses import replace

import pytest

from tests.handlers.attacks import Attack, aimed
from tests.handlers.test_app import APP, bearer
from tests.harness import CALLBACK, document, running

HTTPS = {"server": {"base_url": "https://login.example.com"}}
TRUSTING = {"server": {"trusted_proxies": ["127.0.0.1", "10.0.0.0/8"]}}


# --- Headers of the answer.


async def every_answer(whole):
    """(kind, answer): pages, the API, files, the callback; fine and failed."""
    browser = whole.browser()
    ticket_id = await browser.open_login()
    secure = whole.base_url.startswith("https")
    answers = [
        ("page", await browser.get("/")),
        ("page", await browser.get("/login")),
        ("page", await browser.get("/not-me/x")),
        ("page", await browser.get("/nothing/of/ours")),
        ("page", await browser.post("/nothing/of/ours")),
        ("page", await browser.get("/login?next=//evil.example")),
        ("page", await browser.get("/logout")),
        ("page", await browser.post("/logout", Origin="https://evil.example")),
        ("page", await browser.request("PUT", "/login")),
        ("page", await browser.request("FOO", "/login")),
        ("page", await browser.post("/profile")),
        ("page", await browser.get("/", Host="evil.example")),
        ("page", await browser.post("/logout", Host="evil.example", Origin="http://evil.example")),
        ("page", await browser.post("/logout", "x", **{"Content-Type": "multipart/form-data"})),
        ("api", await browser.get(f"/api/v1/tickets/{ticket_id}")),
        ("api", await browser.get(f"/api/v1/tickets/{ticket_id}/qr.svg")),
        ("api", await browser.get("/api/v1/tickets/unknown")),
        ("api", await browser.get("/api/v1/me")),
        ("api", await browser.post("/api/v1/sessions/current/revoke", Origin="null")),
        ("api", await browser.request("DELETE", "/api/v1/me")),
        ("api", await browser.get("/api/v1/me", Host="evil.example")),
        ("api", await browser.post("/api/v1/tickets", "{")),
        ("api", await browser.get("/healthz")),
        ("api", await browser.get("/readyz")),
        ("api", await browser.get("/websocket/x")),
        ("callback", await browser.get(CALLBACK)),
        ("callback", await browser.post(CALLBACK)),
        ("callback", await browser.request("PUT", CALLBACK)),
        ("static", await browser.get("/static/login.js")),
        ("static", await browser.get("/static/saoma.css?v=x")),
        ("static", await browser.get("/static/nothing.js")),
        ("static", await browser.get("/static/../server.py")),
        ("static", await browser.get("/static/%2e%2e/settings.yaml")),
        ("static", await browser.get("/static/..%2f..%2f..%2fetc/passwd")),
        ("static", await browser.get("/static/")),
        ("static", await browser.post("/static/login.js")),
        ("static", await browser.get("/favicon.ico")),
        ("static", await browser.get("/robots.txt")),
        ("static", await browser.get("/static/login.js", Host="evil.example")),
    ]
    whole.store_goes_away()
    answers += [
        ("page", await browser.get("/login")),
        ("api", await browser.get(f"/api/v1/tickets/{ticket_id}")),
    ]
    assert secure == whole.base_url.startswith("https://login.example.com")
    return answers


@pytest.mark.parametrize("more", [{}, HTTPS], ids=["http", "https"])
async def test_every_answer_has_its_headers(tmp_path, more):
    async with running(tmp_path, **more) as whole:
        for kind, answer in await every_answer(whole):
            headers, asked = answer.headers, f"{answer.request.method} {answer.effective_url} {answer.code}"
            assert headers.get("X-Content-Type-Options") == "nosniff", asked
            assert "Server" not in headers, asked
            if kind == "static":
                kept = headers.get("Cache-Control", "")
                fresh = "max-age" in kept if "?v=" in asked else kept == "no-cache"
                assert fresh if answer.code == 200 else kept == "no-store", asked
            else:
                assert re.fullmatch(r"[0-9a-f]{16}", headers.get("X-Request-Id", "")), asked
                assert headers["Cache-Control"] == "no-store", asked
                assert headers["Referrer-Policy"] in ("same-origin", "no-referrer"), asked
            if kind == "page":
                policy = headers.get("Content-Security-Policy", "")
                assert "default-src 'none'" in policy, asked
                assert "frame-ancestors 'none'" in policy, asked
                assert "unsafe" not in policy, asked
                assert headers["Content-Type"] == "text/html; charset=UTF-8", asked
                assert b"<html" in answer.body, asked
            elif kind != "static":
                no_page = "default-src 'none'; frame-ancestors 'none'"
                assert headers["Content-Security-Policy"] == no_page, asked
            if kind == "api" and answer.code >= 400:
                assert headers["Content-Type"] == "application/problem+json", asked
                assert document(answer).keys() >= {"type", "title", "status", "code", "detail"}, asked
                assert document(answer)["status"] == answer.code
            if more:
                assert headers.get("Strict-Transport-Security") == "max-age=31536000", asked
            else:
                assert "Strict-Transport-Security" not in headers, asked
            assert b"Traceback" not in answer.body
            assert b"Tornado" not in answer.body


async def test_https_below_the_host_too_where_the_settings_say_so(tmp_path):
    server = {**HTTPS["server"], "hsts_subdomains": True}
    async with running(tmp_path, **{**HTTPS, "server": server}) as whole:
        answer = await whole.browser().get("/login")
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"


@pytest.mark.parametrize(
    ("file", "kind"),
    [("login.js", "text/javascript"), ("saoma.css", "text/css"), ("favicon.svg", "image/svg+xml")],
)
async def test_text_says_how_it_is_written(whole, file, kind):
    answer = await whole.browser().get(f"/static/{file}")
    assert (answer.code, answer.headers["Content-Type"]) == (200, f"{kind}; charset=UTF-8")


async def test_failures_are_never_fine(tmp_path):
    async with running(tmp_path) as whole:
        codes = {
            "/nothing": 404,
            "/static/nothing": 404,
            "/static/../server.py": 403,
            "/api/v1/nothing": 404,
            "/api/v1/me": 401,
            "/logout": 405,
            "/profile": 405,
            "/login/": 404,
            "//evil.example": 404,
            "//evil.example/%2f..": 404,
            "/login?method=telegram": 503,
        }
        browser = whole.browser()
        for path, code in codes.items():
            response = await browser.get(path)
            assert response.code in (code, 404), path
            assert "Location" not in response.headers


OTHER_HOSTS = [
    "evil.example",
    "127.0.0.1",
    "127.0.0.1:1",
    "",
    "login.example.com:{port}",
    "127.0.0.1:{port}.evil.example",
]


@pytest.mark.parametrize(
    "path", ["/", "/login", "/api/v1/me", "/api/v1/tickets", "/static/login.js", "/favicon.ico"]
)
async def test_another_host_is_not_served(whole, path):
    for host in OTHER_HOSTS:
        async with whole.wire() as wire:
            name = host.format(port=whole.server.port)
            await wire.send(f"GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            answer = await wire.answer()
            assert answer.status in (400, 421), name
            assert "Set-Cookie" not in answer.headers
            assert b"evil" not in answer.body


async def test_our_own_hosts(tmp_path):
    async with running(tmp_path) as whole:
        port = whole.server.port
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
            assert (await whole.browser().get("/login", Host=host)).code == 200, host
    async with running(tmp_path / "https", **HTTPS) as whole:
        for host in ("login.example.com", "LOGIN.example.com", "login.example.com:443"):
            assert (await whole.browser().get("/login", Host=host)).code == 200, host
        for host in (
            f"127.0.0.1:{whole.server.port}",
            "example.com",
            "login.example.com:80",
            "login.example.com.",
        ):
            assert (await whole.browser().get("/login", Host=host)).code == 421, host


async def test_checks_of_health_come_under_any_name(whole):
    for path in ("/healthz", "/readyz"):
        response = await whole.browser().get(path, Host="10.1.2.3:80")
        assert response.code == 200
        assert response.headers["Content-Type"] == "application/json"
    whole.store_goes_away()
    assert (await whole.browser().get("/healthz")).code == 200
    away = await whole.browser().get("/readyz")
    assert away.code == 503
    assert document(away)["code"] == "store_unavailable"


async def test_a_page_says_so_while_the_store_is_away(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    browser.cookies["saoma-session"] = "x"
    whole.store_goes_away()
    for path in ("/", "/login", "/not-me/x"):
        response = await browser.get(path)
        assert response.code == 503, path
        assert response.headers["Content-Type"].startswith("text/html")
    for path in (f"/api/v1/tickets/{ticket_id}", f"/api/v1/tickets/{ticket_id}?wait=5", "/api/v1/me"):
        response = await browser.get(path)
        assert (response.code, document(response)["code"]) == (503, "store_unavailable"), path
    assert (await browser.exchange(ticket_id)).code == 503


async def test_a_fault_of_ours_tells_nothing(whole, expect_log):
    expect_log(r"GET / failed \(request [0-9a-f]{16}\)")
    expect_log(r"GET /api/v1/me failed")
    browser = whole.browser()
    browser.cookies["saoma-session"] = "x"

    async def broken(work):
        raise RuntimeError("secret detail")

    whole.storage.transact = broken
    page, api = await browser.get("/"), await browser.get("/api/v1/me")
    assert (page.code, api.code) == (500, 500)
    assert document(api)["code"] == "internal_server_error"
    assert b"secret" not in page.body + api.body


# --- Whose request it is.


async def shown_address(whole, **headers) -> str:
    browser = whole.browser(**headers)
    ticket = await whole.ticket(await browser.open_login())
    return ticket.device.address


CHAINS = [
    ("203.0.113.5", "203.0.113.5"),
    ("6.6.6.6, 203.0.113.5", "203.0.113.5"),
    ("203.0.113.5, 10.9.9.9", "203.0.113.5"),
    ("6.6.6.6, 203.0.113.5, 10.9.9.9, 127.0.0.1", "203.0.113.5"),
    ("2001:db8::1", "2001:db8::1"),
    ("[2001:db8::1]", "2001:db8::1"),
    ("10.1.1.1", "10.1.1.1"),
    ("junk", "127.0.0.1"),
    ("6.6.6.6, junk, 10.9.9.9", "10.9.9.9"),
    ("<script>", "127.0.0.1"),
    (",,,", "127.0.0.1"),
    ("unknown", "127.0.0.1"),
]


async def test_a_trusted_proxy_is_believed_as_far_as_it_saw(tmp_path):
    async with running(tmp_path, **TRUSTING) as whole:
        for forwarded, address in CHAINS:
            assert await shown_address(whole, **{"X-Forwarded-For": forwarded}) == address, forwarded


async def test_anybody_else_is_not_believed(tmp_path, expect_log):
    expect_log("X-Forwarded-For from 127.0.0.1 is ignored")
    async with running(tmp_path) as whole:
        for _ in range(3):
            headers = {"X-Forwarded-For": "6.6.6.6", "X-Real-Ip": "6.6.6.6", "Forwarded": "for=6.6.6.6"}
            assert await shown_address(whole, **headers) == "127.0.0.1"


async def test_other_headers_of_a_proxy_change_nothing(tmp_path):
    async with running(tmp_path, **TRUSTING) as whole:
        headers = {"X-Real-Ip": "6.6.6.6", "Forwarded": "for=6.6.6.6", "X-Forwarded-Host": "evil.example"}
        headers |= {"X-Forwarded-Proto": "https", "X-Scheme": "https", "X-Original-Url": "/logout"}
        assert await shown_address(whole, **headers) == "127.0.0.1"
        page = await whole.browser(**headers).get("/login")
        assert b"evil" not in page.body
        assert "Strict-Transport-Security" not in page.headers


@pytest.mark.parametrize(
    "agent", ["<script>", "x" * 9000, "\xff\xfe", "Chrome/1 \u202e", "", "Mozilla MicroMessenger/8 iPhone"]
)
async def test_a_browsers_name_is_one_of_ours(whole, agent):
    ticket_id = await whole.browser(**{"User-Agent": agent.encode("utf-8").decode("latin-1")}).open_login()
    device = (await whole.ticket(ticket_id)).device
    assert device.browser in ("", "Chrome", "WeChat")
    assert device.system in ("", "iPhone")


# --- What is no request.


@pytest.mark.parametrize(
    "data",
    [
        b"GET /\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    ],
    ids=range(12),
)
async def test_what_is_no_request_ends_the_connection(whole, data):
    async with whole.wire() as wire:
        await wire.send(data)
        try:
            assert (await wire.answer()).status in (400, 421, 431)
        except (EOFError, ConnectionError):
            return


@pytest.mark.parametrize(
    "path", ["/logout", "/api/v1/tickets", "/api/v1/tickets/x/exchange", "/static/login.js"]
)
async def test_a_big_body_is_not_taken(whole, path):
    body = b"x" * 70_000
    attack = (
        Attack("", body)
        .http(f"127.0.0.1:{whole.server.port}")
        .replace(b"/wechat/callback?", path.encode(), 1)
    )
    async with whole.wire() as wire:
        try:
            await wire.send(attack)
            answer = await wire.answer()
        except (EOFError, ConnectionError):
            return
        assert answer.status in (400, 413)


# --- The log.


async def test_the_log_says_who_asked_and_why_a_delivery_was_refused(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="saoma")
    async with running(tmp_path, app=APP, **TRUSTING) as whole:
        browser = whole.browser()
        forwarded = {"X-Forwarded-For": "198.51.100.9, 203.0.113.7"}
        await browser.get("/api/v1/me", **forwarded)
        push = await aimed(whole, await browser.open_login())
        await whole.post(replace(push, url=push.url.replace("nonce=", "nonce=1")))
        await whole.post(replace(push, body=b"<xml>"))
        ticket = await browser.open_login("/login?method=app")
        await browser.post(f"/api/v1/tickets/{ticket}/scan", **bearer("u1", aud="another"))
        await browser.post(f"/api/v1/tickets/{ticket}/scan", **bearer("u1", exp=1))
    lines = [record.getMessage() for record in caplog.records]
    assert any(re.fullmatch(r"401 GET /api/v1/me 203\.0\.113\.7 [0-9.]+ ms", line) for line in lines), lines
    assert "a delivery was refused: signature" in lines
    assert "a delivery was refused: MalformedXml" in lines
    assert "a token of the app was refused: aud" in lines
    assert "a token of the app was refused: expired_token exp" in lines


async def test_the_log_has_no_query_and_no_secret(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, logger="saoma")
    async with running(tmp_path) as whole:
        browser = whole.browser()
        await whole.log_in(browser, whole.person(), "/login?next=/in-the-query")
        push = await aimed(whole, await browser.open_login())
        assert (await whole.post(push)).reply is not None
        link = re.search(r"/not-me/([\w-]+)", (await whole.post(push)).clear_answer)
        assert link
        await browser.get(link[0])
        await browser.get("/api/v1/me", Authorization=f"Bearer {browser.cookies['saoma-session']}")
        await browser.get("/%0aforged%20line?x=y")
        secrets = [
            "in-the-query",
            "signature",
            "openid",
            whole.person(),
            link[1],
            whole.emulator.platform.account.secret,
            whole.emulator.platform.account.token,
            *browser.cookies.values(),
        ]
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("saoma")]
    assert any(CALLBACK in line for line in lines), lines
    told = "\n".join(lines)
    assert [secret for secret in secrets if secret in told] == []
    assert "\nforged line" not in told
