"""What a person sees and ends of their own: sessions, logins, the sites they have used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from errors import NotFound
from flows.context import Context
from flows.endings import end_session, end_sessions_of
from flows.sessions import Current
from storage.base import Transaction
from storage.records import Login, LoginFilter, Session

SHOWN_LOGINS = 20


@dataclass(frozen=True, slots=True)
class Overview:
    sessions: Sequence[Session]  # that are alive, the newest first
    logins: Sequence[Login]  # the newest first


async def overview(context: Context, current: Current) -> Overview:
    return await context.storage.transact(
        lambda transaction: overview_of(transaction, context, current.user.id)
    )


async def overview_of(transaction: Transaction, context: Context, user_id: str) -> Overview:
    now, idle = context.now(), context.settings.session.idle
    stored = await transaction.sessions.of_user(user_id, now=now)
    alive = [session for session in stored if now < session.last_used_at + idle]
    page = await transaction.logins.find(LoginFilter(user_id=user_id), limit=SHOWN_LOGINS)
    return Overview(alive, page.logins)


async def end_one(context: Context, current: Current, session_id: str) -> None:
    """Ends one session of the person's own. Raises NotFound."""

    async def work(transaction: Transaction) -> None:
        session = await transaction.sessions.by_id(session_id)
        owner = await transaction.users.get(session.user_id) if session is not None else None
        if owner is None or owner.id != current.user.id:
            raise NotFound("There is no such session.")
        await end_session(transaction, context, session, "logout")

    await context.storage.transact(work)


async def end_all(context: Context, current: Current) -> None:
    """Signs the person out everywhere, here too."""

    async def work(transaction: Transaction) -> None:
        await end_sessions_of(transaction, context, current.user.id, "logout")

    await context.storage.transact(work)
