"""The embedded store: one SQLite file, one process, one connection in one thread."""

from __future__ import annotations

import asyncio
import math
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from errors import StoreLocked, StoreUnavailable, TicketUnknown
from oidc import Grant
from storage import base, codec
from storage.base import (
    MAX_PAGE,
    TIMEOUT_SECONDS,
    AuditPage,
    LoginPage,
    Page,
    Result,
    check_search_text,
    page_size,
)
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
from storage.sqlite_schema import SCHEMA_VERSION, prepare
from storage.sqlite_writer import Writer
from tickets import State, Ticket

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
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # whoever reads it could read the people
        connection = sqlite3.connect(path, timeout=0.5, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")  # one process; also no shared memory file
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
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
    return SqliteStorage(connection)


class SqliteStorage(base.Storage):
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._transaction = _Transaction(connection)
        self._writer = Writer(connection)

    async def transact(self, work: Callable[[base.Transaction], Awaitable[Result]]) -> Result:
        async def run() -> Result:
            return await work(self._transaction)

        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                result: Result = await self._writer.submit(run)
        except TimeoutError as error:
            raise StoreUnavailable from error
        return result

    async def sweep(self, *, now: float) -> None:
        async def work(transaction: base.Transaction) -> None:
            for table in _EXPIRING:
                self._connection.execute(f"DELETE FROM {table} WHERE expires_at <= ?", (now,))  # noqa: S608

        await self.transact(work)

    async def ping(self) -> None:
        async def work(transaction: base.Transaction) -> None:
            # Writes, so that a full or read-only disk shows.
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

        await self.transact(work)

    async def close(self) -> None:
        await self._writer.close()


class _Collection:
    """What the collections share: single statements on the one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def _one(self, statement: str, *values: Any) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._execute(statement, values).fetchone()
        return row

    def _changed(self, statement: str, *values: Any) -> bool:
        return self._execute(statement, values).rowcount > 0

    def _survivor(self, user_id: str) -> str:
        """The id of the person that `user_id` was merged into, else `user_id`."""
        row = self._one("SELECT user_id FROM former_users WHERE id = ?", user_id)
        survivor: str = row["user_id"] if row else user_id
        return survivor


def _insert(table: str, columns: Sequence[str], *, or_ignore: bool = False) -> str:
    verb = "INSERT OR IGNORE" if or_ignore else "INSERT"
    return f"{verb} INTO {table} ({', '.join(columns)}) VALUES ({', '.join(':' + c for c in columns)})"


def _assignments(columns: Iterable[str]) -> str:
    return ", ".join(f"{column} = :{column}" for column in columns)


class _Users(_Collection, base.Users):
    async def upsert_identity(
        self, provider: str, subject: str, *, following: bool, event_at: float, new_id: str, now: float
    ) -> User:
        known = self._user_of(provider, subject)
        if known is None:
            self._execute("INSERT INTO users (id, created_at) VALUES (?, ?)", (new_id, now))
            self._execute(
                "INSERT INTO identities (provider, subject, user_id, following, event_at, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (provider, subject, new_id, following, event_at, now),
            )
        else:
            self._execute(
                "UPDATE identities SET following = ?, event_at = ?"
                " WHERE provider = ? AND subject = ? AND event_at <= ?",
                (following, event_at, provider, subject, event_at),
            )
        return self._require(known or new_id)

    async def set_unfollowed(self, provider: str, subject: str, *, event_at: float) -> User | None:
        self._execute(
            "UPDATE identities SET following = 0, event_at = ?, profile_at = 0,"
            " nickname = '', picture = '', country = '', province = '', city = ''"
            " WHERE provider = ? AND subject = ? AND event_at <= ?",
            (event_at, provider, subject, event_at),
        )
        return await self.by_identity(provider, subject)

    async def update_profile(
        self, provider: str, subject: str, profile: Profile, *, unionid: str, now: float
    ) -> User | None:
        row = self._one("SELECT * FROM identities WHERE provider = ? AND subject = ?", provider, subject)
        if row is None:
            return None
        user_id: str = row["user_id"]
        if row["following"]:
            merged = codec.profile_row(codec.profile_of(row).merged(profile))
            self._execute(
                f"UPDATE identities SET {_assignments(merged)}, profile_at = :now"  # noqa: S608
                " WHERE provider = :provider AND subject = :subject",
                {**merged, "now": now, "provider": provider, "subject": subject},
            )
            if unionid:
                user_id = self._link_unionid(user_id, unionid)
        return self._require(user_id)

    async def get(self, user_id: str) -> User | None:
        row = self._one("SELECT * FROM users WHERE id = ?", self._survivor(user_id))
        return self._assemble(row) if row else None

    async def by_identity(self, provider: str, subject: str) -> User | None:
        user_id = self._user_of(provider, subject)
        return self._require(user_id) if user_id else None

    async def set_chosen_name(self, user_id: str, name: str) -> None:
        self._execute("UPDATE users SET chosen_name = ? WHERE id = ?", (name, self._survivor(user_id)))

    async def set_blocked(self, user_id: str, blocked: bool) -> None:
        self._execute("UPDATE users SET blocked = ? WHERE id = ?", (blocked, self._survivor(user_id)))

    async def set_remark(self, user_id: str, remark: str) -> None:
        self._execute("UPDATE users SET remark = ? WHERE id = ?", (remark, self._survivor(user_id)))

    async def set_admin(self, user_id: str, admin: bool) -> None:
        self._execute("UPDATE users SET admin = ? WHERE id = ?", (admin, self._survivor(user_id)))

    async def count(self) -> int:
        row = self._one("SELECT count(*) AS people FROM users")
        return row["people"] if row else 0

    async def count_login(self, user_id: str, ticket_id: str, *, now: float) -> None:
        self._execute(
            "UPDATE users SET login_count = login_count + 1, last_login_at = ?, last_ticket_id = ?"
            " WHERE id = ? AND last_ticket_id <> ?",
            (now, ticket_id, self._survivor(user_id), ticket_id),
        )

    async def forget(self, user_id: str) -> None:
        user_id = self._survivor(user_id)
        for table in ("grants", "known_browsers"):  # which stay with the id they were made for
            self._execute(
                f"DELETE FROM {table} WHERE user_id = :id"  # noqa: S608
                " OR user_id IN (SELECT id FROM former_users WHERE user_id = :id)",
                {"id": user_id},
            )
        for table in ("identities", "sessions", "links", "logins", "former_users"):
            self._execute(f"DELETE FROM {table} WHERE user_id = ?", (user_id,))  # noqa: S608
        self._execute("DELETE FROM users WHERE id = ?", (user_id,))

    async def search(self, text: str, *, cursor: str = "", limit: int = 50) -> Page:
        check_search_text(text)
        limit = page_size(limit)
        created_at, user_id = codec.place_of(cursor)
        # instr, for LIKE ends at a NUL character; lower changes A to Z only.
        rows = self._execute(
            "SELECT * FROM users WHERE (created_at, id) > (:created_at, :id) AND (:text = ''"
            " OR instr(lower(chosen_name), lower(:text)) OR instr(lower(remark), lower(:text))"
            " OR id IN (SELECT user_id FROM identities"
            " WHERE instr(lower(nickname), lower(:text)) OR instr(lower(subject), lower(:text))))"
            " ORDER BY created_at, id LIMIT :limit",
            {"created_at": created_at, "id": user_id, "text": text, "limit": limit + 1},
        ).fetchall()
        found = tuple(self._assemble(row) for row in rows[:limit])
        return Page(
            found, codec.cursor_after(found[-1].created_at, found[-1].id) if len(rows) > limit else ""
        )

    def _user_of(self, provider: str, subject: str) -> str | None:
        row = self._one(
            "SELECT user_id FROM identities WHERE provider = ? AND subject = ?", provider, subject
        )
        return row["user_id"] if row else None

    def _require(self, user_id: str) -> User:
        row = self._one("SELECT * FROM users WHERE id = ?", user_id)
        assert row is not None, "an identity points to a person"
        return self._assemble(row)

    def _assemble(self, row: sqlite3.Row) -> User:
        identities = self._execute(
            "SELECT * FROM identities WHERE user_id = ? ORDER BY created_at, provider, subject", (row["id"],)
        )
        former = self._execute("SELECT id FROM former_users WHERE user_id = ? ORDER BY id", (row["id"],))
        return User(
            id=row["id"],
            created_at=row["created_at"],
            identities=tuple(codec.identity_of(identity) for identity in identities),
            chosen_name=row["chosen_name"],
            unionid=row["unionid"] or "",
            blocked=bool(row["blocked"]),
            remark=row["remark"],
            admin=bool(row["admin"]),
            login_count=row["login_count"],
            last_login_at=row["last_login_at"],
            previous_ids=tuple(old["id"] for old in former),
        )

    def _link_unionid(self, user_id: str, unionid: str) -> str:
        """Notes the unionid; the id of the person who has it now, after a merge if there was another."""
        owner = self._one("SELECT id FROM users WHERE unionid = ?", unionid)
        if owner is None:
            self._execute("UPDATE users SET unionid = ? WHERE id = ?", (unionid, user_id))
            return user_id
        if owner["id"] == user_id:
            return user_id
        pair = self._execute(
            "SELECT * FROM users WHERE id IN (?, ?) ORDER BY created_at, id", (user_id, owner["id"])
        ).fetchall()
        older, younger = pair
        for table in ("identities", "sessions", "links", "logins", "former_users", "tickets"):
            self._execute(
                f"UPDATE {table} SET user_id = ? WHERE user_id = ?",  # noqa: S608
                (older["id"], younger["id"]),
            )
        latest = younger if younger["last_login_at"] > older["last_login_at"] else older
        self._execute("DELETE FROM users WHERE id = ?", (younger["id"],))
        self._execute("INSERT INTO former_users (id, user_id) VALUES (?, ?)", (younger["id"], older["id"]))
        self._execute(
            "UPDATE users SET unionid = ?, blocked = ?, chosen_name = ?, remark = ?,"
            " login_count = login_count + ?, last_login_at = ?, last_ticket_id = ? WHERE id = ?",
            (
                unionid,
                older["blocked"] or younger["blocked"],
                older["chosen_name"] or younger["chosen_name"],
                older["remark"] or younger["remark"],
                younger["login_count"],
                latest["last_login_at"],
                latest["last_ticket_id"],
                older["id"],
            ),
        )
        survivor: str = older["id"]
        return survivor


class _Sessions(_Collection, base.Sessions):
    async def create(self, session: Session) -> Session:
        row = codec.session_row(session)
        if self._execute(_insert("sessions", codec.SESSION_COLUMNS, or_ignore=True), row).rowcount:
            return session
        stored = self._one("SELECT * FROM sessions WHERE ticket_id = ?", session.ticket_id)
        assert stored is not None, "ids and tokens are random, so only the ticket can be the same"
        return codec.session_of(stored)

    async def replace(self, former: Session, session: Session) -> bool:
        row: Mapping[str, Any] = codec.session_row(session)
        return (
            self._execute(
                f"UPDATE sessions SET {_assignments(codec.SESSION_COLUMNS)}"  # noqa: S608
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


class _Tickets(_Collection, base.Tickets):
    _INSERT = _insert("tickets", codec.TICKET_COLUMNS)
    _UPDATE = f"UPDATE tickets SET {_assignments(codec.TICKET_COLUMNS)} WHERE id = :id"  # noqa: S608

    async def create(self, ticket: Ticket) -> None:
        try:
            self._execute(self._INSERT, codec.ticket_row(ticket))
        except sqlite3.IntegrityError as error:
            raise ValueError("the id is taken") from error

    async def get(self, ticket_id: str, *, now: float) -> Ticket | None:
        row = self._one("SELECT * FROM tickets WHERE id = ? AND expires_at > ?", ticket_id, now)
        return codec.ticket_of(row) if row else None

    async def update(self, ticket_id: str, change: Callable[[Ticket], Ticket], *, now: float) -> Ticket:
        ticket = await self.get(ticket_id, now=now)
        if ticket is None:
            raise TicketUnknown
        changed = change(ticket)
        if changed is not ticket:
            self._execute(self._UPDATE, codec.ticket_row(changed))
        return changed

    async def pending_of_user(self, user_id: str, *, now: float) -> Sequence[Ticket]:
        rows = self._execute(
            "SELECT * FROM tickets WHERE user_id = ? AND user_id <> '' AND expires_at > ?"
            " AND state IN (?, ?)",
            (self._survivor(user_id), now, State.SCANNED, State.CONFIRMED),
        )
        return [codec.ticket_of(row) for row in rows]


class _Deliveries(_Collection, base.Deliveries):
    async def reply_to(self, delivery_key: str, *, now: float) -> bytes | None:
        row = self._one("SELECT reply FROM deliveries WHERE key = ? AND expires_at > ?", delivery_key, now)
        return row["reply"] if row else None

    async def mark(self, delivery_key: str, reply: bytes, *, expires_at: float) -> None:
        self._execute("INSERT OR IGNORE INTO deliveries VALUES (?, ?, ?)", (delivery_key, reply, expires_at))

    async def bind(self, signature: str, body_hash: bytes, *, expires_at: float) -> bool:
        self._execute("INSERT OR IGNORE INTO signatures VALUES (?, ?, ?)", (signature, body_hash, expires_at))
        row = self._one("SELECT body_hash FROM signatures WHERE signature = ?", signature)
        return row is not None and row["body_hash"] == body_hash


class _Links(_Collection, base.Links):
    async def create(self, link: Link) -> None:
        self._execute(_insert("links", codec.LINK_COLUMNS, or_ignore=True), codec.link_row(link))

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


class _Logins(_Collection, base.Logins):
    async def append(self, login: Login) -> None:
        self._execute(_insert("logins", codec.LOGIN_COLUMNS, or_ignore=True), codec.login_row(login))

    async def newest(self, *, user_id: str | None = None, limit: int = 50) -> Sequence[Login]:
        whose = None if user_id is None else self._survivor(user_id)
        rows = self._execute(
            "SELECT * FROM logins WHERE ? IS NULL OR user_id = ? ORDER BY at DESC, id DESC LIMIT ?",
            (whose, whose, page_size(limit)),
        )
        return [codec.login_of(row) for row in rows]

    async def find(self, wanted: LoginFilter, *, cursor: str = "", limit: int = 50) -> LoginPage:
        limit = page_size(limit)
        at, line_id = codec.place_of(cursor, math.inf)
        rows = self._execute(
            "SELECT * FROM logins WHERE (at, id) < (:at, :id) AND (:user_id IS NULL OR user_id = :user_id)"
            " AND (:result = '' OR result = :result) AND (:method = '' OR method = :method)"
            " AND (:since IS NULL OR at >= :since) AND (:until IS NULL OR at < :until)"
            " ORDER BY at DESC, id DESC LIMIT :limit",
            {
                "at": at,
                "id": line_id,
                "user_id": None if wanted.user_id is None else self._survivor(wanted.user_id),
                "result": wanted.result,
                "method": wanted.method,
                "since": wanted.since,
                "until": wanted.until,
                "limit": limit + 1,
            },
        ).fetchall()
        found = tuple(codec.login_of(row) for row in rows[:limit])
        return LoginPage(found, codec.cursor_after(found[-1].at, found[-1].id) if len(rows) > limit else "")

    async def tally(self, *, since: float, until: float) -> Sequence[Tally]:
        rows = self._execute(
            "SELECT CAST(at / 3600 AS INTEGER) AS hour, method, result, count(*) AS lines FROM logins"
            " WHERE at >= ? AND at < ? GROUP BY hour, method, result",
            (since, until),
        )
        return [Tally(row["hour"], row["method"], row["result"], row["lines"]) for row in rows]


class _Grants(_Collection, base.Grants):
    _INSERT = _insert("grants", codec.GRANT_COLUMNS)
    _UPDATE = f"UPDATE grants SET {_assignments(codec.GRANT_COLUMNS)} WHERE id = :id"  # noqa: S608

    async def create(self, grant: Grant) -> None:
        try:
            self._execute(self._INSERT, codec.grant_row(grant))
        except sqlite3.IntegrityError as error:
            raise ValueError("the id is taken") from error

    async def get(self, grant_id: str, *, now: float) -> Grant | None:
        row = self._one("SELECT * FROM grants WHERE id = ? AND expires_at > ?", grant_id, now)
        return codec.grant_of(row) if row else None

    async def update(self, grant_id: str, change: Callable[[Grant], Grant], *, now: float) -> Grant | None:
        grant = await self.get(grant_id, now=now)
        if grant is None:
            return None
        changed = change(grant)
        if changed is not grant:
            self._execute(self._UPDATE, codec.grant_row(changed))
        return changed

    async def of_session(self, session_id: str, *, now: float) -> Sequence[Grant]:
        rows = self._execute(
            "SELECT * FROM grants WHERE session_id = ? AND expires_at > ? ORDER BY created_at, id",
            (session_id, now),
        )
        return [codec.grant_of(row) for row in rows]


class _Outbox(_Collection, base.Outbox):
    # Before it in its person's line.
    _EARLIER = (
        "SELECT 1 FROM outbox AS earlier WHERE earlier.endpoint = outbox.endpoint"
        " AND earlier.person = outbox.person AND earlier.state = 'pending'"
        " AND (earlier.created_at, earlier.id) < (outbox.created_at, outbox.id)"
    )

    async def add(self, notice: Notice) -> None:
        self._execute(_insert("outbox", codec.NOTICE_COLUMNS, or_ignore=True), codec.notice_row(notice))

    async def claim(self, endpoint: str, *, now: float, until: float, limit: int) -> Sequence[Notice]:
        first = f"state = 'pending' AND NOT EXISTS ({self._EARLIER})"
        rows = self._execute(
            f"SELECT * FROM outbox WHERE endpoint = ? AND due_at <= ? AND {first}"  # noqa: S608
            " ORDER BY due_at, created_at, id LIMIT ?",
            (endpoint, now, page_size(limit)),
        ).fetchall()
        for row in rows:
            self._execute(
                "UPDATE outbox SET due_at = ? WHERE endpoint = ? AND id = ?", (until, endpoint, row["id"])
            )
        return [replace(codec.notice_of(row), due_at=until) for row in rows]

    async def settle(self, notice: Notice) -> None:
        self._execute(
            "UPDATE outbox SET state = :state, attempts = :attempts, result = :result, due_at = :due_at,"
            " expires_at = :expires_at WHERE endpoint = :endpoint AND id = :id",
            codec.notice_row(notice),
        )

    async def next_due(self, endpoint: str) -> float | None:
        row = self._one(
            "SELECT min(due_at) AS due_at FROM outbox"  # noqa: S608
            f" WHERE endpoint = ? AND state = 'pending' AND NOT EXISTS ({self._EARLIER})",
            endpoint,
        )
        return row["due_at"] if row else None

    async def newest(self, *, endpoint: str | None = None, limit: int = 50) -> Sequence[Notice]:
        rows = self._execute(
            "SELECT * FROM outbox WHERE ? IS NULL OR endpoint = ? ORDER BY created_at DESC, id DESC LIMIT ?",
            (endpoint, endpoint, page_size(limit)),
        )
        return [codec.notice_of(row) for row in rows]


class _SigningKeys(_Collection, base.SigningKeys):
    async def add(self, key: SigningKey) -> None:
        row = codec.signing_key_row(key)
        self._execute(_insert("signing_keys", codec.SIGNING_KEY_COLUMNS, or_ignore=True), row)

    async def all(self, *, now: float) -> Sequence[SigningKey]:
        rows = self._execute(
            "SELECT * FROM signing_keys WHERE expires_at > ? ORDER BY created_at, slot", (now,)
        )
        return [codec.signing_key_of(row) for row in rows]


class _Audit(_Collection, base.Audit):
    async def append(self, entry: AuditEntry) -> None:
        self._execute(_insert("audit", codec.AUDIT_COLUMNS, or_ignore=True), codec.audit_row(entry))

    async def newest(self, *, cursor: str = "", limit: int = 50) -> AuditPage:
        limit = page_size(limit)
        rows = self._execute(
            "SELECT * FROM audit WHERE (at, id) < (?, ?) ORDER BY at DESC, id DESC LIMIT ?",
            (*codec.place_of(cursor, math.inf), limit + 1),
        ).fetchall()
        found = tuple(codec.audit_of(row) for row in rows[:limit])
        return AuditPage(found, codec.cursor_after(found[-1].at, found[-1].id) if len(rows) > limit else "")


class _KnownBrowsers(_Collection, base.KnownBrowsers):
    async def remember(self, token_hash: bytes, user_id: str, *, expires_at: float) -> None:
        self._execute(
            "INSERT INTO known_browsers VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)",
            (token_hash, self._survivor(user_id), expires_at),
        )

    async def is_known(self, token_hash: bytes, user_id: str, *, now: float) -> bool:
        survivor = self._survivor(user_id)
        row = self._one(
            "SELECT 1 FROM known_browsers WHERE token_hash = ? AND expires_at > ? AND (user_id = ?"
            " OR user_id IN (SELECT id FROM former_users WHERE user_id = ?))",
            token_hash,
            now,
            survivor,
            survivor,
        )
        return row is not None


class _Transaction:
    """The collections of the one connection; the writer thread alone calls them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.users = _Users(connection)
        self.sessions = _Sessions(connection)
        self.tickets = _Tickets(connection)
        self.deliveries = _Deliveries(connection)
        self.links = _Links(connection)
        self.logins = _Logins(connection)
        self.grants = _Grants(connection)
        self.outbox = _Outbox(connection)
        self.signing_keys = _SigningKeys(connection)
        self.audit = _Audit(connection)
        self.known_browsers = _KnownBrowsers(connection)
