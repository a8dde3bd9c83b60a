"""The written contract of every store. `tests/storage/conformance` holds each driver to it.

A use case runs as one piece of *work* in a transaction:

    async def work(transaction: Transaction) -> Ticket: …
    ticket = await storage.transact(work)

On SQLite the whole work is one database transaction: all of it happens, durably, or nothing does. Where the
database cannot do that (MongoDB without a replica set, tickets in Redis) each call is atomic by itself and
they take effect in the order written. So work puts idempotent effects first and the mark that says "done"
last, may be run again from its beginning, and waits for nothing but its transaction.

What `transact` has returned from is durable. Every call may raise StoreUnavailable; `transact` does so within
TIMEOUT_SECONDS where the store is away or hangs. A change that was not acknowledged may still have happened.

Text is stored as it is, NUL characters too, but a lone surrogate is no text: whatever is given one raises
ValueError. A value that is no scalar raises TypeError, so that no JSON becomes an operator of the database.
Whatever takes a user's id takes that of one who was merged away, too, and means the survivor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from oidc import Grant
from storage.records import (
    AuditEntry,
    Link,
    Login,
    LoginFilter,
    Notice,
    Profile,
    Session,
    SigningKey,
    Tally,
    User,
)
from tickets import Ticket

Result = TypeVar("Result")

MAX_PAGE = 200  # the longest list that one call returns
MAX_SEARCH_TEXT = 200  # characters of the longest text to search for
TIMEOUT_SECONDS = 3.5  # WeChat must have its 503 within 4 s


def page_size(limit: int) -> int:
    """`limit` within what one call returns: 1 to MAX_PAGE."""
    return max(1, min(limit, MAX_PAGE))


def check_search_text(text: str) -> None:
    """Raises ValueError where it is too long to search for."""
    if len(text) > MAX_SEARCH_TEXT:
        raise ValueError("too long to search for")


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list of people; `cursor` goes into the next call, "" at the end."""

    users: tuple[User, ...]
    cursor: str


@dataclass(frozen=True, slots=True)
class LoginPage:
    """A part of the login log; `cursor` as in `Page`."""

    logins: tuple[Login, ...]
    cursor: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    entries: tuple[AuditEntry, ...]
    cursor: str


class Users(ABC):
    @abstractmethod
    async def upsert_identity(
        self, provider: str, subject: str, *, following: bool, event_at: float, new_id: str, now: float
    ) -> User:
        """The person with this identity, made with `new_id` if there is none: one winner among many.

        `following` is applied unless an event newer than `event_at` has been.
        """

    @abstractmethod
    async def set_unfollowed(self, provider: str, subject: str, *, event_at: float) -> User | None:
        """Marks the identity as not following and erases its profile; None where nobody has it.

        Changes nothing where an event newer than `event_at` has been applied. Returns the person as they are.
        """

    @abstractmethod
    async def update_profile(
        self, provider: str, subject: str, profile: Profile, *, unionid: str, now: float
    ) -> User | None:
        """What the platform told, blank fields leaving the known ones; None where nobody has the identity.

        A profile that arrives after the person unfollowed is dropped. A unionid that another person has
        merges the two: the older survives with the identities, sessions and log lines of both, blocked if
        either was, and the other's id in `previous_ids` (sorted). Logins are added up; chosen name and
        remark are the older's unless blank; an admin is who was one before.
        """

    @abstractmethod
    async def get(self, user_id: str) -> User | None:
        """The person; the survivor where `user_id` was merged away; None where there is nobody."""

    @abstractmethod
    async def by_identity(self, provider: str, subject: str) -> User | None: ...

    @abstractmethod
    async def set_chosen_name(self, user_id: str, name: str) -> None: ...

    @abstractmethod
    async def set_blocked(self, user_id: str, blocked: bool) -> None: ...

    @abstractmethod
    async def set_remark(self, user_id: str, remark: str) -> None: ...

    @abstractmethod
    async def set_admin(self, user_id: str, admin: bool) -> None: ...

    @abstractmethod
    async def count(self) -> int:
        """How many people there are; may be an estimate."""

    @abstractmethod
    async def count_login(self, user_id: str, ticket_id: str, *, now: float) -> None:
        """Counts a login of the person; one of the newest few tickets again is not counted twice."""

    @abstractmethod
    async def forget(self, user_id: str) -> None:
        """Deletes the person with identities, sessions, grants, links and log lines.

        Tickets and notices go at their expiry.
        """

    @abstractmethod
    async def search(self, text: str, *, cursor: str = "", limit: int = 50) -> Page:
        """People, the oldest first, whose chosen name, remark, nickname or subject contains `text` ("": all).

        A to Z match in either case. A page may be short, or empty, and yet have a cursor: only so many people
        are looked at in one piece of work. Raises ValueError for a cursor that no page had, and for a text
        longer than MAX_SEARCH_TEXT.
        """


