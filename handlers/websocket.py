"""A page that waits over WebSocket: the state on opening, then each change, closed after the last."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

from tornado.web import HTTPError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from config.sections import Limits
from errors import BadRequest
from flows.watch import View, Watch
from handlers.base import ApiHandler
from handlers.tickets import view_document
from tickets import FINAL
from wheel import Wheel

NORMAL = 1000
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013


class _Waiter:
    """A socket's watch and its heartbeat. Thousands wait: Tornado's own heartbeat is a task for each."""

    __slots__ = ("_handler", "_pinged", "_slot", "_watch")

    def __init__(self, handler: TicketSocket, ticket_id: str) -> None:
        self._handler = handler
        self._pinged = False  # and not answered
        self._watch = Watch(handler.services.waiters, ticket_id, handler.ticket_secret(ticket_id), self)
        self._slot = self._wheel.add(self, handler.limits.ping_seconds)
        self._watch.open()

    def close(self) -> None:
        self._watch.close()
        self._wheel.discard(self, self._slot)

    @property
    def _wheel(self) -> Wheel:
        return self._handler.services.waiters.wheel

    def told(self, seen: View) -> None:
        handler = self._handler
        try:
            handler.write_message(json.dumps(view_document(handler, seen), ensure_ascii=False))
        except WebSocketClosedError:
            handler.on_close()
            return
        if seen.state in FINAL:
            handler.close(NORMAL)

    def store_is_away(self) -> None:
        self._handler.close(TRY_AGAIN_LATER)

    def answered(self) -> None:
        if self._pinged:
            self._pinged = False
            self._wheel.discard(self, self._slot)
            self._slot = self._wheel.add(self, self._handler.limits.ping_seconds)

    def due(self) -> None:
        """Time for a ping, or too late for the answer to the last one."""
        handler = self._handler
        if self._pinged:
            handler.close(reason="ping timed out")
            return
        self._pinged = True
        with suppress(WebSocketClosedError):
            handler.ping()
        limits = handler.limits
        self._slot = self._wheel.add(self, min(limits.pong_seconds, limits.ping_seconds))


class TicketSocket(WebSocketHandler, ApiHandler):
    held = True
    _waiter: _Waiter | None = None

    @property
    def limits(self) -> Limits:
        return self.context.settings.limits

    def set_policy(self) -> None:
        """Of a refusal alone: a socket shows nothing, and its headers stay in memory."""
        if self.get_status() >= 400:
            super().set_policy()

    def check_origin(self, origin: str) -> bool:
        return True  # has been checked in `get`

    def get(self, *arguments: Any, **named: Any) -> Awaitable[None]:  # type: ignore[override]
        # Tornado's own check would take Sec-Fetch-Site's word, or our name with another scheme. A browser
        # always sends its Origin; only a program that brings its own credentials may leave it out.
        if not self.same_origin() and ("Origin" in self.request.headers or self.acts_on_cookie):
            raise HTTPError(403)
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            raise BadRequest("This is the address of a WebSocket.")
        return super().get(*arguments, **named)

    def open(self, *arguments: str, **named: str) -> None:
        self.services.open_sockets.add(self)
        self._waiter = _Waiter(self, arguments[0])

    def on_pong(self, data: bytes) -> None:
        if self._waiter is not None:
            self._waiter.answered()

    def on_message(self, message: str | bytes) -> None:
        """The page has nothing to say."""

    def on_close(self) -> None:
        self.services.open_sockets.discard(self)
        if self._waiter is not None:
            self._waiter.close()
            self._waiter = None
