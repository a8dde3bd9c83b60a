"""Whose request it is, behind proxies of ours and of nobody's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from handlers.peers import Peers


class Connection:
    """As much of one as a request looks at."""

    def __init__(self, address: str) -> None:
        self.context = SimpleNamespace(remote_ip=address, protocol="http")


def request_from(address: str, headers: HTTPHeaders) -> HTTPServerRequest:
    headers["Host"] = "a"
    line = RequestStartLine("GET", "/", "HTTP/1.1")
    return HTTPServerRequest(start_line=line, headers=headers, connection=Connection(address))  # type: ignore[arg-type]


def seen(
    peer: str, *forwarded: str, trusted: tuple[str, ...] = ("127.0.0.1", "10.0.0.0/8", "fd00::/8")
) -> str:
    headers = HTTPHeaders()
    for value in forwarded:
        headers.add("X-Forwarded-For", value)
    request = request_from(peer, headers)
    return Peers(trusted).address_of(request)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.5", [], "203.0.113.5"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("127.0.0.1", ["203.0.113.5, 10.0.0.7"], "203.0.113.5"),
        ("127.0.0.1", ["203.0.113.5", "10.0.0.7"], "203.0.113.5"),
        ("127.0.0.1", ["198.51.100.9, 203.0.113.5, 10.0.0.7"], "203.0.113.5"),  # the first was the client's
        ("127.0.0.1", ["10.1.1.1, 203.0.113.5"], "203.0.113.5"),
        ("127.0.0.1", ["10.0.0.8, 10.0.0.7"], "10.0.0.8"),
        ("127.0.0.1", ["nonsense, 10.0.0.7"], "10.0.0.7"),
        ("127.0.0.1", ["203.0.113.5, nonsense"], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", [","], "127.0.0.1"),
        ("127.0.0.1", ["<script>"], "127.0.0.1"),
        ("127.0.0.1", ["fe80::1%<script>"], "127.0.0.1"),
        ("127.0.0.1", ["x ,   203.0.113.5"], "203.0.113.5"),
        ("127.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("127.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("127.0.0.1", ["2001:DB8:0:0::1"], "2001:db8::1"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        # What a socket or a proxy that listens on both kinds of address calls an IPv4 one.
        ("::ffff:127.0.0.1", ["::ffff:203.0.113.5"], "203.0.113.5"),
        ("::ffff:203.0.113.5", [], "203.0.113.5"),
    ],
)
def test_the_clients_address(peer: str, forwarded: list[str], address: str) -> None:
    assert seen(peer, *forwarded) == address


def test_a_strangers_header_is_not_believed_and_told_once(expect_log, caplog) -> None:
    expect_log("X-Forwarded-For from 203.0.113.9 is ignored")
    headers = HTTPHeaders({"X-Forwarded-For": "10.0.0.1"})
    peers = Peers(("10.0.0.0/8",))
    for address in ("203.0.113.9", "203.0.113.10"):
        request = request_from(address, headers)
        assert peers.address_of(request) == address
    assert len(caplog.records) == 1


def test_without_proxies_of_ours_nobody_is_believed(expect_log) -> None:
    expect_log("is ignored")
    assert seen("127.0.0.1", "203.0.113.5", trusted=()) == "127.0.0.1"


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "::ffff:10.9.9.9", "fd00::1"])
def test_connections_of_proxies_are_not_counted(peer):
    assert not Peers(("10.0.0.0/8", "fd00::/8")).counts(peer)


@pytest.mark.parametrize("peer", ["203.0.113.5", "127.0.0.2", "2001:db8::1", "::ffff:10.9.9.9", "nonsense"])
def test_all_others_are(peer):
    assert Peers(("10.1.0.0/16",)).counts(peer)
