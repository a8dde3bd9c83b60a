"""A person followed without a code, or left."""

from __future__ import annotations

from flows.announce import announce_person
from flows.context import Context
from flows.endings import end_sessions_of
from flows.scan import PROVIDER, Outcome, seen_following
from flows.tickets import revoke_pending
from storage.base import Transaction
from wechat.messages import Message


async def followed(transaction: Transaction, context: Context, message: Message) -> Outcome:
    """Stores the person; nobody is logged in."""
    user = await seen_following(transaction, context, message)
    return Outcome(context.settings.wechat.welcome, met=user)


async def unfollowed(transaction: Transaction, context: Context, message: Message) -> Outcome:
    """Marks the person, takes back what was not collected and ends the sessions, as the settings say.

    In this order: an exchange that runs at the same time looks at the mark after it has made its session,
    so either it sees the mark or its session is here to be ended.
    """
    user = await transaction.users.set_unfollowed(PROVIDER, message.openid, event_at=message.created_at)
    if user is None:
        return Outcome()
    identity = user.identity(PROVIDER, message.openid)
    if identity is None or identity.following:
        return Outcome()  # came back since: a newer event has been applied
    if identity.event_at == message.created_at:
        cause = f"{PROVIDER} {message.openid} {message.created_at}"
        await announce_person(transaction, context, "user.unfollowed", user, cause=cause)
    revoked = await revoke_pending(transaction, context, user.id, PROVIDER)
    if context.settings.wechat.unfollow == "end_sessions":
        await end_sessions_of(transaction, context, user.id, "unfollowed", provider=PROVIDER)
    return Outcome(changed=revoked)
