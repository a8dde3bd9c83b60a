"""Calls that stay out of our own network."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

import outbound
from outbound import NotReached, Outbound, is_fit
from tests.certificate import self_signed
from tests.ports import free_port
from tests.receiver import receiving

REFUSED = "refused: private address; see server.allowed_networks"


@asynccontextmanager
async def calling(*allowed: str, parallel: int = 10) -> AsyncIterator[Outbound]:
    calls = Outbound(allowed, parallel=parallel)
    try:
        yield calls
    finally:
        calls.close()


async def reason(url: str, *allowed: str) -> str:
    """Why a call there has no answer."""
    async with calling(*allowed) as calls:
        with pytest.raises(NotReached) as refusal:
            await calls.post(url, b"", {})
    return str(refusal.value)


@pytest.fixture
def names(monkeypatch) -> Callable[[str, list[str]], list[str]]:
    """Lets a name lead to these addresses; returns a list of what has been looked up since."""
    looked_up: list[str] = []
    known: dict[str, list[str]] = {}
    ordinary = socket.getaddrinfo

    def getaddrinfo(host, port, *rest, **more):
        if host in known:
            looked_up.append(host)
        return [
            found for one in known.get(host, [host]) for found in ordinary(one, port, type=socket.SOCK_STREAM)
        ]

    def lead(name: str, addresses: list[str]) -> list[str]:
        known[name] = addresses
        return looked_up

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return lead


# --- Which addresses.


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1"),
        *("203.0.113.1", "192.88.99.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1"),
        *("100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:0:127.0.0.1", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "4000::1"),
    ],
)
def test_a_special_address_is_unfit(address):
    assert not is_fit(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "203.0.112.255", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_a_public_address_is_fit(address):
    assert is_fit(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("address", "network", "fit"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", True),
        ("192.168.0.1", "10.0.0.0/8", False),
        ("::ffff:10.1.2.3", "10.0.0.0/8", True),
        ("64:ff9b::a01:203", "10.0.0.0/8", True),
        ("64:ff9b:1::1", "64:ff9b:1::/48", True),
        ("2002:a01:203::", "10.0.0.0/8", False),
        ("fd00::1", "fd00::/8", True),
        ("::1", "127.0.0.0/8", False),
        ("::1", "::1/128", True),
    ],
)
def test_the_settings_allow_networks(address, network, fit):
    assert is_fit(ipaddress.ip_address(address), [ipaddress.ip_network(network)]) is fit


# --- Where a call goes.


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::]", "2130706433", "0x7f000001", "0177.0.0.1"),
        *("127.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "169.254.169.254", "user:secret@127.0.0.1"),
    ],
)
async def test_a_private_address_is_refused_however_it_is_written(host):
    async with receiving() as receiver:
        assert await reason(f"http://{host}:{receiver.port}/") == REFUSED
        assert not receiver.received


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"]])
async def test_all_addresses_of_a_name_must_be_fit(names, addresses):
    names("inside.example.com", addresses)
    assert await reason("http://inside.example.com/") == REFUSED


async def test_the_address_that_was_checked_is_the_one_connected_to(names):
    async with receiving() as receiver, calling("127.0.0.0/8") as calls:
        looked_up = names("rebinding.example.com", ["127.0.0.1"])
        connected = []
        ordinary = socket.socket.connect

        def connect(self, address):
            connected.append(address[0])
            return ordinary(self, address)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket.socket, "connect", connect)
            url = f"http://rebinding.example.com:{receiver.port}/"
            assert await calls.post(url, b"body", {}) == 204
        assert looked_up == ["rebinding.example.com"], "asked once: there is no second answer"
        assert connected == ["127.0.0.1"]
        assert receiver.received[0].headers["Host"] == f"rebinding.example.com:{receiver.port}"


async def test_a_network_that_is_allowed_is_called():
    async with receiving() as receiver, calling("127.0.0.0/8") as calls:
        assert await calls.post(receiver.url, b"body", {"X-One": "1"}) == 204
    (message,) = receiver.received
    assert (message.body, message.headers["X-One"], message.headers["User-Agent"]) == (b"body", "1", "saoma")
    assert "Accept-Encoding" not in message.headers, "nothing is to be unpacked"


async def test_the_environment_names_no_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with receiving() as receiver, calling("127.0.0.0/8") as calls:
        assert await calls.post(receiver.url, b"", {}) == 204


async def test_another_client_that_is_configured_changes_nothing():
    class Other(AsyncHTTPClient):
        def initialize(self, defaults=None):
            raise AssertionError("not this one")

    AsyncHTTPClient.configure(Other)
    try:
        async with receiving() as receiver, calling("127.0.0.0/8") as calls:
            assert await calls.post(receiver.url, b"", {}) == 204
    finally:
        AsyncHTTPClient.configure(None)


# --- What answers.


@pytest.mark.parametrize("status", [200, 204, 302, 307, 400, 410, 500, 503])
async def test_any_status_is_an_answer_and_no_redirect_is_followed(status):
    async with receiving(lambda message: status) as receiver, calling("127.0.0.0/8") as calls:
        assert await calls.post(receiver.url, b"", {}) == status
        assert [message.path for message in receiver.received] == ["/hook"]


async def test_far_too_long_an_answer_is_not_read_and_its_status_counts():
    taken, done = 0, asyncio.Event()

    async def answer(reader, writer):
        nonlocal taken
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 90000000\r\n\r\n")
        with suppress(ConnectionError):
            while taken < 90:
                writer.write(b"x" * 1_000_000)
                await writer.drain()
                taken += 1
        writer.close()
        done.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, calling("127.0.0.0/8") as calls:
        assert await calls.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", b"", {}) == 200
        await done.wait()
    assert taken < 20, "what the system holds on the way"


def served(reply: bytes, *, then_close: bool = True):
    """Somebody who answers with these bytes."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        if not then_close:
            await reader.read()  # until the other side has had enough
        writer.close()

    return asyncio.start_server(answer, "127.0.0.1", 0)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 202),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd", 200),
        (b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n", "no answer"),
        (b"220 mail.example.com ESMTP\r\n", "no answer"),
        (b"", "no answer"),
    ],
)  # fmt: skip
async def test_an_odd_answer(reply, outcome):
    server = await served(reply)
    async with server, calling("127.0.0.0/8") as calls:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        if isinstance(outcome, int):
            assert await calls.post(url, b"", {}) == outcome
        else:
            with pytest.raises(NotReached, match=outcome):
                await calls.post(url, b"", {})


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [(b"", "timeout"), (b"HTTP/1.1 2", "timeout"), (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", 200)],
)
async def test_who_is_too_slow_is_left(monkeypatch, reply, outcome):
    monkeypatch.setattr(outbound, "ANSWER_SECONDS", 0.2)
    server = await served(reply, then_close=False)
    async with server, calling("127.0.0.0/8") as calls:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        if isinstance(outcome, int):
            assert await calls.post(url, b"", {}) == outcome
        else:
            with pytest.raises(NotReached, match=outcome):
                await calls.post(url, b"", {})


async def test_nobody_there():
    assert await reason(f"http://127.0.0.1:{free_port()}/", "127.0.0.0/8") == "connection refused"


@pytest.mark.parametrize("host", ["nobody.invalid", "a" * 70 + ".example.com", "x..example.com"])
async def test_a_name_that_leads_nowhere(host):
    assert await reason(f"http://{host}/") == "the name is unknown"


async def test_a_certificate_that_nobody_vouches_for(tmp_path, expect_log):
    expect_log("SSL Error")
    certificate, key = self_signed(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    sockets = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([]), ssl_options=context)
    server.add_sockets(sockets)
    port = sockets[0].getsockname()[1]
    assert (await reason(f"https://127.0.0.1:{port}/", "127.0.0.0/8")).startswith("TLS: self-signed")
    server.stop()
    await server.close_all_connections()


# --- Names that take long.


async def test_a_name_server_that_is_away_holds_up_no_other_name(names, monkeypatch):
    monkeypatch.setattr(outbound, "LOOKUP_SECONDS", 0.1)
    looked_up = names("away.example.com", [])
    ordinary, waiting = socket.getaddrinfo, asyncio.Event()
    loop = asyncio.get_running_loop()

    def getaddrinfo(host, *rest, **more):
        found = ordinary(host, *rest, **more)
        if host == "away.example.com":
            asyncio.run_coroutine_threadsafe(waiting.wait(), loop).result(10)
        return found

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with receiving() as receiver, calling("127.0.0.0/8", parallel=100) as calls:
        away = [
            asyncio.ensure_future(calls.post("http://away.example.com/", b"", {}))
            for _ in range(2 * outbound.MAX_LOOKUPS)
        ]
        await asyncio.sleep(0)
        assert await calls.post(receiver.url, b"", {}) == 204
        for outcome in await asyncio.gather(*away, return_exceptions=True):
            assert str(outcome) == "the name's lookup took too long"
        assert looked_up.count("away.example.com") == 1, "one thread, whoever asks"
        waiting.set()
