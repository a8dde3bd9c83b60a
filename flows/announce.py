"""What the sites are told, written down in the same work as what happened; `flows/outbox.py` sends it.

Two kinds of endpoint: a site's webhook (all that happens to people and logins), and its back-channel logout
(OpenID Connect Back-Channel Logout 1.0: sessions that it got a login from).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from config.sections import RegisteredSite
from flows import pictures
from flows.context import Context
from storage.base import Transaction
from storage.records import Notice, Session, User
from tickets import Ticket

WEBHOOK = "webhook:"
LOGOUT = "logout:"
CAUSE_BYTES = 12  # of a cause by chance, for what has no name of its own
KEEP_SECONDS = 7 * 86400.0  # that an outcome can be looked at


async def announce(
    transaction: Transaction,
    context: Context,
    event: str,
    data: Mapping[str, Any],
    *,
    person: str,
    cause: str,
) -> None:
    """One notice for each site whose webhook wants the event.

    `cause` names what happened (a ticket's id, say): the same event of the same cause is announced once.
    """
    sites = listening(context, event)
    if not sites:
        return
    now = context.now()
    text = _payload(event, data, now)
    for site in sites:
        endpoint = f"{WEBHOOK}{site.id}"
        await transaction.outbox.add(_notice(endpoint, _name(f"{event} {cause}"), person, event, text, now))


async def announce_person(
    transaction: Transaction, context: Context, event: str, user: User, *, cause: str, **more: Any
) -> None:
    """As `announce`, with the person as they are then and whatever else there is to tell."""
    if listening(context, event):
        data = {"user": described(context, user), **more}
        await announce(transaction, context, event, data, person=user.id, cause=cause)


async def announce_update(
    transaction: Transaction, context: Context, before: User, after: User, *, cause: str
) -> None:
    """What of the person is other than the sites were told, if anything is."""
    if not listening(context, "user.updated"):
        return
    changed = [
        name
        for name in ("name", "picture", "blocked", "unionid", "previous_ids")
        if getattr(after, name) != getattr(before, name)
    ]
    if changed:
        await announce_person(transaction, context, "user.updated", after, cause=cause, changed=changed)


async def announce_login(
    transaction: Transaction,
    context: Context,
    event: str,
    ticket: Ticket,
    user: User,
    *,
    cause: str,
    **more: str,
) -> None:
    """As `announce_person`, with what the ticket tells of the login."""
    device = ticket.device
    login = {
        "ticket_id": ticket.id,
        "method": ticket.method,
        "site": ticket.site,
        "address": device.address,
        "browser": device.browser,
        "system": device.system,
    }
    await announce_person(transaction, context, event, user, cause=cause, **login, **more)


def listening(context: Context, event: str) -> list[RegisteredSite]:
    """The sites whose webhook wants the event; where there are none, nothing need be found out for them."""
    return [
        site
        for site in context.settings.sites
        if site.webhook_url and (not site.webhook_events or event in site.webhook_events)
    ]


async def announce_logout(transaction: Transaction, context: Context, session: Session) -> None:
    """One notice for each site that got a login from the session and wants to hear of its end."""
    listening = {site.id for site in context.settings.sites if site.backchannel_logout_uri}
    if not listening:
        return
    now = context.now()
    for grant in await transaction.grants.of_session(session.id, now=now):
        if grant.site in listening:
            name = _name(f"logout {grant.site} {session.id}")
            text = json.dumps({"sub": grant.user_id, "sid": session.id})
            endpoint = f"{LOGOUT}{grant.site}"
            await transaction.outbox.add(_notice(endpoint, name, grant.user_id, "logout", text, now))


def new_test(context: Context, site: RegisteredSite) -> Notice:
    """A notice to the site's webhook that nothing has happened for; it waits in nobody's line."""
    now, name = context.now(), _name(f"test {context.token(16)}")
    return _notice(f"{WEBHOOK}{site.id}", name, name, "test", _payload("test", {}, now), now)


def described(context: Context, user: User) -> dict[str, Any]:
    """A person as webhooks tell of them; `picture` is where it is served here."""
    return {
        "id": user.id,
        "previous_ids": list(user.previous_ids),
        "name": user.name,
        "picture": pictures.address(context, user),
        "blocked": user.blocked,
        "identities": identities(user),
        "unionid": user.unionid,
    }


def identities(user: User) -> list[dict[str, Any]]:
    """How somebody is known to the platforms, in the words of every interface of ours."""
    return [
        {"provider": known.provider, "subject": known.subject, "following": known.following}
        for known in user.identities
    ]


def _name(what: str) -> str:
    """Without a key: what is done again after a key has changed is announced no second time."""
    return f"msg_{sha256(what.encode()).hexdigest()[:32]}"


def _payload(event: str, data: Mapping[str, Any], now: float) -> str:
    document = {"type": event, "timestamp": datetime.fromtimestamp(now, UTC).isoformat(), "data": data}
    return json.dumps(document, ensure_ascii=False)


def _notice(endpoint: str, name: str, person: str, event: str, text: str, now: float) -> Notice:
    return Notice(
        endpoint=endpoint,
        id=name,
        person=person,
        event=event,
        payload=text,
        created_at=now,
        due_at=now,
        expires_at=now + KEEP_SECONDS,
    )
