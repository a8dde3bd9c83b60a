"""How many connections a server takes, of whom, and what becomes of those who never read."""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

import connections
from tests.harness import Whole, running
from tests.wires import connected, silent_socket

NEIGHBOUR, OTHER = "127.0.0.2", "127.0.0.3"  # this machine itself, 127.0.0.1, is not counted
PIPELINED = 200
ASKED = b"GET /static/saoma.css HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is this machine on Linux")


async def answer(whole: Whole, address: str) -> bytes:
    """To a request from there."""
    reader, writer = await connected(whole, address)
    try:
        writer.write(f"GET /healthz HTTP/1.0\r\nHost: 127.0.0.1:{whole.server.port}\r\n\r\n".encode())
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def until_open(whole: Whole, number: int) -> None:
    async with asyncio.timeout(30):
        while len(whole.server.connections) != number:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def held(whole: Whole, address: str, number: int) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for _ in range(number):
            _, writer = await connected(whole, address)
            stack.callback(writer.close)
        yield


async def test_one_address_has_so_many_at_once(tmp_path):
    async with running(tmp_path, limits={"connections_per_address": 3}) as whole:
        async with held(whole, NEIGHBOUR, 3):
            await until_open(whole, 3)
            refused = await answer(whole, NEIGHBOUR)
            assert refused.startswith(b"HTTP/1.1 429 ")
            assert b"\r\nRetry-After: 10\r\n" in refused
            assert (await answer(whole, OTHER)).startswith(b"HTTP/1.1 200 ")
            async with held(whole, "127.0.0.1", 20):  # a proxy here that nobody named
                assert (await answer(whole, "127.0.0.1")).startswith(b"HTTP/1.1 200 ")
        await until_open(whole, 0)
        assert (await answer(whole, NEIGHBOUR)).startswith(b"HTTP/1.1 200 ")
        await until_open(whole, 0)
        assert not whole.server.connections._held


async def test_a_websocket_counts_until_it_is_closed(tmp_path):
    async with running(tmp_path, limits={"connections_per_address": 1}) as whole:
        browser = whole.browser()
        ticket_id = await browser.open_login()
        async with silent_socket(whole, browser, ticket_id, NEIGHBOUR):
            assert (await answer(whole, NEIGHBOUR)).startswith(b"HTTP/1.1 429 ")
        async with asyncio.timeout(30):
            while not (await answer(whole, NEIGHBOUR)).startswith(b"HTTP/1.1 200 "):
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "more",
    [
        {"server": {"trusted_proxies": [f"{NEIGHBOUR}/32"]}, "limits": {"connections_per_address": 1}},
        {"limits": {"connections_per_address": 1, "enabled": False}},
    ],
    ids=["a proxy of ours", "limits lifted"],
)
async def test_whose_connections_are_not_counted(tmp_path, more):
    async with running(tmp_path, **more) as whole, held(whole, NEIGHBOUR, 5):
        assert (await answer(whole, NEIGHBOUR)).startswith(b"HTTP/1.1 200 ")


async def test_there_are_never_more_than_descriptors(tmp_path, monkeypatch, expect_log):
    expect_log("10 connections are open: there are descriptors for no more")
    monkeypatch.setattr(connections, "descriptors", lambda: 20)
    async with running(tmp_path) as whole:
        async with held(whole, "127.0.0.1", 10):
            await until_open(whole, 10)
            for _ in range(3):
                assert (await answer(whole, OTHER)).startswith(b"HTTP/1.1 503 ")
        await until_open(whole, 0)
        assert (await answer(whole, OTHER)).startswith(b"HTTP/1.1 200 ")


def test_as_many_descriptors_as_there_may_be(monkeypatch):
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: asked.append(wanted))
    assert connections.descriptors() == 4096
    assert asked == [(4096, 4096)]


# --- Who never reads.


@asynccontextmanager
async def unread(whole: Whole) -> AsyncIterator[socket.socket]:
    """A client with little room that has asked for far more than it takes."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", whole.server.port))
        await loop.sock_sendall(client, PIPELINED * (ASKED % whole.server.port))
        yield client


async def test_who_reads_nothing_is_dropped(tmp_path):
    async with running(tmp_path, limits={"send_seconds": 1}) as whole, unread(whole):
        await until_open(whole, 1)
        (stream,) = whole.server.connections._open
        async with asyncio.timeout(30):
            while not stream.writing():
                await asyncio.sleep(0.01)
        assert stream._total_write_done_index < 1_000_000  # the system took no more of it either
        assert stream._total_write_index - stream._total_write_done_index < 100_000
        await until_open(whole, 0)


async def test_who_reads_next_to_nothing_is_dropped(tmp_path, monkeypatch):
    """What the system itself does not end: something is always taken, but too little."""
    monkeypatch.setattr(connections, "SLOWEST", 1_000_000)
    async with running(tmp_path, limits={"send_seconds": 1}) as whole, unread(whole) as client:
        await until_open(whole, 1)
        async with asyncio.timeout(30):
            while len(whole.server.connections):
                with suppress(TimeoutError, ConnectionError):
                    await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 4096), 1)
                await asyncio.sleep(0.1)


async def test_who_reads_slowly_gets_all_of_it(tmp_path):
    async with running(tmp_path, limits={"send_seconds": 1}) as whole, unread(whole) as client:
        loop, answers = asyncio.get_running_loop(), b""
        start = loop.time()
        while loop.time() - start < 2.5:  # some 40 kB a second: for longer than who reads nothing has
            answers += await asyncio.wait_for(loop.sock_recv(client, 4096), 30)
            await asyncio.sleep(0.1)
        async with asyncio.timeout(60):
            while answers.count(b"HTTP/1.1 200 ") < PIPELINED:
                piece = await loop.sock_recv(client, 1 << 20)
                assert piece
                answers += piece


# --- Thousands in one moment.


class Silent:
    def __init__(self, closed: list[int], turn: Callable[[], int]) -> None:
        self._closed, self._turn = closed, turn

    def close(self) -> None:
        self._closed.append(self._turn())


async def test_those_who_are_due_in_one_moment_are_closed_in_many_turns():
    timeouts, turn = connections.HeaderTimeouts(0.05), 0
    closed: list[int] = []  # in which turn
    streams = [Silent(closed, lambda: turn) for _ in range(100)]
    for stream in streams:
        timeouts.start(stream)
    timeouts.stop(streams[0])
    async with asyncio.timeout(30):
        while len(closed) < 99:
            await asyncio.sleep(0)
            turn += 1
    assert max(Counter(closed).values()) == connections.AT_ONCE
    timeouts.start(streams[0])
    async with asyncio.timeout(30):
        while len(closed) < 100:
            await asyncio.sleep(0.01)
    assert timeouts._timer is None


async def test_those_who_come_in_one_moment_are_taken_in_many_turns(tmp_path):
    async with running(tmp_path) as whole, AsyncExitStack() as stack:
        for _ in range(50):  # without a turn of the loop
            client = stack.enter_context(socket.socket())
            client.connect(("127.0.0.1", whole.server.port))
        seen = {0}
        async with asyncio.timeout(30):
            while max(seen) < 50:
                await asyncio.sleep(0)
                seen.add(len(whole.server.connections))
        assert connections.AT_ONCE in seen
        assert all(number % connections.AT_ONCE == 0 for number in seen - {50})
