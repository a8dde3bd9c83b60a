"""What a remembered session stands on, by the names of its marks (`Shared.marks`). Pure.

Names are few: they are numbers of buckets, so that marks take no more room the more people there are. Two
that fall into one bucket cost a look into the database, nothing else.
"""

from __future__ import annotations

import zlib

from storage.records import Session, User

BUCKETS = 16_384


def behind(session: Session, user: User) -> tuple[str, ...]:
    """All the marks of a session and its person, without repeats."""
    people = (session.user_id, user.id, *user.previous_ids)
    names = [of_session(session.id), of_ticket(session.ticket_id), *map(of_person, people)]
    names += [of_identity(known.provider, known.subject) for known in user.identities]
    names += [of_unionid(user.unionid)] if user.unionid else []
    return tuple(dict.fromkeys(names))


def of_session(session_id: str) -> str:
    return _bucket("session", session_id)


def of_ticket(ticket_id: str) -> str:
    return _bucket("ticket", ticket_id)


def of_person(user_id: str) -> str:
    return _bucket("person", user_id)


def of_identity(provider: str, subject: str) -> str:
    return _bucket("identity", provider, subject)


def of_unionid(unionid: str) -> str:
    return _bucket("unionid", unionid)


def _bucket(*parts: str) -> str:
    # What is no proper text is refused by the store, not here.
    return str(zlib.crc32("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")) % BUCKETS)
