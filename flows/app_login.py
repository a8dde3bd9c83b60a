"""The team's own app scans, confirms, cancels: the person comes from its JWT, never from the body."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from app.keys import KeysUnavailable, RemoteKeys
from app.token import Claims, Keys, Policy, TokenRefused, Verifier, key_id
from errors import Forbidden, LoginRefused, MethodUnavailable, SaomaError, TicketUnknown, Unauthenticated
from flows.context import Context
from flows.limits import give_back, take
from flows.login_log import login_line, note_refusal
from flows.people import meet
from flows.scan import site_name
from flows.tickets import APP
from flows.transition import moved
from storage.base import Transaction
from storage.rates import Rate
from storage.records import Profile, User
from tickets import Event, Scanner, State, Ticket, advance, confirm_by_number

PROVIDER = APP
MARK_SECONDS = 1200.0  # longer than a token can live
# Of one person: five, and then none until the first of them is an hour old.
WRONG_NUMBERS = Rate("wrong numbers", 1 / 3600, 5)

log = logging.getLogger("saoma.app")


class HandleWrong(Forbidden):
    """The handle is another ticket's, or another person's."""

    code = "handle_wrong"
    message = "This handle does not belong to this ticket and person."


class NumberWrong(Forbidden):
    """It is not the number that the browser shows, or none was sent."""

    code = "number_wrong"

    def __init__(self, tries_left: int) -> None:
        super().__init__(
            "This is not the number on the page."
            if tries_left
            else "This is not the number on the page. The login is over: scan a fresh code."
        )
        self.more = {"tries_left": tries_left}


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the person must see before saying yes."""

    ticket: Ticket
    site: str
    handle: str  # goes back with confirm and cancel; the same for the same ticket and person


