"""What is no login goes on to the team's own backend, unchanged; its valid reply is passed back."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.netutil import DefaultLoopResolver, Resolver

from wechat.callback import Delivery, Gate
from wechat.xml import MAX_BYTES

ANSWER_SECONDS = 3.0
MAX_IN_FLIGHT = 100  # deliveries that wait for the backend at once; the next ones are answered without it
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
        self._http = AsyncHTTPClient(
            force_instance=True,
            max_clients=MAX_IN_FLIGHT,
            resolver=_OneLookUp(),
            max_header_size=MAX_HEADER_BYTES,
            max_body_size=MAX_BYTES,
        )
        self._in_flight = 0
        self._told: dict[str, float] = {}

    def close(self) -> None:
        self._http.close()

    async def forward(self, delivery: Delivery, query: str, body: bytes, content_type: str) -> bytes | None:
        """The backend's reply as it goes over the wire; None where it has none, is late or answers oddly."""
        if self._in_flight >= MAX_IN_FLIGHT:
            self._tell(f"lets {MAX_IN_FLIGHT} deliveries wait; the next ones do not reach it")
            return None
        separator = "&" if "?" in self._url else "?"
        request = HTTPRequest(
            f"{self._url}{separator}{query}",
            method="POST",
            headers={"Content-Type": content_type or "text/xml"},
            body=body,
            connect_timeout=ANSWER_SECONDS,
            request_timeout=ANSWER_SECONDS,
            follow_redirects=False,
            decompress_response=False,  # so that what is short on the wire cannot be long in memory
            user_agent="saoma",
        )
        self._in_flight += 1
        try:
            response = await self._http.fetch(request, raise_error=False)
        except Exception as error:  # a Tornado client may raise many kinds: DNS, TLS, connection, protocol
            self._tell(f"gives no answer ({type(error).__name__})")
            return None
        finally:
            self._in_flight -= 1
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

    def _tell(self, trouble: str) -> None:
        """Once in a while: a backend that is away all night must not fill the log."""
        now = self._now()
        if trouble not in self._told or now >= self._told[trouble] + REPORT_PAUSE:
            self._told[trouble] = now
            log.warning("the backend at wechat.forward_url %s", trouble)


class _OneLookUp(Resolver):
    """Looks the backend's name up once for all who wait for it.

    A look-up takes one of the few threads that everything shares, and a name server that hangs keeps it for
    longer than anybody here waits.
    """

    def initialize(self) -> None:
        self._running: asyncio.Future[list[tuple[int, Any]]] | None = None

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[int, Any]]:
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(DefaultLoopResolver().resolve(host, port, family))
            self._running.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(self._running)