class Sessions(ABC):
    @abstractmethod
    async def create(self, session: Session) -> Session:
        """Stores it and returns it; returns the stored one where its ticket already has a session."""

    @abstractmethod
    async def replace(self, former: Session, session: Session) -> bool:
        """Puts `session` in the place of the same ticket's `former`, unless that was revoked or replaced."""

    @abstractmethod
    async def get(self, token_hash: bytes) -> Session | None:
        """As stored, revoked and expired ones too: `flows.sessions` decides."""

    @abstractmethod
    async def by_id(self, session_id: str) -> Session | None:
        """As `get`."""

    @abstractmethod
    async def by_ticket(self, ticket_id: str) -> Session | None:
        """As `get`."""

    @abstractmethod
    async def touch(self, session_id: str, *, now: float) -> None:
        """Notes that it was used."""

    @abstractmethod
    async def revoke(self, session_id: str) -> Session | None:
        """Returns it revoked, whether or not it was before; None where there is none."""

    @abstractmethod
    async def revoke_of_ticket(self, ticket_id: str) -> Session | None:
        """As `revoke`."""

    @abstractmethod
    async def revoke_of_user(self, user_id: str, *, provider: str | None = None) -> None:
        """All of the person's, or those logged in by one provider."""

    @abstractmethod
    async def of_user(self, user_id: str, *, now: float, provider: str | None = None) -> Sequence[Session]:
        """Those neither revoked nor past their end, the newest first, of one provider where one is named."""

    @abstractmethod
    async def count(self, *, now: float) -> int:
        """How many are neither revoked nor past their end; may be an estimate."""


class Tickets(ABC):
    """Whatever is past its expiry is not there, whether or not it was swept."""

    @abstractmethod
    async def create(self, ticket: Ticket) -> None:
        """Raises ValueError where the id is taken."""

    @abstractmethod
    async def get(self, ticket_id: str, *, now: float) -> Ticket | None: ...

    async def get_many(self, ticket_ids: Iterable[str], *, now: float) -> dict[str, Ticket]:
        """Those of the tickets that are there, by their ids."""
        found = {ticket_id: await self.get(ticket_id, now=now) for ticket_id in ticket_ids}
        return {ticket_id: ticket for ticket_id, ticket in found.items() if ticket is not None}

    @abstractmethod
    async def update(self, ticket_id: str, change: Callable[[Ticket], Ticket], *, now: float) -> Ticket:
        """Applies `change` atomically and returns the outcome; `change` may run again.

        Raises TicketUnknown, and whatever `change` raises, with nothing changed.
        """

    @abstractmethod
    async def pending_of_user(self, user_id: str, *, now: float) -> Sequence[Ticket]:
        """The person's SCANNED and CONFIRMED tickets."""


class Deliveries(ABC):
    """What WeChat has delivered, so that each is done once."""

    @abstractmethod
    async def reply_to(self, delivery_key: str, *, now: float) -> bytes | None:
        """The reply given to this delivery; None if it has not been done yet."""

    @abstractmethod
    async def mark(self, delivery_key: str, reply: bytes, *, expires_at: float) -> None:
        """Notes that it was done. The first mark stays until it is swept."""

    @abstractmethod
    async def bind(self, signature: str, body_hash: bytes, *, expires_at: float) -> bool:
        """Whether this signature has come with this body only. (Plain mode's covers no body.)"""


class Links(ABC):
    @abstractmethod
    async def create(self, link: Link) -> None:
        """A link whose token is already there is no second link."""

    @abstractmethod
    async def get(self, token_hash: bytes, *, now: float) -> Link | None:
        """Unused and alive, else None."""

    @abstractmethod
    async def use(self, token_hash: bytes, *, now: float) -> Link | None:
        """Uses it up: the link for one caller, None for everybody else."""


class Logins(ABC):
    @abstractmethod
    async def append(self, login: Login) -> None:
        """A line whose id is already there is no second line."""

    @abstractmethod
    async def newest(self, *, user_id: str | None = None, limit: int = 50) -> Sequence[Login]:
        """Everybody's lines or one person's, the newest first."""

    @abstractmethod
    async def find(self, wanted: LoginFilter, *, cursor: str = "", limit: int = 50) -> LoginPage:
        """The wanted lines, the newest first. Raises ValueError for a cursor that no page had."""

    @abstractmethod
    async def tally(self, *, since: float, until: float) -> Sequence[Tally]:
        """How the lines of that time spread over hours, methods and results, in any order."""


