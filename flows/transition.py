"""Every change of a ticket's state goes through here, so that it is counted."""

from __future__ import annotations

from collections.abc import Callable

from flows.context import Context
from storage.base import Transaction
from tickets import State, Ticket


async def moved(
    transaction: Transaction,
    context: Context,
    ticket_id: str,
    change: Callable[[Ticket], Ticket],
    *,
    now: float,
) -> Ticket:
    """As `Tickets.update`."""
    before: Ticket | None = None

    def noted(ticket: Ticket) -> Ticket:
        nonlocal before
        before = ticket
        return change(ticket)

    after = await transaction.tickets.update(ticket_id, noted, now=now)
    if before is not None and after.state is not before.state:
        metrics = context.metrics
        metrics.ticket_entered(after.method, after.state)
        if after.state is State.CONSUMED:
            metrics.login(after.method, "success")
        if after.state is State.CONFIRMED and after.agreed:
            metrics.confirmed_after(after.method, now - after.scanned_at)
    return after
