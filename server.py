"""Builds the application from the settings, serves it, drains on SIGTERM. The command line."""

from __future__ import annotations

import argparse
import asyncio
import hmac
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from redis.asyncio import Redis
from tornado.httpclient import AsyncHTTPClient
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
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

import background
import config
import logs
from app.keys import KeysUnavailable, RemoteKeys
from app.token import PUBLIC_KEY_ALGORITHMS, Keys, Policy, algorithms_of, import_key
from broker.base import Broker
from broker.local import LocalBroker
from broker.redis import RedisBroker
from config import FaultySettings, Settings
from errors import StoreLocked, StoreUnavailable
from flows.app_login import AppLogin
from flows.code_pool import CodePool
from flows.context import Context
from flows.deliveries import Deliveries
from flows.pictures import Pictures
from flows.profiles import ProfileFetcher
from flows.relay import Relay
from flows.tickets import TicketDesk
from handlers import ROOT, make_application
from handlers.peers import Peers
from handlers.services import Services
from storage import redis
from storage.base import Storage
from storage.shared import LocalShared, Shared
from storage.split import SplitStorage
from tickets.ticket import EXTENSION_SECONDS
from translations import Catalogues
from wechat.account_check import Finding, try_account
from wechat.callback import Gate, Mode
from wechat.client import WechatClient
from wechat.crypto import MessageCrypto

# Tornado's own limits are generous (an hour for headers, 100 MB for a body).
MAX_HEADER_BYTES = 16 * 1024
MAX_BODY_BYTES = 64 * 1024
IDLE_SECONDS = 20.0  # for a request's headers, and between two requests
BODY_SECONDS = 10.0
SWEEP_SECONDS = 300.0
DRAIN_SECONDS = 6.0
ARRIVAL_SECONDS = 1.0  # for the first request on a connection that was made before we stopped listening
MAX_OUTBOUND = 100  # calls to WeChat and to the team's backend at once

DEMO_PORT = 8888
DEMO_PHONE_PORT = 8890

log = logging.getLogger("saoma")


class _Changes(HTTPServerConnectionDelegate):
    """Passes requests on to the application, and knows those that may change something and have no answer."""

    def __init__(self, application: Application) -> None:
        self._application = application
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

        def read(changing: bool) -> None:
            self._silent.discard(server_conn)
            if changing:
                self._running.add(request_conn)
            self._moved.set()

        return _Request(self._application.start_request(server_conn, request_conn), read)

    def on_close(self, server_conn: object) -> None:
        self._open.discard(server_conn)
        self._silent.discard(server_conn)
        self._moved.set()
        self._application.on_close(server_conn)

    async def finish(self, seconds: float) -> None:
        """Returns when all have been answered, or after that long."""
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


class _Request(HTTPMessageDelegate):
    def __init__(self, inner: HTTPMessageDelegate, read: Callable[[bool], None]) -> None:
        """`read` is called when the request has come whole, with whether it may change something."""
        self._inner = inner
        self._read = read
        self._changing = True

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        if isinstance(start_line, RequestStartLine):
            self._changing = start_line.method not in ("GET", "HEAD")
        return self._inner.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._inner.data_received(chunk)

    def finish(self) -> None:
        self._read(self._changing)
        self._inner.finish()

    def on_connection_close(self) -> None:
        self._inner.on_connection_close()


