"""What the tests of the whole are built on: the emulator, a real server on a free port, and browsers."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import secrets
import signal
import sys
import time
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders
from tornado.netutil import bind_sockets
from tornado.websocket import WebSocketClientConnection, websocket_connect

from composition import Server, open_storage
from config import Settings
from emulator import Account, Attempt, Emulator, Outcome, Push
from errors import StoreUnavailable
from storage.base import Storage
from storage.records import Login, User
from tests.canaries import CANARIES
from tickets import Ticket
from wechat.callback import Mode

CALLBACK = "/wechat/callback"
ROOT = Path(__file__).parent.parent


class Clock:
    """The time, and a way to move it on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def pass_(self, seconds: float) -> None:
        self.ahead += seconds


def new_account(mode: Mode = Mode.SAFE) -> Account:
    return Account(
        appid=f"wx{secrets.token_hex(8)}",
        secret=secrets.token_hex(16),
        token=secrets.token_hex(8),
        encoding_aes_key=secrets.token_hex(22)[:43] if mode is not Mode.PLAIN else "",
        mode=mode,
        callback_url="",
    )


def _wechat(account: Account, api_base: str) -> dict[str, Any]:
    return {
        "appid": account.appid,
        "secret": account.secret,
        "token": account.token,
        "encoding_aes_key": account.encoding_aes_key,
        "mode": account.mode.value,
        "api_base": api_base,
    }


def settings_for(account: Account, api_base: str, folder: Path, document: Mapping[str, Any]) -> Settings:
    wechat = _wechat(account, api_base) | document.get("wechat", {})
    return Settings.model_validate({**document, "wechat": wechat, "folder": folder})


@dataclass
class Whole:
    """A running server and the platform it belongs to."""

    server: Server
    emulator: Emulator
    clock: Clock

    @property
    def base_url(self) -> str:
        return self.server.base_url

    @property
    def address(self) -> str:
        """Where the server listens; another than `base_url` where the settings name one."""
        return f"http://127.0.0.1:{self.server.port}"

    @property
    def storage(self) -> Storage:
        return self.server.context.storage

    def browser(self, **headers: str) -> Browser:
        return Browser(self.base_url, headers, self.address)

    def wire(self) -> Wire:
        return Wire(self.server.port)

    def person(self, number: int = 0) -> str:
        """The openid of one of the emulator's people."""
        return list(self.emulator.platform.people)[number]

    async def scan(self, ticket_id: str, person: str) -> Outcome:
        """The person scans the ticket's code with their phone, and follows where they do not yet."""
        ticket = await self.ticket(ticket_id)
        assert ticket is not None
        outcome = await self.emulator.phone.scan(person, ticket.code)
        assert outcome is not None
        return outcome

    async def log_in(self, browser: Browser, person: str, path: str = "/login") -> dict[str, Any]:
        """From the page to the session; returns the answer to the exchange."""
        ticket_id = await browser.open_login(path)
        assert (await self.scan(ticket_id, person)).accepted
        collected = await browser.exchange(ticket_id)
        assert collected.code == 200, collected.body
        return document(collected)

    async def post(self, push: Push) -> Attempt:
        """Posts the push once, under the name that the server goes by."""
        headers = {**push.headers, "Host": urlsplit(self.base_url).netloc}
        return await self.emulator.courier.post(replace(push, headers=headers))

    async def ticket(self, ticket_id: str) -> Ticket | None:
        async def work(transaction):
            return await transaction.tickets.get(ticket_id, now=0)

        return await self.storage.transact(work)

    async def user(self, person: str) -> User | None:
        async def work(transaction):
            return await transaction.users.by_identity("wechat", person)

        return await self.storage.transact(work)

    async def stored(
        self, *ticket_ids: str
    ) -> tuple[tuple[User, ...], tuple[Login, ...], list[Ticket | None]]:
        """All people, the login log and these tickets, to be compared before and after."""

        async def work(transaction):
            users = (await transaction.users.search("", limit=200)).users
            logins = tuple(await transaction.logins.newest(limit=200))
            return users, logins, [await transaction.tickets.get(known, now=0) for known in ticket_ids]

        return await self.storage.transact(work)

    def store_goes_away(self) -> None:
        """From now on every use of the store fails."""

        async def away(*_: Any, **__: Any) -> Any:
            raise StoreUnavailable

        self.storage.transact = away  # type: ignore[method-assign]
        self.storage.ping = away  # type: ignore[method-assign]

    def transactions(self) -> list[Any]:
        """A list that grows with each use of the store from now on, sweeps apart."""
        used: list[Any] = []
        transact = self.storage.transact

        async def counted(work: Any) -> Any:
            if "sweep" not in work.__qualname__:
                used.append(work)
            return await transact(work)

        self.storage.transact = counted  # type: ignore[method-assign]
        return used


