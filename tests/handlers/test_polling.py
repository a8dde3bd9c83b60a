"""Tickets are watched by asking: at once, or with an answer that comes when something changes."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

import handlers.tickets
from tests.handlers.programs import PROBLEM, ticket
from tests.harness import document


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
