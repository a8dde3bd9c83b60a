"""Tornado alone, with those who wait: `python -m benchmarks.bare_waiting PORT`.

WebSockets and long polls in one dictionary; an event looks up one of them and tells it. Nothing is checked,
parsed or stored. Addresses and headers are saoma's.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys

from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from benchmarks.bare import serve

_sockets: dict[str, Socket] = {}
_polls: dict[str, asyncio.Future[str]] = {}


def _message(state: str) -> str:
    return json.dumps({"state": state, "user": None, "expires_in": 300})


class _Headers(RequestHandler):
    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Request-Id", secrets.token_hex(8))
        self.set_header("Strict-Transport-Security", "max-age=31536000")

    def compute_etag(self) -> None:
        pass


class Socket(_Headers, WebSocketHandler):
    def check_origin(self, origin: str) -> bool:
        return True

    def open(self, *arguments: str, **named: str) -> None:
        self.ticket = arguments[0]
        _sockets[self.ticket] = self
        self.write_message(_message("WAITING"))

    def on_message(self, message: str | bytes) -> None:
        pass

    def on_close(self) -> None:
        _sockets.pop(self.ticket, None)


class Poll(_Headers):
    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")

    async def get(self, ticket: str) -> None:
        told = _polls[ticket] = asyncio.get_running_loop().create_future()
        message = await told
        self.set_header("Content-Type", "application/json")
        self.finish(message)

    def on_connection_close(self) -> None:
        _polls.pop(self.path_args[0], None)


class Event(_Headers):
    def post(self, ticket: str) -> None:
        _sockets[ticket].write_message(_message("CONFIRMED"))


class End(_Headers):
    """All of them at once."""

    def post(self) -> None:
        for socket in list(_sockets.values()):
            socket.write_message(_message("INVALID"))
            socket.close(1000)


class Nothing(_Headers):
    def get(self) -> None:
        pass


if __name__ == "__main__":
    application = Application(
        [
            (r"/websocket/(.+)", Socket),
            (r"/api/v1/tickets/(.+)", Poll),
            (r"/event/(.+)", Event),
            (r"/end", End),
            (r"/healthz", Nothing),
        ]
    )
    asyncio.run(serve(int(sys.argv[1]), application))
