"""Attackers, each in a process of its own: `python -m tests.hostile.attackers KIND PORT NUMBER SECONDS`.

Prints what they got as JSON: {"answered": {status: times}, "retry_after": times, "closed": times}.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import random
import socket
import sys
import time
from collections import Counter

READ = 65536
PAUSE = 0.05  # after a connection that was refused


class Attacker:
    def __init__(self, kind: str, port: int, seconds: float) -> None:
        self._kind = kind
        self._port = port
        self._end = time.monotonic() + seconds
        self.answered: Counter[int] = Counter()
        self.retry_after = 0
        self.closed = 0

    async def run(self, number: int) -> None:
        attack = getattr(self, f"_{self._kind}")
        async with asyncio.TaskGroup() as group:
            for place in range(number):  # not in one moment: it is not the flood of connections that is meant
                group.create_task(self._again(attack, place / number * self._left / 2))

    async def _again(self, attack, after: float) -> None:  # type: ignore[no-untyped-def]
        await asyncio.sleep(after)
        while self._left > 0:
            with socket.socket() as client:
                client.setblocking(False)
                if self._kind == "unread":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                if self._kind == "storm":
                    client.bind(("127.0.0.2", 0))
                try:
                    async with asyncio.timeout(self._left):
                        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self._port))
                        await attack(client)
                except TimeoutError:
                    return
                except OSError:
                    await asyncio.sleep(PAUSE)
                self.closed += 1

    @property
    def _left(self) -> float:
        return self._end - time.monotonic()

    async def _idle(self, client: socket.socket) -> None:
        """Says nothing until it is closed, and comes again."""
        await asyncio.get_running_loop().sock_recv(client, READ)

    async def _storm(self, client: socket.socket) -> None:
        """The same from one address, and again at once where it is refused."""
        said = await asyncio.get_running_loop().sock_recv(client, READ)
        if said:
            self.answered[int(said.split()[1])] += 1
            self.retry_after += b"Retry-After" in said

    async def _unread(self, client: socket.socket) -> None:
        """Asks for a lot and reads nothing."""
        loop = asyncio.get_running_loop()
        while True:
            await loop.sock_sendall(client, 100 * self._request("GET", "/static/ticket.js"))
            await asyncio.sleep(1)

    async def _one(self, client: socket.socket) -> None:
        """New codes from one address."""
        await self._codes(client, lambda: "198.51.100.7")

    async def _many(self, client: socket.socket) -> None:
        """New codes, each from another address."""
        await self._codes(client, lambda: str(ipaddress.IPv4Address((10 << 24) + random.randrange(1 << 24))))

    async def _codes(self, client: socket.socket, address) -> None:  # type: ignore[no-untyped-def]
        loop, buffer = asyncio.get_running_loop(), b""
        while True:
            asked = self._request(
                "POST", "/api/v1/tickets", f"X-Forwarded-For: {address()}\r\nContent-Length: 2\r\n"
            )
            await loop.sock_sendall(client, asked + b"{}")
            while b"\r\n\r\n" not in buffer:
                buffer += await self._piece(client)
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").lower().split("\r\n")
            fields = dict(line.split(": ", 1) for line in lines[1:])
            while len(buffer) < int(fields["content-length"]):
                buffer += await self._piece(client)
            buffer = buffer[int(fields["content-length"]) :]
            self.answered[int(lines[0].split()[1])] += 1
            self.retry_after += "retry-after" in fields

    async def _piece(self, client: socket.socket) -> bytes:
        piece = await asyncio.get_running_loop().sock_recv(client, READ)
        if not piece:
            raise ConnectionError
        return piece

    def _request(self, method: str, path: str, more: str = "") -> bytes:
        return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n{more}\r\n".encode()


def main(kind: str, port: str, number: str, seconds: str) -> None:
    attacker = Attacker(kind, int(port), float(seconds))
    asyncio.run(attacker.run(int(number)))
    told = {"answered": attacker.answered, "retry_after": attacker.retry_after, "closed": attacker.closed}
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
