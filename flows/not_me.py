"""The "this was not me" link in the message after a login: shows what was logged in, ends it."""

from __future__ import annotations

from contextlib import suppress

from errors import TransitionRefused
from flows import links
from flows.context import Context
from flows.endings import end_session
from flows.transition import moved
from storage.base import Transaction
from storage.records import Link
from tickets import Event, Ticket, advance

PURPOSE = "not_me"
PATH = "/not-me/"
LIFETIME = 86400.0  # seconds


async def new_link(transaction: Transaction, context: Context, ticket: Ticket) -> str:
    """The address of a fresh link for the ticket's login."""
    expires_at = context.now() + LIFETIME
    return await links.new_link(transaction, context, PURPOSE, PATH, expires_at=expires_at, ticket=ticket)


async def look(context: Context, token: str) -> Link | None:
    """What the link is about; None where it is unknown, used or too old. Changes nothing."""
    return await links.look(context, token, PURPOSE)


async def end_login(context: Context, token: str) -> Link | None:
    """Ends the login, collected or not, and uses the link up; None as in `look`."""

    async def work(transaction: Transaction) -> Link | None:
        now = context.now()
        link = await links.find(transaction, context, token, PURPOSE)
        if link is None:
            return None
        # The ticket first: what has not been collected cannot be any more, and then no session is missed.
        # As it was at the scan: it may have expired since, but not for an exchange that began before.
        then = link.created_at
        if await transaction.tickets.get(link.ticket_id, now=then) is not None:
            with suppress(TransitionRefused):  # collected already: its session ends below
                await moved(
                    transaction,
                    context,
                    link.ticket_id,
                    lambda ticket: advance(ticket, Event.REVOKE, then),
                    now=then,
                )
        # Until it is ended: an exchange that is repeated at the same time puts another one in its place.
        while (session := await transaction.sessions.by_ticket(link.ticket_id)) and not session.revoked:
            await end_session(transaction, context, session, "not_me")
        # Whoever it was may have used a browser that the person said yes to: the next scan asks again.
        await transaction.known_browsers.forget(link.user_id)
        return await transaction.links.use(link.token_hash, now=now)

    link = await context.storage.transact(work)
    if link is not None:
        await context.broker.publish(link.ticket_id)
    return link
