"""In SQLite: the login log, what admins changed, and the browsers that people have used before."""

from __future__ import annotations

import math
from collections.abc import Sequence

from storage import base, codec
from storage.base import AuditPage, LoginPage, page_size
from storage.records import AuditEntry, Login, LoginFilter, Tally
from storage.sqlite_collection import Collection, insert

_CONDITIONS = {
    "at": "(at, id) < (:at, :id)",
    "user_id": "user_id = :user_id",
    "result": "result = :result",
    "method": "method = :method",
    "since": "at >= :since",
    "until": "at < :until",
}


class Logins(Collection, base.Logins):
    async def append(self, login: Login) -> None:
        self._execute(insert("logins", codec.LOGIN_COLUMNS, or_ignore=True), codec.login_row(login))

    async def newest(self, *, user_id: str | None = None, limit: int = 50) -> Sequence[Login]:
        return list((await self.find(LoginFilter(user_id=user_id), limit=limit)).logins)

    async def find(self, wanted: LoginFilter, *, cursor: str = "", limit: int = 50) -> LoginPage:
        limit = page_size(limit)
        at, line_id = codec.place_of(cursor, math.inf)
        values = {
            "at": at,
            "id": line_id,
            "user_id": None if wanted.user_id is None else self._survivor(wanted.user_id),
            "result": wanted.result or None,
            "method": wanted.method or None,
            "since": wanted.since,
            "until": wanted.until,
            "limit": limit + 1,
        }
        # With "or nothing is asked for" in them SQLite would read all lines to find one person's.
        conditions = [text for name, text in _CONDITIONS.items() if values[name] is not None]
        rows = self._execute(
            f"SELECT * FROM logins WHERE {' AND '.join(conditions)}"  # noqa: S608
            " ORDER BY at DESC, id DESC LIMIT :limit",
            values,
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


class Audit(Collection, base.Audit):
    async def append(self, entry: AuditEntry) -> None:
        self._execute(insert("audit", codec.AUDIT_COLUMNS, or_ignore=True), codec.audit_row(entry))

    async def newest(self, *, cursor: str = "", limit: int = 50) -> AuditPage:
        limit = page_size(limit)
        rows = self._execute(
            "SELECT * FROM audit WHERE (at, id) < (?, ?) ORDER BY at DESC, id DESC LIMIT ?",
            (*codec.place_of(cursor, math.inf), limit + 1),
        ).fetchall()
        found = tuple(codec.audit_of(row) for row in rows[:limit])
        return AuditPage(found, codec.cursor_after(found[-1].at, found[-1].id) if len(rows) > limit else "")


class KnownBrowsers(Collection, base.KnownBrowsers):
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

    async def forget(self, user_id: str) -> None:
        self._execute(
            "DELETE FROM known_browsers WHERE user_id = :id"
            " OR user_id IN (SELECT id FROM former_users WHERE user_id = :id)",
            {"id": self._survivor(user_id)},
        )