@asynccontextmanager
async def running(
    folder: Path,
    *,
    mode: Mode = Mode.SAFE,
    account: Account | None = None,
    emulator: Emulator | None = None,
    port: int = 0,
    **document: Any,
) -> AsyncIterator[Whole]:
    """A server with the settings of `document` over the defaults; its own emulator unless one is given."""
    clock = Clock()
    own = emulator is None
    if emulator is None:
        emulator = Emulator.start(account or new_account(mode), timeout=2.0, now=clock)
    settings = settings_for(emulator.platform.account, emulator.base_url, folder, document)
    storage = await open_storage(settings)
    server = Server(settings, sockets=bind_sockets(port, "127.0.0.1"), storage=storage, now=clock)
    whole = Whole(server, emulator, clock)
    emulator.deliver_to(whole.address + CALLBACK)
    server.start()
    if own:
        await _has_codes(server)
    try:
        yield whole
    finally:
        await server.stop()
        if own:
            await emulator.stop()


async def _has_codes(server: Server) -> None:
    """A server that is stopped in the middle of its first calls would warn of them."""
    deadline = time.monotonic() + 30
    while server.codes is not None and await server.codes.ready() < server.settings.wechat.pool_size:
        assert time.monotonic() < deadline, "no codes came"
        await asyncio.sleep(0.005)


