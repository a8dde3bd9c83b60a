"""A browser or a program asks for a ticket, looks at it, gives it up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

from errors import MethodUnavailable, TicketUnknown, TransitionRefused
from flows.authorize import site_of
from flows.code_pool import ID_BYTES, CodePool, PooledCode
from flows.context import Context
from flows.limits import address_key, take
from flows.redirects import checked
from flows.transition import moved
from storage.base import Transaction
from storage.rates import LocalRates, Rate
from tickets import Device, Event, State, Ticket, advance, hash_secret

SECRET_BYTES = 32
REUSE_SECONDS = 30.0  # a reload shows the same code only while it lives at least this long
WECHAT = "wechat"
APP = "app"
SCAN_PATH = "/s/"  # what the app's code leads to, for whoever scans it with something else
_LIKE_WECHATS = "http://weixin.qq.com/q/02" + 20 * "x"  # as long as what WeChat's codes say


@dataclass(frozen=True, slots=True)
class Wish:
    """What a ticket is asked for with.

    `site` is the id of the registered site that the client is or that `next` leads back to; where it is not
    given, `next` says.
    """

    method: str
    client: str
    next: str
    language: str
    device: Device
    site: str = ""
    browser_token: str = ""  # the browser's device cookie


@dataclass(frozen=True, slots=True)
class Held:
    """A ticket and the secret that its holder brought."""

    ticket: Ticket
    secret: str


class TicketDesk:
    """Issues tickets; `codes` is None where WeChat is not set up."""

    def __init__(self, context: Context, codes: CodePool | None) -> None:
        self._context = context
        self._codes = codes
        limits = context.settings.limits
        self._by_address = Rate.per_minute("tickets", limits.tickets_per_address)
        self._by_node = Rate("tickets", limits.tickets_per_node, limits.tickets_per_node)
        self._node = LocalRates(context.now)

    @property
    def methods(self) -> tuple[str, ...]:
        """The ways to log in that are set up, the default first."""
        wechat = (WECHAT,) if self._codes is not None else ()
        return wechat + ((APP,) if self._context.settings.app.enabled else ())

    @property
    def method(self) -> str:
        """The way to log in for who names none; "" where none is set up."""
        return next(iter(self.methods), "")

    @property
    def likely_codes(self) -> list[str]:
        """For each of the methods a text as long as its codes, to prepare their drawing with."""
        ours = _app_code(self._context, self._context.token(ID_BYTES))
        return [_LIKE_WECHATS if method == WECHAT else ours for method in self.methods]

    async def issue(self, wish: Wish, *, patient: bool = True) -> Held:
        """A fresh ticket. Raises BadRequest (next), MethodUnavailable, TooManyRequests, StoreUnavailable.

        `patient` False: NoCodeReady, a MethodUnavailable, where WeChat would have to be asked first.
        """
        context = self._context
        target = checked(wish.next, context.settings.server.allowed_redirects)
        if wish.method not in self.methods:
            raise MethodUnavailable("This way to log in is not set up.")
        await take(context, self._by_address, address_key(wish.device.address))
        await take(context, self._by_node, "", self._node)
        code = await self._code(wish.method, patient=patient)
        now, secret = context.now(), context.token(SECRET_BYTES)
        ticket = Ticket(
            id=code.id,
            secret_hash=hash_secret(secret),
            method=wish.method,
            client=wish.client,
            created_at=now,
            expires_at=now + context.settings.ticket.lifetime,
            code=code.url,
            code_ticket=code.ticket,
            site=wish.site or _site_behind(context, target),
            next=target,
            language=wish.language,
            device=wish.device,
            browser_hash=hash_secret(wish.browser_token) if wish.browser_token else b"",
        )

        async def work(transaction: Transaction) -> None:
            await transaction.tickets.create(ticket)

        await context.storage.transact(work)
        context.metrics.ticket_entered(ticket.method, ticket.state)
        return Held(ticket, secret)

    async def _code(self, method: str, *, patient: bool) -> PooledCode:
        """The public id and what its QR code says: WeChat's address, or ours for the app."""
        if method == WECHAT and self._codes is not None:
            return await self._codes.take(patient=patient)
        ticket_id = self._context.token(ID_BYTES)
        return PooledCode(ticket_id, _app_code(self._context, ticket_id), "", self._context.now())

    async def reusable(self, held: Iterable[tuple[str, str]], wish: Wish) -> Held | None:
        """The same browser's WAITING ticket for the same wish, from its (id, secret) pairs."""
        context, now = self._context, self._context.now()
        target = checked(wish.next, context.settings.server.allowed_redirects)
        pairs = tuple(held)

        async def work(transaction: Transaction) -> Held | None:
            for ticket_id, secret in pairs:
                ticket = await transaction.tickets.get(ticket_id, now=now + REUSE_SECONDS)
                if (
                    ticket is not None
                    and ticket.held_by(secret)
                    and ticket.state is State.WAITING
                    and (ticket.method, ticket.client, ticket.next) == (wish.method, wish.client, target)
                ):
                    return Held(ticket, secret)
            return None

        return await context.storage.transact(work) if pairs else None


def _site_behind(context: Context, target: str) -> str:
    site = site_of(context.settings, target)
    return site.id if site is not None else ""


def app_link(context: Context, ticket_id: str) -> str:
    """What opens the team's app with this code, "" where the settings name no such link."""
    url = quote(_app_code(context, ticket_id), safe="")
    return context.settings.app.link.replace("{url}", url).replace("{id}", ticket_id)


def _app_code(context: Context, ticket_id: str) -> str:
    """What the QR code for the team's app says."""
    return f"{context.base_url}{SCAN_PATH}{ticket_id}"


async def held_ticket(transaction: Transaction, ticket_id: str, secret: str, now: float) -> Ticket:
    """The ticket, for the holder of its secret. Raises TicketUnknown for everybody else, all alike."""
    ticket = await transaction.tickets.get(ticket_id, now=now)
    if ticket is None or not ticket.held_by(secret):
        raise TicketUnknown
    return ticket


async def look(context: Context, ticket_id: str, secret: str) -> Ticket:
    """Raises TicketUnknown."""

    async def work(transaction: Transaction) -> Ticket:
        return await held_ticket(transaction, ticket_id, secret, context.now())

    return await context.storage.transact(work)


async def abandon(context: Context, ticket_id: str, secret: str) -> Ticket:
    """The browser gives its ticket up. Raises TicketUnknown, TransitionRefused."""

    async def work(transaction: Transaction) -> Ticket:
        now = context.now()
        await held_ticket(transaction, ticket_id, secret, now)
        return await moved(transaction, context, ticket_id, _step(Event.ABANDON, now), now=now)

    ticket = await context.storage.transact(work)
    await context.broker.publish(ticket_id)
    return ticket


async def revoke_pending(
    transaction: Transaction, context: Context, user_id: str, provider: str | None
) -> list[str]:
    """Takes back what the person scanned and nobody collected yet, with this provider or (None) with any.

    Returns the ids.
    """
    revoked, now = [], context.now()
    for ticket in await transaction.tickets.pending_of_user(user_id, now=now):
        if provider is None or (ticket.scanner is not None and ticket.scanner.provider == provider):
            with suppress(TransitionRefused, TicketUnknown):  # collected or given up in this very moment
                await moved(transaction, context, ticket.id, _step(Event.REVOKE, now), now=now)
                revoked.append(ticket.id)
    return revoked


def _step(event: Event, now: float) -> Callable[[Ticket], Ticket]:
    return lambda ticket: advance(ticket, event, now)
