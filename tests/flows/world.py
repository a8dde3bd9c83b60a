"""What the use cases need, without HTTP: a store in a file, a clock that stands, WeChat's pushes."""

from __future__ import annotations

import asyncio
import inspect
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from broker.local import LocalBroker
from composition import make_gate
from emulator import Account, Courier, Platform
from emulator.phone import scan_fields, subscribe_fields
from flows.context import Context
from flows.deliveries import Deliveries, Posted
from flows.exchange import Collected, exchange
from flows.relay import Relay
from flows.tickets import Held
from storage import sqlite
from storage.base import Storage, Transaction
from storage.rates import LocalRates
from storage.records import Login, Session, User
from tests.clock import Clock
from tests.harness import new_account, settings_for
from tickets import Device, Ticket, hash_secret
from translations import Catalogues
from wechat.callback import Gate, Mode
from wechat.crypto import MessageCrypto
from wechat.xml import Writable, parse, text_of

ROOT = Path(__file__).parent.parent.parent
CATALOGUES = Catalogues.load(ROOT / "locale")


class Wanted:
    """In the place of the fetcher of profiles."""

    def __init__(self) -> None:
        self.openids: list[str] = []

    def want(self, user: User, openid: str) -> None:
        self.openids.append(openid)


class Sent:
    """In the place of the messenger."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []

    def send(self, openid: str, text: str) -> None:
        self.messages.append((openid, text))


@dataclass
class World:
    context: Context
    clock: Clock
    account: Account
    platform: Platform
    courier: Courier
    gate: Gate
    deliveries: Deliveries
    broker: LocalBroker
    wanted: Wanted = field(default_factory=Wanted)
    sent: Sent = field(default_factory=Sent)

    # People and their pushes.

    def person(self, number: int = 0) -> str:
        return list(self.platform.people)[number]

    def push(self, openid: str, fields: Mapping[str, Writable], created_at: float | None = None) -> Posted:
        """A signed POST of WeChat's, not delivered yet."""
        at = None if created_at is None else int(created_at)
        push = self.courier.build(openid, fields, at)
        return Posted(urlsplit(push.url).query, push.body, "text/xml")

    async def deliver(
        self, openid: str, fields: Mapping[str, Writable], created_at: float | None = None
    ) -> str:
        """Delivers it and returns the text of the reply, "" for none."""
        return self.words(await self.deliveries.accept(self.push(openid, fields, created_at)))

    def words(self, answer: bytes) -> str:
        """The text of a reply, as the person reads it."""
        if answer == b"success":
            return ""
        fields = parse(answer)
        if self.account.mode is not Mode.PLAIN:
            encrypted = text_of(fields, "Encrypt")
            crypto = MessageCrypto(self.account.encoding_aes_key, self.account.appid)
            fields = parse(crypto.decrypt(encrypted))
        return text_of(fields, "Content")

    async def scan(self, held: Held, openid: str, *, created_at: float | None = None) -> str:
        """A follower's scan of the ticket's code."""
        return await self.deliver(openid, self.scan_event(held), created_at)

    def scan_event(self, held: Held) -> dict[str, Writable]:
        return scan_fields(self.platform.codes[held.ticket.code_ticket])

    async def follow(self, openid: str, held: Held | None = None, *, created_at: float | None = None) -> str:
        code = self.platform.codes[held.ticket.code_ticket] if held else None
        return await self.deliver(openid, subscribe_fields(code), created_at)

    async def unfollow(self, openid: str, *, created_at: float | None = None) -> str:
        return await self.deliver(
            openid, {"MsgType": "event", "Event": "unsubscribe", "EventKey": ""}, created_at
        )

    # Tickets and what came of them.

    async def ticket(self, **changes: Any) -> Held:
        """A WAITING ticket with a code of the platform's."""
        scene, secret = secrets.token_urlsafe(18), secrets.token_urlsafe(32)
        request = {
            "action_name": "QR_STR_SCENE",
            "expire_seconds": 300,
            "action_info": {"scene": {"scene_str": scene}},
        }
        code = self.platform.create_code(request)
        ticket = Ticket(
            id=scene,
            secret_hash=hash_secret(secret),
            method="wechat",
            client="browser",
            created_at=self.clock(),
            expires_at=self.clock() + 300,
            code=code["url"],
            code_ticket=code["ticket"],
            next="/",
            language="en",
            device=Device("Chrome", "Windows", "203.0.113.5"),
        )
        ticket = replace(ticket, **changes)
        await self.do(lambda transaction: transaction.tickets.create(ticket))
        return Held(ticket, secret)

    async def confirmed(self, openid: str = "", **changes: Any) -> Held:
        held = await self.ticket(**changes)
        await self.scan(held, openid or self.person())
        return held

    async def collect(self, held: Held, **more: Any) -> Collected:
        return await exchange(self.context, held.ticket.id, held.secret, **more)

    async def logged_in(self, openid: str = "", **changes: Any) -> Collected:
        held = await self.confirmed(openid, **changes)
        return await self.collect(held, clients=(held.ticket.client,))

    async def do(self, work: Callable[[Transaction], Awaitable[Any]]) -> Any:
        async def run(transaction: Transaction) -> Any:
            return await work(transaction)

        return await self.context.storage.transact(run)

    async def stored(self, held: Held) -> Ticket | None:
        return await self.do(lambda transaction: transaction.tickets.get(held.ticket.id, now=0))

    async def user(self, openid: str = "") -> User:
        return await self.do(
            lambda transaction: transaction.users.by_identity("wechat", openid or self.person())
        )

    async def live_sessions(self, openid: str = "") -> Sequence[Session]:
        user = await self.user(openid)
        return await self.do(lambda transaction: transaction.sessions.of_user(user.id, now=self.clock()))

    async def logins(self) -> list[Login]:
        return list(await self.do(lambda transaction: transaction.logins.newest()))


