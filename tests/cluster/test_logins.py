"""The same logins on one node and on three: whoever logs in cannot tell."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from tests.cluster.site import Site, next_state
from tests.harness import document

pytestmark = pytest.mark.asyncio(loop_scope="module")

SESSION = "__Host-saoma-session"


@pytest.fixture(params=["one_with_sqlite", "one_with_mongodb", "three_with_redis"])
def site(request) -> Site:
    return request.getfixturevalue(request.param)


async def test_the_app_scans_confirms_and_the_browser_collects(site):
    browser = site.browser()
    ticket = await browser.open_login("/login?method=app&next=/deep")
    async with browser.socket(ticket) as socket:
        assert await next_state(socket) == "WAITING"
        scanned = document(await site.scan(ticket, "anna"))
        assert (scanned["state"], scanned["site"]) == ("SCANNED", "saoma")
        assert await next_state(socket) == "SCANNED"
        confirmed = await site.decide("confirm", ticket, scanned["handle"], "anna")
        assert document(confirmed) == {"state": "CONFIRMED"}
        assert await next_state(socket) == "CONFIRMED"
    collected = await browser.exchange(ticket)
    assert (collected.code, document(collected)["next"]) == (200, "/deep")
    me = document(await browser.get("/api/v1/me"))
    assert me["identities"] == [{"provider": "app", "subject": "anna", "following": True}]


async def test_the_app_says_no(site):
    browser = site.browser()
    ticket = await browser.open_login("/login?method=app")
    handle = document(await site.scan(ticket))["handle"]
    async with browser.socket(ticket) as socket:
        assert await next_state(socket) == "SCANNED"
        assert (await site.decide("cancel", ticket, handle)).code == 200
        assert await next_state(socket) == "CANCELLED"
    assert (await site.decide("confirm", ticket, handle)).code == 409
    assert (await browser.exchange(ticket)).code == 409


async def test_a_scan_with_wechat(site):
    browser = site.browser()
    await browser.open_login("/login?method=wechat")
    made = document(await browser.post("/api/v1/tickets", {"method": "wechat"}))
    person = next(iter(site.emulator.platform.people))
    async with browser.socket(made["id"]) as socket:
        assert await next_state(socket) == "WAITING"
        outcome = await site.emulator.phone.scan(person, made["qr"])
        assert outcome is not None
        assert outcome.accepted, outcome.attempts[-1].fault
        assert await next_state(socket) == "CONFIRMED"
    assert (await browser.exchange(made["id"])).code == 200
    me = document(await browser.get("/api/v1/me"))
    assert me["identities"] == [{"provider": "wechat", "subject": person, "following": True}]


async def test_a_long_poll_and_a_plain_one(site):
    browser = site.browser()
    ticket = await browser.open_login("/login?method=app")
    assert await browser.state(ticket) == "WAITING"
    poll = asyncio.ensure_future(browser.state(ticket, "?wait=20&state=WAITING"))
    await asyncio.sleep(0.2)
    handle = document(await site.scan(ticket))["handle"]
    assert await asyncio.wait_for(poll, 5) == "SCANNED"
    poll = asyncio.ensure_future(browser.state(ticket, "?wait=20&state=SCANNED"))
    await asyncio.sleep(0.2)
    assert (await site.decide("confirm", ticket, handle)).code == 200
    assert await asyncio.wait_for(poll, 5) == "CONFIRMED"
    assert await browser.state(ticket) == "CONFIRMED"


async def test_a_reload_shows_the_same_ticket(site):
    browser = site.browser()
    tickets = {await browser.open_login("/login?method=app") for _ in range(6)}
    assert len(tickets) == 1
    assert await site.browser().open_login("/login?method=app") not in tickets


async def test_fifty_people_scan_one_code_at_once(site):
    browser = site.browser()
    ticket = await browser.open_login("/login?method=app")
    people = [f"person-{number}" for number in range(50)]
    answers = await asyncio.gather(*(site.scan(ticket, person) for person in people))
    assert Counter(answer.code for answer in answers) == {200: 1, 409: 49}
    refusals = [document(answer) for answer in answers if answer.code == 409]
    assert {refusal["code"] for refusal in refusals} == {"transition_refused"}
    winner, answer = next((p, a) for p, a in zip(people, answers, strict=True) if a.code == 200)
    assert (await site.decide("confirm", ticket, document(answer)["handle"], winner)).code == 200
    assert (await browser.exchange(ticket)).code == 200
    assert document(await browser.get("/api/v1/me"))["identities"][0]["subject"] == winner


async def test_fifty_exchanges_at_once_leave_one_session(site, request):
    browser = site.browser()
    ticket = await browser.open_login("/login?method=app")
    await site.scan_and_confirm(ticket, "collector")
    rivals = []
    for _ in range(20 if "mongodb" in request.node.name else 50):  # FerretDB does one thing at a time
        rival = site.browser()
        rival.cookies, rival.xsrf = dict(browser.cookies), browser.xsrf
        rivals.append(rival)
    answers = await asyncio.gather(*(rival.exchange(ticket) for rival in rivals))
    assert {answer.code for answer in answers} <= {200, 409}
    winners = [rival for rival, answer in zip(rivals, answers, strict=True) if answer.code == 200]
    assert winners
    seen = await asyncio.gather(*(winner.get("/api/v1/me") for winner in winners))
    assert Counter(answer.code for answer in seen)[200] == 1


async def test_a_sign_out_counts_everywhere_at_once(site):
    browser = site.browser()
    await site.log_in(browser)
    token = browser.cookies[SESSION]
    places = [browser.at(node) for node in site.nodes]
    assert [(await place.get("/api/v1/me")).code for place in places] == [200] * len(places)
    assert (await places[0].post("/api/v1/sessions/current/revoke")).code == 204
    stale = {"Cookie": f"{SESSION}={token}"}
    answers = await asyncio.gather(*(place.get("/api/v1/me", **stale) for place in places))
    assert {answer.code for answer in answers} == {401}


@pytest.mark.parametrize("claimed", ["", "203.0.113.9", "127.0.0.1, 127.0.0.1", "::1"])
async def test_the_address_shown_is_the_one_that_nginx_was_sent_to_from(site, claimed):
    browser = site.browser(source="127.0.0.77")
    browser.headers = {"X-Forwarded-For": claimed, "X-Real-IP": claimed, "Forwarded": f"for={claimed}"}
    ticket = await browser.open_login("/login?method=app")
    assert document(await site.scan(ticket))["address"] == "127.0.0.77"


async def test_nginx_logs_paths_and_no_query(site):
    browser = site.browser()
    ticket = await browser.open_login("/login?method=app&next=/secret-place")
    await browser.state(ticket, "?wait=0&state=WAITING")
    refused = await browser.post("/wechat/callback?signature=0123&timestamp=1&nonce=2", "<xml/>")
    assert refused.code == 403
    await browser.get("/not-me/abcdefghijklmnop?x=1")
    await asyncio.sleep(0.1)
    logged = site.nginx.logged
    assert f"GET /api/v1/tickets/{ticket} 200" in logged
    assert "POST /wechat/callback 403" in logged
    assert refused.headers["X-Request-Id"] in logged
    assert "GET /not-me/... " in logged
    for secret in ("?", "secret-place", "signature", "abcdefghijklmnop", "0123&"):
        assert secret not in logged


async def test_health_is_not_for_strangers(site):
    browser = site.browser()
    assert {(await browser.get(path)).code for path in ("/healthz", "/readyz")} == {404}
    for node in site.nodes:
        assert json.loads((await browser.at(node).get("/readyz")).body)["status"] == "ready"
