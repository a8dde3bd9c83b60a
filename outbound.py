"""Calls to addresses that sites are registered with, kept out of our own network (security rule 20).

What is checked is the very address that is then connected to, so no name can lead elsewhere in between.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.netutil import Resolver
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient

ANSWER_SECONDS = 10.0  # for the whole call
LOOKUP_SECONDS = 5.0  # of it, for the name
MAX_LOOKUPS = 32  # names at once; each has one thread, whoever waits for it
MAX_HEADER_BYTES = 16 * 1024
MAX_BODY_BYTES = 64 * 1024  # of the answer, which is read and thrown away

# What `is_global` of an older Python takes for public, or what the registry of special-purpose addresses has
# grown since (RFC 6890). Of IPv6 only 2000::/3 is public at all.
_SPECIAL = tuple(
    map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20"))
)
_PUBLIC_6 = ipaddress.ip_network("2000::/3")
# IPv6 addresses with an IPv4 one in their last 32 bits: mapped, translated, compatible, NAT64 (RFC 6052).
_CARRYING = tuple(map(ipaddress.ip_network, ("::ffff:0:0/96", "::ffff:0:0:0/96", "::/96", "64:ff9b::/96")))

Address = IPv4Address | IPv6Address


class NotReached(Exception):
    """The call had no answer; its text says why, in a few words without the address."""


class Outbound:
    """`allowed` are the networks that may be called though they are private; `parallel` calls at once."""

    def __init__(self, allowed: Iterable[str], *, parallel: int) -> None:
        self._resolver = _GuardedResolver(allowed=allowed)
        # Tornado's own by name, whatever AsyncHTTPClient is configured to be: it knows no proxies.
        self._client = SimpleAsyncHTTPClient(
            force_instance=True,
            max_clients=parallel,
            resolver=self._resolver,
            max_header_size=MAX_HEADER_BYTES,
            max_body_size=MAX_BODY_BYTES,
        )

    def close(self) -> None:
        self._client.close()
        self._resolver.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of the answer, whatever becomes of the rest of it. Raises NotReached."""
        statuses: list[int] = []

        def read(line: str) -> None:
            if line.startswith("HTTP/"):
                statuses.append(int(line.split()[1]))

        request = HTTPRequest(
            url,
            method="POST",
            headers=dict(headers),
            body=body,
            connect_timeout=ANSWER_SECONDS,
            request_timeout=ANSWER_SECONDS,
            follow_redirects=False,
            decompress_response=False,
            header_callback=read,
            streaming_callback=_drop,
            user_agent="saoma",
        )
        try:
            await self._client.fetch(request, raise_error=False)
        except Exception as error:  # a Tornado client may raise many kinds: DNS, TLS, connection, protocol
            if not statuses:
                raise NotReached(_reason(error)) from None
        return statuses[-1]


class _GuardedResolver(Resolver):
    """Resolves to addresses that are all fit, or to none."""

    def initialize(self, allowed: Iterable[str]) -> None:
        self._allowed = tuple(map(ipaddress.ip_network, allowed))
        self._threads = ThreadPoolExecutor(MAX_LOOKUPS, "saoma-lookup")
        self._running: dict[tuple[str, int], asyncio.Future[Any]] = {}

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[int, Any]]:
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = await asyncio.shield(self._looked_up(host, port))
        except TimeoutError:
            raise NotReached("the name's lookup took too long") from None
        except (OSError, UnicodeError):  # the latter of a name that cannot be one
            raise NotReached("the name is unknown") from None
        for *_, address in found:
            if not is_fit(ipaddress.ip_address(address[0]), self._allowed):
                raise NotReached("refused: private address; see server.allowed_networks")
        return [(kind, address) for kind, _, _, _, address in found]

    def _looked_up(self, host: str, port: int) -> asyncio.Future[Any]:
        """One lookup of a name at a time: a name server that is away takes one thread of ours, not all."""
        place = (host, port)
        running = self._running.get(place)
        if running is None:
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(
                self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
            self._running[place] = running
            running.add_done_callback(lambda done: self._done(place, done))
        return running

    def _done(self, place: tuple[str, int], running: asyncio.Future[Any]) -> None:
        del self._running[place]
        if not running.cancelled():
            running.exception()  # whoever waited has been told, or has gone

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def is_fit(address: Address, allowed: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network] = ()) -> bool:
    """Whether the address is public, or in one of the networks; so is one that is carried inside another."""
    meant = _carried(address)
    if any(known in network for network in allowed for known in (address, meant)):
        return True
    if isinstance(meant, IPv6Address) and meant not in _PUBLIC_6:
        return False
    special = any(meant in network for network in _SPECIAL)
    return meant.is_global and not meant.is_multicast and not special


def _carried(address: Address) -> Address:
    if isinstance(address, IPv6Address) and any(address in network for network in _CARRYING):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _drop(chunk: bytes) -> None:
    """Nobody needs the body."""


def _reason(error: Exception) -> str:
    match error:
        case NotReached():
            return str(error)
        case HTTPTimeoutError():
            return "timeout"
        case ConnectionRefusedError():
            return "connection refused"
        case ssl.SSLCertVerificationError():
            return f"TLS: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS: {error.reason}"
        case _:
            return f"no answer ({type(error).__name__})"
