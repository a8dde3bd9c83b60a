"""Logins are collected, by pages and by programs, once; and whose they are afterwards."""

from __future__ import annotations

import asyncio
import base64

import pytest

from tests.handlers.programs import OTHER, SHOP, basic, ticket
from tests.harness import document, running

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
