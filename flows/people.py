"""What happens to people themselves, and how the sites learn of it."""

from __future__ import annotations

from dataclasses import replace

from errors import NotFound
from flows.announce import (
    CAUSE_BYTES,
    announce,
    announce_person,
    announce_update,
    identities,
    listening,
)
from flows.context import Context
from flows.endings import end_sessions_of
from flows.tickets import revoke_pending
from storage.base import Transaction
from storage.records import Profile, User

USER_ID_BYTES = 15
NEW_SECONDS = 600.0  # longer than an event comes again after work that was cut off in the middle


async def meet(
    transaction: Transaction,
    context: Context,
    provider: str,
    subject: str,
    *,
    event_at: float,
    follows: bool = False,
    told: Profile | None = None,
) -> User:
    """The person with this identity, stored or refreshed as following at the time of the event.

    `follows`: the event is a follow, not something that followers do. `told` is what came with it of the
    person's profile; a blocked person's is left as it is.
    """
    now, new_id, returned = context.now(), context.token(USER_ID_BYTES), False
    if listening(context, "user.followed") and not follows:
        before = await transaction.users.by_identity(provider, subject)
        known = before.identity(provider, subject) if before else None
        returned = known is not None and not known.following
    user = await transaction.users.upsert_identity(
        provider, subject, following=True, event_at=event_at, new_id=new_id, now=now
    )
    before, cause = user, f"{provider} {subject} {event_at}"
    if told is not None and told != Profile() and not user.blocked:
        # No unionid: that comes from the platform alone (security rule 9).
        user = await transaction.users.update_profile(provider, subject, told, unionid="", now=now) or user
    if now < user.created_at + NEW_SECONDS:
        await announce_person(transaction, context, "user.created", user, cause=user.id)
    if user.id != new_id:
        await announce_update(transaction, context, before, user, cause=cause)
    identity = user.identity(provider, subject)
    applied = identity is not None and identity.following and identity.event_at == event_at
    if applied and (follows or returned):
        await announce_person(transaction, context, "user.followed", user, cause=cause)
    return user


async def set_blocked(context: Context, user_id: str, blocked: bool) -> None:
    """A blocked person is signed out everywhere, and what they have scanned cannot be collected.

    Raises NotFound.
    """
    cause = context.token(CAUSE_BYTES)

    async def work(transaction: Transaction) -> list[str]:
        user = await transaction.users.get(user_id)
        if user is None:
            raise NotFound
        return await mark_blocked(transaction, context, user, blocked, cause=cause)

    for ticket_id in await context.storage.transact(work):
        await context.broker.publish(ticket_id)


async def mark_blocked(
    transaction: Transaction, context: Context, user: User, blocked: bool, *, cause: str
) -> list[str]:
    """Returns the ids of tickets whose waiters must look again."""
    await announce_update(transaction, context, user, replace(user, blocked=blocked), cause=cause)
    await transaction.users.set_blocked(user.id, blocked)
    if not blocked:
        return []
    # After the mark: an exchange that runs at the same time sees it, or its session is here to be ended.
    return await sign_out(transaction, context, user, "blocked")


async def sign_out(transaction: Transaction, context: Context, user: User, reason: str) -> list[str]:
    """Ends all sessions, and takes back what was scanned; returns as `mark_blocked`."""
    revoked = await revoke_pending(transaction, context, user.id, None)
    await end_sessions_of(transaction, context, user.id, reason)
    return revoked


async def forget(context: Context, user_id: str) -> None:
    """Deletes the person and all that is stored of them; whoever scans again is somebody new."""

    async def work(transaction: Transaction) -> list[str]:
        user = await transaction.users.get(user_id)
        return [] if user is None else await delete(transaction, context, user)

    for ticket_id in await context.storage.transact(work):
        await context.broker.publish(ticket_id)


async def delete(transaction: Transaction, context: Context, user: User) -> list[str]:
    """Returns as `mark_blocked`."""
    revoked = await sign_out(transaction, context, user, "deleted")
    known = {"id": user.id, "previous_ids": list(user.previous_ids), "identities": identities(user)}
    await announce(transaction, context, "user.deleted", {"user": known}, person=user.id, cause=user.id)
    await transaction.users.forget(user.id)
    return revoked