class Audit(ABC):
    """What admins have changed. Nothing deletes a line."""

    @abstractmethod
    async def append(self, entry: AuditEntry) -> None:
        """An entry whose id is already there is no second entry."""

    @abstractmethod
    async def newest(self, *, cursor: str = "", limit: int = 50) -> AuditPage:
        """The newest first. Raises ValueError for a cursor that no page had."""


class KnownBrowsers(ABC):
    """Browsers that a person has logged in with before, by a random cookie (security rule 4)."""

    @abstractmethod
    async def remember(self, token_hash: bytes, user_id: str, *, expires_at: float) -> None:
        """Once more, too: the end moves on. One browser may be known for several people."""

    @abstractmethod
    async def is_known(self, token_hash: bytes, user_id: str, *, now: float) -> bool: ...

    @abstractmethod
    async def forget(self, user_id: str) -> None:
        """No browser is known for the person any more."""


class Grants(ABC):
    """Whatever is past its expiry is not there. A grant stays with the id of the person it was given by."""

    @abstractmethod
    async def create(self, grant: Grant) -> None:
        """Raises ValueError where the id is taken."""

    @abstractmethod
    async def get(self, grant_id: str, *, now: float) -> Grant | None: ...

    @abstractmethod
    async def update(self, grant_id: str, change: Callable[[Grant], Grant], *, now: float) -> Grant | None:
        """Applies `change` atomically and returns the outcome, None where there is none; it may run again.

        Raises whatever `change` raises, with nothing changed.
        """

    @abstractmethod
    async def of_session(self, session_id: str, *, now: float) -> Sequence[Grant]:
        """All of them, revoked ones too, the oldest first."""


class Outbox(ABC):
    """What sites must be told. A notice is there until it is swept."""

    @abstractmethod
    async def add(self, notice: Notice) -> None:
        """A notice whose endpoint has one with this id already is no second one."""

    @abstractmethod
    async def claim(self, endpoint: str, *, now: float, until: float, limit: int) -> Sequence[Notice]:
        """Pending ones that are due and the first of their person there; each for one caller.

        First is by `created_at`, then `id`; between people there is no order. Their `due_at` becomes `until`:
        a caller that dies has them tried again by another then. Where very many are pending, a store may look
        at the oldest of them only.
        """

    @abstractmethod
    async def settle(self, notice: Notice) -> None:
        """Stores the outcome of an attempt: state, attempts, result, due_at and expires_at."""

    @abstractmethod
    async def next_due(self, endpoint: str) -> float | None:
        """When `claim` could find the next one, maybe in the past; None where nothing is pending."""

    @abstractmethod
    async def newest(self, *, endpoint: str | None = None, limit: int = 50) -> Sequence[Notice]:
        """Of all endpoints or of one, in every state, the newest first."""


class SigningKeys(ABC):
    @abstractmethod
    async def add(self, key: SigningKey) -> None:
        """The first key in a slot stays until it is swept; another one for it is dropped."""

    @abstractmethod
    async def reseal(self, key: SigningKey) -> None:
        """`key.sealed` in the place of what the same key (slot and id) had; nothing where it is not there."""

    @abstractmethod
    async def all(self, *, now: float) -> Sequence[SigningKey]:
        """Those not past their expiry, the oldest first by `created_at`, then slot."""


class Transaction(Protocol):
    """What work can reach."""

    @property
    def users(self) -> Users: ...
    @property
    def sessions(self) -> Sessions: ...
    @property
    def tickets(self) -> Tickets: ...
    @property
    def deliveries(self) -> Deliveries: ...
    @property
    def links(self) -> Links: ...
    @property
    def logins(self) -> Logins: ...
    @property
    def grants(self) -> Grants: ...
    @property
    def outbox(self) -> Outbox: ...
    @property
    def signing_keys(self) -> SigningKeys: ...
    @property
    def audit(self) -> Audit: ...
    @property
    def known_browsers(self) -> KnownBrowsers: ...


class Storage(ABC):
    """A driver. It is open when made; `open` of each driver's module makes it."""

    @abstractmethod
    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result: ...

    @abstractmethod
    async def sweep(self, *, now: float) -> None:
        """Deletes what has expired. Nothing depends on it having run."""

    @abstractmethod
    async def ping(self) -> None:
        """Raises StoreUnavailable where a write could not be made now."""

    @abstractmethod
    async def close(self) -> None: ...