class Server:
    """Everything that runs, wired: the one composition root."""

    def __init__(
        self,
        settings: Settings,
        *,
        sockets: list[socket.socket],
        storage: Storage,
        now: Callable[[], float] = time.time,
        demo: bool = False,
    ) -> None:
        self.settings = settings
        self._sockets = sockets
        self.port: int = sockets[0].getsockname()[1]
        self.base_url = settings.server.base_url or f"http://127.0.0.1:{self.port}"
        backing = back(settings, storage, now)
        self._backing = backing
        self._http_client = AsyncHTTPClient(force_instance=True, max_clients=MAX_OUTBOUND)
        key = config.read_secret_key(settings)
        self.context = Context(
            settings=settings,
            base_url=self.base_url,
            storage=backing.storage,
            broker=backing.broker,
            catalogues=Catalogues.load(ROOT / "locale"),
            now=now,
            token=secrets.token_urlsafe,
            random=os.urandom,
            mac=lambda purpose, value: hmac.new(key, f"{purpose} {value}".encode(), "sha256").hexdigest(),
        )
        self.codes: CodePool | None = None
        self.profiles: ProfileFetcher | None = None
        gate = deliveries = None
        if settings.wechat.enabled:
            gate = make_gate(settings)
            client = make_client(settings, self._http_client, now, backing.shared)
            limits = settings.limits.enabled
            self.codes = CodePool(
                client,
                size=settings.wechat.pool_size,
                max_age=settings.wechat.pool_age,
                code_life=settings.ticket.lifetime + EXTENSION_SECONDS,
                daily_budget=settings.wechat.daily_codes if limits else None,
                now=now,
                token=self.context.token,
                shared=backing.shared,
            )
            self.profiles = ProfileFetcher(self.context, client)
            forward_url = settings.wechat.forward_url
            relay = Relay(forward_url, gate, self._http_client) if forward_url else None
            deliveries = Deliveries(self.context, gate, self.profiles, relay)
        services = Services(
            context=self.context,
            desk=TicketDesk(self.context, self.codes),
            peers=Peers(settings.server.trusted_proxies),
            own_hosts=own_hosts(settings, self.port),
            pictures=Pictures(self.context, self._http_client, settings.wechat.picture_hosts),
            gate=gate,
            deliveries=deliveries,
            app_login=self._app_login(),
            demo=demo,
        )
        self._deliveries = deliveries
        self._changes = _Changes(make_application(services))
        self._http_server = HTTPServer(
            self._changes,
            max_header_size=MAX_HEADER_BYTES,
            max_body_size=MAX_BODY_BYTES,
            idle_connection_timeout=IDLE_SECONDS,
            body_timeout=BODY_SECONDS,
        )
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def broker(self) -> Broker:
        return self._backing.broker

    def _app_login(self) -> AppLogin | None:
        app = self.settings.app
        if not app.enabled:
            return None
        keys: Keys | RemoteKeys
        if app.jwks_url:
            keys = RemoteKeys(app.jwks_url, self._http_client, self.context.now)
            fitting = PUBLIC_KEY_ALGORITHMS
        else:
            keys = import_key(app.key.get_secret_value())
            fitting = algorithms_of(keys)
        policy = Policy(app.issuer, app.audience, frozenset(app.algorithms) or fitting)
        return AppLogin(self.context, policy, keys)

    def start(self) -> None:
        """Serves from now on; needs a running loop."""
        if isinstance(self._backing.broker, RedisBroker):
            self._backing.broker.start()
        if self.codes is not None and self.profiles is not None:
            self.codes.start()
            self.profiles.start()
        self._sweeper = asyncio.create_task(self._sweep())
        self._http_server.add_sockets(self._sockets)

    async def stop(self) -> None:
        """Takes no more requests, finishes what changes something, lets the pages go and closes.

        Whoever waits or reads is cut off: a proxy or the page itself asks another node, or us again.
        """
        self._take_what_has_come()
        self._http_server.stop()
        await self._changes.finish(DRAIN_SECONDS)
        if self._deliveries is not None:
            await self._deliveries.finish(DRAIN_SECONDS)
        if self.codes is not None and self.profiles is not None:
            await self.codes.stop()
            await self.profiles.stop()
        if self._sweeper is not None:
            await background.end([self._sweeper])
        await self._http_server.close_all_connections()
        self._http_client.close()
        await self._backing.close()

    def _take_what_has_come(self) -> None:
        """Accepts the connections that wait for it; they would be reset, with what has been sent on them."""
        for listener in self._sockets:
            with suppress(OSError):  # BlockingIOError: there are no more
                while True:
                    connection, address = listener.accept()
                    stream = IOStream(connection, max_buffer_size=self._http_server.max_buffer_size)
                    self._http_server.handle_stream(stream, address)

    async def _sweep(self) -> None:
        while True:
            try:
                await self._backing.storage.sweep(now=self.context.now())
            except StoreUnavailable:
                log.warning("the store did not answer the sweep; nothing depends on it")
            await asyncio.sleep(SWEEP_SECONDS)


async def open_storage(settings: Settings) -> Storage:
    """The driver that `storage.url` names. Raises StoreUnavailable."""
    path = settings.sqlite_path
    if path is not None:
        from storage import sqlite

        return sqlite.open(path)
    from storage import mongodb

    return await mongodb.open(settings.storage.url)


@dataclass(frozen=True, slots=True)
class Backing:
    """What keeps and carries the logins: in this process and its database, or shared through Redis."""

    storage: Storage
    broker: Broker
    shared: Shared
    redis: Redis | None = None

    async def close(self) -> None:
        if isinstance(self.broker, RedisBroker):
            await self.broker.stop()
        if self.redis is not None:
            await self.redis.aclose()
        await self.storage.close()


