"""A callback server that knows WeChat by `wechat.callback.Gate` alone, and what the tests share."""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from emulator import Account, Platform
from wechat.callback import Delivery, Gate, Mode, Refused
from wechat.crypto import MessageCrypto
from wechat.replies import SUCCESS, text_reply

APPID = "wx2c2769f8efd9abc2"
SECRET = "emulatedSecret"
TOKEN = "emulatedToken2026"
KEY = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"


def account(mode: Mode = Mode.SAFE, callback_url: str = "http://127.0.0.1:9/") -> Account:
    return Account(APPID, SECRET, TOKEN, KEY, mode, callback_url)


def code(platform: Platform, scene: str = "scene-1", seconds: int = 60) -> str:
    """The url of a new code."""
    request = {
        "action_name": "QR_STR_SCENE",
        "expire_seconds": seconds,
        "action_info": {"scene": {"scene_str": scene}},
    }
    url: str = platform.create_code(request)["url"]
    return url


@dataclass(frozen=True)
class Received:
    query: str
    body: bytes
    headers: dict[str, str]
    delivery: Delivery


class Callback:
    """Opens what arrives with the Gate; `answer` makes the answer, None leaves the connection open."""

    def __init__(self, mode: Mode) -> None:
        cryptos = () if mode is Mode.PLAIN else (MessageCrypto(KEY, APPID),)
        self.gate = Gate(mode, (TOKEN,), cryptos, 300)
        self.received: list[Received] = []
        self.refused = 0
        self.answer: Callable[[Delivery], bytes | None] = lambda delivery: SUCCESS
        self.status = 200
        sockets = bind_sockets(0, "127.0.0.1")
        self.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/wechat/callback"
        routes = [("/wechat/callback", _CallbackHandler, {"callback": self})]
        # What it refuses is what the tests are about, and no warning.
        self._server = HTTPServer(Application(routes, log_function=lambda handler: None))
        self._server.add_sockets(sockets)

    def reply(self, text: str) -> None:
        """From now on everything is answered with this text, sealed as the mode asks."""
        self.answer = lambda delivery: self.sealed(delivery, text_reply(delivery.message, text, time.time()))

    def sealed(self, delivery: Delivery, reply: bytes) -> bytes:
        return self.gate.seal(delivery, reply, time.time(), secrets.token_bytes)

    async def stop(self) -> None:
        self._server.stop()
        await self._server.close_all_connections()


class _CallbackHandler(RequestHandler):
    def initialize(self, callback: Callback) -> None:
        self.callback = callback

    def get(self) -> None:
        try:
            self.finish(self.callback.gate.verify_url(self.request.query, time.time()))
        except Refused:
            self.send_error(403)

    async def post(self) -> None:
        try:
            delivery = self.callback.gate.open(self.request.query, self.request.body, time.time())
        except Refused:
            self.callback.refused += 1
            self.set_status(403)
            return
        self.callback.received.append(
            Received(self.request.query, self.request.body, dict(self.request.headers), delivery)
        )
        answer = self.callback.answer(delivery)
        if answer is None:
            await asyncio.Event().wait()
        else:
            self.set_status(self.callback.status)
            self.finish(answer)


async def fetch(url: str, **options: Any) -> HTTPResponse:
    """One request, redirects not followed; every status is an answer."""
    return await AsyncHTTPClient().fetch(url, raise_error=False, follow_redirects=False, **options)
