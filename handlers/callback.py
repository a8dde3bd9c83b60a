"""Where WeChat speaks to us. Every refusal is the same: 403, empty; nothing runs after one."""

from __future__ import annotations

import logging
from typing import Any

from tornado.web import HTTPError, stream_request_body

from errors import SaomaError
from flows.deliveries import Deliveries, Posted
from handlers.base import BaseHandler
from wechat.callback import Gate, Refused
from wechat.replies import SUCCESS
from wechat.xml import MAX_BYTES

# A body that is too long is read to its end and thrown away piece by piece, so that the refusal arrives
# and is the same as any other; beyond this the connection is cut.
MAX_DISCARDED_BYTES = 64 * 1024 * 1024

log = logging.getLogger("saoma.callback")


@stream_request_body
class Callback(BaseHandler):
    acts_on_cookie = False

    async def prepare(self) -> None:
        self._body = bytearray()
        self._too_long = False
        connection: Any = self.request.connection
        connection.set_max_body_size(MAX_DISCARDED_BYTES)
        await super().prepare()

    def data_received(self, chunk: bytes) -> None:
        if len(self._body) + len(chunk) > MAX_BYTES:
            self._too_long = True
            self._body.clear()
        if not self._too_long:
            self._body += chunk

    async def get(self) -> None:
        try:
            echo = self._gate().verify_url(self.request.query, self.context.now())
        except Refused as refused:
            raise self._refusal(refused) from None
        self._answer(echo.encode("utf-8"), "text/plain; charset=UTF-8")

    async def post(self) -> None:
        deliveries = self._deliveries()
        if self._too_long:
            raise self._refusal(Refused("too long"))
        posted = Posted(self.request.query, bytes(self._body), self.request.headers.get("Content-Type", ""))
        try:
            reply = await deliveries.accept(posted)
        except Refused as refused:
            raise self._refusal(refused) from None
        kind = "text/plain" if reply == SUCCESS else "text/xml"
        self._answer(reply, f"{kind}; charset=UTF-8")

    def _refusal(self, refused: Refused) -> HTTPError:
        """One answer for all; why, is for the log alone."""
        log.info("a delivery was refused: %s", refused)
        return HTTPError(403)

    def _gate(self) -> Gate:
        if self.services.gate is None:
            raise HTTPError(403)
        return self.services.gate

    def _deliveries(self) -> Deliveries:
        if self.services.deliveries is None:
            raise HTTPError(403)
        return self.services.deliveries

    def _answer(self, body: bytes, content_type: str) -> None:
        self.set_header("Content-Type", content_type)
        self.finish(body)

    def tell_failure(self, status: int, error: SaomaError | None) -> None:
        self.clear_header("Content-Type")
        self.finish()
