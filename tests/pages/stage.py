"""A small server that renders the real pages and plays the endpoints that they call, as a test directs it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import tornado.httpserver
import tornado.netutil
import tornado.web
import tornado.websocket

import codes
from translations import Catalogues, Texts

ROOT = Path(__file__).parents[2]
CATALOGUES = Catalogues.load(ROOT / "locale")
FINAL = {"CONSUMED", "CANCELLED", "INVALID"}
UNKNOWN = {"code": "ticket_unknown", "state": "INVALID", "status": 404}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self' {socket}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass
class Ticket:
    id: str
    expires_at: float
    state: str = "WAITING"
    user: dict[str, str] | None = None
    number: int = 0

    def seen(self) -> dict[str, Any]:
        left = self.expires_at - time.time()
        if left <= 0 and self.state not in FINAL:
            return UNKNOWN
        seen = {"state": self.state, "user": self.user, "expires_in": max(0, left)}
        return seen | ({"number": self.number} if self.number else {})


@dataclass
class Stage:
    """What a test may set, and what it may look at."""

    # What the endpoints do; a test changes these while the page is open.
    sockets: str = "served"  # or "refused", "mute"
    long_polls: str = "held"  # or "cut" (answered at once), "broken" (the connection is closed)
    lifetime: float = 300
    interval: float = 0.2
    answers_to_exchange: list[int] = field(
        default_factory=list
    )  # statuses before success; 0 cuts the connection
    loading: bool = False  # the login page comes without a ticket
    problem: dict[str, Any] | None = None  # what ticket creation refuses with
    silent: bool = False  # state is told to nobody any more
    page: dict[str, Any] = field(default_factory=dict)  # more for the templates' namespace
    headers: dict[str, str] = field(default_factory=lambda: {"Cache-Control": "no-store"})

    tickets: list[Ticket] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    bodies: list[Any] = field(default_factory=list)
    open_sockets: set[Socket] = field(default_factory=set)
    port: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _server: tornado.httpserver.HTTPServer | None = None

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ticket(self) -> Ticket:
        return self.tickets[-1]

    def issue(self) -> Ticket:
        self.tickets.append(Ticket(f"ticket-{len(self.tickets) + 1}", time.time() + self.lifetime))
        return self.ticket

    def find(self, id: str) -> Ticket | None:
        return next((ticket for ticket in self.tickets if ticket.id == id), None)

    def look(self, id: str) -> dict[str, Any]:
        ticket = self.find(id)
        return ticket.seen() if ticket else UNKNOWN

    def become(self, state: str, user: dict[str, str] | None = None, number: int = 0) -> None:
        self.ticket.state = state
        self.ticket.user = user
        self.ticket.number = number
        self.changed.set()
        self.changed = asyncio.Event()

    def start(self) -> None:
        application = tornado.web.Application(
            [
                (r"/", Page, {"stage": self, "template": "home.html"}),
                (r"/login", LoginPage, {"stage": self, "template": "login.html"}),
                (r"/not-me", Page, {"stage": self, "template": "not_me.html"}),
                (r"/error", Page, {"stage": self, "template": "error.html"}),
                (r"/picture\.svg", Picture, {"stage": self}),
                (r"/(?:logout|profile)", Form, {"stage": self}),
                (r"/websocket/(.+)", Socket, {"stage": self}),
                (r"/api/v1/tickets", Tickets, {"stage": self}),
                (r"/api/v1/tickets/([^/]+)", State, {"stage": self}),
                (r"/api/v1/tickets/([^/]+)/qr\.(svg|png)", Code, {"stage": self}),
                (r"/api/v1/tickets/([^/]+)/exchange", Exchange, {"stage": self}),
                (r"/api/v1/tickets/([^/]+)/abandon", Abandon, {"stage": self}),
            ],
            template_path=str(ROOT / "templates"),
            static_path=str(ROOT / "static"),
            xsrf_cookies=True,
            log_function=lambda handler: None,
        )
        self._server = tornado.httpserver.HTTPServer(application)
        listening = tornado.netutil.bind_sockets(self.port, "127.0.0.1")
        self.port = listening[0].getsockname()[1]
        self._server.add_sockets(listening)

    async def stop(self) -> None:
        """As a killed server: nothing is said to anybody."""
        assert self._server is not None
        self._server.stop()
        for socket in list(self.open_sockets):
            socket.cut()
        await self._server.close_all_connections()


@asynccontextmanager
async def staged(**settings: Any) -> AsyncIterator[Stage]:
    stage = Stage(**settings)
    stage.start()
    try:
        yield stage
    finally:
        await stage.stop()


class Handler(tornado.web.RequestHandler):
    stage: Stage

    def initialize(self, stage: Stage) -> None:
        self.stage = stage

    def prepare(self) -> None:
        self.stage.seen[f"{self.request.method} {self.request.path}"] += 1

    def set_default_headers(self) -> None:
        self.set_header("Content-Security-Policy", POLICY.format(socket=f"ws://{self.request.host}"))

    def cut(self) -> None:
        """Closes the connection in the middle of an answer."""
        connection = self.request.connection
        assert connection is not None
        connection.stream.close()  # type: ignore[attr-defined]

    def answer(self, status: int, body: dict[str, Any]) -> None:
        self.set_status(status)
        kind = "application/json" if status < 400 else "application/problem+json"
        self.set_header("Content-Type", kind)
        self.finish(json.dumps(body))


class Page(Handler):
    def initialize(self, stage: Stage, template: str = "") -> None:
        super().initialize(stage)
        self.template = template

    def namespace(self, texts: Texts) -> dict[str, Any]:
        return {}

    def get(self) -> None:
        texts = CATALOGUES.choose(
            self.get_query_argument("lang", None), self.request.headers.get("Accept-Language")
        )
        namespace: dict[str, Any] = {
            "_": texts,
            "language": texts.language,
            "site": SimpleNamespace(name="saoma", logo="", icp="", privacy_url="", terms_url=""),
            "current": None,
        }
        for name, value in self.stage.headers.items():
            self.set_header(name, value)
        made = {name: value(texts) if callable(value) else value for name, value in self.stage.page.items()}
        self.render(self.template, **(namespace | self.namespace(texts) | made))

    post = get


class LoginPage(Page):
    def namespace(self, texts: Texts) -> dict[str, Any]:
        ticket = Ticket("", 0, "LOADING") if self.stage.loading else self.stage.issue()
        return {
            "picture_link": "",
            "on_phone": False,
            "in_wechat": False,
            "ticket": SimpleNamespace(
                id=ticket.id,
                state=ticket.state,
                method=self.get_query_argument("method", "wechat"),
                expires_in=self.stage.lifetime,
                interval=self.stage.interval,
                number=0,
            ),
            "code_svg": codes.svg(f"http://weixin.qq.com/q/{ticket.id}") if ticket.id else "",
            "problem": None,
            "next": self.get_query_argument("next", ""),
            "demo_link": None,
            "app_link": "",
            "asking": "saoma",
            "reason": "",
            "not_yet": False,
            "methods": (),
            "method": self.get_query_argument("method", "wechat"),
            "xsrf": self.xsrf_token.decode(),
        }


class Picture(Handler):
    def get(self) -> None:
        self.set_header("Content-Type", "image/svg+xml")
        self.finish(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8">'
            '<rect width="8" height="8" fill="#3465a4"/>'
            '<circle cx="4" cy="3" r="1.5" fill="#fff"/><path d="M1 8a3 3 0 0 1 6 0z" fill="#fff"/></svg>'
        )


class Form(Handler):
    def post(self) -> None:
        self.redirect("/", status=303)


class Code(Handler):
    def get(self, id: str, kind: str) -> None:
        text = f"http://weixin.qq.com/q/{id}"
        self.set_header("Content-Type", "image/svg+xml" if kind == "svg" else "image/png")
        self.finish(codes.svg(text) if kind == "svg" else codes.png(text))


class Tickets(Handler):
    def check_xsrf_cookie(self) -> None:
        """A fresh ticket is nobody's: creation asks for no token."""

    def post(self) -> None:
        self.stage.bodies.append(json.loads(self.request.body))
        if self.stage.problem:
            if "retry_after" in self.stage.problem:
                self.set_header("Retry-After", str(self.stage.problem["retry_after"]))
            self.answer(self.stage.problem["status"], self.stage.problem)
            return
        ticket = self.stage.issue()
        self.answer(
            201,
            {
                "id": ticket.id,
                "state": ticket.state,
                "expires_in": self.stage.lifetime,
                "interval": self.stage.interval,
                "qr": "http://weixin.qq.com/q/" + ticket.id,
            },
        )


