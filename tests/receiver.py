"""Somebody's backend on loopback that is told of what happens here: it can be away, slow or odd."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from standardwebhooks import Webhook
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

SECRET, OLD_SECRET = (f"whsec_{base64.b64encode(bytes([number]) * 32).decode()}" for number in (1, 2))
LOOPBACK = {"allowed_networks": ["127.0.0.0/8", "::1/128"]}


@dataclass(frozen=True)
class Message:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["Webhook-Id"]

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def event(self) -> str:
        return self.document["type"]

    @property
    def data(self) -> dict[str, Any]:
        return self.document["data"]

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    def verified(self, secret: str = SECRET) -> dict[str, Any]:
        """What is in it, if it is signed with the secret; raises WebhookVerificationError."""
        return Webhook(secret).verify(self.body, self.headers)


Answer = Callable[[Message], int | Awaitable[int]]


@dataclass
class Receiver:
    """`answer` gives the status for a message, at once or after a while."""

    port: int = 0
    answer: Answer = lambda message: 204
    received: list[Message] = field(default_factory=list)
    _server: HTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def events(self) -> list[str]:
        return [message.event for message in self.received]

    def start(self) -> None:
        """Also again, on the same port."""
        receiver = self

        class Handler(RequestHandler):
            async def post(self) -> None:
                message = Message(self.request.path, dict(self.request.headers), self.request.body)
                receiver.received.append(message)
                status = receiver.answer(message)
                if inspect.isawaitable(status):
                    status = await status
                self.set_status(status)
                if 300 <= status < 400:
                    self.set_header("Location", "/elsewhere")

        sockets = bind_sockets(self.port, "127.0.0.1")
        self.port = sockets[0].getsockname()[1]
        self._server = HTTPServer(Application([(".*", Handler)], log_function=lambda _: None))
        self._server.add_sockets(sockets)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            await self._server.close_all_connections()
            self._server = None

    async def has(self, count: int, seconds: float = 10.0) -> list[Message]:
        """Waits until that many messages have come."""
        async with asyncio.timeout(seconds):
            while len(self.received) < count:
                await asyncio.sleep(0.005)
        return self.received


@asynccontextmanager
async def receiving(answer: Answer = lambda message: 204) -> AsyncIterator[Receiver]:
    receiver = Receiver(answer=answer)
    receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop()