class Delegating(Storage):
    """A store in front of a store, for tests that stand in between."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner

    async def transact(self, work):
        return await self.inner.transact(work)

    async def sweep(self, *, now: float) -> None:
        await self.inner.sweep(now=now)

    async def ping(self) -> None:
        await self.inner.ping()

    async def close(self) -> None:
        await self.inner.close()


@asynccontextmanager
async def made(
    folder: Path, *, mode: Mode = Mode.SAFE, relay: Callable[[Gate], Relay] | None = None, **document: Any
) -> AsyncIterator[World]:
    """A world with these settings over the defaults."""
    clock, account = Clock(), replace(new_account(mode), callback_url="http://127.0.0.1:9/wechat/callback")
    platform = Platform(account, base_url="http://127.0.0.1:9", now=clock, token=secrets.token_urlsafe)
    settings = settings_for(account, platform.base_url, folder, document)
    broker = LocalBroker()
    context = Context(
        settings=settings,
        base_url="https://login.example.com",
        storage=sqlite.open(folder / "saoma.db"),
        broker=broker,
        rates=LocalRates(clock),
        catalogues=CATALOGUES,
        now=clock,
        token=secrets.token_urlsafe,
        random=os.urandom,
        mac=lambda purpose, value: sha256(f"{purpose}:{value}".encode()).hexdigest(),
    )
    gate, wanted, sent = make_gate(settings), Wanted(), Sent()
    deliveries = Deliveries(context, gate, wanted, sent, relay(gate) if relay else None)  # type: ignore[arg-type]
    courier = Courier(platform)
    yield World(context, clock, account, platform, courier, gate, deliveries, broker, wanted, sent)
    await deliveries.finish(1)
    await context.storage.close()


async def until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    """Returns as soon as the condition holds; fails the test after so many seconds."""
    async with asyncio.timeout(seconds):
        while True:
            outcome = condition()
            if await outcome if inspect.isawaitable(outcome) else outcome:
                return
            await asyncio.sleep(0.005)
