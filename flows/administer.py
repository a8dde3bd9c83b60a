"""What admins change. Each change and its line of the audit log are one piece of work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from errors import BadRequest, Forbidden, NotFound
from flows import people
from flows.admin import new_entry
from flows.announce import CAUSE_BYTES
from flows.context import Context
from flows.sessions import Current, is_shown
from storage.base import Transaction
from storage.records import User

MAX_REMARK = 500

Effect = Callable[[Transaction, User], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class By:
    """Who changes something, and from where."""

    admin: Current
    address: str

    @property
    def id(self) -> str:
        return self.admin.user.id


async def set_remark(context: Context, by: By, user_id: str, remark: str) -> None:
    """What the team notes of a person. Raises BadRequest, NotFound."""
    remark = " ".join(remark.split())
    if len(remark) > MAX_REMARK or not is_shown(remark):
        raise BadRequest("A remark has at most 500 characters, and no control characters.")

    async def effect(transaction: Transaction, user: User) -> list[str]:
        await transaction.users.set_remark(user.id, remark)
        return []

    await _change(context, by, "remark", user_id, effect, detail=remark)


async def set_blocked(context: Context, by: By, user_id: str, blocked: bool) -> None:
    """Raises Forbidden, NotFound."""
    cause = context.token(CAUSE_BYTES)

    async def effect(transaction: Transaction, user: User) -> list[str]:
        return await people.mark_blocked(transaction, context, user, blocked, cause=cause)

    await _change(context, by, "block" if blocked else "unblock", user_id, effect, to_others=blocked)


async def sign_out(context: Context, by: By, user_id: str) -> None:
    """Ends all sessions of the person. Raises NotFound."""

    async def effect(transaction: Transaction, user: User) -> list[str]:
        return await people.sign_out(transaction, context, user, "logout")

    await _change(context, by, "sign_out", user_id, effect)


async def set_admin(context: Context, by: By, user_id: str, admin: bool) -> None:
    """Nobody takes it from themselves, so that whoever was the last stays one. Raises Forbidden, NotFound."""

    async def effect(transaction: Transaction, user: User) -> list[str]:
        await transaction.users.set_admin(user.id, admin)
        return []

    action = "make_admin" if admin else "unmake_admin"
    await _change(context, by, action, user_id, effect, to_others=not admin)


async def delete(context: Context, by: By, user_id: str) -> None:
    """All that is stored of the person, the audit log apart. Raises Forbidden, NotFound."""

    async def effect(transaction: Transaction, user: User) -> list[str]:
        return await people.delete(transaction, context, user)

    await _change(context, by, "delete", user_id, effect, to_others=True)


async def note(context: Context, by: By, action: str, target: str, detail: str = "") -> None:
    """For what changes nothing stored: a download, a test. Raises Forbidden."""
    entry = new_entry(context, by.id, action, target, address=by.address, detail=detail)

    async def work(transaction: Transaction) -> None:
        await _require_admin(transaction, by)
        await transaction.audit.append(entry)

    await context.storage.transact(work)


async def _change(
    context: Context,
    by: By,
    action: str,
    user_id: str,
    effect: Effect,
    *,
    detail: str = "",
    to_others: bool = False,
) -> None:
    """`to_others`: nobody does it to themselves."""
    entry = new_entry(context, by.id, action, user_id, address=by.address, detail=detail)

    async def work(transaction: Transaction) -> list[str]:
        acting = await _require_admin(transaction, by)
        user = await transaction.users.get(user_id)
        if user is None:
            raise NotFound("There is no such person.")
        if to_others and user.id == acting.id:
            raise Forbidden("Admins cannot do this to themselves; ask another admin.")
        # Before the effect: where a store cannot do both at once, rather a line too many than one too few.
        await transaction.audit.append(entry)
        return await effect(transaction, user)

    for ticket_id in await context.storage.transact(work):
        await context.broker.publish(ticket_id)


async def _require_admin(transaction: Transaction, by: By) -> User:
    """As stored now: of two admins who take it from each other at once, one does."""
    admin = await transaction.users.get(by.id)
    if admin is None or not admin.admin or admin.blocked:
        raise Forbidden
    return admin
