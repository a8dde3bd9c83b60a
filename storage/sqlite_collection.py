"""What the collections in SQLite have in common."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from storage.codec import Row


class Collection:
    """Single statements on the one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def _one(self, statement: str, *values: Any) -> Row | None:
        row: Row | None = self._execute(statement, values).fetchone()
        return row

    def _survivor(self, user_id: str) -> str:
        """The id of the person that `user_id` was merged into, else `user_id`."""
        row = self._one("SELECT user_id FROM former_users WHERE id = ?", user_id)
        survivor: str = row["user_id"] if row else user_id
        return survivor


def insert(table: str, columns: Sequence[str], *, or_ignore: bool = False) -> str:
    verb = "INSERT OR IGNORE" if or_ignore else "INSERT"
    return f"{verb} INTO {table} ({', '.join(columns)}) VALUES ({', '.join(':' + c for c in columns)})"


def assignments(columns: Iterable[str]) -> str:
    return ", ".join(f"{column} = :{column}" for column in columns)
