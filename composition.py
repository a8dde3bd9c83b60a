"""The one composition root: settings in, a wired server out. Only here drivers are picked."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer

import background
import collector
from app.keys import RemoteKeys
from app.token import PUBLIC_KEY_ALGORITHMS, Keys, Policy, algorithms_of, import_key
from broker.base import Broker
from broker.local import LocalBroker
from broker.redis import RedisBroker
from config import Settings, read_secret_key
from config.sections import App
from connections import Connections, HeaderTimeouts
from control import ControlServer, database_of, socket_path
from draining import Changes, Serving
from errors import StoreUnavailable
from flows.access_token import AccessTokens
from flows.app_login import AppLogin
from flows.code_pool import CodePool
from flows.context import Context
from flows.deliveries import Deliveries
from flows.drawing import Drawing
from flows.limits import address_key
from flows.messenger import Messenger
from flows.outbox import Outbox
from flows.pictures import Pictures
from flows.platform_state import PlatformState
from flows.profiles import ProfileFetcher
from flows.relay import Relay
from flows.session_memory import SessionMemory
from flows.signing import Signer
from flows.sweeper import PAUSE_SECONDS, Sweeper
from flows.tickets import TicketDesk
from flows.watch import Waiters
from handlers import ROOT, make_application
from handlers.control import make_control
from handlers.metrics import make_metrics
from handlers.peers import Peers
from handlers.services import Services
from handlers.websocket import SERVICE_RESTART
from metrics import Metrics
from storage import redis, redis_rates
from storage.base import Storage
from storage.rates import LocalRates, Rates
from storage.redis_client import Client
from storage.ringing import RingingStorage
from storage.shared import LocalShared, Shared
from storage.split import SplitStorage
from storage.watched import WatchedStorage
from tickets.ticket import EXTENSION_SECONDS
from translations import Catalogues
from wechat.callback import Gate, Mode
from wechat.client import WechatClient
from wechat.crypto import MessageCrypto

FEW_WAITING = 200  # so few are looked through in a moment by Python's collector
DRAIN_SECONDS = 6.0
MAX_OUTBOUND = 100  # calls to WeChat and for keys at once; relay and pictures have their own

log = logging.getLogger("saoma")


class Server:
    """Everything that runs, wired."""

    def __init__(
        self,
        settings: Settings,
        *,
        sockets: list[socket.socket],
        storage: Storage,
        now: Callable[[], float] = time.time,
        demo: bool = False,
        metrics_sockets: Collection[socket.socket] = (),
    ) -> None:
        self.settings = settings
        self.port: int = sockets[0].getsockname()[1]
        self.base_url = settings.server.base_url or f"http://127.0.0.1:{self.port}"
        database = storage
        backing = back(settings, storage, now)
        self._backing = backing
        self._http_client = AsyncHTTPClient(force_instance=True, max_clients=MAX_OUTBOUND)
        storage = backing.storage
        if any(site.webhook_url or site.backchannel_logout_uri for site in settings.sites):
            storage = RingingStorage(storage, lambda endpoint: self._outbox.wake(endpoint))
        self.context = make_context(settings, self.base_url, storage, backing.broker, backing.rates, now)
        self._signer = signer = Signer(self.context)
        self._outbox = Outbox(self.context, signer.logout_token)
        self._control: ControlServer | None = None
        if place := socket_path(settings):
            control = make_control(self.context, self._outbox, database_of(settings), copying(database))
            self._control = ControlServer(place, control)
        self.codes: CodePool | None = None
        self.profiles: ProfileFetcher | None = None
        self.messenger: Messenger | None = None
        self._relay: Relay | None = None
        gate = client = deliveries = platform_state = None
        if settings.wechat.enabled:
            gate = make_gate(settings)
            client = make_client(
                settings, self._http_client, now, backing.shared, self.context.metrics.platform_called
            )
            self.codes = CodePool(
                client,
                size=settings.wechat.pool_size,
                max_age=settings.wechat.pool_age,
                code_life=settings.ticket.lifetime + EXTENSION_SECONDS,
                daily_budget=settings.wechat.daily_codes if settings.limits.enabled else None,
                now=now,
                token=self.context.token,
                shared=backing.shared,
            )
            self.profiles = ProfileFetcher(self.context, client)
            self.messenger = Messenger(self.context, client)
            forward_url = settings.wechat.forward_url
            self._relay = Relay(forward_url, gate, now) if forward_url else None
            deliveries = Deliveries(self.context, gate, self.profiles, self.messenger, self._relay)
            platform_state = PlatformState(self.context, client, self.codes, deliveries)
        desk = TicketDesk(self.context, self.codes)
        self._drawing = Drawing(desk.likely_codes)
        self._pictures = Pictures(self.context, settings.wechat.picture_hosts)
        self._services = services = Services(
            context=self.context,
            sessions=SessionMemory(self.context, backing.shared),
            desk=desk,
            drawing=self._drawing,
            peers=Peers(settings.server.trusted_proxies),
            own_hosts=own_hosts(settings, self.port),
            pictures=self._pictures,
            signer=signer,
            access_tokens=AccessTokens(self.context, client),
            gate=gate,
            outbox=self._outbox,
            waiters=Waiters(self.context),
            deliveries=deliveries,
            platform_state=platform_state,
            app_login=self._app_login(),
            demo=demo,
        )
        self._deliveries = deliveries
        self._changes = Changes(make_application(services), HeaderTimeouts(settings.limits.header_seconds))
        # Tornado's own limits are generous (an hour for headers, 100 MB for a body).
        limits = settings.limits
        self._http_server = Serving(
            self._changes,
            max_header_size=limits.header_bytes,
            max_body_size=limits.body_bytes,
            body_timeout=limits.body_seconds,
        )
        self.connections = Connections(
            self._http_server,
            sockets,
            owner=lambda address: address_key(address) if services.peers.counts(address) else "",
            per_owner=limits.connections_per_address if limits.enabled else None,
            send_seconds=limits.send_seconds,
            unsent_bytes=limits.unsent_bytes,
        )
        self._metrics_sockets = metrics_sockets
        self._metrics_server = HTTPServer(make_metrics(self._figures()))
        self._sweeper: asyncio.Task[None] | None = None

    def _figures(self) -> Metrics:
        metrics = self.context.metrics
        metrics.gauge("waiting", "Pages and programs that wait for a ticket.", lambda: self.broker.waiting)
        metrics.gauge("connections", "Connections that are open.", lambda: len(self.connections))
        return metrics

    @property
    def broker(self) -> Broker:
        return self._backing.broker

    def _app_login(self) -> AppLogin | None:
        app = self.settings.app
        if not app.enabled:
            return None
        trusted: list[tuple[Policy, Keys | RemoteKeys]] = []
        for text in app.keys:
            key = import_key(text)
            trusted.append((_policy(app, algorithms_of(key)), key))
        if app.jwks_url:
            remote = RemoteKeys(app.jwks_url, self._http_client, self.context.now)
            trusted.insert(0, (_policy(app, PUBLIC_KEY_ALGORITHMS), remote))
        return AppLogin(self.context, trusted)

    async def reach(self) -> None:
        """Raises StoreUnavailable where Redis does not answer: whoever starts now would serve nobody."""
        if self._backing.redis is not None:
            await redis.faults(self._backing.redis)

    def start(self) -> None:
        """Serves from now on; needs a running loop."""
        if isinstance(self._backing.broker, RedisBroker):
            self._backing.broker.start()
        for worker in (self.codes, self.profiles, self.messenger):
            if worker is not None:
                worker.start()
        self._outbox.start()
        self._drawing.start()
        if self._control is not None:
            self._control.start()
        self._sweeper = asyncio.create_task(self._sweep())
        self.connections.start()
        self._metrics_server.add_sockets(self._metrics_sockets)

    async def stop(self) -> None:
        """Takes no more requests, finishes what changes something, lets the pages go and closes.

        Whoever waits is told of it on a WebSocket, and cut off elsewhere: a proxy or the page itself asks
        another node, or us again.
        """
        self.connections.stop()
        until = time.monotonic() + DRAIN_SECONDS
        await self._changes.finish(DRAIN_SECONDS)
        if self._deliveries is not None:
            await self._deliveries.finish(max(0.0, until - time.monotonic()))
        for worker in (self.codes, self.profiles, self.messenger):
            if worker is not None:
                await worker.stop()
        if self._control is not None:
            await self._control.stop()
        await self._outbox.stop()
        await self._drawing.stop()
        if self._sweeper is not None:
            await background.end([self._sweeper])
        for page in tuple(self._services.open_sockets):
            page.close(SERVICE_RESTART)
        await self._http_server.close_all_connections()
        self.connections.close()
        self._metrics_server.stop()
        await self._metrics_server.close_all_connections()
        if self._relay is not None:
            self._relay.close()
        self._http_client.close()
        self._pictures.close()
        await self._backing.close()

    async def _sweep(self) -> None:
        sweeper = Sweeper(self.context, time.monotonic)
        while True:
            try:
                await sweeper.sweep()
                if self.context.previous_mac is not None:
                    await self._signer.reseal()
            except StoreUnavailable:
                log.warning("the store did not answer the sweep; nothing depends on it")
            if self.broker.waiting < FEW_WAITING:
                collector.look_at_all()
            await asyncio.sleep(PAUSE_SECONDS)


def _policy(app: App, fitting: frozenset[str]) -> Policy:
    """For a key that algorithms of `fitting` go with."""
    chosen = fitting.intersection(app.algorithms) if app.algorithms else fitting
    return Policy(app.issuer, app.audience, chosen)


def make_context(
    settings: Settings,
    base_url: str,
    storage: Storage,
    broker: Broker,
    rates: Rates,
    now: Callable[[], float],
) -> Context:
    previous = settings.server.previous_secret_key.get_secret_value()
    return Context(
        settings=settings,
        base_url=base_url,
        storage=storage,
        broker=broker,
        rates=rates,
        catalogues=Catalogues.load(ROOT / "locale"),
        now=now,
        token=secrets.token_urlsafe,
        random=os.urandom,
        mac=_maker_of_macs(read_secret_key(settings)),
        previous_mac=_maker_of_macs(previous.encode("utf-8")) if previous else None,
    )


def _maker_of_macs(key: bytes) -> Callable[[str, str], str]:
    return lambda purpose, value: hmac.new(key, f"{purpose} {value}".encode(), "sha256").hexdigest()


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Context]:
    """What a command works with where no server runs. Raises StoreUnavailable."""
    storage = await open_storage(settings)
    base_url = settings.server.base_url or f"http://127.0.0.1:{settings.server.port}"
    try:
        yield make_context(settings, base_url, storage, LocalBroker(), LocalRates(time.time), time.time)
    finally:
        await storage.close()


def copying(database: Storage) -> Callable[[], Awaitable[BinaryIO]]:
    """How a copy of an SQLite file is made by who has it open."""
    from storage.sqlite import SqliteStorage

    if not isinstance(database, SqliteStorage):
        raise TypeError(f"{type(database).__name__} has no file of its own")
    return database.copy


def copy_alone(path: Path) -> BinaryIO:
    """The same where no server runs. Raises StoreLocked, StoreUnavailable."""
    from storage.sqlite import copy_of

    return copy_of(path)


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
    rates: Rates
    redis: Client | None = None

    async def close(self) -> None:
        if isinstance(self.broker, RedisBroker):
            await self.broker.stop()
        await self.storage.close()
        if self.redis is not None:
            await self.redis.aclose()


def back(settings: Settings, database: Storage, now: Callable[[], float]) -> Backing:
    """Redis where `redis.url` names one. Raises StoreUnavailable for an address nobody understands."""
    url = settings.redis.url.get_secret_value()
    if not url:
        own = LocalShared(now)
        return Backing(WatchedStorage(database, own), LocalBroker(), own, LocalRates(now))
    client, node = redis.connect(url), secrets.token_hex(8)
    shared = redis.RedisShared(client, node, settings.wechat.appid)
    storage = WatchedStorage(SplitStorage(database, client), shared)
    return Backing(storage, RedisBroker(client, node), shared, redis_rates.RedisRates(client, now), client)


def make_gate(settings: Settings) -> Gate:
    wechat = settings.wechat
    return Gate(
        mode=Mode(wechat.mode),
        tokens=wechat.tokens,
        cryptos=tuple(MessageCrypto(key, wechat.appid) for key in wechat.aes_keys),
        window=wechat.timestamp_window,
    )


def make_client(
    settings: Settings,
    http: AsyncHTTPClient,
    now: Callable[[], float],
    shared: Shared | None = None,
    called: Callable[[str, str], None] = lambda path, error: None,
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
        called=called,
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
