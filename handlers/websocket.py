"""A page that waits over WebSocket: the state on opening, then each change, closed after the last."""

from __future__ import annotations

import json
from typing import Any

from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from errors import BadRequest, StoreUnavailable
from flows.watch import View, Watch
from handlers.base import ApiHandler
from handlers.tickets import view_document
from tickets import FINAL

NORMAL = 1000
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013


class TicketSocket(WebSocketHandler, ApiHandler):
    held = True
    _watch: Watch | None = None

    def check_origin(self, origin: str) -> bool:
        return True  # has been checked in `get`

    async def get(self, *arguments: Any, **named: Any) -> None:
        # Tornado's own check would take Sec-Fetch-Site's word, or our name with another scheme. A browser
        # always sends its Origin; only a program that brings its own credentials may leave it out.
        if not self.same_origin() and ("Origin" in self.request.headers or self.acts_on_cookie):
            raise HTTPError(403)
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            raise BadRequest("This is the address of a WebSocket.")
        await super().get(*arguments, **named)

    async def open(self, *arguments: str, **named: str) -> None:
        ticket_id = arguments[0]
        self.services.open_sockets.add(self)
        self._watch = Watch(self.context, ticket_id, self.ticket_secret(ticket_id), self._tell)
        try:
            await self._watch.open()
        except StoreUnavailable:
            self.close(TRY_AGAIN_LATER)

    def _tell(self, seen: View) -> None:
        try:
            self.write_message(json.dumps(view_document(self, seen), ensure_ascii=False))
        except WebSocketClosedError:
            self.on_close()
            return
        if seen.state in FINAL:
            self.close(NORMAL)

    def on_message(self, message: str | bytes) -> None:
        """The page has nothing to say."""

    def on_close(self) -> None:
        self.services.open_sockets.discard(self)
        if self._watch is not None:
            self._watch.close()
            self._watch = None
