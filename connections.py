"""The connections of a server: how many it takes, of whom, and how long one may leave an answer unread.

Tornado has limits for what comes in. For what goes out it has none: whoever never reads would keep the
connection, and what waits on it, for ever.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import resource
import socket
import struct
import termios
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.iostream import IOStream

RESERVED = 512  # descriptors for all else: database, Redis, calls to WeChat and to sites
SLOWEST = 1024  # bytes a second that a reader must take, on the average, while there are any for it
LOOKS = 4  # while a slow reader is given time
# Thousands come and end in one moment. In one turn of the loop so many are taken and so many closed; between
# the turns others are served. To refuse one takes a fraction of that.
AT_ONCE = 16
REFUSED_AT_ONCE = 128
PAUSE_SECONDS = 0.25  # between two looks for connections that are silent

_REFUSAL = b"HTTP/1.1 %s\r\nRetry-After: 10\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
TOO_MANY = _REFUSAL % b"429 Too Many Requests"
FULL = _REFUSAL % b"503 Service Unavailable"

log = logging.getLogger("saoma.connections")


def descriptors() -> int:
    """How many this process may have: as many as it may ask for, from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft


class Connections:
    """Takes them for `server` from listening `sockets`.

    `owner` says whom a connection from this address counts for, "" for nobody; one owner has `per_owner` at
    once, all together have what the descriptors allow. Whoever takes less than SLOWEST for `send_seconds` is
    dropped; `unsent_bytes` of an answer may wait in the system, the rest of it waits here.
    """

    def __init__(
        self,
        server: HTTPServer,
        sockets: Iterable[socket.socket],
        *,
        owner: Callable[[str], str],
        per_owner: int | None,
        send_seconds: float,
        unsent_bytes: int,
    ) -> None:
        self._server = server
        self._sockets = tuple(sockets)
        self._owner = owner
        self._per_owner = per_owner
        self._send_seconds = send_seconds
        self._unsent_bytes = unsent_bytes
        allowed = descriptors()
        self._at_most = max(allowed // 2, allowed - RESERVED)
        self._full = False
        self._held: Counter[str] = Counter()
        self._open: set[_Stream] = set()
        self._behind: dict[_Stream, tuple[float, int]] = {}  # since when, and what was taken by then
        self._looking = PeriodicCallback(self._look, 1000 * send_seconds / LOOKS)

    def __len__(self) -> int:
        return len(self._open)

    def start(self) -> None:
        """Takes them from now on; needs a running loop."""
        for listener in self._sockets:
            # What is set here holds for each connection. The system ends those that take nothing at all, when
            # we have let go of them too.
            _set(listener, "TCP_USER_TIMEOUT", int(1000 * self._send_seconds))
            _set(listener, "TCP_NOTSENT_LOWAT", self._unsent_bytes)
            IOLoop.current().add_handler(listener, self._accept, IOLoop.READ)
        self._looking.start()

    def stop(self) -> None:
        """Takes those that wait for it, and no more; what is open stays so."""
        for listener in self._sockets:
            IOLoop.current().remove_handler(listener)
            with suppress(
                OSError
            ):  # BlockingIOError: there are no more. They would be reset, with what was sent.
                while True:
                    self._take(*listener.accept())
            listener.close()

    def close(self) -> None:
        """What is open is the server's to close."""
        self._looking.stop()

    def _accept(self, listener: socket.socket, events: int) -> None:
        """Some of those that wait; the loop calls again for the others."""
        enough = len(self._open) + AT_ONCE
        for _ in range(REFUSED_AT_ONCE):
            try:
                self._take(*listener.accept())
            except (BlockingIOError, ConnectionAbortedError):
                return
            if len(self._open) >= enough:
                return

    def _take(self, connection: socket.socket, address: Any) -> None:
        owner = self._owner(address[0])
        if len(self._open) >= self._at_most:
            if not self._full:
                self._full = True
                log.warning("%d connections are open: there are descriptors for no more", len(self._open))
            _refuse(connection, FULL)
            return
        if owner and self._per_owner is not None and self._held[owner] >= self._per_owner:
            _refuse(connection, TOO_MANY)
            return
        self._held[owner] += 1
        stream = _Stream(connection, owner, self._closed)
        self._open.add(stream)
        self._server.handle_stream(stream, address)

    def _closed(self, stream: _Stream) -> None:
        self._open.discard(stream)
        self._held[stream.owner] -= 1
        if not self._held[stream.owner]:
            del self._held[stream.owner]
        self._full = False

    def _look(self) -> None:
        """Drops those whose time is over."""
        now, behind = IOLoop.current().time(), {}
        for stream in [stream for stream in self._open if stream.writing()]:
            taken = stream.taken
            since, before = self._behind.get(stream, (now, taken))
            if now - since < self._send_seconds:
                behind[stream] = since, before
            elif taken - before >= SLOWEST * (now - since):
                behind[stream] = now, taken
            else:
                stream.abort()
        self._behind = behind


class HeaderTimeouts:
    """Closes connections on which a request's headers are not there in `seconds`.

    Tornado's own is a timer and two futures for each request, and closes all that are due in one turn.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[IOStream, float] = {}  # by when; the earliest come first
        self._timer: asyncio.TimerHandle | None = None

    def start(self, stream: IOStream) -> None:
        """Headers are waited for from now on."""
        loop = asyncio.get_running_loop()
        self._due[stream] = due = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(due, self._close)

    def stop(self, stream: IOStream) -> None:
        """They have come, or the connection has ended."""
        self._due.pop(stream, None)

    def _close(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        late = [stream for stream, due in islice(self._due.items(), AT_ONCE) if due <= now]
        for stream in late:
            del self._due[stream]
            stream.close()
        self._timer = None
        if self._due:
            first = next(iter(self._due.values()))
            again = now if len(late) == AT_ONCE else max(first, now + PAUSE_SECONDS)
            self._timer = loop.call_at(again, self._close)


class _Stream(IOStream):
    def __init__(self, connection: socket.socket, owner: str, closed: Callable[[_Stream], None]) -> None:
        """`closed` is called once, however the end comes about: WebSockets too take the stream with them."""
        super().__init__(connection)
        self.owner = owner
        self._when_closed = closed

    def close_fd(self) -> None:
        super().close_fd()
        self._when_closed(self)

    @property
    def taken(self) -> int:
        """Bytes that the other side has acknowledged."""
        waiting = bytes(4)
        with suppress(OSError):
            waiting = fcntl.ioctl(self.socket, termios.TIOCOUTQ, waiting)
        return self._total_write_done_index - int(struct.unpack("i", waiting)[0])

    def abort(self) -> None:
        """Closes it and throws away what waits, in the system too."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def _refuse(connection: socket.socket, answer: bytes) -> None:
    with connection, suppress(OSError):
        connection.setblocking(False)
        connection.send(answer)


def _set(listener: socket.socket, option: str, value: int) -> None:
    """Where the system knows it: Linux does."""
    with suppress(AttributeError, OSError):
        listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
