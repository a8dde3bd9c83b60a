"""What SQLite keeps for the sites: grants, notices to be sent, signing keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace

from oidc import Grant
from storage import base, codec
from storage.base import page_size
from storage.records import Notice, SigningKey
from storage.sqlite_collection import Collection, assignments, insert


class Grants(Collection, base.Grants):
    _INSERT = insert("grants", codec.GRANT_COLUMNS)
    _UPDATE = f"UPDATE grants SET {assignments(codec.GRANT_COLUMNS)} WHERE id = :id"  # noqa: S608

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


class Outbox(Collection, base.Outbox):
    # Before it in its person's line.
    _EARLIER = (
        "SELECT 1 FROM outbox AS earlier WHERE earlier.endpoint = outbox.endpoint"
        " AND earlier.person = outbox.person AND earlier.state = 'pending'"
        " AND (earlier.created_at, earlier.id) < (outbox.created_at, outbox.id)"
    )

    async def add(self, notice: Notice) -> None:
        self._execute(insert("outbox", codec.NOTICE_COLUMNS, or_ignore=True), codec.notice_row(notice))

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


class SigningKeys(Collection, base.SigningKeys):
    async def add(self, key: SigningKey) -> None:
        row = codec.signing_key_row(key)
        self._execute(insert("signing_keys", codec.SIGNING_KEY_COLUMNS, or_ignore=True), row)

    async def reseal(self, key: SigningKey) -> None:
        self._execute(
            "UPDATE signing_keys SET sealed = :sealed WHERE slot = :slot AND id = :id",
            codec.signing_key_row(key),
        )

    async def all(self, *, now: float) -> Sequence[SigningKey]:
        rows = self._execute(
            "SELECT * FROM signing_keys WHERE expires_at > ? ORDER BY created_at, slot", (now,)
        )
        return [codec.signing_key_of(row) for row in rows]
