"""The embedded store: one SQLite file, one process, one connection in one thread."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from errors import StoreLocked, StoreUnavailable, TicketUnknown
from storage import base, codec
from storage.base import MAX_PAGE, TIMEOUT_SECONDS, Result
from storage.records import Link, Session
from storage.sqlite_collection import Collection, assignments, insert
from storage.sqlite_copy import take_copy
from storage.sqlite_logs import Audit, KnownBrowsers, Logins
from storage.sqlite_people import People
from storage.sqlite_schema import SCHEMA_VERSION, prepare
from storage.sqlite_sites import Grants, Outbox, SigningKeys
from storage.sqlite_writer import Writer
from tickets import State, Ticket

MAX_KNOWN_TICKETS = 4_096  # remembered, some 1 kB each

_EXPIRING = (
    "tickets",
    "sessions",
    "deliveries",
    "signatures",
    "links",
    "grants",
    "outbox",
    "signing_keys",
    "logins",
    "known_browsers",
)


def open(path: Path) -> SqliteStorage:
    """Opens the file, made with its folder where it is missing, for this process alone.

    Raises StoreLocked where another process has it, StoreUnavailable where it cannot be used.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # whoever reads it could read the people
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    return SqliteStorage(_connect(path, prepare), path)


def copy_of(path: Path) -> BinaryIO:
    """A copy of a file that no server has, of whatever version its schema is; raises as `open` does."""
    with closing(_connect(path, lambda *_: None)) as connection:
        return take_copy(connection, path, lambda: None)


def _connect(path: Path, prepare: Callable[[sqlite3.Connection, Path], None]) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, timeout=0.5, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # one process; also no shared memory file
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        # What a savepoint would bring back: SQLite's own place for it is a file that is written all the time.
        connection.execute("PRAGMA temp_store = MEMORY")
        prepare(connection, path)
    except (OSError, sqlite3.Error) as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            raise StoreLocked(
                f"{path} is in use by another process. SQLite serves one process; for more than one set"
                " storage.url to a mongodb:// address and redis.url to a Redis."
            ) from error
        raise StoreUnavailable(f"{path}: {error}") from error
    except StoreUnavailable:
        connection.close()
        raise
    connection.row_factory = _row
    return connection


def _row(cursor: sqlite3.Cursor, values: Sequence[Any]) -> codec.Row:
    """By names. SQLite's own kind of row looks for each of them among all."""
    return dict(zip([column[0] for column in cursor.description], values, strict=True))


class SqliteStorage(base.Storage):
    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._transaction = _Transaction(connection)
        self._writer = Writer(connection, TIMEOUT_SECONDS, self._transaction.tickets.forget_all)

    async def transact(self, work: Callable[[base.Transaction], Awaitable[Result]]) -> Result:
        async def run() -> Result:
            return await work(self._transaction)

        result: Result = await self._writer.submit(run)
        return result

    async def sweep(self, *, now: float) -> None:
        async def work(transaction: base.Transaction) -> None:
            for table in _EXPIRING:
                self._connection.execute(f"DELETE FROM {table} WHERE expires_at <= ?", (now,))  # noqa: S608
            self._transaction.tickets.forget_all()

        await self.transact(work)

    async def ping(self) -> None:
        async def work(transaction: base.Transaction) -> None:
            # Writes, so that a full or read-only disk shows.
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

        await self.transact(work)

    async def copy(self) -> BinaryIO:
        """A copy of all there is, made while others are served; to be closed. Raises StoreUnavailable."""
        copy: BinaryIO = await self._writer.submit_aside(
            lambda meanwhile: take_copy(self._connection, self._path, meanwhile)
        )
        return copy

    async def close(self) -> None:
        await self._writer.close()


class _Sessions(Collection, base.Sessions):
    async def create(self, session: Session) -> Session:
        row = codec.session_row(session)
        if self._execute(insert("sessions", codec.SESSION_COLUMNS, or_ignore=True), row).rowcount:
            return session
        stored = self._one("SELECT * FROM sessions WHERE ticket_id = ?", session.ticket_id)
        assert stored is not None, "ids and tokens are random, so only the ticket can be the same"
        return codec.session_of(stored)

    async def replace(self, former: Session, session: Session) -> bool:
        row: Mapping[str, Any] = codec.session_row(session)
        return (
            self._execute(
                f"UPDATE sessions SET {assignments(codec.SESSION_COLUMNS)}"  # noqa: S608
                " WHERE ticket_id = :ticket_id AND id = :former_id AND revoked = 0",
                {**row, "former_id": former.id},
            ).rowcount
            > 0
        )

    async def get(self, token_hash: bytes) -> Session | None:
        row = self._one("SELECT * FROM sessions WHERE token_hash = ?", token_hash)
        return codec.session_of(row) if row else None

    async def by_id(self, session_id: str) -> Session | None:
        row = self._one("SELECT * FROM sessions WHERE id = ?", session_id)
        return codec.session_of(row) if row else None

    async def by_ticket(self, ticket_id: str) -> Session | None:
        row = self._one("SELECT * FROM sessions WHERE ticket_id = ?", ticket_id)
        return codec.session_of(row) if row else None

    async def touch(self, session_id: str, *, now: float) -> None:
        self._execute("UPDATE sessions SET last_used_at = ? WHERE id = ?", (now, session_id))

    async def revoke(self, session_id: str) -> Session | None:
        self._execute("UPDATE sessions SET revoked = 1 WHERE id = ?", (session_id,))
        return await self.by_id(session_id)

    async def revoke_of_ticket(self, ticket_id: str) -> Session | None:
        self._execute("UPDATE sessions SET revoked = 1 WHERE ticket_id = ?", (ticket_id,))
        return await self.by_ticket(ticket_id)

    async def revoke_of_user(self, user_id: str, *, provider: str | None = None) -> None:
        self._execute(
            "UPDATE sessions SET revoked = 1 WHERE user_id = ? AND (? IS NULL OR provider = ?)",
            (self._survivor(user_id), provider, provider),
        )

    async def of_user(self, user_id: str, *, now: float, provider: str | None = None) -> Sequence[Session]:
        rows = self._execute(
            "SELECT * FROM sessions WHERE user_id = ? AND revoked = 0 AND expires_at > ?"
            " AND (? IS NULL OR provider = ?) ORDER BY created_at DESC, id DESC LIMIT ?",
            (self._survivor(user_id), now, provider, provider, MAX_PAGE),
        )
        return [codec.session_of(row) for row in rows]

    async def count(self, *, now: float) -> int:
        row = self._one("SELECT count(*) AS alive FROM sessions WHERE revoked = 0 AND expires_at > ?", now)
        return row["alive"] if row else 0


