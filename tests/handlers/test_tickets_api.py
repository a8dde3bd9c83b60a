"""The REST part about tickets, for pages and for programs."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from contextlib import suppress

import pytest

import handlers.tickets
from tests.harness import document, running

SHOP = {"id": "shop", "name": "Shop", "secret": "0123456789:abcdef 密码 ü 0123456789"}
OTHER = {"id": "other", "name": "Other", "secret": "x" * 40}
PROBLEM = "application/problem+json"


def basic(site_id: str, secret: str, encoding: str = "utf-8") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{site_id}:{secret}".encode(encoding)).decode()}


def ticket(secret: str) -> dict[str, str]:
    return {"Authorization": f"Ticket {secret}"}


# --- Making one.


async def test_a_page_gets_its_secret_as_a_cookie_alone(whole):
    browser = whole.browser()
    response = await browser.post(
        "/api/v1/tickets", {"method": "wechat", "next": "/a?b=c#d", "unknown": {"$gt": 1}}
    )
    assert response.code == 201
    made = document(response)
    assert made.keys() == {"id", "state", "expires_in", "interval", "qr"}
    assert (made["state"], made["expires_in"], made["interval"]) == ("WAITING", 300, 3)
    assert len(made["id"]) <= 64
    assert made["qr"] == (await whole.ticket(made["id"])).code
    assert response.headers["Location"] == f"/api/v1/tickets/{made['id']}"
    assert response.headers["Content-Type"] == "application/json"
    secret = browser.cookies[f"saoma-ticket-{made['id']}"]
    assert len(secret) >= 22
    assert secret not in response.body.decode()
    assert document(await browser.get(response.headers["Location"]))["state"] == "WAITING"


async def test_every_ticket_has_an_id_and_a_secret_of_its_own(whole):
    ids, secrets = set(), set()
    browser = whole.browser()
    for _ in range(20):
        made = document(await browser.post("/api/v1/tickets"))
        ids.add(made["id"])
        secrets.add(browser.cookies[f"saoma-ticket-{made['id']}"])
    assert len(ids) == len(secrets) == 20


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        "null",
        '"x"',
        "\xff",
        b"\xff\xfe",
        '{"method": "telegram"}',
        '{"method": 1}',
        '{"method": null}',
        '{"client": "admin"}',
        '{"client": ["browser"]}',
        '{"next": 5}',
        '{"next": {"$ne": ""}}',
        '{"next": "\\ud800"}',
        '{"next": "//evil.example"}',
        '{"next": "https://evil.example/"}',
        '{"next": "/\\r\\nSet-Cookie: a=b"}',
        json.dumps({"next": "/" + "a" * 4096}),
        "[" * 10_000,
        '{"next": ' + "[" * 10_000 + "]" * 10_000 + "}",
    ],
)
async def test_a_body_that_is_not_understood(whole, body):
    used = whole.transactions()
    response = await whole.browser().post("/api/v1/tickets", body)
    assert response.code == 400, response.body
    assert response.headers["Content-Type"] == PROBLEM
    assert document(response)["code"] == "bad_request"
    assert "Set-Cookie" not in response.headers
    assert b"evil" not in response.body
    assert not used


async def test_a_ticket_that_is_not_kept_is_not_told(whole):
    whole.store_goes_away()
    response = await whole.browser().post("/api/v1/tickets")
    assert response.code == 503
    assert document(response)["code"] == "store_unavailable"
    assert "Set-Cookie" not in response.headers


async def test_a_method_that_is_not_set_up(whole):
    response = await whole.browser().post("/api/v1/tickets", {"method": "app"})
    assert response.code == 503
    assert document(response)["code"] == "method_unavailable"


async def test_too_many_are_told_when_to_come_again(tmp_path):
    limits = {"tickets_per_address": 3}
    async with running(tmp_path, limits=limits, server={"trusted_proxies": ["127.0.0.1"]}) as whole:
        for _ in range(3):
            assert (await whole.browser().post("/api/v1/tickets")).code == 201
        for response in (await whole.browser().post("/api/v1/tickets"), await whole.browser().get("/login")):
            assert response.code == 429
            assert 1 <= int(response.headers["Retry-After"]) <= 20
            assert "Set-Cookie" not in response.headers or "ticket" not in response.headers["Set-Cookie"]
        assert document(await whole.browser().post("/api/v1/tickets"))["code"] == "too_many_requests"
        # Another address is not meant, and time heals.
        assert (
            await whole.browser(**{"X-Forwarded-For": "198.51.100.7"}).post("/api/v1/tickets")
        ).code == 201
        whole.clock.pass_(21)
        assert (await whole.browser().get("/login")).code == 200


async def test_limits_can_be_lifted(tmp_path):
    async with running(tmp_path, limits={"enabled": False, "tickets_per_address": 1}) as whole:
        for _ in range(5):
            assert (await whole.browser().post("/api/v1/tickets")).code == 201


# --- Whoever has not the secret.


async def test_unknown_expired_and_foreign_are_one_answer(whole):
    owner, stranger = whole.browser(), whole.browser()
    expired = await owner.open_login()
    whole.clock.pass_(301)
    foreign = await owner.open_login()
    confirmed = await owner.open_login("/login?next=/a")
    await whole.scan(confirmed, whole.person())
    stranger.xsrf = owner.xsrf
    own = document(await stranger.post("/api/v1/tickets"))["id"]
    secret = stranger.cookies[f"saoma-ticket-{own}"]
    stranger.cookies["saoma-xsrf"] = owner.cookies["saoma-xsrf"]
    answers = {}
    for name, asked, client in (
        ("unknown", "A" * 24, stranger),
        ("short", "-", stranger),
        ("long", "_" * 64, stranger),
        ("expired", expired, owner),
        ("foreign", foreign, stranger),
        ("foreign and confirmed", confirmed, stranger),
    ):
        # A planted cookie, another ticket's secret, and nothing at all.
        for given in (
            {},
            ticket(secret),
            ticket("x" * 5000),
            ticket("\xfc\xff"),
            {"Cookie": f"saoma-ticket-{asked}={secret}"},
        ):
            if name == "expired" and given:
                continue
            url = f"/api/v1/tickets/{asked}"
            xsrf = f"saoma-xsrf={owner.cookies['saoma-xsrf']}"
            more = {"Cookie": f"{given['Cookie']}; {xsrf}"} if "Cookie" in given else given
            for number, request in enumerate(
                (
                    client.get(url, **given),
                    client.get(f"{url}?wait=5", **given),
                    client.get(f"{url}?wait=5&state=INVALID", **given),
                    client.get(f"{url}/qr.svg", **given),
                    client.get(f"{url}/qr.png", **given),
                    client.post(f"{url}/exchange", **more),
                    client.post(f"{url}/abandon", **more),
                )
            ):
                response = await request
                kept = {
                    key: value
                    for key, value in response.headers.get_all()
                    if key not in ("X-Request-Id", "Date")
                }
                answers[name, number, str(given)[:30]] = (response.code, response.body, json.dumps(kept))
    assert len(set(answers.values())) == 1, set(answers.values())
    status, body, _ = next(iter(answers.values()))
    assert status == 404
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "code": "ticket_unknown",
        "detail": "This ticket is unknown or has expired.",
        "state": "INVALID",
    }
    assert (await whole.ticket(confirmed)).state == "CONFIRMED"


async def test_an_id_that_can_be_none_is_no_page_of_ours(whole):
    for path in (
        "/api/v1/tickets/",
        "/api/v1/tickets/a.b",
        f"/api/v1/tickets/{'a' * 65}",
        "/api/v1/tickets/a/b/c",
    ):
        assert (await whole.browser().get(path)).code == 404


# --- Watching.


async def test_a_poll_says_what_is_now(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    url = f"/api/v1/tickets/{ticket_id}"
    seen = document(await browser.get(url))
    assert seen["state"] == "WAITING"
    assert seen["user"] is None
    assert 290 < seen["expires_in"] <= 300
    await whole.scan(ticket_id, whole.person())
    seen = document(await browser.get(url))
    assert seen["state"] == "CONFIRMED"
    assert seen["user"].keys() == {"name", "picture"}, "no openid before the login is collected"
    await browser.exchange(ticket_id)
    assert (await browser.state(ticket_id)) == "CONSUMED"


async def test_a_long_poll_answers_on_change(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    waiting = [
        asyncio.ensure_future(browser.state(ticket_id, f"?wait=20{more}"))
        for more in ("", "&state=WAITING", "&state=", "&wait=20")
    ]
    while whole.server.broker.waiting < len(waiting):
        await asyncio.sleep(0.01)
    assert not [one for one in waiting if one.done()]
    await whole.scan(ticket_id, whole.person())
    assert await asyncio.wait_for(asyncio.gather(*waiting), 2) == ["CONFIRMED"] * len(waiting)
    assert whole.server.broker.waiting == whole.server.broker.tickets == 0


async def test_a_long_poll_answers_at_once_where_there_is_news(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    started = time.monotonic()
    for state in ("SCANNED", "CONFIRMED", "CONSUMED", "CANCELLED", "INVALID"):
        assert await browser.state(ticket_id, f"?wait=30&state={state}") == "WAITING"
    await browser.post(f"/api/v1/tickets/{ticket_id}/abandon")
    browser.cookies[f"saoma-ticket-{ticket_id}"] = "gone"
    assert await browser.state(ticket_id, "?wait=30&state=CANCELLED") == "INVALID"
    assert time.monotonic() - started < 3


async def test_a_page_that_goes_away_is_forgotten_though_a_cancellation_gets_lost(whole):
    """As Python 3.11's `wait_for` loses one that comes together with the store's answer."""
    browser = whole.browser()
    ticket_id = await browser.open_login()
    transact = whole.storage.transact

    async def losing(work):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.3)
        return await transact(work)

    whole.storage.transact = losing
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    path = f"/api/v1/tickets/{ticket_id}?wait=30"
    async with whole.wire() as wire:
        host = f"Host: 127.0.0.1:{whole.server.port}"
        await wire.send(f"GET {path} HTTP/1.1\r\n{host}\r\nCookie: {cookies}\r\n\r\n".encode())
        while not whole.server.broker.waiting:
            await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        while whole.server.broker.waiting:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("final", ["CONSUMED", "CANCELLED"])
async def test_a_final_state_is_not_waited_on(whole, final):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    if final == "CONSUMED":
        await whole.scan(ticket_id, whole.person())
        await browser.exchange(ticket_id)
        secret = browser.cookies[f"saoma-ticket-{ticket_id}"]
    else:
        secret = browser.cookies[f"saoma-ticket-{ticket_id}"]
        await browser.post(f"/api/v1/tickets/{ticket_id}/abandon")
    started = time.monotonic()
    response = await browser.get(f"/api/v1/tickets/{ticket_id}?wait=30&state={final}", **ticket(secret))
    assert document(response)["state"] == final
    assert time.monotonic() - started < 2


async def test_a_long_poll_ends_with_its_time_or_its_ticket(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    started = time.monotonic()
    assert await browser.state(ticket_id, "?wait=0.5") == "WAITING"
    assert 0.4 < time.monotonic() - started < 2
    whole.clock.pass_(299)
    started = time.monotonic()
    assert (await browser.get(f"/api/v1/tickets/{ticket_id}?wait=20")).code == 404
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("query", ["?wait=", "?wait"])
async def test_a_wait_without_a_number_is_the_usual_one(whole, query, monkeypatch):
    assert handlers.tickets.USUAL_WAIT == 20
    monkeypatch.setattr("handlers.tickets.USUAL_WAIT", 0.5)
    browser = whole.browser()
    ticket_id = await browser.open_login()
    started = time.monotonic()
    assert await browser.state(ticket_id, query) == "WAITING"
    assert time.monotonic() - started > 0.4


@pytest.mark.parametrize("wait", ["inf", "1e9", "99999999999999999999", "31"])
async def test_a_wait_is_capped(whole, wait, monkeypatch):
    monkeypatch.setattr("handlers.tickets.MAX_WAIT", 0.3)
    browser = whole.browser()
    ticket_id = await browser.open_login()
    started = time.monotonic()
    assert await browser.state(ticket_id, f"?wait={wait}") == "WAITING"
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "query",
    [
        "wait=-1",
        "wait=nan",
        "wait=x",
        "wait=-inf",
        "wait=5&state=waiting",
        "wait=5&state=x",
        "wait=%ff",
    ],
)
async def test_junk_in_the_query(whole, query):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    response = await browser.get(f"/api/v1/tickets/{ticket_id}?{query}")
    assert response.code == 400, response.body
    assert response.headers["Content-Type"] == PROBLEM
    assert document(response)["code"] == "bad_request"


async def test_the_longest_wait_is_thirty_seconds():
    from handlers.tickets import MAX_WAIT

    assert MAX_WAIT == 30


# --- The picture.


async def test_the_code_as_a_picture(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    svg = await browser.get(f"/api/v1/tickets/{ticket_id}/qr.svg")
    assert (svg.code, svg.headers["Content-Type"]) == (200, "image/svg+xml")
    assert svg.body.lstrip().startswith((b"<svg", b"<?xml"))
    png = await browser.get(f"/api/v1/tickets/{ticket_id}/qr.png")
    assert (png.code, png.headers["Content-Type"]) == (200, "image/png")
    assert png.body.startswith(b"\x89PNG\r\n")
    for response in (svg, png):
        assert response.headers["Cache-Control"] == "no-store"
    assert (await browser.get(f"/api/v1/tickets/{ticket_id}/qr.gif")).code == 404


# --- Collecting.


async def test_what_is_not_confirmed_cannot_be_collected(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    response = await browser.exchange(ticket_id)
    assert response.code == 409
    assert document(response)["code"] == "transition_refused"
    assert "saoma-session" not in browser.cookies
    await browser.post(f"/api/v1/tickets/{ticket_id}/abandon")
    outcome = await whole.scan(ticket_id, whole.person())
    assert "used" in outcome.reply_text or "使用" in outcome.reply_text
    assert (await whole.ticket(ticket_id)).state == "CANCELLED"


async def test_a_login_is_collected_once_and_repeated_for_a_minute(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    await whole.scan(ticket_id, whole.person())
    first = await browser.exchange(ticket_id)
    former = browser.cookies["saoma-session"]
    again = await browser.exchange(ticket_id)
    assert (first.code, again.code) == (200, 200)
    assert document(first) == document(again)
    assert browser.cookies["saoma-session"] != former
    replaced = whole.browser()
    replaced.cookies["saoma-session"] = former
    assert (await replaced.get("/api/v1/me")).code == 401
    assert (await browser.get("/api/v1/me")).code == 200
    whole.clock.pass_(61)
    late = await browser.exchange(ticket_id)
    assert late.code in (404, 409)
    assert (await browser.get("/api/v1/me")).code == 200
    _, logins, _ = await whole.stored()
    assert [login.result for login in logins] == ["success"]
    assert (await whole.user(whole.person())).login_count == 1


async def test_many_at_once_have_one_winner(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    await whole.scan(ticket_id, whole.person())
    answers = await asyncio.gather(*(browser.exchange(ticket_id) for _ in range(8)))
    assert {answer.code for answer in answers} <= {200, 409}
    tokens = [
        header.partition("saoma-session=")[2].partition(";")[0]
        for answer in answers
        if answer.code == 200
        for header in answer.headers.get_list("Set-Cookie")
        if "saoma-session=" in header
    ]
    alive = 0
    for token in tokens:
        client = whole.browser()
        alive += (await client.get("/api/v1/me", Authorization=f"Bearer {token}")).code == 200
    assert alive == 1


async def test_a_new_login_ends_the_browsers_former_one(whole):
    browser = whole.browser()
    await whole.log_in(browser, whole.person())
    former = browser.cookies["saoma-session"]
    await whole.log_in(browser, whole.person(1))
    assert browser.cookies["saoma-session"] != former
    assert (await whole.browser().get("/api/v1/me", Authorization=f"Bearer {former}")).code == 401
    me = document(await browser.get("/api/v1/me"))
    assert me["identities"][0]["subject"] == whole.person(1)


async def test_a_planted_session_is_not_adopted(whole):
    browser = whole.browser()
    browser.cookies["saoma-session"] = "planted"
    await whole.log_in(browser, whole.person())
    assert browser.cookies["saoma-session"] != "planted"
    planted = whole.browser()
    planted.cookies["saoma-session"] = "planted"
    assert (await planted.get("/api/v1/me")).code == 401


async def test_giving_up(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    response = await browser.post(f"/api/v1/tickets/{ticket_id}/abandon")
    assert (response.code, document(response)) == (200, {"state": "CANCELLED"})
    assert f"saoma-ticket-{ticket_id}" not in browser.cookies
    consumed = await browser.open_login()
    await whole.scan(consumed, whole.person())
    await browser.exchange(consumed)
    assert (await browser.post(f"/api/v1/tickets/{consumed}/abandon")).code == 409


# --- Programs.


async def test_a_program_logs_somebody_in(tmp_path):
    async with running(tmp_path, sites=[SHOP]) as whole:
        program = whole.browser(**{"User-Agent": ""})
        bare = {"Origin": "", "X-XSRFToken": ""}
        response = await program.post(
            "/api/v1/tickets", {"client": "api"}, **basic("shop", SHOP["secret"]), **bare
        )
        assert response.code == 201
        made = document(response)
        assert "Set-Cookie" not in response.headers
        secret = ticket(made["secret"])
        url = response.headers["Location"]
        assert document(await program.get(url, **secret))["state"] == "WAITING"
        assert (await program.get(f"{url}/qr.png", **secret)).code == 200
        poll = asyncio.ensure_future(program.get(f"{url}?wait=20", **secret))
        await asyncio.sleep(0.05)
        outcome = await whole.scan(made["id"], whole.person())
        assert "Shop" in outcome.reply_text
        assert document(await poll)["state"] == "CONFIRMED"
        collected = await program.post(f"{url}/exchange", **secret, **bare)
        assert collected.code == 200
        assert "Set-Cookie" not in collected.headers
        assert not program.cookies
        login = document(collected)
        assert login["state"] == "CONSUMED"
        bearer = {"Authorization": f"Bearer {login['token']}"}
        me = await program.get("/api/v1/me", **bearer)
        assert document(me) == login["user"]
        assert (await program.post("/api/v1/sessions/current/revoke", **bearer, **bare)).code == 204
        gone = await program.get("/api/v1/me", **bearer)
        assert gone.code == 401
        assert gone.headers["WWW-Authenticate"] == "Bearer"
        assert document(gone)["code"] == "unauthenticated"
        assert (await program.post("/api/v1/sessions/current/revoke", **bearer, **bare)).code == 401


async def test_a_program_must_be_registered(tmp_path):
    async with running(tmp_path, sites=[SHOP, OTHER]) as whole:
        secret = SHOP["secret"]
        used = whole.transactions()
        refused = [
            {},
            basic("shop", "wrong"),
            basic("shop", ""),
            basic("", ""),
            basic("", secret),
            basic("nobody", secret),
            basic("other", secret),
            basic("SHOP", secret),
            basic("shop", secret + " "),
            basic("shop", secret[:-1]),
            basic("shop", secret, "gb18030"),
            {"Authorization": "Basic"},
            {"Authorization": "Basic !!!"},
            {"Authorization": "Basic " + base64.b64encode(b"shop").decode()},
            {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode()},
            {"Authorization": "Basic " + base64.b64encode(f"shop:{secret}".encode()).decode() + "=="},
            {"Authorization": "Basic shop:" + "x" * 40},
            {"Authorization": f"Bearer {'x' * 40}"},
            {"Authorization": basic("shop", secret)["Authorization"].replace("Basic", "Ticket")},
        ]
        for headers in refused:
            response = await whole.browser().post("/api/v1/tickets", {"client": "api"}, **headers)
            assert response.code == 401, headers
            assert response.headers["WWW-Authenticate"].startswith("Basic")
            assert document(response)["code"] == "unauthenticated"
        assert not used
        good = await whole.browser().post("/api/v1/tickets", {"client": "api"}, **basic("shop", secret))
        assert good.code == 201, "a colon and other letters in the secret are no fault"
        lower = {"Authorization": basic("other", OTHER["secret"])["Authorization"].replace("Basic", "basic")}
        assert (await whole.browser().post("/api/v1/tickets", {"client": "api"}, **lower)).code == 201


# --- Who is logged in.


async def test_a_session_ends_in_idleness_and_in_age(tmp_path):
    async with running(tmp_path, session={"idle": 100, "lifetime": 250}) as whole:
        browser = whole.browser()
        await whole.log_in(browser, whole.person())
        for _ in range(4):
            whole.clock.pass_(60)
            assert (await browser.get("/api/v1/me")).code == 200
        whole.clock.pass_(11)
        assert (await browser.get("/api/v1/me")).code == 401, "past its life however much it is used"
        await whole.log_in(browser, whole.person())
        whole.clock.pass_(101)
        assert (await browser.get("/api/v1/me")).code == 401


@pytest.mark.parametrize(
    "token", ["", "x", "\xfc\xff", "x" * 8000, "null", "../..", "' OR 1=1 --", '{"$ne": ""}']
)
async def test_a_token_that_is_none(whole, token):
    for headers in ({"Authorization": f"Bearer {token}"}, {"Cookie": f'saoma-session="{token}"'}):
        response = await whole.browser().get("/api/v1/me", **headers)
        assert response.code == 401
        assert document(response)["code"] == "unauthenticated"


async def test_a_secret_of_a_ticket_is_no_session_and_a_session_no_secret(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    secret = browser.cookies[f"saoma-ticket-{ticket_id}"]
    await whole.scan(ticket_id, whole.person())
    assert (await browser.get("/api/v1/me", Authorization=f"Bearer {secret}")).code == 401
    await browser.exchange(ticket_id)
    token = browser.cookies["saoma-session"]
    stranger = whole.browser()
    assert (await stranger.get(f"/api/v1/tickets/{ticket_id}", Authorization=f"Ticket {token}")).code == 404


async def test_revoking_by_cookie(whole):
    browser = whole.browser()
    await whole.log_in(browser, whole.person())
    token = browser.cookies["saoma-session"]
    assert (await browser.post("/api/v1/sessions/current/revoke")).code == 204
    assert "saoma-session" not in browser.cookies
    assert (await whole.browser().get("/api/v1/me", Authorization=f"Bearer {token}")).code == 401
