"""The login log: a line for each login and each refusal."""

from __future__ import annotations

from flows.announce import announce_login
from flows.context import Context
from storage.base import Transaction
from storage.records import Login, User
from tickets import Ticket

DAY = 86400.0


def login_line(context: Context, ticket: Ticket, user_id: str, result: str, now: float) -> Login:
    """The line of the login log for this ticket and result."""
    device = ticket.device
    return Login(
        id=f"{ticket.id}:{result}",
        at=now,
        result=result,
        method=ticket.method,
        user_id=user_id,
        site=ticket.site,
        browser=device.browser,
        system=device.system,
        address=device.address,
        expires_at=now + context.settings.logs.login_days * DAY,
    )


async def note_refusal(
    transaction: Transaction, context: Context, ticket: Ticket, user: User, result: str, reason: str
) -> None:
    """For the login log and the figures (`result`) and the sites (`reason`: "blocked" or "not_following")."""
    context.metrics.login(ticket.method, result)
    await transaction.logins.append(login_line(context, ticket, user.id, result, context.now()))
    cause = f"{ticket.id} {reason}"
    await announce_login(transaction, context, "login.refused", ticket, user, cause=cause, reason=reason)
