"""The team's own app scans, confirms, cancels: the person comes from its JWT, never from the body."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.keys import KeysUnavailable, RemoteKeys
from app.token import Claims, Keys, Policy, TokenRefused, key_id, verify
from errors import Forbidden, LoginRefused, MethodUnavailable, TicketUnknown, Unauthenticated
from flows.context import Context
from flows.login_log import note_refusal
from flows.people import meet
from flows.scan import site_name
from flows.tickets import APP
from flows.transition import moved
from storage.base import Transaction
from storage.records import Profile, User
from tickets import Event, Scanner, Ticket, advance

PROVIDER = APP
MARK_SECONDS = 1200.0  # longer than a token can live


class HandleWrong(Forbidden):
    """The handle is another ticket's, or another person's."""

    code = "handle_wrong"
    message = "This handle does not belong to this ticket and person."


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the person must see before saying yes."""

    ticket: Ticket
    site: str
    handle: str  # goes back with confirm and cancel; the same for the same ticket and person


class AppLogin:
    """`keys` verify the app's tokens: fixed ones, or a set that the backend publishes."""

    def __init__(self, context: Context, policy: Policy, keys: Keys | RemoteKeys) -> None:
        self._context = context
        self._policy = policy
        self._keys = keys

    async def person(self, token: str) -> Claims:
        """Who the token says is scanning. Raises Unauthenticated, MethodUnavailable."""
        try:
            keys = await self._keys.get(key_id(token)) if isinstance(self._keys, RemoteKeys) else self._keys
            return verify(token, keys, self._policy, self._context.now())
        except TokenRefused:
            raise Unauthenticated("The app's token is not valid.") from None
        except KeysUnavailable:
            raise MethodUnavailable from None

    async def scan(self, ticket_id: str, person: Claims) -> Scanned:
        """Raises TicketUnknown, TransitionRefused, LoginRefused."""
        context, scanner = self._context, Scanner(PROVIDER, person.subject)

        async def work(transaction: Transaction) -> Ticket:
            now = context.now()
            ticket = _app_ticket(await transaction.tickets.get(ticket_id, now=now))
            advance(ticket, Event.SCAN, now, scanner=scanner)  # who is refused is not stored either
            user = await self._seen(transaction, person, now)

            def change(ticket: Ticket) -> Ticket:
                return advance(ticket, Event.SCAN, now, scanner=scanner, user_id=user.id)

            return await moved(transaction, self._context, ticket_id, change, now=now)

        ticket = await self._change(ticket_id, person, work)
        return Scanned(ticket, site_name(context, ticket.site), self._handle(ticket_id, scanner).decode())

    async def confirm(self, ticket_id: str, person: Claims, handle: str) -> Ticket:
        """One token confirms one ticket. Raises as `scan`, and HandleWrong, Unauthenticated."""

        async def allowed(transaction: Transaction, now: float) -> None:
            user = await transaction.users.by_identity(PROVIDER, person.subject)
            if user is None or user.blocked:
                raise LoginRefused
            first = await transaction.deliveries.bind(
                f"app-token {person.id}", ticket_id.encode(), expires_at=now + MARK_SECONDS
            )
            if not first:
                raise Unauthenticated("The app's token has confirmed another login; it takes a fresh one.")

        return await self._decide(ticket_id, Event.CONFIRM, person, handle, allowed)

    async def cancel(self, ticket_id: str, person: Claims, handle: str) -> Ticket:
        """Raises as `scan`, and HandleWrong."""

        async def allowed(transaction: Transaction, now: float) -> None:
            """Anybody who scanned may say no."""

        return await self._decide(ticket_id, Event.CANCEL, person, handle, allowed)

    async def _decide(
        self,
        ticket_id: str,
        event: Event,
        person: Claims,
        handle: str,
        allowed: Callable[[Transaction, float], Awaitable[None]],
    ) -> Ticket:
        scanner = Scanner(PROVIDER, person.subject)

        async def work(transaction: Transaction) -> Ticket:
            now = self._context.now()

            def change(ticket: Ticket) -> Ticket:
                return advance(ticket, event, now, scanner=scanner)

            # State and person first: who never scanned is told so, whatever handle they made up.
            change(_app_ticket(await transaction.tickets.get(ticket_id, now=now)))
            if not hmac.compare_digest(
                handle.encode("utf-8", "surrogatepass"), self._handle(ticket_id, scanner)
            ):
                raise HandleWrong
            await allowed(transaction, now)
            return await moved(transaction, self._context, ticket_id, change, now=now)

        return await self._change(ticket_id, person, work)

    async def _change(
        self, ticket_id: str, person: Claims, work: Callable[[Transaction], Awaitable[Ticket]]
    ) -> Ticket:
        try:
            ticket = await self._context.storage.transact(work)
        except LoginRefused:
            await self._note_refusal(ticket_id, person)
            raise
        await self._context.broker.publish(ticket_id)
        return ticket

    async def _note_refusal(self, ticket_id: str, person: Claims) -> None:
        """In work of its own: what was refused has been taken back."""
        context = self._context

        async def work(transaction: Transaction) -> None:
            ticket = await transaction.tickets.get(ticket_id, now=context.now())
            user = await transaction.users.by_identity(PROVIDER, person.subject)
            if ticket is not None and user is not None and user.blocked:
                await note_refusal(transaction, context, ticket, user, "blocked", "blocked")

        await context.storage.transact(work)

    async def _seen(self, transaction: Transaction, person: Claims, now: float) -> User:
        """The person, stored or refreshed with what the token tells of them."""
        told = Profile(nickname=person.name, picture=person.picture)
        user = await meet(transaction, self._context, PROVIDER, person.subject, event_at=now, told=told)
        if user.blocked:
            raise LoginRefused
        return user

    def _handle(self, ticket_id: str, scanner: Scanner) -> bytes:
        """Made from ticket and person, so that it is the same each time and nothing has to be kept."""
        return self._context.mac("handle", f"{ticket_id} {scanner.provider} {scanner.subject}").encode(
            "ascii"
        )


def _app_ticket(ticket: Ticket | None) -> Ticket:
    """A code of another method is none of the app's business. Raises TicketUnknown."""
    if ticket is None or ticket.method != APP:
        raise TicketUnknown
    return ticket
