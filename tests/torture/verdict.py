"""Whether a store keeps what was acknowledged, once. Pure: a history and a store in, what is wrong out.

Each line begins with "lost" (acknowledged and not there), "double" (there twice), "foreign" (somebody has
what is another's) or "broken" (the database itself).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator

from tests.torture.history import APP, FOLLOW, UNFOLLOW, WECHAT, Event, History, Login
from tests.torture.stored import Row, Stored


def verdict(history: History, stored: Stored) -> list[str]:
    """What is wrong now; `stored` may be younger than `history`, never older."""
    return [
        *(f"broken: {fault}" for fault in stored.faults),
        *history.complaints,
        *_people(history, stored),
        *_logins(history, stored),
        *_sessions(history, stored),
        *_counts(history, stored),
    ]


def verdict_of_notices(history: History, stored: Stored) -> list[str]:
    """The same of what the sites are told; `stored` must have the notices."""
    return [*_notices_of_people(history, stored), *_notices_of_logins(history, stored)]


def _people(history: History, stored: Stored) -> Iterator[str]:
    for openid, events in history.people():
        # Whoever leaves before they were met is not stored (decision 13).
        done = [e for e in events if e.acknowledged and (e.kind != UNFOLLOW or e.of_known)]
        row = stored.people.get((WECHAT, openid))
        met = any(event.kind != UNFOLLOW for event in done)
        if row is None:
            if met:
                yield f"lost: {openid} was met and is not stored"
            continue
        if row["user_id"] not in stored.logins_counted and met:
            yield f"lost: {openid} is nobody"
        newest = max(done, key=_time, default=None)
        if newest is None:
            continue
        allowed = [newest, *(event for event in events if event.created_at > newest.created_at)]
        if (bool(row["following"]), row["event_at"]) not in [_leaves(event) for event in allowed]:
            yield (
                f"lost: {newest.kind} of {openid} at {newest.created_at};"
                f" stored are following {row['following']} at {row['event_at']:.0f}"
            )
    for provider, subject in stored.people:
        if provider == WECHAT and not history.of_person(subject):
            yield f"foreign: {subject} is stored and nobody spoke of them"


def _time(event: Event) -> int:
    return event.created_at


def _leaves(event: Event) -> tuple[bool, float]:
    return event.kind != UNFOLLOW, event.created_at


def _logins(history: History, stored: Stored) -> Iterator[str]:
    for login in history.logins.values():
        ticket = stored.tickets.get(login.id)
        if ticket is None:
            yield f"lost: ticket {login.id}"
            continue
        state, scanner = ticket["state"], ticket["scanner_subject"]
        if scanner and scanner not in login.scanners:
            yield f"foreign: {login.id} is scanned by {scanner}, who never did"
        if login.won and state != "CONSUMED":
            yield f"lost: {login.id} was collected and is {state}"
        if login.abandoned and state != "CANCELLED":
            yield f"lost: {login.id} was given up and is {state}"
        if login.confirmed_by and scanner != login.confirmed_by:
            yield f"lost: {login.id} was confirmed by {login.confirmed_by}, and stored is {scanner!r}"
        if login.confirmed_by and not login.end_asked and state not in ("CONFIRMED", "CONSUMED"):
            yield f"lost: {login.id} was confirmed and is {state}"
        lines = stored.success_lines.get(login.id, [])
        if login.won and not lines:
            yield f"lost: the line of {login.id} in the login log"
    for ticket_id, lines in stored.success_lines.items():
        if len(lines) > 1:
            yield f"double: {len(lines)} lines of {ticket_id} in the login log"
        if ticket_id not in stored.sessions:
            yield f"foreign: the login log has {ticket_id}, which has no session"


def _sessions(history: History, stored: Stored) -> Iterator[str]:
    subjects: dict[str, set[tuple[str, str]]] = {}
    for key, row in stored.people.items():
        subjects.setdefault(row["user_id"], set()).add(key)
    for ticket_id, sessions in stored.sessions.items():
        if len(sessions) > 1:
            yield f"double: {len(sessions)} sessions of {ticket_id}"
        login = history.logins.get(ticket_id)
        if login is None or not login.exchanges:
            yield f"foreign: a session of {ticket_id}, which nobody collected"
            continue
        owners = {
            subject
            for session in sessions
            for provider, subject in subjects.get(session["user_id"], ())
            if provider == (APP if login.method == APP else WECHAT)
        }
        if not owners & login.scanners:
            yield f"foreign: the session of {ticket_id} is {owners}'s, scanned by {login.scanners}"
    for login in history.logins.values():
        if login.won:
            yield from _session(login, stored.sessions.get(login.id, []))


def _session(login: Login, sessions: list[Row]) -> Iterator[str]:
    if not sessions:
        yield f"lost: the session of {login.id}"
        return
    (session,) = sessions[:1]
    hashes = {hashlib.sha256(token.encode()).digest() for token in login.tokens}
    if hashes and bytes(session["token_hash"]) not in hashes:
        yield f"lost: the token of {login.id}'s session"
    if session["revoked"] and not login.end_asked:
        yield f"lost: the session of {login.id} has ended by itself"
    if login.ended and not session["revoked"]:
        yield f"lost: the end of {login.id}'s session"


def _counts(history: History, stored: Stored) -> Iterator[str]:
    """How often each person logged in: each ticket once, those that were not answered maybe."""
    won: Counter[str] = Counter()
    made: Counter[str] = Counter()
    for ticket_id, sessions in stored.sessions.items():
        made[sessions[0]["user_id"]] += 1
        if (login := history.logins.get(ticket_id)) is not None and login.won:
            won[sessions[0]["user_id"]] += 1
    for user_id, counted in stored.logins_counted.items():
        least = made[user_id] if stored.atomic else won[user_id]
        if counted < least:
            yield f"lost: {user_id} logged in {least} times, counted are {counted}"
        if counted > made[user_id]:
            yield f"double: {user_id} logged in {made[user_id]} times, counted are {counted}"


def _notices_of_people(history: History, stored: Stored) -> Iterator[str]:
    told: Counter[tuple[str, str]] = Counter()
    for notice in stored.notices:
        if notice.event.startswith("user."):
            for identity in notice.data["user"]["identities"]:
                told[notice.event, identity["subject"]] += 1
    yield from _repeated(notice.id for notice in stored.notices)
    for (_, subject), row in stored.people.items():
        count = told["user.created", subject]
        if count > 1 or (not count and row["user_id"] in stored.logins_counted and stored.atomic):
            yield f"{'double' if count else 'lost'}: {count} times told that {subject} is new"
    for openid, events in history.people():
        for kind, name in ((FOLLOW, "user.followed"), (UNFOLLOW, "user.unfollowed")):
            # One that came late, behind a newer one, changed nothing.
            sure = sum(
                event.kind == kind and event.in_order and (kind == FOLLOW or event.of_known)
                for event in events
            )
            asked = sum(event.kind == kind or (kind == FOLLOW and event.kind != UNFOLLOW) for event in events)
            count = told[name, openid]
            if not sure <= count <= asked:
                yield f"{'lost' if count < sure else 'double'}: {count} times {name} of {openid}, not {sure}"


def _notices_of_logins(history: History, stored: Stored) -> Iterator[str]:
    succeeded = Counter(
        (notice.data["ticket_id"], notice.data["session_id"])
        for notice in stored.notices
        if notice.event == "login.succeeded"
    )
    ended = Counter(notice.data["session_id"] for notice in stored.notices if notice.event == "session.ended")
    by_ticket = Counter(ticket_id for ticket_id, _ in succeeded)
    for (ticket_id, session_id), count in succeeded.items():
        if count > 1:
            yield f"double: {count} times told of session {session_id} of {ticket_id}"
    for session_id, count in ended.items():
        if count > 1:
            yield f"double: {count} times told of the end of {session_id}"
    for login in history.logins.values():
        if by_ticket[login.id] > len(login.exchanges):
            yield f"double: {by_ticket[login.id]} logins told of {login.id}"
        for session in stored.sessions.get(login.id, []):
            sure = stored.atomic or login.tokens
            if sure and not succeeded[login.id, session["id"]]:
                yield f"lost: nobody is told of {login.id}'s login"
            if session["revoked"] and sure and (stored.atomic or login.ended) and not ended[session["id"]]:
                yield f"lost: nobody is told of the end of {login.id}'s session"


def _repeated(ids: Iterable[str]) -> Iterator[str]:
    for id, count in Counter(ids).items():
        if count > 1:
            yield f"double: {count} notices {id}"
