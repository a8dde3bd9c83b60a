"""Many deliveries go on to a backend that is quick, slow, stuck, away or odd, while people log in."""

from __future__ import annotations

import asyncio
import gzip
import os
import secrets
import socket
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from composition import make_gate
from emulator import Attempt, Push
from flows import relay
from tests.flows.world import until
from tests.harness import Whole, document, running
from wechat.callback import Mode
from wechat.replies import text_reply
from wechat.xml import MAX_BYTES

DELIVERIES = 200
ANSWERED = 120  # where each must get its reply in time, on a slow machine too; more than may be in flight
LOGINS = 15
WECHAT_SECONDS = 5.0
TROUBLE = "the backend at wechat.forward_url"


@dataclass(frozen=True)
class Asked:
    """One request, and the connection it came on."""

    query: str
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Behave = Callable[["Backend", Asked], Awaitable[None]]


@dataclass
class Backend:
    """The team's own callback server, by hand: it can do what no HTTP server does."""

    behave: Behave
    url: str = ""
    received: list[tuple[str, bytes]] = field(default_factory=list)
    open: int = 0
    most: int = 0
    sent: int = 0  # bytes of the longest answer
    reply: Callable[[str, bytes], bytes] = lambda query, body: b"success"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    int(line.partition(":")[2])
                    for line in head.splitlines()
                    if line.lower().startswith("content-length:")
                )
                query, body = urlsplit(head.split()[1]).query, await reader.readexactly(length)
                self.received.append((query, body))
                await self.behave(self, Asked(query, body, reader, writer))
        finally:
            self.open -= 1
            writer.close()


