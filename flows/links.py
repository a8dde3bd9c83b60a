"""Links to phones and terminals: one purpose, one use, 128 random bits or more, stored hashed (rule 5)."""

from __future__ import annotations

from flows.context import Context
from storage.base import Transaction
from storage.records import Link
from tickets import Device, Ticket, hash_secret

TOKEN_BYTES = 24


async def new_link(
    transaction: Transaction,
    context: Context,
    purpose: str,
    path: str,
    *,
    expires_at: float,
    ticket: Ticket | None = None,
) -> str:
    """The address of a fresh link; with a `ticket` it tells of that login."""
    token = context.token(TOKEN_BYTES)
    device = ticket.device if ticket is not None else Device()
    link = Link(
        token_hash=hash_secret(token),
        purpose=purpose,
        ticket_id=ticket.id if ticket is not None else "",
        user_id=ticket.user_id if ticket is not None else "",
        created_at=context.now(),
        expires_at=expires_at,
        site=ticket.site if ticket is not None else "",
        browser=device.browser,
        system=device.system,
        address=device.address,
    )
    await transaction.links.create(link)
    return f"{context.base_url}{path}{token}"


async def find(transaction: Transaction, context: Context, token: str, purpose: str) -> Link | None:
    """The link; None where it is unknown, used, too old or for something else."""
    link = await transaction.links.get(hash_secret(token), now=context.now())
    return link if link is not None and link.purpose == purpose else None


async def look(context: Context, token: str, purpose: str) -> Link | None:
    """As `find`, by itself. Changes nothing."""
    return await context.storage.transact(lambda transaction: find(transaction, context, token, purpose))