class _Tickets(Collection, base.Tickets):
    """Nobody else writes to the file, so what was read or written last is what is there: a ticket that is
    remembered is not read.
    """

    _INSERT = insert("tickets", codec.TICKET_COLUMNS)

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._known: dict[str, Ticket] = {}  # the oldest first

    async def create(self, ticket: Ticket) -> None:
        try:
            self._execute(self._INSERT, codec.ticket_row(ticket))
        except sqlite3.IntegrityError as error:
            raise ValueError("the id is taken") from error
        self._remember(ticket, ticket.created_at)

    async def get(self, ticket_id: str, *, now: float) -> Ticket | None:
        ticket = self._known.get(ticket_id)
        if ticket is None:
            row = self._one("SELECT * FROM tickets WHERE id = ?", ticket_id)
            if row is None:
                return None
            ticket = codec.ticket_of(row)
            self._remember(ticket, now)
        return None if ticket.expired(now) else ticket

    async def update(self, ticket_id: str, change: Callable[[Ticket], Ticket], *, now: float) -> Ticket:
        ticket = await self.get(ticket_id, now=now)
        if ticket is None:
            raise TicketUnknown
        changed = change(ticket)
        new = codec.ticket_changes(ticket, changed)
        if new:
            self._execute(_ticket_update(tuple(new)), {**new, "id": ticket_id})
            self._known[ticket_id] = changed
        return changed

    async def pending_of_user(self, user_id: str, *, now: float) -> Sequence[Ticket]:
        rows = self._execute(
            "SELECT * FROM tickets WHERE user_id = ? AND user_id <> '' AND expires_at > ?"
            " AND state IN (?, ?)",
            (self._survivor(user_id), now, State.SCANNED, State.CONFIRMED),
        )
        return [codec.ticket_of(row) for row in rows]

    def forget_all(self) -> None:
        """What is remembered may not be what is there: something was taken back, deleted or merged."""
        self._known.clear()

    def _remember(self, ticket: Ticket, now: float) -> None:
        self._known[ticket.id] = ticket
        for old in list(islice(self._known.values(), 2)):  # more than comes, so that what has ended goes
            if old.expired(now) or len(self._known) > MAX_KNOWN_TICKETS:
                del self._known[old.id]


@lru_cache(maxsize=64)
def _ticket_update(columns: tuple[str, ...]) -> str:
    return f"UPDATE tickets SET {assignments(columns)} WHERE id = :id"  # noqa: S608


class _Deliveries(Collection, base.Deliveries):
    async def reply_to(self, delivery_key: str, *, now: float) -> bytes | None:
        row = self._one("SELECT reply FROM deliveries WHERE key = ? AND expires_at > ?", delivery_key, now)
        return row["reply"] if row else None

    async def mark(self, delivery_key: str, reply: bytes, *, expires_at: float) -> None:
        self._execute("INSERT OR IGNORE INTO deliveries VALUES (?, ?, ?)", (delivery_key, reply, expires_at))

    async def bind(self, signature: str, body_hash: bytes, *, expires_at: float) -> bool:
        new = self._execute(
            "INSERT OR IGNORE INTO signatures VALUES (?, ?, ?)", (signature, body_hash, expires_at)
        )
        if new.rowcount:
            return True
        row = self._one("SELECT body_hash FROM signatures WHERE signature = ?", signature)
        return row is not None and row["body_hash"] == body_hash


class _Links(Collection, base.Links):
    async def create(self, link: Link) -> None:
        self._execute(insert("links", codec.LINK_COLUMNS, or_ignore=True), codec.link_row(link))

    async def get(self, token_hash: bytes, *, now: float) -> Link | None:
        row = self._one(
            "SELECT * FROM links WHERE token_hash = ? AND used = 0 AND expires_at > ?", token_hash, now
        )
        return codec.link_of(row) if row else None

    async def use(self, token_hash: bytes, *, now: float) -> Link | None:
        link = await self.get(token_hash, now=now)
        if link is not None:
            self._execute("UPDATE links SET used = 1 WHERE token_hash = ?", (token_hash,))
        return link


class _Transaction:
    """The collections of the one connection; the writer thread alone calls them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.tickets = _Tickets(connection)
        self.users = People(connection, merged=self.tickets.forget_all)
        self.sessions = _Sessions(connection)
        self.deliveries = _Deliveries(connection)
        self.links = _Links(connection)
        self.logins = Logins(connection)
        self.grants = Grants(connection)
        self.outbox = Outbox(connection)
        self.signing_keys = SigningKeys(connection)
        self.audit = Audit(connection)
        self.known_browsers = KnownBrowsers(connection)
