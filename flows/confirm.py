"""A scan with WeChat that its person has to say yes to: the link in a message, the page behind it.

The link goes by a message of the account's own, never by the passive reply: in plain mode that goes to
whoever forged the event (security rule 4). Looking at the page changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from errors import LoginRefused, TransitionRefused
from flows import links
from flows.context import Context
from flows.login_log import note_refusal
from flows.not_me import new_link
from flows.transition import moved
from storage.base import Transaction
from storage.records import Link, User
from tickets import Event, Ticket, advance, hash_secret

PURPOSE = "confirm"
PATH = "/confirm/"
BROWSER_TOKEN_BYTES = 24
KNOWN_SECONDS = 400 * 86400.0  # browsers keep no cookie for longer


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of the login; `not_me` is the address that ends it, "" where there is nothing to end."""

    link: Link
    ticket: Ticket
    not_me: str = ""
    refused: bool = False


async def is_asked_for(transaction: Transaction, context: Context, ticket: Ticket, user: User) -> bool:
    """Whether the person has to say yes before this browser is logged in (`wechat.confirm`)."""
    match context.settings.wechat.confirm:
        case "never":
            return False
        case "always":
            return True
    known = transaction.known_browsers
    return not ticket.browser_hash or not await known.is_known(
        ticket.browser_hash, user.id, now=context.now()
    )


async def question(transaction: Transaction, context: Context, ticket: Ticket) -> str:
    """The address of a fresh link that asks the ticket's person."""
    expires_at = ticket.expires_at
    return await links.new_link(transaction, context, PURPOSE, PATH, expires_at=expires_at, ticket=ticket)


async def look(context: Context, token: str) -> Link | None:
    """What the link asks; None where it is unknown, answered or too late."""
    return await links.look(context, token, PURPOSE)


async def decide(context: Context, token: str, *, yes: bool) -> Decided | None:
    """The person's answer, once; None as in `look`. Raises TransitionRefused, TicketUnknown, LoginRefused."""

    async def work(transaction: Transaction) -> Decided | None:
        now = context.now()
        link = await links.find(transaction, context, token, PURPOSE)
        ticket = await transaction.tickets.get(link.ticket_id, now=now) if link is not None else None
        if link is None or ticket is None:
            return None
        user = await transaction.users.get(link.user_id)
        scanner = ticket.scanner
        if user is None or scanner is None or user.identity(scanner.provider, scanner.subject) is None:
            raise TransitionRefused
        if yes and user.blocked:
            await note_refusal(transaction, context, ticket, user, LoginRefused.code, "blocked")
            return Decided(link, ticket, refused=True)
        event = Event.CONFIRM if yes else Event.CANCEL
        ticket = await moved(
            transaction,
            context,
            ticket.id,
            lambda known: advance(known, event, now, scanner=scanner),
            now=now,
        )
        not_me = await new_link(transaction, context, ticket) if yes else ""
        await transaction.links.use(link.token_hash, now=now)
        return Decided(link, ticket, not_me)

    decided = await context.storage.transact(work)
    if decided is not None and decided.refused:
        raise LoginRefused
    if decided is not None:
        await context.broker.publish(decided.ticket.id)
    return decided


async def recognise(transaction: Transaction, context: Context, ticket: Ticket, user: User) -> str | None:
    """The fresh value of the browser's device cookie after a login that its person agreed to.

    None where the cookie stays as it is. A value that the browser brought is never taken for a new person's:
    somebody else may have put it there.
    """
    if context.settings.wechat.confirm == "never":
        return None
    known, ends_at = transaction.known_browsers, context.now() + KNOWN_SECONDS
    if ticket.agreed:
        token = context.token(BROWSER_TOKEN_BYTES)
        await known.remember(hash_secret(token), user.id, expires_at=ends_at)
        return token
    if ticket.browser_hash and await known.is_known(ticket.browser_hash, user.id, now=context.now()):
        await known.remember(ticket.browser_hash, user.id, expires_at=ends_at)
    return None