class AppLogin:
    """`trusted` keys verify the app's tokens, each under its policy: fixed ones, or a set that the backend
    publishes. There is more than one while they rotate.
    """

    def __init__(self, context: Context, trusted: Sequence[tuple[Policy, Keys | RemoteKeys]]) -> None:
        self._context = context
        self._trusted = [(Verifier(policy), keys) for policy, keys in trusted]
        self._calls = Rate.per_minute("app-calls", context.settings.limits.app_calls_per_person)

    async def person(self, token: str) -> Claims:
        """Who the token says is scanning. Raises Unauthenticated, MethodUnavailable, TooManyRequests."""
        refusal: SaomaError = Unauthenticated("The app's token is not valid.")
        reasons = []
        for verifier, keys in self._trusted:
            try:
                known = await keys.get(key_id(token)) if isinstance(keys, RemoteKeys) else keys
                claims = verifier.verify(token, known, self._context.now())
            except TokenRefused as refused:
                reasons.append(str(refused))
            except KeysUnavailable:
                refusal = MethodUnavailable()
                reasons.append("no keys")
            else:
                await take(self._context, self._calls, claims.subject)
                return claims
        log.info("a token of the app was refused: %s", ", ".join(reasons))
        raise refusal

    async def scan(self, ticket_id: str, person: Claims) -> Scanned:
        """Raises TicketUnknown, TransitionRefused, LoginRefused."""
        context, scanner = self._context, Scanner(PROVIDER, person.subject)
        number = _number(context.random) if context.settings.app.number_match else 0

        async def work(transaction: Transaction) -> Ticket:
            now = context.now()
            ticket = _app_ticket(await transaction.tickets.get(ticket_id, now=now))
            advance(ticket, Event.SCAN, now, scanner=scanner)  # who is refused is not stored either
            user = await self._seen(transaction, person, now)

            def change(ticket: Ticket) -> Ticket:
                return advance(ticket, Event.SCAN, now, scanner=scanner, user_id=user.id, number=number)

            return await moved(transaction, self._context, ticket_id, change, now=now)

        ticket = await self._change(ticket_id, person, work)
        handle = context.mac(*_handled(ticket_id, scanner))
        return Scanned(ticket, site_name(context, ticket.site), handle)

    async def confirm(self, ticket_id: str, person: Claims, handle: str, number: int | None = None) -> Ticket:
        """One token confirms one ticket. Raises as `scan`, and HandleWrong, Unauthenticated, NumberWrong.

        TooManyRequests where the person has sent too many wrong numbers of late.
        """
        context, wrong = self._context, False
        guesses = number is not None and await self._asks_for_number(ticket_id)
        if guesses:
            await take(context, WRONG_NUMBERS, person.subject)  # before the answer: many may ask at once
        try:
            ticket = await self._confirm(ticket_id, person, handle, number)
            wrong = ticket.state in (State.SCANNED, State.CANCELLED)
        finally:
            if guesses and not wrong:
                await give_back(context, WRONG_NUMBERS, person.subject)
        if wrong:
            raise NumberWrong(ticket.tries_left)
        return ticket

    async def _confirm(self, ticket_id: str, person: Claims, handle: str, number: int | None) -> Ticket:
        """As `confirm`, but a wrong number is no error, for what was counted must be stored."""
        context, scanner = self._context, Scanner(PROVIDER, person.subject)

        async def work(transaction: Transaction) -> Ticket:
            now = context.now()

            def change(ticket: Ticket) -> Ticket:
                return confirm_by_number(ticket, number, now, scanner=scanner)

            await self._check(transaction, ticket_id, scanner, handle, change, now)
            user = await transaction.users.by_identity(PROVIDER, person.subject)
            if user is None or user.blocked:
                raise LoginRefused
            first = await transaction.deliveries.bind(
                f"app-token {person.id}", ticket_id.encode(), expires_at=now + MARK_SECONDS
            )
            if not first:
                raise Unauthenticated("The app's token has confirmed another login; it takes a fresh one.")
            ticket = await moved(transaction, context, ticket_id, change, now=now)
            if not ticket.tries_left:
                context.metrics.login(ticket.method, NumberWrong.code)
                await transaction.logins.append(login_line(context, ticket, user.id, NumberWrong.code, now))
            return ticket

        return await self._change(ticket_id, person, work)

    async def cancel(self, ticket_id: str, person: Claims, handle: str) -> Ticket:
        """Anybody who scanned may say no. Raises as `scan`, and HandleWrong."""
        context, scanner = self._context, Scanner(PROVIDER, person.subject)

        async def work(transaction: Transaction) -> Ticket:
            now = context.now()

            def change(ticket: Ticket) -> Ticket:
                return advance(ticket, Event.CANCEL, now, scanner=scanner)

            await self._check(transaction, ticket_id, scanner, handle, change, now)
            return await moved(transaction, context, ticket_id, change, now=now)

        return await self._change(ticket_id, person, work)

    async def _check(
        self,
        transaction: Transaction,
        ticket_id: str,
        scanner: Scanner,
        handle: str,
        change: Callable[[Ticket], Ticket],
        now: float,
    ) -> None:
        # State and person first: who never scanned is told so, whatever handle they made up.
        change(_app_ticket(await transaction.tickets.get(ticket_id, now=now)))
        if not self._context.is_mac(handle, *_handled(ticket_id, scanner)):
            raise HandleWrong

    async def _asks_for_number(self, ticket_id: str) -> bool:
        """Whether a confirm would be a guess now, and not a repeat."""

        async def work(transaction: Transaction) -> bool:
            ticket = await transaction.tickets.get(ticket_id, now=self._context.now())
            return ticket is not None and ticket.state is State.SCANNED and ticket.number != 0

        return await self._context.storage.transact(work)

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


def _handled(ticket_id: str, scanner: Scanner) -> tuple[str, str]:
    """What a handle is made from, so that it is the same each time and nothing has to be kept."""
    return "handle", f"{ticket_id} {scanner.provider} {scanner.subject}"


def _number(random: Callable[[int], bytes]) -> int:
    """Two digits, each number as likely as another (but for one part in 2^57)."""
    return 10 + int.from_bytes(random(8)) % 90


def _app_ticket(ticket: Ticket | None) -> Ticket:
    """A code of another method is none of the app's business. Raises TicketUnknown."""
    if ticket is None or ticket.method != APP:
        raise TicketUnknown
    return ticket