class State(Handler):
    async def get(self, id: str) -> None:
        held = float(self.get_query_argument("wait", "0"))
        if self.stage.silent:
            await asyncio.sleep(60)
        if held:
            self.stage.seen["long polls"] += 1
            if self.stage.long_polls == "broken":
                self.cut()
                return
            if self.stage.long_polls == "held" and self.stage.look(id)["state"] == self.get_query_argument(
                "state"
            ):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.stage.changed.wait(), held)
        else:
            self.stage.seen["plain polls"] += 1
        looked = self.stage.look(id)
        self.answer(404 if looked is UNKNOWN else 200, looked)


class Exchange(Handler):
    def post(self, id: str) -> None:
        if self.stage.answers_to_exchange:
            status = self.stage.answers_to_exchange.pop(0)
            if status == 0:
                self.cut()
            else:
                self.answer(status, {"code": "login_refused" if status == 403 else "internal_error"})
            return
        ticket = self.stage.find(id)
        assert ticket is not None
        ticket.state = "CONSUMED"
        self.answer(200, {"state": "CONSUMED", "user": ticket.user, "next": "/?welcome"})


class Abandon(Handler):
    def post(self, id: str) -> None:
        self.stage.become("CANCELLED")
        self.answer(200, {"state": "CANCELLED"})


class Socket(tornado.websocket.WebSocketHandler):
    def initialize(self, stage: Stage) -> None:
        self.stage = stage

    async def get(self, *args: str, **kwargs: str) -> None:
        self.stage.seen["sockets"] += 1
        if self.stage.sockets == "refused":
            self.set_status(502)
            self.finish("<h1>Bad gateway</h1>")
            return
        await super().get(*args, **kwargs)

    async def open(self, *args: str, **kwargs: str) -> None:
        self.stage.open_sockets.add(self)
        self._telling = asyncio.ensure_future(self._tell(args[0]))

    async def _tell(self, id: str) -> None:
        while self.stage.sockets == "served":
            changed = self.stage.changed  # taken before looking: no change falls between look and wait
            looked = self.stage.look(id)
            if not self.stage.silent:
                await self.write_message(json.dumps(looked))
            if looked["state"] in FINAL:
                self.close()
                return
            await changed.wait()

    def cut(self) -> None:
        if self.ws_connection is not None and self.ws_connection.stream is not None:
            self.ws_connection.stream.close()

    def on_close(self) -> None:
        self._telling.cancel()
        self.stage.open_sockets.discard(self)


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.02)


def address(path: str, **query: str) -> str:
    return f"{path}?{urlencode(query)}"
