"""The socket beside the database by which commands ask the server that runs: SQLite's file is its alone."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import Resolver
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.web import Application

from config import Settings
from handlers.control import DATABASE

NAME = "control.sock"
MAX_ADDRESS_BYTES = 100  # the system's own limit is little more
OPEN_FILES = Path("/proc/self/fd")  # Linux has it: a folder that is open has a short name there
ANSWER_SECONDS = 30.0
COPY_SECONDS = 3600.0
MAX_COPY_BYTES = 2**44  # the client wants a limit

log = logging.getLogger("saoma.control")


class CannotAsk(Exception):
    """The server that runs does not do what it is asked; the text says why."""


def database_of(settings: Settings) -> str:
    """The name by which the command and the server know that they mean the same SQLite file."""
    return str(settings.sqlite_path.resolve()) if settings.sqlite_path else ""


def socket_path(settings: Settings) -> Path | None:
    """None where the store is one that several processes can open."""
    return settings.sqlite_path.parent / NAME if settings.sqlite_path else None


class _PathTooLong(OSError):
    """No socket of this path can be, on this system."""


class ControlServer:
    """Whoever may read the database may ask; nobody else."""

    def __init__(self, path: Path, application: Application) -> None:
        self._path = path
        self._server = HTTPServer(application)
        self._listens = False

    def start(self) -> None:
        """Where there can be no socket, serving goes on without it."""
        try:
            listener = self._bind()
        except OSError as error:
            log.warning("no command can ask this server: %s cannot be made (%s)", self._path, error)
            return
        self._server.add_socket(listener)
        self._listens = True

    async def stop(self) -> None:
        if self._listens:
            self._server.stop()
            await self._server.close_all_connections()
            self._path.unlink(missing_ok=True)

    def _bind(self) -> socket.socket:
        with _short(self._path) as address:
            if self._path.is_socket():
                if _answers(address):
                    raise OSError("a server with another database in the same folder has it")
                self._path.unlink()  # left by a server that was killed
            listener = socket.socket(socket.AF_UNIX)
            try:
                listener.bind(address)
                os.chmod(self._path, 0o600)  # before anybody can connect
                listener.setblocking(False)
                listener.listen()
            except OSError:
                listener.close()
                raise
            return listener


def _answers(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as attempt, suppress(OSError):
        attempt.connect(address)
        return True
    return False


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name of the socket that the system takes, however deep its folder lies. Raises OSError."""
    if len(os.fsencode(path)) <= MAX_ADDRESS_BYTES:
        yield str(path)
        return
    if not OPEN_FILES.is_dir():
        raise _PathTooLong(f"its path is longer than {MAX_ADDRESS_BYTES} bytes")
    folder = os.open(path.parent, os.O_DIRECTORY)
    try:
        yield str(OPEN_FILES / str(folder) / path.name)
    finally:
        os.close(folder)


async def ask(settings: Settings, method: str, path: str, body: Any = None) -> dict[str, Any] | None:
    """The answer of the server that has the database; None where none runs. Raises CannotAsk."""
    content = None if body is None else json.dumps(body)
    response = await _fetch(settings, path, method=method, body=content, request_timeout=ANSWER_SECONDS)
    if response is None:
        return None
    document: dict[str, Any] = json.loads(response.body)
    if response.code != 200:
        raise CannotAsk(document["fault"])
    return document


async def ask_for_copy(settings: Settings, file: BinaryIO) -> bool:
    """Writes the database's copy into the file; False where no server runs. Raises CannotAsk, OSError."""
    received = _Received(file)
    response = await _fetch(
        settings,
        "/backup",
        method="POST",
        body="",
        request_timeout=COPY_SECONDS,
        header_callback=received.header,
        streaming_callback=received.piece,
    )
    if response is None:
        return False
    if response.code != 200:
        raise CannotAsk(json.loads(received.fault)["fault"])
    if received.error is not None:
        raise received.error
    return True


async def _fetch(settings: Settings, path: str, **request: Any) -> HTTPResponse | None:
    place = socket_path(settings)
    if place is None:
        return None
    headers = {DATABASE: quote(database_of(settings))}
    try:
        with _short(place) as address:
            resolver = _ToSocket(address=address)
            client = SimpleAsyncHTTPClient(
                force_instance=True, resolver=resolver, max_body_size=MAX_COPY_BYTES
            )
            try:
                return await client.fetch(
                    HTTPRequest(f"http://localhost{path}", headers=headers, **request), raise_error=False
                )
            finally:
                client.close()
    except PermissionError:
        raise CannotAsk(f"{place} belongs to the user that serves: run this command as that user") from None
    except (FileNotFoundError, ConnectionRefusedError, _PathTooLong):
        return None
    except (OSError, HTTPClientError) as error:
        raise CannotAsk(f"the server that runs does not answer ({type(error).__name__})") from None


class _Received:
    """What comes, piece by piece: the copy, or a short text that says why there is none."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._succeeds = False
        self.fault = b""
        self.error: OSError | None = None  # kept: raised here, it would be logged with its trace

    def header(self, line: str) -> None:
        if line.startswith("HTTP/"):
            self._succeeds = line.split()[1] == "200"

    def piece(self, data: bytes) -> None:
        if not self._succeeds:
            self.fault += data
        elif self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error


class _ToSocket(Resolver):
    """Every name leads to the socket."""

    def initialize(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[int, Any]]:
        return [(socket.AF_UNIX, self._address)]
