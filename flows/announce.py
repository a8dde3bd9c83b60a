"""What the sites are told, written down in the same work as what happened; `flows/outbox.py` sends it.

Two kinds of endpoint: a site's webhook (all that happens to people and logins), and its back-channel logout
(OpenID Connect Back-Channel Logout 1.0: sessions that it got a login from).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flows.context import Context
from storage.base import Transaction
from storage.records import Notice, Session, User

WEBHOOK = "webhook:"
LOGOUT = "logout:"
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
    sites = [
        site
        for site in context.settings.sites
        if site.webhook_url and (not site.webhook_events or event in site.webhook_events)
    ]
    if not sites:
        return
    now = context.now()
    payload = {"type": event, "timestamp": datetime.fromtimestamp(now, UTC).isoformat(), "data": data}
    text = json.dumps(payload, ensure_ascii=False)
    name = f"msg_{context.mac('notice', f'{event} {cause}')[:32]}"
    for site in sites:
        await _add(transaction, f"{WEBHOOK}{site.id}", name, person, event, text, now)


async def announce_logout(transaction: Transaction, context: Context, session: Session) -> None:
    """One notice for each site that got a login from the session and wants to hear of its end."""
    listening = {site.id for site in context.settings.sites if site.backchannel_logout_uri}
    if not listening:
        return
    now = context.now()
    for grant in await transaction.grants.of_session(session.id, now=now):
        if grant.site in listening:
            name = f"msg_{context.mac('notice', f'logout {grant.site} {session.id}')[:32]}"
            text = json.dumps({"sub": grant.user_id, "sid": session.id})
            endpoint = f"{LOGOUT}{grant.site}"
            await _add(transaction, endpoint, name, grant.user_id, "logout", text, now)


def described(user: User) -> dict[str, Any]:
    """A person as webhooks tell of them."""
    return {
        "id": user.id,
        "previous_ids": list(user.previous_ids),
        "name": user.name,
        "blocked": user.blocked,
        "identities": [
            {"provider": known.provider, "subject": known.subject, "following": known.following}
            for known in user.identities
        ],
        "unionid": user.unionid,
    }


async def _add(
    transaction: Transaction, endpoint: str, name: str, person: str, event: str, text: str, now: float
) -> None:
    await transaction.outbox.add(
        Notice(
            endpoint=endpoint,
            id=name,
            person=person,
            event=event,
            payload=text,
            created_at=now,
            due_at=now,
            expires_at=now + KEEP_SECONDS,
        )
    )