def answer(body: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (headers, len(body), body)


async def quick(backend: Backend, asked: Asked) -> None:
    await asked.send(answer(backend.reply(asked.query, asked.body)))


async def slow(backend: Backend, asked: Asked) -> None:
    await asyncio.sleep(0.3)
    await quick(backend, asked)


async def stuck(backend: Backend, asked: Asked) -> None:
    """Until the other side has gone, or the backend is well again."""
    while not asked.reader.at_eof() and backend.behave is stuck:
        await asyncio.sleep(0.02)
    if not asked.reader.at_eof():
        await quick(backend, asked)


GARBAGE = (
    b"",
    b"\x00\xff" * 100,
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 999\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n<xml>",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nOops",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    answer(b"<html>It works!</html>"),
    answer(b'{"errcode": 0}'),
    answer(b"\xff\xfe\x00"),
    answer(b"<xml>" + b"<a>" * 5000),
    answer(b"<xml><ToUserName>somebody else</ToUserName><MsgType>text</MsgType></xml>"),
    answer(gzip.compress(b"success"), b"Content-Encoding: gzip\r\n"),
)


async def odd(backend: Backend, asked: Asked) -> None:
    await asked.send(GARBAGE[len(backend.received) % len(GARBAGE)])


async def endless(backend: Backend, asked: Asked) -> None:
    await asked.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    sent = 0
    while True:
        await asked.send(b"1000\r\n%s\r\n" % (b"x" * 4096))
        sent += 4096
        backend.sent = max(backend.sent, sent)


@asynccontextmanager
async def a_backend(behave: Behave) -> AsyncIterator[Backend]:
    backend = Backend(behave)
    server = await asyncio.start_server(backend.serve, "127.0.0.1", 0, backlog=1000)
    backend.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/own"
    yield backend
    server.close()
    await until(lambda: backend.open == 0)


@asynccontextmanager
async def relaying(
    folder, behave: Behave, mode: Mode = Mode.SAFE, **wechat: Any
) -> AsyncIterator[tuple[Whole, Backend]]:
    async with a_backend(behave) as backend:
        wechat = {"forward_url": backend.url, "pool_size": LOGINS, **wechat}
        async with running(folder, mode=mode, wechat=wechat, limits={"enabled": False}) as whole:
            whole.emulator.courier.timeout = WECHAT_SECONDS
            gate = make_gate(whole.server.settings)

            def reply(query: str, body: bytes) -> bytes:
                """As the team's own makes it, with the account's token and key."""
                delivery, now = gate.open(query, body, whole.clock()), whole.clock()
                return gate.seal(delivery, text_reply(delivery.message, "theirs", now), now, os.urandom)

            backend.reply = reply
            yield whole, backend


def messages(whole: Whole, count: int = DELIVERIES) -> list[Push]:
    """What is no login, each of another follower."""
    people = [whole.emulator.platform.add_person(f"群{n}", following=True).openid for n in range(count)]
    kinds: list[dict[str, Any]] = [
        {"MsgType": "text", "Content": "你好 & <hello>"},
        {"MsgType": "event", "Event": "CLICK", "EventKey": "menu"},
        {"MsgType": "event", "Event": "SCAN", "EventKey": "a-code-of-the-team", "Ticket": "gQ"},
        {"MsgType": "event", "Event": "subscribe", "EventKey": ""},
    ]
    fields = [
        {**kinds[n % 4], **({} if n % 4 else {"MsgId": 24_000_000_000_000_001 + n})} for n in range(count)
    ]
    return [whole.emulator.courier.build(openid, fields[n]) for n, openid in enumerate(people)]


def as_sent(pushes: list[Push]) -> list[tuple[str, bytes]]:
    return sorted((urlsplit(push.url).query, push.body) for push in pushes)


async def log_in_meanwhile(whole: Whole) -> list[float]:
    """One after another; returns how long each waited for the answer to the scan, in seconds."""
    waited = []
    for number in range(LOGINS):
        person = whole.emulator.platform.add_person(f"人{number}", following=number % 2 == 0)
        browser = whole.browser()
        ticket = document(await browser.post("/api/v1/tickets"))["id"]
        outcome = await whole.scan(ticket, person.openid)
        assert [attempt.fault for attempt in outcome.attempts] == [""]
        waited.append(outcome.attempts[0].seconds)
        assert await browser.state(ticket) == "CONFIRMED"
    return waited


def check_waits(waited: list[float]) -> None:
    """Who logs in does not wait for the backend. The machine may be slow, so most of them are looked at."""
    assert statistics.median(waited) < relay.ANSWER_SECONDS / 2
    assert max(waited) < WECHAT_SECONDS


def check_answers(attempts: list[Attempt]) -> None:
    assert {attempt.fault for attempt in attempts} == {""}
    assert max(attempt.seconds for attempt in attempts) < WECHAT_SECONDS


CASES = [
    (quick, Mode.SAFE, True),
    (quick, Mode.PLAIN, True),
    (slow, Mode.SAFE, True),
    (stuck, Mode.SAFE, False),
    (odd, Mode.SAFE, False),
]


@pytest.mark.parametrize(
    ("behave", "mode", "replies"), CASES, ids=lambda it: getattr(it, "__name__", str(it))
)
async def test_logins_go_on_beside_a_flood_for_the_backend(
    tmp_path, expect_log, caplog, monkeypatch, behave: Behave, mode: Mode, replies: bool
):
    if behave is stuck:  # so that a slow machine has time left until WeChat's 5 s
        monkeypatch.setattr(relay, "ANSWER_SECONDS", 2.0)
    async with relaying(tmp_path, behave, mode) as (whole, backend):
        pushes = messages(whole, ANSWERED if replies else DELIVERIES)
        flood = asyncio.gather(*(whole.post(push) for push in pushes))
        waited = await log_in_meanwhile(whole)
        attempts = await flood
        check_answers(attempts)
        check_waits(waited)
        if replies:
            assert {attempt.clear_answer.partition("theirs")[1] for attempt in attempts} == {"theirs"}
        else:
            expect_log(TROUBLE)
            assert {attempt.answer for attempt in attempts} == {b"success"}
            told = [record for record in caplog.records if record.name == "saoma.relay"]
            assert len(told) < 20, "one line for each kind of trouble"
        # What came is what WeChat sent, and each came once.
        received = sorted(backend.received)
        assert len(received) == len(set(received))
        assert set(received) <= set(as_sent(pushes))
        if behave is not stuck:  # which sees only later who has gone
            assert backend.most <= relay.MAX_IN_FLIGHT
            assert len(received) == len(pushes)
        # WeChat may have missed the answers: all is delivered again.
        again = await asyncio.gather(*(whole.post(push) for push in pushes))
        assert [attempt.answer for attempt in again] == [attempt.answer for attempt in attempts]
        assert len(backend.received) == len(received)
        assert whole.server._relay._waiting == 0
        assert whole.server._deliveries._running == {}


async def test_logins_go_on_while_the_backend_is_away(tmp_path, expect_log):
    expect_log(f"{TROUBLE} gives no answer .ConnectionRefusedError")
    with socket.socket() as bound:  # and nobody listens
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/own"
        async with relaying(tmp_path, quick, forward_url=url) as (whole, _):
            flood = asyncio.gather(*(whole.post(push) for push in messages(whole)))
            check_waits(await log_in_meanwhile(whole))
            attempts = await flood
        check_answers(attempts)
        assert {attempt.answer for attempt in attempts} == {b"success"}


async def test_a_stuck_backend_takes_no_connection_from_wechats_api(tmp_path):
    async with relaying(tmp_path, stuck, pool_size=0) as (whole, backend):
        pushes = messages(whole, ANSWERED)
        flood = asyncio.gather(*(whole.post(push) for push in pushes))
        await until(lambda: backend.open == relay.MAX_IN_FLIGHT)
        # Each of these codes is fetched from WeChat now, and so is the profile of who scans it.
        check_waits(await log_in_meanwhile(whole))
        assert backend.open == relay.MAX_IN_FLIGHT
        backend.behave = quick
        attempts = await flood
        check_answers(attempts)
        assert {attempt.reply["Content"] for attempt in attempts} == {"theirs"}, "those that waited, too"
        assert sorted(backend.received) == as_sent(pushes)


async def test_beyond_the_limit_the_answer_comes_at_once(tmp_path, expect_log, monkeypatch):
    expect_log(f"{TROUBLE} lets 3 deliveries wait; the next ones do not reach it")
    monkeypatch.setattr(relay, "MAX_WAITING", 3)
    async with relaying(tmp_path, stuck) as (whole, backend):
        pushes = messages(whole, 30)
        waiting = [asyncio.ensure_future(whole.post(push)) for push in pushes[:3]]
        await until(lambda: backend.open == 3)
        refused = [await whole.post(push) for push in pushes[3:10]]
        assert {attempt.answer for attempt in refused} == {b"success"}
        assert not any(task.done() for task in waiting)
        backend.behave = quick
        assert {(await task).reply["Content"] for task in waiting} == {"theirs"}
        # It is well again, and so is all that comes from now on.
        assert {(await whole.post(push)).reply["Content"] for push in pushes[10:]} == {"theirs"}
        assert len(backend.received) == 3 + 20


async def test_who_waits_for_a_turn_waits_no_longer_than_for_an_answer(tmp_path, expect_log, monkeypatch):
    expect_log(f"{TROUBLE} gives no answer .TimeoutError")
    expect_log(f"{TROUBLE} gives no answer .HTTPTimeoutError")
    monkeypatch.setattr(relay, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(relay, "MAX_IN_FLIGHT", 1)
    async with relaying(tmp_path, stuck) as (whole, backend):
        began = time.monotonic()
        attempts = await asyncio.gather(*(whole.post(push) for push in messages(whole, 12)))
        assert {attempt.answer for attempt in attempts} == {b"success"}
        assert time.monotonic() - began < 8 * relay.ANSWER_SECONDS, "not one after another"
        assert backend.most < 12


async def test_an_answer_without_end_is_cut_off(tmp_path, expect_log):
    expect_log(f"{TROUBLE} gives no answer .HTTPStreamClosedError")
    async with relaying(tmp_path, endless) as (whole, backend):
        began = time.monotonic()
        attempts = await asyncio.gather(*(whole.post(push) for push in messages(whole, 20)))
        assert {attempt.answer for attempt in attempts} == {b"success"}
        assert time.monotonic() - began < relay.ANSWER_SECONDS, "it is cut off for its length"
        await until(lambda: backend.open == 0)
        assert backend.sent < 100 * MAX_BYTES, "what the sockets hold, and no more"


async def test_what_is_short_on_the_wire_is_not_unpacked(tmp_path, expect_log):
    expect_log(f"{TROUBLE} answered with something that is no reply")
    bomb = gzip.compress(b"<xml>" + b" " * 50_000_000)
    assert len(bomb) < MAX_BYTES

    async def packed(backend: Backend, asked: Asked) -> None:
        await asked.send(answer(bomb, b"Content-Encoding: gzip\r\n"))

    async with relaying(tmp_path, packed) as (whole, _):
        assert (await whole.post(messages(whole, 1)[0])).answer == b"success"


async def test_a_stuck_name_server_takes_one_thread_alone(tmp_path, expect_log, monkeypatch):
    """All look-ups and drawings share a handful of threads: WeChat's name must still be found."""
    expect_log(f"{TROUBLE} gives no answer .TimeoutError")
    monkeypatch.setattr(relay, "ANSWER_SECONDS", 0.3)
    looked_up: list[str] = []
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()
    find = loop.getaddrinfo

    async def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
        if host != "backend.test":
            return await find(host, *rest, **more)
        looked_up.append(host)
        await go_on.wait()
        raise socket.gaierror

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    async with relaying(tmp_path, quick, forward_url="http://backend.test/own") as (whole, _):
        for _round in range(2):
            pushes = [
                whole.emulator.courier.build(f"o{secrets.token_hex(8)}", {"MsgType": "text", "MsgId": n})
                for n in range(50)
            ]
            attempts = await asyncio.gather(*(whole.post(push) for push in pushes))
            assert {attempt.answer for attempt in attempts} == {b"success"}
        assert looked_up == ["backend.test"]
        go_on.set()
