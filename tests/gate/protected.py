"""A site behind a proxy that asks us: it writes down what reaches it."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from tornado.httputil import HTTPHeaders

from handlers.authz import IDENTITY
from tests.cluster.site import TRUSTING
from tests.harness import Answer

BODY = b"for members alone"


class ProtectedSite:
    """Answers each request with a page, or with another status where the path names one: `/status/401`."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[str] = []  # each with its header lines, as they came

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ProtectedSite]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    @property
    def last(self) -> HTTPHeaders:
        return HTTPHeaders.parse(self.requests[-1].partition("\r\n")[2])

    def told(self) -> dict[str, list[str]]:
        """What a program reads of the last request for which, as in CGI, _ and . are -."""
        found: dict[str, list[str]] = {}
        for line in self.requests[-1].split("\r\n")[1:]:
            name, _, value = line.partition(":")
            found.setdefault(plain(name.strip()), []).append(value.strip())
        return {name: found[spelling] for name in IDENTITY if (spelling := plain(name)) in found}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.requests.append(head.removesuffix("\r\n\r\n"))
        path = head.split()[1]
        status = int(path.removeprefix("/status/")) if path.startswith("/status/") else 200
        answer = f"HTTP/1.1 {status} x\r\nContent-Length: {len(BODY)}\r\nConnection: close\r\n\r\n"
        writer.write(answer.encode() + BODY)
        writer.close()


def plain(name: str) -> str:
    return name.upper().replace("-", "_").replace(".", "_")


def spoofs() -> Iterator[list[str]]:
    """Header lines of a client that calls itself admin: each alone, then many at once.

    Under every mixture of hyphens, underscores and dots (which PHP takes for them).
    """
    found = []
    for name in IDENTITY:
        words = name.split("-")
        for joints in itertools.product("-_.", repeat=len(words) - 1):
            found.append("".join(itertools.chain(*itertools.zip_longest(words, joints, fillvalue=""))))
    yield from ([f"{name}: admin"] for name in found)
    for names in (found, list(reversed(found)), [*map(str.upper, found)], [*map(str.lower, found)]):
        for start in range(0, len(names), 100):  # proxies take no more than some kilobytes
            yield [f"{name}: admin" for name in names[start : start + 100]]


async def ask(port: int, *lines: str, path: str = "/", tls: bool = True) -> Answer:
    """A GET with these very header lines, which no client has tidied up."""
    context: ssl.SSLContext | None = TRUSTING if tls else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    host = f"Host: 127.0.0.1:{port}"
    writer.write(
        "\r\n".join([f"GET {path} HTTP/1.1", host, "Connection: close", *lines, "", ""]).encode("latin-1")
    )
    answer = await asyncio.wait_for(reader.read(), 15)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    line, _, rest = head.decode("latin-1").partition("\r\n")
    return Answer(int(line.split()[1]), HTTPHeaders.parse(rest), body)
