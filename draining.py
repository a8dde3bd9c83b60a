"""How a server that stops lets what changes something come to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, cast

from tornado.http1connection import HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream
from tornado.web import Application, RequestHandler

from connections import HeaderTimeouts

ARRIVAL_SECONDS = 1.0  # for the first request on a connection that was made before we stopped listening


class Serving(HTTPServer):
    """Tells its delegate of each connection's end too, which Tornado's own keeps to itself."""

    def initialize(self, *arguments: Any, **named: Any) -> None:
        super().initialize(*arguments, **named)
        self.conn_params.header_timeout = None  # `HeaderTimeouts` sees to it

    def on_close(self, server_conn: object) -> None:
        super().on_close(server_conn)
        if isinstance(self.request_callback, HTTPServerConnectionDelegate):
            self.request_callback.on_close(server_conn)


class Changes(HTTPServerConnectionDelegate):
    """Passes requests on to the application, and knows those that may change something and have no answer."""

    def __init__(self, application: Application, headers: HeaderTimeouts) -> None:
        self._application = application
        self._headers = headers
        self._open: set[object] = set()  # connections
        self._silent: set[object] = set()  # those that have brought no request yet
        self._running: set[object] = set()
        self._moved = asyncio.Event()
        self._log = application.settings["log_function"]
        application.settings["log_function"] = self._answered

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        if server_conn not in self._open:
            self._open.add(server_conn)
            self._silent.add(server_conn)
        self._headers.start(_stream_of(server_conn))
        inner = self._application.start_request(server_conn, request_conn)
        return _Request(inner, self, server_conn, request_conn)

    def headers_have_come(self, server_conn: object) -> None:
        self._headers.stop(_stream_of(server_conn))

    def has_come_whole(self, server_conn: object, request_conn: object, changing: bool) -> None:
        """`changing`: the request may change something."""
        self._silent.discard(server_conn)
        if changing:
            self._running.add(request_conn)
        self._moved.set()

    def on_close(self, server_conn: object) -> None:
        self._headers.stop(_stream_of(server_conn))
        self._open.discard(server_conn)
        self._silent.discard(server_conn)
        self._moved.set()
        self._application.on_close(server_conn)

    @property
    def connections(self) -> int:
        """How many it knows of."""
        return len(self._open)

    async def finish(self, seconds: float) -> None:
        """Returns when all have been answered, or after that long."""
        await asyncio.sleep(0)  # a connection that was just taken comes to `start_request` only then
        await self._emptied(self._silent, ARRIVAL_SECONDS)
        await self._emptied(self._running, seconds)

    async def _emptied(self, watched: set[object], seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while watched:
                    self._moved.clear()
                    await self._moved.wait()

    def _answered(self, handler: RequestHandler) -> None:
        """Tornado's call after each answer."""
        if handler.request.connection is not None:
            self._running.discard(handler.request.connection)
        self._moved.set()
        self._log(handler)


def _stream_of(server_conn: object) -> IOStream:
    return cast(HTTP1ServerConnection, server_conn).stream


class _Request(HTTPMessageDelegate):
    """Small, for one stays in memory with each long poll."""

    __slots__ = ("_changes", "_changing", "_inner", "_request_conn", "_server_conn")

    def __init__(
        self, inner: HTTPMessageDelegate, changes: Changes, server_conn: object, request_conn: object
    ) -> None:
        self._inner = inner
        self._changes = changes
        self._server_conn = server_conn
        self._request_conn = request_conn
        self._changing = True

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self._changes.headers_have_come(self._server_conn)
        if isinstance(start_line, RequestStartLine):
            self._changing = start_line.method not in ("GET", "HEAD")
        return self._inner.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._inner.data_received(chunk)

    def finish(self) -> None:
        self._changes.has_come_whole(self._server_conn, self._request_conn, self._changing)
        self._inner.finish()

    def on_connection_close(self) -> None:
        self._inner.on_connection_close()
