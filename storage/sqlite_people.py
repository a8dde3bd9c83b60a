"""The people in SQLite, and how two users become one."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable

from storage import base, codec
from storage.base import Page, check_search_text, page_size
from storage.records import Profile, User
from storage.sqlite_collection import Collection, assignments

SEARCHED_AT_ONCE = 5000  # people that one piece of work looks at: some 20 ms, while all others wait


# One row for each identity, or one where there is none. Ids have no blanks.
_PERSON = """
SELECT users.id, users.created_at AS user_created_at, chosen_name, unionid, blocked, remark, admin,
    login_count, last_login_at, identities.*,
    (SELECT group_concat(id, ' ') FROM former_users WHERE user_id = users.id) AS previous_ids
FROM users LEFT JOIN identities ON identities.user_id = users.id
WHERE users.id = ? ORDER BY identities.created_at, provider, subject
"""


class People(Collection, base.Users):
    def __init__(self, connection: sqlite3.Connection, merged: Callable[[], None]) -> None:
        """`merged` is called where tickets become another person's."""
        super().__init__(connection)
        self._merged = merged

    async def upsert_identity(
        self, provider: str, subject: str, *, following: bool, event_at: float, new_id: str, now: float
    ) -> User:
        row = self._one(
            "UPDATE identities SET following = ?, event_at = ?"
            " WHERE provider = ? AND subject = ? AND event_at <= ? RETURNING user_id",
            following,
            event_at,
            provider,
            subject,
            event_at,
        )
        known = row["user_id"] if row else self._user_of(provider, subject)  # newer already, or new
        if known is None:
            self._execute("INSERT INTO users (id, created_at) VALUES (?, ?)", (new_id, now))
            self._execute(
                "INSERT INTO identities (provider, subject, user_id, following, event_at, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (provider, subject, new_id, following, event_at, now),
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
                f"UPDATE identities SET {assignments(merged)}, profile_at = :now"  # noqa: S608
                " WHERE provider = :provider AND subject = :subject",
                {**merged, "now": now, "provider": provider, "subject": subject},
            )
            if unionid:
                user_id = self._link_unionid(user_id, unionid)
        return self._require(user_id)

    async def get(self, user_id: str) -> User | None:
        return self._find(user_id) or self._find(self._survivor(user_id))

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
        row = self._one("SELECT id, last_ticket_id FROM users WHERE id = ?", self._survivor(user_id))
        counted = codec.count_ticket(row["last_ticket_id"], ticket_id) if row else None
        if row is not None and counted is not None:
            self._execute(
                "UPDATE users SET login_count = login_count + 1, last_login_at = ?, last_ticket_id = ?"
                " WHERE id = ?",
                (now, counted, row["id"]),
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
        last = self._one(
            "SELECT created_at, id FROM users WHERE (created_at, id) > (?, ?)"
            " ORDER BY created_at, id LIMIT 1 OFFSET ?",
            *(created_at, user_id, SEARCHED_AT_ONCE - 1),
        )
        # instr, for LIKE ends at a NUL character; lower changes A to Z only.
        rows = self._execute(
            "SELECT id FROM users WHERE (created_at, id) > (:created_at, :id)"
            " AND (created_at, id) <= (:last_created_at, :last_id) AND (:text = ''"
            " OR instr(lower(chosen_name), lower(:text)) OR instr(lower(remark), lower(:text))"
            " OR EXISTS (SELECT 1 FROM identities WHERE user_id = users.id"
            " AND (instr(lower(nickname), lower(:text)) OR instr(lower(subject), lower(:text)))))"
            " ORDER BY created_at, id LIMIT :limit",
            {
                "created_at": created_at,
                "id": user_id,
                "last_created_at": last["created_at"] if last else math.inf,
                "last_id": last["id"] if last else "",
                "text": text,
                "limit": limit + 1,
            },
        ).fetchall()
        found = tuple(self._require(row["id"]) for row in rows[:limit])
        if len(rows) > limit:
            return Page(found, codec.cursor_after(found[-1].created_at, found[-1].id))
        return Page(found, codec.cursor_after(last["created_at"], last["id"]) if last else "")

    def _user_of(self, provider: str, subject: str) -> str | None:
        row = self._one(
            "SELECT user_id FROM identities WHERE provider = ? AND subject = ?", provider, subject
        )
        return row["user_id"] if row else None

    def _require(self, user_id: str) -> User:
        user = self._find(user_id)
        assert user is not None, "an identity points to a person"
        return user

    def _find(self, user_id: str) -> User | None:
        rows = self._execute(_PERSON, (user_id,)).fetchall()
        if not rows:
            return None
        row = rows[0]
        return User(
            id=row["id"],
            created_at=row["user_created_at"],
            identities=tuple(codec.identity_of(row) for row in rows if row["provider"] is not None),
            chosen_name=row["chosen_name"],
            unionid=row["unionid"] or "",
            blocked=bool(row["blocked"]),
            remark=row["remark"],
            admin=bool(row["admin"]),
            login_count=row["login_count"],
            last_login_at=row["last_login_at"],
            previous_ids=tuple(sorted((row["previous_ids"] or "").split())),
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
        self._merged()
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
