"""The holder of a confirmed ticket's secret collects the login: one winner, one session."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from errors import LoginRefused, TicketUnknown, TransitionRefused
from flows.announce import announce_login
from flows.confirm import recognise
from flows.context import Context
from flows.endings import announce_end, end_session
from flows.login_log import login_line, note_refusal
from flows.redirects import HOME, allowed
from flows.tickets import held_ticket
from flows.transition import moved
from storage.base import Transaction
from storage.records import Session, User
from tickets import BROWSER, Event, State, Ticket, advance, hash_secret
from tickets.ticket import EXCHANGE_REPEAT_SECONDS

TOKEN_BYTES = 32
SESSION_ID_BYTES = 12
# What the holder asked for before and was answered 503 may be done only now, beside this request.
MAX_REPLACED = 3


@dataclass(frozen=True, slots=True)
class Collected:
    ticket: Ticket
    user: User
    session: Session
    token: str  # the session's; for the holder alone
    browser_token: str | None  # fresh value of the browser's device cookie, None: it keeps the one it has
    next: str


async def exchange(
    context: Context,
    ticket_id: str,
    secret: str,
    *,
    clients: Collection[str] = (BROWSER,),
    former_tokens: Collection[str] = (),
) -> Collected:
    """CONFIRMED to CONSUMED, with a new session; the browser's former ones end.

    `clients` are those whose tickets the caller can answer: a ticket of another one is unknown here.
    May be repeated for 60 s after a lost answer: the first session is replaced then.
    Raises TicketUnknown, TransitionRefused, LoginRefused.
    """
    token = context.token(TOKEN_BYTES)

    async def work(transaction: Transaction) -> Collected:
        now = context.now()
        ticket = await held_ticket(transaction, ticket_id, secret, now)
        if ticket.client not in clients:
            raise TicketUnknown

        def collected_by_now(known: Ticket) -> Ticket:
            # Who takes back what is pending takes nothing back that has expired. A repeat that began in time
            # has put its session in the first one's place, and must not end the login by being slow.
            return advance(known, Event.EXCHANGE, now if known.state is State.CONSUMED else context.now())

        advance(ticket, Event.EXCHANGE, now)  # raises where that is not allowed
        user = await _require_welcome(transaction, ticket)
        session = _session(context, ticket, user, token, now)
        await _win(transaction, context, session, now)
        # Again, now that the session is there: whoever leaves or is blocked meanwhile has either been seen
        # here or finds this session to end.
        try:
            user = await _require_welcome(transaction, ticket)
            ticket = await moved(transaction, context, ticket_id, collected_by_now, now=now)
        except (LoginRefused, TransitionRefused, TicketUnknown):
            await transaction.sessions.revoke(session.id)
            raise
        await transaction.users.count_login(user.id, ticket_id, now=now)
        await transaction.logins.append(login_line(context, ticket, user.id, "success", now))
        await announce_login(
            transaction,
            context,
            "login.succeeded",
            ticket,
            user,
            cause=session.id,
            session_id=session.id,
        )
        for former_token in former_tokens:
            former = await transaction.sessions.get(hash_secret(former_token))
            await end_session(transaction, context, former, "replaced")
        origins = context.settings.server.allowed_redirects
        target = ticket.next if allowed(ticket.next, origins) else HOME
        by_browser = ticket.client == BROWSER  # all others have nowhere to keep what it would be known by
        browser_token = await recognise(transaction, context, ticket, user) if by_browser else None
        return Collected(ticket, user, session, token, browser_token, target)

    try:
        collected = await context.storage.transact(work)
    except LoginRefused as error:
        await _log_refusal(context, ticket_id, error)
        raise
    await context.broker.publish(ticket_id)
    return collected


async def _require_welcome(transaction: Transaction, ticket: Ticket) -> User:
    user = await transaction.users.get(ticket.user_id)
    scanner = ticket.scanner
    identity = user.identity(scanner.provider, scanner.subject) if user and scanner else None
    if user is None or identity is None or user.blocked or not identity.following:
        raise LoginRefused
    return user


async def _win(transaction: Transaction, context: Context, session: Session, now: float) -> None:
    """Makes the ticket's one session this one, or raises TransitionRefused."""
    for _ in range(MAX_REPLACED):
        stored = await transaction.sessions.create(session)
        if stored.id == session.id:
            return
        if stored.revoked or abs(now - stored.created_at) >= EXCHANGE_REPEAT_SECONDS:
            break
        await announce_end(transaction, context, stored, "replaced")
        if await transaction.sessions.replace(stored, session):
            return
    raise TransitionRefused("This login has been collected.")


def _session(context: Context, ticket: Ticket, user: User, token: str, now: float) -> Session:
    return Session(
        id=context.token(SESSION_ID_BYTES),
        token_hash=hash_secret(token),
        ticket_id=ticket.id,
        user_id=user.id,
        provider=ticket.scanner.provider if ticket.scanner else "",
        client=ticket.client,
        site=ticket.site,
        created_at=now,
        last_used_at=now,
        expires_at=now + context.settings.session.lifetime,
        browser=ticket.device.browser,
        system=ticket.device.system,
        address=ticket.device.address,
        agreed=ticket.agreed,
    )


async def _log_refusal(context: Context, ticket_id: str, error: LoginRefused) -> None:
    async def work(transaction: Transaction) -> None:
        now = context.now()
        ticket = await transaction.tickets.get(ticket_id, now=now)
        if ticket is None or ticket.state is not State.CONFIRMED:
            return
        user = await transaction.users.get(ticket.user_id)
        if user is None:
            await transaction.logins.append(login_line(context, ticket, ticket.user_id, error.code, now))
        else:
            reason = "blocked" if user.blocked else "not_following"
            await note_refusal(transaction, context, ticket, user, error.code, reason)

    await context.storage.transact(work)