class Browser:
    """An HTTP client that keeps cookies and knows a page's XSRF token, as a browser with our script does."""

    def __init__(self, base_url: str, headers: Mapping[str, str], address: str = "") -> None:
        """`address` is where to connect to, for a `base_url` that leads nowhere."""
        self.base_url = base_url
        self.address = address or base_url
        self.headers = dict(headers)
        self.cookies: dict[str, str] = {}
        self.xsrf = ""
        self._client = AsyncHTTPClient()

    async def request(
        self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> HTTPResponse:
        sent = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36", **self.headers}
        sent["Host"] = urlsplit(self.base_url).netloc
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if method != "GET":
            sent |= {"Origin": self.base_url, "X-XSRFToken": self.xsrf}
            body = body if isinstance(body, (str, bytes)) else json.dumps(body or {})
        sent |= headers or {}
        url = path if path.startswith("http") else self.address + path
        request = HTTPRequest(
            url,
            method=method,
            body=body if method not in ("GET", "HEAD", "OPTIONS") else None,
            allow_nonstandard_methods=True,
            headers={name: value for name, value in sent.items() if value},
            follow_redirects=False,
            request_timeout=40,
        )
        response = await self._client.fetch(request, raise_error=False)
        self._keep(response)
        return response

    async def get(self, path: str, **headers: str) -> HTTPResponse:
        return await self.request("GET", path, headers=headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> HTTPResponse:
        return await self.request("POST", path, body=body, headers=headers)

    async def open_login(self, path: str = "/login") -> str:
        """Opens the login page and returns its ticket's id."""
        page = (await self.get(path)).body.decode()
        if 'data-state="LOADING"' in page:  # no code was ready: as somebody without scripts goes on
            page = (await self.get(path + ("&" if "?" in path else "?") + "wait=1")).body.decode()
        found = re.search(r'data-ticket="([^"]+)"', page)
        assert found, page
        self.xsrf = re.search(r'data-xsrf="([^"]+)"', page)[1]  # type: ignore[index]
        return found[1]

    async def code_of(self, ticket_id: str, storage: Storage) -> str:
        """What the ticket's QR code says."""

        async def work(transaction):
            return await transaction.tickets.get(ticket_id, now=0)

        return (await storage.transact(work)).code

    async def state(self, ticket_id: str, query: str = "") -> str:
        return json.loads((await self.get(f"/api/v1/tickets/{ticket_id}{query}")).body)["state"]

    async def exchange(self, ticket_id: str) -> HTTPResponse:
        return await self.post(f"/api/v1/tickets/{ticket_id}/exchange")

    @asynccontextmanager
    async def socket(self, ticket_id: str, **headers: str) -> AsyncIterator[WebSocketClientConnection]:
        """The page's socket, open; raises HTTPClientError where it is refused."""
        sent = {"Origin": self.base_url, "Host": urlsplit(self.base_url).netloc, **self.headers}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent |= headers
        url = f"{self.address.replace('http', 'ws', 1)}/websocket/{ticket_id}"
        connection = await websocket_connect(
            HTTPRequest(url, headers={name: value for name, value in sent.items() if value})
        )
        try:
            yield connection
        finally:
            connection.close()

    def _keep(self, response: HTTPResponse) -> None:
        for header in response.headers.get_list("Set-Cookie"):
            for name, morsel in SimpleCookie(header).items():
                gone = (
                    morsel["expires"] and parsedate_to_datetime(morsel["expires"]).timestamp() < time.time()
                )
                if gone or morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value


class Child:
    """`server.py` as a process of its own; whatever it says is kept."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._arguments = (sys.executable, str(ROOT / "server.py"), *arguments)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SAOMA_")}
        self._environment = {**kept, **(environment or {})}
        self.process: asyncio.subprocess.Process | None = None
        self.output = ""
        self._reading: list[asyncio.Task[None]] = []
        CANARIES.listen(lambda: self.output)

    @classmethod
    def serving(cls, settings: Path) -> Child:
        return cls("serve", "--settings", str(settings))

    async def __aenter__(self) -> Child:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.running:
            await self.end(signal.SIGKILL)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        """Starts it, again too."""
        self.output = ""
        self.process = await asyncio.create_subprocess_exec(
            *self._arguments,
            cwd=ROOT,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        streams = (self.process.stdout, self.process.stderr)
        self._reading = [asyncio.create_task(self._read(stream)) for stream in streams if stream]

    async def says(self, text: str, seconds: float = 15.0) -> str:
        """Waits for it; returns all that was said."""
        async with asyncio.timeout(seconds):
            while text not in self.output:
                assert self.running, self.output
                await asyncio.sleep(0.01)
        return self.output

    async def end(self, number: signal.Signals, seconds: float = 15.0) -> int:
        """Sends the signal and returns the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return await self.ended(seconds)

    async def ended(self, seconds: float = 15.0) -> int:
        """The exit code, once it ends by itself."""
        assert self.process is not None
        async with asyncio.timeout(seconds):
            code = await self.process.wait()
            await asyncio.gather(*self._reading)
        return code

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while piece := await stream.read(4096):
            self.output += piece.decode("utf-8", "replace")


def write_settings(folder: Path, account: Account, api_base: str, **document: Any) -> Path:
    """A settings file for a server that listens on `document`'s port."""
    wechat = _wechat(account, api_base) | document.pop("wechat", {})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump({**document, "wechat": wechat}, allow_unicode=True), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Answer:
    status: int
    headers: HTTPHeaders
    body: bytes


class Wire:
    """A connection on which anything can be sent, byte by byte."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Wire:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._writer is not None
        self._writer.close()

    async def send(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, *, has_body: bool = True) -> Answer:
        """The next answer; raises IncompleteReadError where the connection has ended."""
        assert self._reader is not None
        head = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 15)).decode("latin-1")
        line, _, rest = head.partition("\r\n")
        headers = HTTPHeaders.parse(rest)
        body = await self._reader.readexactly(int(headers.get("Content-Length", 0))) if has_body else b""
        return Answer(int(line.split()[1]), headers, body)

    async def ended(self) -> bool:
        """Whether the server closes the connection now."""
        assert self._reader is not None
        try:
            return await asyncio.wait_for(self._reader.read(1), 2) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


def collect_what_is_left() -> None:
    """Sockets that nobody closed, without the warning that would fail whichever test comes later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def document(response: HTTPResponse) -> dict[str, Any]:
    return json.loads(response.body)
