"""Records as flat rows of scalars and back; the same for every driver."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeAlias

from oidc import Grant
from storage.records import (
    AuditEntry,
    Identity,
    Link,
    Login,
    Notice,
    Profile,
    Session,
    SigningKey,
)
from tickets import Device, Scanner, State, Ticket

Row: TypeAlias = "dict[str, Any]"


COUNTED_TICKETS = 8  # of one person: more than they collect in the time that an exchange may be repeated

_TICKET_SCALARS = tuple(f.name for f in fields(Ticket) if f.name not in ("device", "scanner", "state"))
_PROFILE_FIELDS = tuple(f.name for f in fields(Profile))
_IDENTITY_SCALARS = tuple(f.name for f in fields(Identity) if f.name != "profile")
_SESSION_FIELDS = tuple(f.name for f in fields(Session))
_LINK_FIELDS = tuple(f.name for f in fields(Link))
_LOGIN_FIELDS = tuple(f.name for f in fields(Login))
_GRANT_FIELDS = tuple(f.name for f in fields(Grant))
_NOTICE_FIELDS = tuple(f.name for f in fields(Notice))
_AUDIT_FIELDS = tuple(f.name for f in fields(AuditEntry))
_SIGNING_KEY_FIELDS = tuple(f.name for f in fields(SigningKey))

TICKET_COLUMNS = (
    *_TICKET_SCALARS,
    "state",
    "browser",
    "system",
    "address",
    "scanner_provider",
    "scanner_subject",
)
IDENTITY_COLUMNS = (*_IDENTITY_SCALARS, *_PROFILE_FIELDS)
SESSION_COLUMNS = _SESSION_FIELDS
LINK_COLUMNS = _LINK_FIELDS
LOGIN_COLUMNS = _LOGIN_FIELDS
GRANT_COLUMNS = _GRANT_FIELDS
NOTICE_COLUMNS = _NOTICE_FIELDS
AUDIT_COLUMNS = _AUDIT_FIELDS
SIGNING_KEY_COLUMNS = _SIGNING_KEY_FIELDS


# What older records lack: another saoma has written them, before these fields were.
_LATER: Row = {
    "scanned_at": 0.0,
    "agreed": False,
    "number": 0,
    "wrong_numbers": 0,
    "browser_hash": b"",
    "browser": "",
    "system": "",
    "address": "",
    "expires_at": 9e15,
}


def _values(row: Row, names: Iterable[str]) -> Row:
    try:
        return {name: row[name] for name in names}
    except KeyError:
        return {name: row[name] for name in names if name not in _LATER} | {
            name: _found(row, name) for name in names if name in _LATER
        }


def _found(row: Row, name: str) -> Any:
    try:
        return row[name]
    except KeyError:
        return _LATER[name]


def ticket_row(ticket: Ticket) -> Row:
    row: Row = {name: getattr(ticket, name) for name in _TICKET_SCALARS}
    row["state"] = ticket.state.value
    device, scanner = ticket.device, ticket.scanner
    row["browser"], row["system"], row["address"] = device.browser, device.system, device.address
    row["scanner_provider"] = scanner.provider if scanner else ""
    row["scanner_subject"] = scanner.subject if scanner else ""
    return row


def ticket_changes(before: Ticket, after: Ticket) -> Row:
    """The columns in which they differ, with what `after` has in them."""
    if after is before:
        return {}
    old, new = ticket_row(before), ticket_row(after)
    return {name: value for name, value in new.items() if value != old[name]}


def ticket_of(row: Row) -> Ticket:
    provider, scalars = row["scanner_provider"], _values(row, _TICKET_SCALARS)
    scalars["agreed"] = bool(scalars["agreed"])
    return Ticket(
        state=State(row["state"]),
        device=Device(row["browser"], row["system"], row["address"]),
        scanner=Scanner(provider, row["scanner_subject"]) if provider else None,
        **scalars,
    )


def identity_of(row: Row) -> Identity:
    scalars = {name: row[name] for name in _IDENTITY_SCALARS}
    scalars["following"] = bool(scalars["following"])
    return Identity(profile=profile_of(row), **scalars)


def profile_of(row: Row) -> Profile:
    return Profile(**{name: row[name] for name in _PROFILE_FIELDS})


def profile_row(profile: Profile) -> Row:
    return {name: getattr(profile, name) for name in _PROFILE_FIELDS}


def session_row(session: Session) -> Row:
    return {name: getattr(session, name) for name in _SESSION_FIELDS}


def session_of(row: Row) -> Session:
    values = _values(row, _SESSION_FIELDS)
    values["revoked"], values["agreed"] = bool(values["revoked"]), bool(values["agreed"])
    return Session(**values)


def link_row(link: Link) -> Row:
    return {name: getattr(link, name) for name in _LINK_FIELDS}


def link_of(row: Row) -> Link:
    values = {name: row[name] for name in _LINK_FIELDS}
    values["used"] = bool(values["used"])
    return Link(**values)


def login_row(login: Login) -> Row:
    return {name: getattr(login, name) for name in _LOGIN_FIELDS}


def login_of(row: Row) -> Login:
    return Login(**_values(row, _LOGIN_FIELDS))


def grant_row(grant: Grant) -> Row:
    return {name: getattr(grant, name) for name in _GRANT_FIELDS}


def grant_of(row: Row) -> Grant:
    values = {name: row[name] for name in _GRANT_FIELDS}
    values["redeemed"], values["revoked"] = bool(values["redeemed"]), bool(values["revoked"])
    return Grant(**values)


def notice_row(notice: Notice) -> Row:
    return {name: getattr(notice, name) for name in _NOTICE_FIELDS}


def notice_of(row: Row) -> Notice:
    return Notice(**{name: row[name] for name in _NOTICE_FIELDS})


def audit_row(entry: AuditEntry) -> Row:
    return {name: getattr(entry, name) for name in _AUDIT_FIELDS}


def audit_of(row: Row) -> AuditEntry:
    return AuditEntry(**{name: row[name] for name in _AUDIT_FIELDS})


def signing_key_row(key: SigningKey) -> Row:
    return {name: getattr(key, name) for name in _SIGNING_KEY_FIELDS}


def signing_key_of(row: Row) -> SigningKey:
    return SigningKey(**{name: row[name] for name in _SIGNING_KEY_FIELDS})


def count_ticket(counted: str, ticket_id: str) -> str | None:
    """What `last_ticket_id` becomes when the ticket's login is counted; None where it has been counted.

    It has the newest few, a line each: a lost answer is asked for again after the person's next login, too.
    """
    known = counted.split("\n") if counted else []
    return None if ticket_id in known else "\n".join([ticket_id, *known][:COUNTED_TICKETS])


def cursor_after(at: float, id: str) -> str:
    """The place behind a record in a list by time and id. It stands when that record goes."""
    return f"{at!r} {id}"


def place_of(cursor: str, start: float = -1.0) -> tuple[float, str]:
    """Time and id that the cursor stands behind; "" is the beginning, at `start`.

    Raises ValueError, and TypeError as `scalars`.
    """
    scalars(cursor=cursor)
    if not cursor:
        return (start, "")
    created_at, separator, user_id = cursor.partition(" ")
    if not separator or not math.isfinite(float(created_at)):
        raise ValueError("no cursor of ours")
    return (float(created_at), user_id)


def scalars(**values: object) -> Row:
    """`values`, for a driver that would store or even obey anything else.

    Raises TypeError for what is neither text, bytes nor a number, ValueError for text with a lone surrogate.
    """
    for name, value in values.items():
        if not isinstance(value, str | bytes | bool | int | float):
            raise TypeError(f"not to be stored: {name} is of type {type(value).__name__}")
        if isinstance(value, str):
            value.encode()
    return values
