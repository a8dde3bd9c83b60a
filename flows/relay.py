"""What is no login goes on to the team's own backend, unchanged; its valid reply is passed back."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.netutil import DefaultLoopResolver, Resolver

from wechat.callback import Delivery, Gate
from wechat.xml import MAX_BYTES

ANSWER_SECONDS = 3.0  # from the delivery to the reply, waiting for the others included
MAX_IN_FLIGHT = 100  # deliveries that the backend has at once; the others wait for their turn
MAX_WAITING = 500  # that it has or that wait; the next ones are answered without it
SHORTEST_SECONDS = 0.1  # for who waited almost to the end; Tornado takes 0 for "for ever"
MAX_HEADER_BYTES = 16 * 1024
REPORT_PAUSE = 60.0  # seconds between two log lines about the same trouble

log = logging.getLogger("saoma.relay")


class Relay:
    """Keeps connections of its own: a backend that hangs takes none from the calls to WeChat."""

    def __init__(self, url: str, gate: Gate, now: Callable[[], float]) -> None:
        """Needs a running loop."""
        self._url = url
        self._gate = gate
        self._now = now
        self._name = _Name(url=url)
        self._http = AsyncHTTPClient(
            force_instance=True,
            max_clients=MAX_IN_FLIGHT,
            resolver=self._name,
            max_header_size=MAX_HEADER_BYTES,
            max_body_size=MAX_BYTES,
        )
        self._slots = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._waiting = 0
        self._told: dict[str, float] = {}

    def close(self) -> None:
        self._http.close()

    async def forward(self, delivery: Delivery, query: str, body: bytes, content_type: str) -> bytes | None:
        """The backend's reply as it goes over the wire; None where it has none, is late or answers oddly."""
        if self._waiting >= MAX_WAITING:
            self._tell(f"lets {MAX_WAITING} deliveries wait; the next ones do not reach it")
            return None
        self._waiting += 1
        try:
            response = await self._ask(query, body, content_type)
        except Exception as error:  # a Tornado client may raise many kinds: DNS, TLS, connection, protocol
            self._tell(f"gives no answer ({type(error).__name__})")
            return None
        finally:
            self._waiting -= 1
        if response.code != 200:
            self._tell(f"answered with status {response.code}")
            return None
        reply = response.body.strip()
        if reply in (b"", b"success"):
            return None
        if not self._gate.is_reply(delivery, reply):
            self._tell("answered with something that is no reply")
            return None
        return reply

    async def _ask(self, query: str, body: bytes, content_type: str) -> HTTPResponse:
        clock = asyncio.get_running_loop().time
        end = clock() + ANSWER_SECONDS
        async with asyncio.timeout_at(end):
            await self._name.look_up()
            await self._slots.acquire()
        try:
            left = max(SHORTEST_SECONDS, end - clock())
            separator = "&" if "?" in self._url else "?"
            request = HTTPRequest(
                f"{self._url}{separator}{query}",
                method="POST",
                headers={"Content-Type": content_type or "text/xml"},
                body=body,
                connect_timeout=left,
                request_timeout=left,
                follow_redirects=False,
                decompress_response=False,  # so that what is short on the wire cannot be long in memory
                user_agent="saoma",
            )
            return await self._http.fetch(request, raise_error=False)
        finally:
            self._slots.release()

    def _tell(self, trouble: str) -> None:
        """Once in a while: a backend that is away all night must not fill the log."""
        now = self._now()
        if trouble not in self._told or abs(now - self._told[trouble]) >= REPORT_PAUSE:
            self._told[trouble] = now
            log.warning("the backend at wechat.forward_url %s", trouble)


class _Name(Resolver):
    """The backend's name, looked up once for all who wait for it.

    A look-up takes one of the few threads that everything shares, and a name server that hangs keeps it for
    longer than anybody here waits.
    """

    def initialize(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        self._looking: asyncio.Task[None] | None = None
        self._addresses: list[tuple[int, Any]] = []

    async def look_up(self) -> None:
        """Raises OSError where there is no such name."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_up())
            self._looking.add_done_callback(self._looked_up)
        await asyncio.shield(self._looking)

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[int, Any]]:
        return self._addresses

    async def _look_up(self) -> None:
        self._addresses = await DefaultLoopResolver().resolve(self._host, self._port)

    def _looked_up(self, done: asyncio.Task[None]) -> None:
        self._looking = None
        if not done.cancelled():
            done.exception()  # whoever waited has been told, or has gone
