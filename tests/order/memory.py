"""A store in memory as weak as the contract allows: each call is atomic by itself, and gives way before it.

Whoever drives the coroutines decides after each call whose turn it is, so every order there is can be had,
without a loop, a thread or a clock. It has the calls that logins make, no others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from errors import TicketUnknown
from storage import base
from storage.base import Result, Transaction
from storage.records import Identity, Link, Profile, Session, User
from tickets import State, Ticket

PENDING = (State.SCANNED, State.CONFIRMED)


class Turn:
    """Somebody else may go first."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class MemoryStorage(base.Storage):
    def __init__(self) -> None:
        self.transaction: Any = SimpleNamespace(
            users=_Users(),
            sessions=_Sessions(),
            tickets=_Tickets(),
            links=_Links(),
            deliveries=_Deliveries(),
            known_browsers=_KnownBrowsers(),
            logins=_Logins(),
        )
        self.transaction.users.sessions = self.transaction.sessions

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        return await work(self.transaction)

    async def sweep(self, *, now: float) -> None:
        raise NotImplementedError

    async def ping(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


class _Users:
    def __init__(self) -> None:
        self.people: dict[str, User] = {}
        self.ids: dict[tuple[str, str], str] = {}
        self.sessions: _Sessions

    def _by_identity(self, provider: str, subject: str) -> User | None:
        return self.people.get(self.ids.get((provider, subject), ""))

    def _follow(self, user: User, following: bool, event_at: float) -> User:
        (known,) = user.identities
        if event_at >= known.event_at:
            known = replace(known, following=following, event_at=event_at)
            user = self.people[user.id] = replace(user, identities=(known,))
        return user

    async def upsert_identity(
        self, provider: str, subject: str, *, following: bool, event_at: float, new_id: str, now: float
    ) -> User:
        await Turn()
        user = self._by_identity(provider, subject)
        if user is not None:
            return self._follow(user, following, event_at)
        self.ids[provider, subject] = new_id
        user = User(new_id, now, (Identity(provider, subject, following, event_at, now, Profile()),))
        self.people[new_id] = user
        return user

    async def set_unfollowed(self, provider: str, subject: str, *, event_at: float) -> User | None:
        await Turn()
        user = self._by_identity(provider, subject)
        return self._follow(user, False, event_at) if user is not None else None

    async def get(self, user_id: str) -> User | None:
        await Turn()
        return self.people.get(user_id)

    async def by_identity(self, provider: str, subject: str) -> User | None:
        await Turn()
        return self._by_identity(provider, subject)

    async def set_blocked(self, user_id: str, blocked: bool) -> None:
        await Turn()
        if user_id in self.people:
            self.people[user_id] = replace(self.people[user_id], blocked=blocked)

    async def count_login(self, user_id: str, ticket_id: str, *, now: float) -> None:
        """Nobody looks at the count here."""

    async def forget(self, user_id: str) -> None:
        await Turn()
        user = self.people.pop(user_id, None)
        if user is not None:
            del self.ids[user.identities[0].provider, user.identities[0].subject]
            self.sessions.drop_of(user_id)


class _Sessions:
    def __init__(self) -> None:
        self.by_tickets: dict[str, Session] = {}

    def drop_of(self, user_id: str) -> None:
        self.by_tickets = {key: kept for key, kept in self.by_tickets.items() if kept.user_id != user_id}

    def _find(self, **wanted: object) -> Session | None:
        ((name, value),) = wanted.items()
        return next((kept for kept in self.by_tickets.values() if getattr(kept, name) == value), None)

    def _revoke(self, session: Session | None) -> Session | None:
        if session is not None:
            session = self.by_tickets[session.ticket_id] = replace(session, revoked=True)
        return session

    async def create(self, session: Session) -> Session:
        await Turn()
        return self.by_tickets.setdefault(session.ticket_id, session)

    async def replace(self, former: Session, session: Session) -> bool:
        await Turn()
        known = self.by_tickets.get(former.ticket_id)
        if known is None or known.id != former.id or known.revoked:
            return False
        self.by_tickets[session.ticket_id] = session
        return True

    async def get(self, token_hash: bytes) -> Session | None:
        await Turn()
        return self._find(token_hash=token_hash)

    async def by_id(self, session_id: str) -> Session | None:
        await Turn()
        return self._find(id=session_id)

    async def by_ticket(self, ticket_id: str) -> Session | None:
        await Turn()
        return self.by_tickets.get(ticket_id)

    async def revoke(self, session_id: str) -> Session | None:
        await Turn()
        return self._revoke(self._find(id=session_id))

    async def revoke_of_ticket(self, ticket_id: str) -> Session | None:
        await Turn()
        return self._revoke(self.by_tickets.get(ticket_id))

    async def revoke_of_user(self, user_id: str, *, provider: str | None = None) -> None:
        await Turn()
        for session in list(self.by_tickets.values()):
            if session.user_id == user_id and provider in (None, session.provider):
                self._revoke(session)

    async def of_user(self, user_id: str, *, now: float, provider: str | None = None) -> Sequence[Session]:
        await Turn()
        return [
            kept
            for kept in self.by_tickets.values()
            if kept.user_id == user_id and not kept.revoked and provider in (None, kept.provider)
        ]


class _Tickets:
    def __init__(self) -> None:
        self.tickets: dict[str, Ticket] = {}

    def _alive(self, ticket_id: str, now: float) -> Ticket | None:
        ticket = self.tickets.get(ticket_id)
        return ticket if ticket is not None and not ticket.expired(now) else None

    async def create(self, ticket: Ticket) -> None:
        self.tickets[ticket.id] = ticket

    async def get(self, ticket_id: str, *, now: float) -> Ticket | None:
        await Turn()
        return self._alive(ticket_id, now)

    async def get_many(self, ticket_ids: Iterable[str], *, now: float) -> dict[str, Ticket]:
        found = {ticket_id: await self.get(ticket_id, now=now) for ticket_id in ticket_ids}
        return {ticket_id: ticket for ticket_id, ticket in found.items() if ticket is not None}

    async def update(self, ticket_id: str, change: Callable[[Ticket], Ticket], *, now: float) -> Ticket:
        await Turn()
        ticket = self._alive(ticket_id, now)
        if ticket is None:
            raise TicketUnknown
        changed = self.tickets[ticket_id] = change(ticket)
        return changed

    async def pending_of_user(self, user_id: str, *, now: float) -> Sequence[Ticket]:
        await Turn()
        return [
            ticket
            for ticket in self.tickets.values()
            if ticket.user_id == user_id and ticket.state in PENDING and not ticket.expired(now)
        ]


class _Links:
    def __init__(self) -> None:
        self.links: dict[bytes, Link] = {}

    async def create(self, link: Link) -> None:
        self.links[link.token_hash] = link  # nobody knows of it yet

    async def get(self, token_hash: bytes, *, now: float) -> Link | None:
        await Turn()
        link = self.links.get(token_hash)
        return link if link is not None and now < link.expires_at else None

    async def use(self, token_hash: bytes, *, now: float) -> Link | None:
        await Turn()
        link = self.links.pop(token_hash, None)
        return link if link is not None and now < link.expires_at else None


class _Deliveries:
    def __init__(self) -> None:
        self.bound: dict[str, bytes] = {}

    async def bind(self, signature: str, body_hash: bytes, *, expires_at: float) -> bool:
        await Turn()
        return self.bound.setdefault(signature, body_hash) == body_hash


class _KnownBrowsers:
    """Every browser is new."""

    async def remember(self, token_hash: bytes, user_id: str, *, expires_at: float) -> None: ...

    async def is_known(self, token_hash: bytes, user_id: str, *, now: float) -> bool:
        return False

    async def forget(self, user_id: str) -> None: ...


class _Logins:
    async def append(self, login: object) -> None:
        """Nobody reads the log here."""
