"""How soon a page that waits on one node knows of a confirm on another. `pytest -s` prints the figures."""

from __future__ import annotations

import asyncio
import statistics
import time

import pytest

from tests.cluster.site import next_state
from tests.harness import document

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNT = 60


@pytest.mark.parametrize("way", ["WebSocket", "long poll"])
async def test_a_page_on_one_node_knows_of_a_confirm_on_another(three_with_redis, way):
    site = three_with_redis
    since_sent, since_answer = [], []
    for number in range(COUNT):
        near, far = site.nodes[number % 3], site.nodes[(number + 1) % 3]
        page = site.browser().at(near)
        ticket = await page.open_login("/login?method=app")
        handle = document(await site.scan(ticket, at=far))["handle"]
        if way == "WebSocket":
            connection = await page.connect(ticket)
            assert await next_state(connection) == "SCANNED"
            told = asyncio.ensure_future(_timed(next_state(connection)))
        else:
            connection = None
            told = asyncio.ensure_future(_timed(page.state(ticket, "?wait=20&state=SCANNED")))
            await asyncio.sleep(0.05)
        sent = time.perf_counter()
        confirmed = await site.decide("confirm", ticket, handle, at=far)
        answered = time.perf_counter()
        assert confirmed.code == 200, confirmed.body
        state, at = await told
        assert state == "CONFIRMED"
        since_sent.append(1000 * (at - sent))
        since_answer.append(max(0.0, 1000 * (at - answered)))
        if connection is not None:
            connection.close()
    for name, figures in (("sent", since_sent), ("answered", since_answer)):
        median, p99 = statistics.median(figures), statistics.quantiles(figures, n=100, method="inclusive")[98]
        print(
            f"\n{way}: {COUNT} confirms, page told after the confirm was {name}:"
            f" median {median:.1f} ms, p99 {p99:.1f} ms, slowest {max(figures):.1f} ms",
            end="",
        )
    assert statistics.median(since_sent) < 1000


async def _timed(coming):
    state = await coming
    return state, time.perf_counter()
