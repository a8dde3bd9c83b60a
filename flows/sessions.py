"""Who a session token stands for, and the end of a session."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from errors import BadRequest
from flows.announce import CAUSE_BYTES, announce_update
from flows.context import Context
from flows.endings import end_session
from storage.base import Transaction
from storage.records import Session, User
from tickets import WIDGET, hash_secret

TOUCH_SHARE = 0.01  # of the idle time: how stale "last used" may be, so that not every request writes
MAX_NAME = 64

# Many emoji and some scripts are written with them; no other character of format is part of a name.
_JOINERS = re.compile("[\u200c\u200d]")


@dataclass(frozen=True, slots=True)
class Current:
    session: Session
    user: User


async def current(context: Context, token: str) -> Current | None:
    """None where the session is unknown, ended, idle for too long, or its person blocked or gone."""
    if not token:
        return None

    async def work(transaction: Transaction) -> Current | None:
        return await alive(transaction, context, await transaction.sessions.get(hash_secret(token)))

    return await context.storage.transact(work)


async def alive(transaction: Transaction, context: Context, session: Session | None) -> Current | None:
    """The session with its person, noted as used now; None as in `current`."""
    now, limits = context.now(), context.settings.session
    if session is None or session.revoked:
        return None
    if now >= session.expires_at or now >= session.last_used_at + limits.idle:
        return None
    user = await transaction.users.get(session.user_id)
    if user is None or user.blocked:
        return None
    if touch_is_due(session, limits.idle, now):
        await transaction.sessions.touch(session.id, now=now)
        session = replace(session, last_used_at=now)
    return Current(session, user)


def touch_is_due(session: Session, idle: float, now: float) -> bool:
    return now >= session.last_used_at + idle * TOUCH_SHARE


async def end(context: Context, session: Session) -> None:
    async def work(transaction: Transaction) -> None:
        await end_session(transaction, context, session, "logout")

    await context.storage.transact(work)


async def end_of_widget(context: Context, session_id: str) -> bool:
    """Ends a login made on a site's own page, which no browser holds by a cookie here; whether it is one."""

    async def work(transaction: Transaction) -> bool:
        session = await transaction.sessions.by_id(session_id)
        if session is None or session.client != WIDGET:
            return False
        await end_session(transaction, context, session, "logout")
        return True

    return await context.storage.transact(work)


def is_shown(text: str) -> bool:
    """Whether it is text that people see, or "": no control or direction characters."""
    visible = _JOINERS.sub("", text)
    return visible.isprintable() and bool(visible) == bool(text)


async def choose_name(context: Context, user: User, name: str) -> None:
    """Sets the name to be shown; "" goes back to the platform's. Raises BadRequest."""
    chosen = " ".join(name.split())
    if len(chosen) > MAX_NAME or not is_shown(chosen):
        raise BadRequest("A name has at most 64 characters, and no control characters.")

    cause = context.token(CAUSE_BYTES)

    async def work(transaction: Transaction) -> None:
        before = await transaction.users.get(user.id)
        if before is not None:
            after = replace(before, chosen_name=chosen)
            await announce_update(transaction, context, before, after, cause=cause)
            await transaction.users.set_chosen_name(user.id, chosen)

    await context.storage.transact(work)