def back(settings: Settings, database: Storage, now: Callable[[], float]) -> Backing:
    """Redis where `redis.url` names one. Raises StoreUnavailable for an address nobody understands."""
    url = settings.redis.url.get_secret_value()
    if not url:
        return Backing(database, LocalBroker(), LocalShared(now))
    client, node = redis.connect(url), secrets.token_hex(8)
    shared = redis.RedisShared(client, node, settings.wechat.appid)
    return Backing(SplitStorage(database, client), RedisBroker(client, node), shared, client)


def make_gate(settings: Settings) -> Gate:
    wechat = settings.wechat
    return Gate(
        mode=Mode(wechat.mode),
        tokens=wechat.tokens,
        cryptos=tuple(MessageCrypto(key, wechat.appid) for key in wechat.aes_keys),
        window=wechat.timestamp_window,
    )


def make_client(
    settings: Settings, http: AsyncHTTPClient, now: Callable[[], float], shared: Shared | None = None
) -> WechatClient:
    wechat = settings.wechat
    return WechatClient(
        appid=wechat.appid,
        secret=wechat.secret.get_secret_value(),
        api_base=wechat.api_base,
        stable=wechat.access_token == "stable",  # noqa: S105  # a kind, no token
        now=now,
        http=http,
        shared=shared,
    )


def own_hosts(settings: Settings, port: int) -> frozenset[str]:
    """The Host headers that are ours: base_url's, or loopback's names while there is none."""
    if not settings.server.base_url:
        names = ("127.0.0.1", "localhost", "[::1]")
        return frozenset({f"{name}:{port}" for name in names} | (set(names) if port == 80 else set()))
    parts = urlsplit(settings.server.base_url)
    default = {"http": 80, "https": 443}[parts.scheme]
    bare = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else f"{parts.hostname}"
    if parts.port in (None, default):
        return frozenset({bare, f"{bare}:{default}"})
    return frozenset({f"{bare}:{parts.port}"})


async def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT."""
    storage = await open_storage(settings)
    try:
        sockets = bind_sockets(settings.server.port, settings.server.address)
    except OSError as error:
        await storage.close()
        raise FaultySettings(
            [f"server: cannot listen on {settings.server.address}:{settings.server.port} ({error.strerror})"]
        ) from None
    server = Server(settings, sockets=sockets, storage=storage)
    told = _told_to_stop()
    server.start()
    log.info("serving %s (listening on %s:%d)", server.base_url, settings.server.address, server.port)
    for warning in settings.warnings:
        log.warning("%s", warning)
    await told.wait()
    log.info("stopping")
    await server.stop()


def _told_to_stop() -> asyncio.Event:
    """Set by SIGTERM and SIGINT from now on."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    return told


async def check(settings: Settings, *, online: bool) -> bool:
    """Tries what the settings name and tells it in plain words. Whether all is fine."""
    findings = [Finding(True, "settings: no faults"), await _try_storage(settings)]
    findings += [finding async for finding in _try_redis(settings)]
    if online:
        findings += [finding async for finding in _try_online(settings)]
    for finding in findings:
        print(("ok     " if finding.fine else "FAULT  ") + finding.words)
    for warning in settings.warnings:
        print(f"note   {warning}")
    return all(finding.fine for finding in findings)


async def _try_online(settings: Settings) -> AsyncIterator[Finding]:
    http = AsyncHTTPClient(force_instance=True)
    if settings.wechat.enabled:
        async for finding in try_account(make_client(settings, http, time.time)):
            yield finding
    if settings.app.jwks_url:
        try:
            await RemoteKeys(settings.app.jwks_url, http, time.time).get(None)
            yield Finding(True, "app: jwks_url answers with public keys")
        except KeysUnavailable:
            yield Finding(False, "app: jwks_url answers with no public keys that can be used")
    if not settings.wechat.enabled and not settings.app.enabled:
        yield Finding(False, "nothing to try: neither wechat nor app is set up")
    http.close()


async def _try_redis(settings: Settings) -> AsyncIterator[Finding]:
    if not settings.redis.url.get_secret_value():
        return
    try:
        client = redis.connect(settings.redis.url.get_secret_value())
        found = await redis.faults(client)
        await client.aclose()
    except StoreUnavailable as error:
        yield Finding(False, f"redis: {error.message}")
        return
    yield Finding(True, "redis: answers")
    for fault in found:
        yield Finding(False, f"redis: {fault}")


