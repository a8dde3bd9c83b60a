"""`app.number_match` over HTTP: who is shown the number, who must send it, and what wrong ones lead to."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.handlers.test_app import APP, bearer
from tests.harness import Browser, Whole, document, running
from tests.whole.test_nodes import cluster

MATCHING = {**APP, "number_match": True}
SHOP = {"id": "shop", "name": "Shop", "secret": "s" * 40}


@pytest.fixture
async def whole(tmp_path) -> AsyncIterator[Whole]:
    async with running(tmp_path, app=MATCHING, sites=[SHOP]) as whole:
        yield whole


async def scan(whole: Whole, ticket: str, subject: str = "u1") -> dict[str, Any]:
    answer = await whole.browser().post(f"/api/v1/tickets/{ticket}/scan", **bearer(subject))
    assert answer.code == 200, answer.body
    return document(answer)


async def confirm(whole: Whole, ticket: str, subject: str = "u1", **body: Any) -> tuple[int, dict[str, Any]]:
    token = bearer(subject, jti=secrets.token_hex(8))
    answer = await whole.browser().post(f"/api/v1/tickets/{ticket}/confirm", body, **token)
    return answer.code, document(answer)


async def shown(browser: Browser, ticket: str) -> int:
    return document(await browser.get(f"/api/v1/tickets/{ticket}"))["number"]


async def test_every_way_of_waiting_shows_it_and_no_answer_to_the_phone_does(whole):
    browser = whole.browser()
    ticket = await browser.open_login("/login?method=app")
    path = f"/api/v1/tickets/{ticket}"
    assert "number" not in document(await browser.get(path))
    async with browser.socket(ticket) as socket:
        assert "number" not in json.loads(await socket.read_message())
        poll = asyncio.ensure_future(browser.get(f"{path}?wait=20&state=WAITING"))
        seen = await scan(whole, ticket)
        assert seen["number_match"] is True
        told_to_the_phone = {"state", "site", "browser", "system", "address", "created", "handle"}
        assert seen.keys() == told_to_the_phone | {"number_match"}, "and no hint of it"
        told = json.loads(await socket.read_message())
        number = told["number"]
        assert 10 <= number <= 99
        assert document(await poll)["number"] == await shown(browser, ticket) == number
        page = (await browser.get(f"/login?again={ticket}&method=app")).body.decode()
        assert re.search(rf'<p class="number">[^<]+<strong>{number}</strong>', page), "without scripts too"
        by_hand = urlencode({"_xsrf": browser.xsrf, "ticket": ticket, "method": "app", "next": ""})
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert f"<strong>{number}</strong>" in (await browser.post("/login", by_hand, **form)).body.decode()
        assert await scan(whole, ticket) == seen
        assert await confirm(whole, ticket, handle=seen["handle"], number=number) == (
            200,
            {"state": "CONFIRMED"},
        )
        assert json.loads(await socket.read_message()).keys() == {"state", "user", "expires_in"}
    assert (await browser.exchange(ticket)).code == 200
    for sent in ({"number": number}, {"number": 1}, {}):
        assert await confirm(whole, ticket, handle=seen["handle"], **sent) == (200, {"state": "CONSUMED"})


async def test_a_program_shows_it_too(whole):
    program = whole.browser()
    basic = {"Authorization": "Basic " + b64encode(b"shop:" + b"s" * 40).decode()}
    made = document(await program.post("/api/v1/tickets", {"method": "app", "client": "api"}, **basic))
    handle = (await scan(whole, made["id"]))["handle"]
    held = {"Authorization": f"Ticket {made['secret']}"}
    number = document(await program.get(f"/api/v1/tickets/{made['id']}", **held))["number"]
    assert (await confirm(whole, made["id"], handle=handle, number=number))[0] == 200
    assert (await program.get(f"/api/v1/tickets/{made['id']}", **bearer("u1"))).code == 404


async def test_wrong_and_missing_numbers(whole):
    browser = whole.browser()
    ticket = await browser.open_login("/login?method=app")
    handle = (await scan(whole, ticket))["handle"]
    number = await shown(browser, ticket)
    for junk in (f"{number}", float(number), True, [number], {"$gt": 0}, ""):
        status, problem = await confirm(whole, ticket, handle=handle, number=junk)
        assert (status, problem["code"]) == (400, "bad_request"), junk
    async with browser.socket(ticket) as socket:
        assert json.loads(await socket.read_message())["number"] == number
        for sent, left in (({}, 3), ({"number": None}, 3), ({"number": number + 1}, 2), ({"number": 0}, 1)):
            status, problem = await confirm(whole, ticket, handle=handle, **sent)
            assert (status, problem["code"], problem["tries_left"]) == (403, "number_wrong", left)
            assert await shown(browser, ticket) == number, "it stays the same"
        status, problem = await confirm(whole, ticket, handle=handle, number=-(2**70))
        assert (status, problem["code"], problem["tries_left"]) == (403, "number_wrong", 0)
        assert json.loads(await asyncio.wait_for(socket.read_message(), 30))["state"] == "CANCELLED"
    status, problem = await confirm(whole, ticket, handle=handle, number=number)
    assert (status, problem["code"]) == (409, "transition_refused")
    assert (await browser.exchange(ticket)).code == 409


async def test_after_five_the_person_has_to_wait(whole):
    for wrong in (3, 2):
        ticket = await whole.browser().open_login("/login?method=app")
        handle = (await scan(whole, ticket))["handle"]
        for _ in range(wrong):
            assert (await confirm(whole, ticket, handle=handle, number=1))[0] == 403
    browser = whole.browser()
    ticket = await browser.open_login("/login?method=app")
    body = {"handle": (await scan(whole, ticket))["handle"], "number": await shown(browser, ticket)}
    answer = await whole.browser().post(f"/api/v1/tickets/{ticket}/confirm", body, **bearer("u1"))
    assert (answer.code, document(answer)["code"]) == (429, "too_many_requests")
    assert 3500 < int(answer.headers["Retry-After"]) <= 3600
    assert await browser.state(ticket) == "SCANNED"
    cancelled = await whole.browser().post(f"/api/v1/tickets/{ticket}/cancel", body, **bearer("u1"))
    assert cancelled.code == 200, "a no is no guess"


@pytest.mark.parametrize("stores", ["sqlite", "mongodb", "redis"])
async def test_guesses_on_all_nodes_at_once_are_three(tmp_path, request, stores):
    """Real concurrency: each guess a request of its own, on three nodes where the store allows several."""
    found: Counter[tuple[int, str]] = Counter()
    limits = {"enabled": False}  # what the person is refused by must not hide what the ticket is
    if stores == "redis":
        urls = [request.getfixturevalue(name) for name in ("redis_url", "mongodb_url")]
        opened: Any = cluster(tmp_path, 3, *urls, app=MATCHING, limits=limits)
    else:
        url = {} if stores == "sqlite" else {"storage": {"url": request.getfixturevalue("mongodb_url")}}
        opened = alone(tmp_path, app=MATCHING, limits=limits, **url)
    async with opened as nodes:
        browser = nodes[0].browser()
        ticket = await browser.open_login("/login?method=app")
        handle = (await scan(nodes[0], ticket))["handle"]
        number = await shown(browser, ticket)
        wrong = [guess for guess in range(10, 100) if guess != number][:40]
        answers = await asyncio.gather(
            *(
                confirm(nodes[place % len(nodes)], ticket, handle=handle, number=guess)
                for place, guess in enumerate(wrong)
            )
        )
        found.update((status, problem["code"]) for status, problem in answers)
        assert found == {(403, "number_wrong"): 3, (409, "transition_refused"): 37}
        left = sorted(problem["tries_left"] for status, problem in answers if status == 403)
        assert left == [0, 1, 2]
        assert await browser.state(ticket) == "CANCELLED"
        assert (await confirm(nodes[-1], ticket, handle=handle, number=number))[0] == 409


async def test_the_five_of_a_person_are_counted_by_all_nodes_together(tmp_path, redis_url, mongodb_url):
    async with cluster(tmp_path, 2, redis_url, mongodb_url, app=MATCHING) as nodes:
        statuses = []
        for wrong in (3, 2, 2):
            ticket = await nodes[0].browser().open_login("/login?method=app")
            handle = (await scan(nodes[0], ticket))["handle"]
            for place in range(wrong):
                statuses.append((await confirm(nodes[place % 2], ticket, handle=handle, number=1))[0])
        assert statuses == 5 * [403] + 2 * [429]


@asynccontextmanager
async def alone(folder: Path, **settings: Any) -> AsyncIterator[list[Whole]]:
    async with running(folder, **settings) as whole:
        yield [whole]


async def test_the_number_is_in_no_log(tmp_path, caplog):
    caplog.set_level("DEBUG", logger="saoma")
    async with running(tmp_path, app=MATCHING) as whole:
        browser = whole.browser()
        ticket = await browser.open_login("/login?method=app")
        handle = (await scan(whole, ticket))["handle"]
        number = await shown(browser, ticket)
        await confirm(whole, ticket, handle=handle, number=1)
        await confirm(whole, ticket, handle=handle, number=number)
        await browser.exchange(ticket)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("saoma")]
    # Status and duration are numbers too: they stand apart.
    told = "\n".join(re.sub(r"^\d{3} | \d+\.\d+ ms$", "", line).replace(ticket, "") for line in lines)
    assert "/confirm" in told
    assert not re.search(rf"\b{number}\b", re.sub(r"127\.0\.0\.1:\d+", "", told))
