"""Several nodes: tickets and wake-ups through Redis, people and sessions in MongoDB."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.handlers.test_app import APP, bearer
from tests.harness import Whole, document, running


@asynccontextmanager
async def cluster(tmp_path, count: int, redis_url: str, mongodb_url: str, **document):
    """`count` nodes of one cluster; each is reached at its own address."""
    shared = {
        "storage": {"url": mongodb_url},
        "redis": {"url": redis_url},
        "app": APP,
        "server": {"secret_key": secrets.token_hex(32)},
        **document,
    }
    async with AsyncExitStack() as stack:
        nodes: list[Whole] = []
        for number in range(count):
            emulator = nodes[0].emulator if nodes else None
            nodes.append(
                await stack.enter_async_context(running(tmp_path / str(number), emulator=emulator, **shared))
            )
        yield nodes


@pytest.mark.parametrize("way", ["websocket", "long poll"])
async def test_a_page_on_one_node_is_told_of_a_confirm_on_another(tmp_path, redis_url, mongodb_url, way):
    async with cluster(tmp_path, 2, redis_url, mongodb_url) as (near, far):
        browser, phone = near.browser(), far.browser()
        ticket = await browser.open_login("/login?method=app")
        path = f"/api/v1/tickets/{ticket}"
        seen = document(await phone.post(f"{path}/scan", **bearer("u1")))
        confirm = phone.post(f"{path}/confirm", {"handle": seen["handle"]}, **bearer("u1"))
        if way == "websocket":
            async with browser.socket(ticket) as socket:
                assert json.loads(await socket.read_message())["state"] == "SCANNED"
                assert (await confirm).code == 200
                confirmed = time.perf_counter()
                assert json.loads(await socket.read_message())["state"] == "CONFIRMED"
        else:
            poll = asyncio.ensure_future(browser.state(ticket, "?wait=20&state=SCANNED"))
            while not near.server.broker.waiting:
                await asyncio.sleep(0.01)
            assert (await confirm).code == 200
            confirmed = time.perf_counter()
            assert await poll == "CONFIRMED"
        assert time.perf_counter() - confirmed < 2.0
        assert (await browser.exchange(ticket)).code == 200


async def test_fifty_people_scan_one_code_on_three_nodes(tmp_path, redis_url, mongodb_url):
    async with cluster(tmp_path, 3, redis_url, mongodb_url) as nodes:
        ticket = await nodes[0].browser().open_login("/login?method=app")
        answers = await asyncio.gather(
            *(
                nodes[number % 3].browser().post(f"/api/v1/tickets/{ticket}/scan", **bearer(f"u{number}"))
                for number in range(50)
            )
        )
        assert sorted(answer.code for answer in answers) == [200] + [409] * 49
        refused = next(answer for answer in answers if answer.code == 409)
        assert document(refused)["code"] == "transition_refused"


async def test_one_token_and_one_pool_for_all_nodes(tmp_path, redis_url, mongodb_url):
    async with cluster(tmp_path, 3, redis_url, mongodb_url) as nodes:
        async with asyncio.timeout(10):
            while await nodes[0].server.codes.ready() < 10:
                await asyncio.sleep(0.05)
        calls = nodes[0].emulator.platform.calls
        assert calls["/cgi-bin/stable_token"] == 1
        await asyncio.sleep(0.3)
        assert calls["/cgi-bin/qrcode/create"] == 10
        tickets = {await node.browser().open_login("/login?method=wechat") for node in nodes}
        assert len(tickets) == 3