async def _try_storage(settings: Settings) -> Finding:
    """Makes no file: whoever checks may be another user than the one that serves."""
    path = settings.sqlite_path
    if path is not None and not path.exists():
        folder = next(parent for parent in path.parents if parent.exists())
        writable = os.access(folder, os.W_OK | os.X_OK)
        words = "will be made on the first start" if writable else f"cannot be made: {folder} is not writable"
        return Finding(writable, f"storage: {path} {words}")
    try:
        storage = await open_storage(settings)
        await storage.ping()
        await storage.close()
    except StoreLocked:
        return Finding(True, "storage: in use; a saoma is serving with it now")
    except StoreUnavailable as error:
        return Finding(False, f"storage: {error.message}")
    return Finding(True, "storage: takes writes")


async def demo(port: int) -> None:
    """The server, WeChat's platform and a phone, with an embedded store that is gone afterwards."""
    from emulator import Account, AppBackend, Emulator

    with tempfile.TemporaryDirectory(prefix="saoma-demo-") as folder:
        sockets = _bind_near(port)
        base_url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        account = Account(
            appid=f"wx{secrets.token_hex(8)}",
            secret=secrets.token_hex(16),
            token=secrets.token_hex(16),
            encoding_aes_key=secrets.token_hex(22)[:43],
            mode=Mode.SAFE,
            callback_url=f"{base_url}/wechat/callback",
        )
        try:
            emulator = Emulator.start(account, port=DEMO_PHONE_PORT)
        except OSError:
            emulator = Emulator.start(account)
        backend = AppBackend(
            issuer=emulator.base_url, audience="saoma", key=secrets.token_urlsafe(32), server=base_url
        )
        emulator.install_app(backend)
        document = {
            "site": {"name": "saoma 演示"},
            "wechat": {
                "appid": account.appid,
                "secret": account.secret,
                "token": account.token,
                "encoding_aes_key": account.encoding_aes_key,
                "mode": "safe",
                "api_base": emulator.base_url,
                "picture_hosts": [urlsplit(emulator.base_url).netloc],
                "welcome": "你好，欢迎关注！\nHello, and thank you for following.",
            },
            "app": {
                "issuer": backend.issuer,
                "key": backend.key,
                "link": f"{emulator.base_url}/?code={{url}}",
            },
        }
        settings = Settings.model_validate({**document, "folder": Path(folder)})
        server = Server(settings, sockets=sockets, storage=await open_storage(settings), demo=True)
        server.start()
        told = _told_to_stop()
        print(f"网站 site:             {server.base_url}/")
        print(f"模拟手机 phone:        {emulator.base_url}/")
        print("用浏览器打开网站并登录，再用模拟手机扫码。按 Ctrl+C 结束。")
        print("Open the site, then scan its code with the phone. Ctrl+C ends it.", flush=True)
        await told.wait()
        await server.stop()
        await emulator.stop()


def _bind_near(port: int) -> list[socket.socket]:
    """The port, or a free one where it is taken."""
    try:
        return bind_sockets(port, "127.0.0.1")
    except OSError:
        return bind_sockets(0, "127.0.0.1")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="server.py", description="saoma: scan a code, be logged in.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve with a settings file")
    serve.add_argument("--settings", type=Path, required=True, metavar="FILE")
    checking = commands.add_parser("check", help="look for faults in a settings file")
    checking.add_argument("--settings", type=Path, required=True, metavar="FILE")
    checking.add_argument("--online", action="store_true", help="try WeChat's API with the account too")
    demonstration = commands.add_parser("demo", help="server, emulated WeChat and phone: try it out")
    demonstration.add_argument("--port", type=int, default=DEMO_PORT, help="default: %(default)s")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "demo":
            logs.set_up(logging.WARNING)
            asyncio.run(demo(chosen.port))
            return 0
        settings = config.load(chosen.settings, os.environ)
        if chosen.command == "check":
            logs.set_up(logging.CRITICAL)
            return 0 if asyncio.run(check(settings, online=chosen.online)) else 1
        logs.set_up()
        asyncio.run(run(settings))
    except FaultySettings as error:
        for fault in error.faults:
            print(f"FAULT  {fault}", file=sys.stderr)
        return 2
    except StoreUnavailable as error:
        print(f"FAULT  storage: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
