"""The page's socket: who may open it, what it says, when it closes."""

from __future__ import annotations

import asyncio
import json

import pytest
from tornado.httpclient import HTTPClientError

from tests.harness import running


async def read(socket):
    message = await asyncio.wait_for(socket.read_message(), 10)
    return None if message is None else json.loads(message)


async def refusal(browser, ticket_id, **headers) -> int:
    try:
        async with browser.socket(ticket_id, **headers):
            return 101
    except HTTPClientError as error:
        return error.code


async def nobody_waits(whole) -> None:
    for _ in range(200):
        if not whole.server.broker.waiting:
            break
        await asyncio.sleep(0.01)
    assert whole.server.broker.waiting == whole.server.broker.tickets == 0


async def test_a_foreign_origin_gets_no_socket(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    port = whole.server.port
    for origin in (
        "",
        "null",
        "https://evil.example",
        f"https://127.0.0.1:{port}",
        f"http://127.0.0.1:{port + 1}",
        f"http://127.0.0.1:{port}.evil.example",
        f"http://a.127.0.0.1:{port}",
        f"127.0.0.1:{port}",
    ):
        assert await refusal(browser, ticket_id, Origin=origin) == 403, origin
        for site in ("same-origin", "none", "cross-site"):
            headers = {"Origin": origin, "Sec-Fetch-Site": site}
            assert await refusal(browser, ticket_id, **headers) == 403, headers
    assert await refusal(browser, ticket_id) == 101
    await nobody_waits(whole)


@pytest.mark.parametrize("scheme", ["Ticket", "ticket"])
async def test_a_program_may_leave_the_origin_out(whole, scheme):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    secret = browser.cookies[f"saoma-ticket-{ticket_id}"]
    program = whole.browser(**{"User-Agent": "curl"})
    async with program.socket(ticket_id, Origin="", Authorization=f"{scheme} {secret}") as socket:
        assert (await read(socket))["state"] == "WAITING"
    # But not name a foreign one, and not live on a cookie without one.
    assert await refusal(program, ticket_id, Origin="null", Authorization=f"Ticket {secret}") == 403
    assert await refusal(browser, ticket_id, Origin="", Authorization="Basic YTpi") == 403


async def test_a_ticket_that_is_not_ones_own_is_as_unknown_as_any(whole):
    browser, other = whole.browser(), whole.browser()
    ticket_id = await browser.open_login()
    await other.open_login()
    ended = await other.open_login("/login?next=/a")
    said = []
    whole.clock.pass_(301)
    own = await other.open_login("/login?next=/b")
    for name, asked in (
        ("foreign", await browser.open_login()),
        ("expired", ended),
        ("unknown", "A" * 24),
        ("odd", "-"),
    ):
        async with other.socket(asked) as socket:
            said.append((name, await socket.read_message(), await read(socket), socket.close_code))
    assert {one[1:] for one in said} == {said[0][1:]}
    assert json.loads(said[0][1]) == {"state": "INVALID", "user": None, "expires_in": 0}
    assert said[0][2] is None
    assert said[0][3] == 1000
    secret = other.cookies[f"saoma-ticket-{own}"]
    async with other.socket(ticket_id, Authorization=f"Ticket {secret}") as socket:
        assert (await read(socket))["state"] == "INVALID"
    assert whole.server.broker.tickets == 0


async def test_it_closes_at_the_tickets_end(tmp_path):
    async with running(tmp_path) as whole:
        browser = whole.browser()
        ticket_id = await browser.open_login()
        whole.clock.pass_(299)
        async with browser.socket(ticket_id) as socket:
            assert (await read(socket))["state"] == "WAITING"
            assert (await read(socket))["state"] == "INVALID"
            assert await read(socket) is None
            assert socket.close_code == 1000
        await nobody_waits(whole)


async def test_it_closes_after_a_final_state(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    async with browser.socket(ticket_id) as socket, browser.socket(ticket_id) as second:
        for one in (socket, second):
            assert (await read(one))["state"] == "WAITING"
        assert (await browser.post(f"/api/v1/tickets/{ticket_id}/abandon")).code == 200
        for one in (socket, second):
            assert (await read(one))["state"] == "CANCELLED"
            assert await read(one) is None
    await nobody_waits(whole)


async def test_nothing_personal_before_a_scan(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    async with browser.socket(ticket_id) as socket:
        told = await read(socket)
        assert told["user"] is None
        assert 0 < told["expires_in"] <= 300
        await whole.scan(ticket_id, whole.person())
        assert (await read(socket))["user"]["name"]


async def test_a_frame_that_is_too_big_ends_it(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    async with browser.socket(ticket_id) as socket:
        await read(socket)
        await socket.write_message("x" * 4096)  # the page has nothing to say, and may say it
        await socket.write_message(b"\0" * 100, binary=True)
        await whole.server.context.broker.publish(ticket_id)
        await socket.write_message("x" * 4097)
        assert await read(socket) is None
        assert socket.close_code == 1009
    await nobody_waits(whole)


async def test_a_socket_that_goes_away_is_forgotten(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    async with browser.socket(ticket_id) as socket:
        await read(socket)
        assert whole.server.broker.waiting == 1
        socket.protocol.stream.close()
        await nobody_waits(whole)


async def test_an_ordinary_get_is_refused_as_the_api_refuses(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    response = await browser.get(f"/websocket/{ticket_id}", Origin=whole.base_url)
    assert response.code in (400, 426)
    assert response.headers["Content-Type"] == "application/problem+json"


async def test_another_host_is_refused(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    assert await refusal(browser, ticket_id, Host="evil.example", Origin="http://evil.example") == 421


async def test_a_store_that_is_away_closes_it_for_now(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    whole.store_goes_away()
    async with browser.socket(ticket_id) as socket:
        assert await read(socket) is None
        assert socket.close_code == 1013


async def test_no_secret_is_taken_from_the_address(whole):
    browser = whole.browser()
    ticket_id = await browser.open_login()
    secret = browser.cookies[f"saoma-ticket-{ticket_id}"]
    stranger = whole.browser()
    for query in (f"?secret={secret}", f"?ticket={secret}", f"?authorization=Ticket%20{secret}"):
        assert (await stranger.get(f"/api/v1/tickets/{ticket_id}{query}")).code == 404
        async with stranger.socket(ticket_id + query) as socket:
            assert (await read(socket))["state"] == "INVALID"
