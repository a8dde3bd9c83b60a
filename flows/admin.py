"""Who may administrate, and the record of what admins change.

There is no password and no default account: a command on the server's own terminal makes a link, and whoever
opens it and then scans becomes an admin (security rule 22).
"""

from __future__ import annotations

from errors import Forbidden, NotFound
from flows import links
from flows.context import Context
from flows.sessions import Current
from storage.base import Transaction
from storage.records import AuditEntry, Link, Session
from tickets import BROWSER

PURPOSE = "admin"
PATH = "/admin/enter/"
LIFETIME = 600.0  # seconds, of a link
FRESH_SECONDS = 600.0  # since the login, for what cannot be undone
ENTRY_ID_BYTES = 12
MAX_DETAIL = 500


async def new_link(context: Context) -> str:
    """The address of a fresh link."""
    expires_at = context.now() + LIFETIME
    return await context.storage.transact(
        lambda transaction: links.new_link(transaction, context, PURPOSE, PATH, expires_at=expires_at)
    )


async def look(context: Context, token: str) -> Link | None:
    """The link; None where it is unknown, used or too old. Changes nothing."""
    return await links.look(context, token, PURPOSE)


def may_enter(link: Link, current: Current | None) -> bool:
    """Whether it is they who scanned after the link was made, in a browser that logged in here."""
    if current is None or current.session.client != BROWSER:
        return False
    return current.session.created_at >= link.created_at


def is_admin(context: Context, current: Current) -> bool:
    """Whether this login may use /admin: not one that anybody could forge, or that a program has."""
    session = current.session
    return current.user.admin and session.client == BROWSER and not _forgeable(context, session)


def _forgeable(context: Context, session: Session) -> bool:
    """In plain mode one leaked callback address forges any scan (security rule 6)."""
    return session.provider == "wechat" and context.settings.wechat.mode == "plain"


async def enter(context: Context, token: str, current: Current, address: str) -> None:
    """Makes the person an admin and uses the link up. Raises NotFound, Forbidden."""
    if _forgeable(context, current.session):
        raise Forbidden("In plain mode anybody could forge this scan: switch wechat.mode to safe first.")

    async def work(transaction: Transaction) -> None:
        link = await links.find(transaction, context, token, PURPOSE)
        if link is None or not may_enter(link, current):
            raise NotFound("This link is no longer valid.")
        await transaction.users.set_admin(current.user.id, True)
        own = current.user.id
        await transaction.audit.append(new_entry(context, own, "became_admin", own, address=address))
        await transaction.links.use(link.token_hash, now=context.now())

    await context.storage.transact(work)


def new_entry(
    context: Context, admin_id: str, action: str, target: str, *, address: str, detail: str = ""
) -> AuditEntry:
    """A line for the audit log, to be appended in the same work as what is done."""
    return AuditEntry(
        id=context.token(ENTRY_ID_BYTES),
        at=context.now(),
        admin_id=admin_id,
        action=action,
        target=target,
        detail=detail[:MAX_DETAIL],
        address=address,
    )


def is_fresh(context: Context, current: Current) -> bool:
    """Whether the login is young enough for what cannot be undone."""
    return abs(context.now() - current.session.created_at) < FRESH_SECONDS
