"""A node that is told to stop answers what it has been sent, and lets nobody down who can go elsewhere."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import pytest
from tornado.httpclient import HTTPError

from tests.cluster.page import Page
from tests.handlers.test_app import APP
from tests.harness import running

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_what_a_stopping_node_was_sent_is_answered(own_cluster):
    site, node = own_cluster, own_cluster.nodes[0]
    tickets = [await site.browser().open_login("/login?method=app") for _ in range(40)]

    async def outcome(number: int, ticket: str) -> str:
        await asyncio.sleep(0.005 * number)  # some before the signal, some after it
        try:
            return str((await site.scan(ticket, f"person {number}", at=node)).code)
        except ConnectionRefusedError:
            return "not taken"  # nginx goes to the next node
        except HTTPError as error:
            return f"cut off: {error}"

    scans = [asyncio.ensure_future(outcome(number, ticket)) for number, ticket in enumerate(tickets)]
    await asyncio.sleep(0.1)
    seconds = await node.end()
    outcomes = Counter(await asyncio.gather(*scans))
    print(f"\n{dict(outcomes)}, the node took {seconds:.2f} s to stop")
    assert set(outcomes) == {"200", "not taken"}


async def test_a_request_in_the_queue_of_connections_is_answered(tmp_path, monkeypatch):
    async with running(tmp_path, app=APP) as whole:
        transact = whole.storage.transact

        async def slow(work):
            await asyncio.sleep(0.3)
            return await transact(work)

        monkeypatch.setattr(whole.storage, "transact", slow)
        with socket.create_connection(("127.0.0.1", whole.server.port)) as connection:
            host = f"Host: 127.0.0.1:{whole.server.port}\r\n"
            connection.sendall(f"POST /api/v1/tickets HTTP/1.1\r\n{host}Content-Length: 16\r\n\r\n".encode())
            connection.sendall(b'{"method":"app"}')
            # Nothing has run since: the server has not even accepted it.
            await whole.server.stop()
            connection.settimeout(5)
            assert connection.recv(100).startswith(b"HTTP/1.1 201 ")


async def test_waiting_pages_go_to_another_node(own_cluster):
    site = own_cluster
    browsers = [site.browser() for _ in range(12)]
    tickets = [await browser.open_login("/login?method=app") for browser in browsers]
    pages = [Page(browser, ticket) for browser, ticket in zip(browsers, tickets, strict=True)]
    polls = [
        asyncio.ensure_future(browser.state(ticket, "?wait=20&state=WAITING"))
        for browser, ticket in zip(browsers, tickets, strict=True)
    ]
    for page in pages:
        await page.told("WAITING")
    await site.nodes[0].end()
    await site.nodes[1].end()
    await asyncio.sleep(0.5)
    assert not any(poll.done() for poll in polls), "nginx has moved the long polls"
    await asyncio.gather(*(site.scan_and_confirm(ticket) for ticket in tickets))
    assert {await asyncio.wait_for(poll, 5) for poll in polls} <= {"SCANNED", "CONFIRMED"}
    for page in pages:
        await page.told("CONFIRMED", 5)
        await page.close()
    assert any(page.broken for page in pages)
