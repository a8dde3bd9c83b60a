"""What is no login goes on to the team's own backend, unchanged; its valid reply is passed back."""

from __future__ import annotations

import logging

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from wechat.callback import Delivery, Gate
from wechat.xml import MAX_BYTES

ANSWER_SECONDS = 3.0

log = logging.getLogger("saoma.relay")


class Relay:
    def __init__(self, url: str, gate: Gate, http: AsyncHTTPClient) -> None:
        self._url = url
        self._gate = gate
        self._http = http

    async def forward(self, delivery: Delivery, query: str, body: bytes, content_type: str) -> bytes | None:
        """The backend's reply as it goes over the wire; None where it has none, is late or answers oddly."""
        separator = "&" if "?" in self._url else "?"
        request = HTTPRequest(
            f"{self._url}{separator}{query}",
            method="POST",
            headers={"Content-Type": content_type or "text/xml"},
            body=body,
            connect_timeout=ANSWER_SECONDS,
            request_timeout=ANSWER_SECONDS,
            follow_redirects=False,
            user_agent="saoma",
        )
        try:
            response = await self._http.fetch(request, raise_error=False)
        except Exception as error:  # a Tornado client may raise many kinds: DNS, TLS, connection, protocol
            log.warning("the backend at wechat.forward_url cannot be reached (%s)", type(error).__name__)
            return None
        if response.code != 200:
            log.warning("the backend at wechat.forward_url answered with status %d", response.code)
            return None
        reply = response.body.strip()
        if reply in (b"", b"success"):
            return None
        if len(reply) > MAX_BYTES or not self._gate.is_reply(delivery, reply):
            log.warning("the backend at wechat.forward_url answered with something that is no reply")
            return None
        return reply
