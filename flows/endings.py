"""The end of sessions, whatever ends them: the sites hear of it, and what they were given ends too.

What a site must hear is written down before the session is revoked: where a store cannot do both in one
transaction, a crash between the two makes somebody hear of it twice rather than never.
"""

from __future__ import annotations

from flows.announce import announce, announce_logout
from flows.context import Context
from storage.base import Transaction
from storage.records import Session


async def end_session(
    transaction: Transaction, context: Context, session: Session | None, reason: str
) -> None:
    """`reason`: "logout", "not_me", "unfollowed", "blocked", "replaced" or "deleted"."""
    if session is None or session.revoked:
        return
    await announce_end(transaction, context, session, reason)
    await transaction.sessions.revoke(session.id)


async def announce_end(transaction: Transaction, context: Context, session: Session, reason: str) -> None:
    """What the sites hear of it, for whoever then ends the session in a way of their own."""
    await announce_logout(transaction, context, session)
    data = {"session_id": session.id, "user_id": session.user_id, "reason": reason}
    await announce(transaction, context, "session.ended", data, person=session.user_id, cause=session.id)


async def end_sessions_of(
    transaction: Transaction, context: Context, user_id: str, reason: str, *, provider: str | None = None
) -> None:
    """All of the person's, or those logged in by one provider."""
    while sessions := await transaction.sessions.of_user(user_id, now=context.now(), provider=provider):
        for session in sessions:
            await end_session(transaction, context, session, reason)
    # One that is being made meanwhile: its exchange has not been answered, nobody has heard of it.
    await transaction.sessions.revoke_of_user(user_id, provider=provider)
