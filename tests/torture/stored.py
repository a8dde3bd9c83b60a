"""What a store keeps, read past saoma's own drivers."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymongo

Row = dict[str, Any]
Read = Callable[[str], Iterable[Row]]  # of a table's or a collection's name


@dataclass(frozen=True)
class Notice:
    id: str
    event: str
    data: Row


@dataclass(frozen=True)
class Stored:
    atomic: bool  # a piece of work is stored whole or not at all
    people: dict[tuple[str, str], Row]  # identities by provider and subject
    logins_counted: dict[str, int]  # by user
    sessions: dict[str, list[Row]]  # by ticket
    tickets: dict[str, Row]
    success_lines: dict[str, list[Row]]  # of the login log, by ticket
    notices: list[Notice] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # the database's own


def of_sqlite(path: Path, *, notices: bool) -> Stored:
    """Of a file that no process has. Reads a copy: the server's own recovery comes after us."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for name in (path.name, f"{path.name}-wal"):
            if (path.parent / name).exists():
                shutil.copyfile(path.parent / name, copy.with_name(name))
        with closing(sqlite3.connect(copy)) as connection:
            connection.row_factory = sqlite3.Row
            checked = [row[0] for row in connection.execute("PRAGMA integrity_check")]
            faults = [] if checked == ["ok"] else checked

            def read(table: str) -> Iterable[Row]:
                return (dict(row) for row in connection.execute(f"SELECT * FROM {table}"))

            return _stored(read, "id", atomic=True, notices=notices, faults=faults)


def of_mongodb(url: str, *, notices: bool) -> Stored:
    with pymongo.MongoClient[Row](url) as client:
        database = client.get_default_database()
        return _stored(lambda name: database[name].find(), "_id", atomic=False, notices=notices, faults=[])


def _stored(read: Read, id: str, *, atomic: bool, notices: bool, faults: list[str]) -> Stored:
    sessions: dict[str, list[Row]] = {}
    for session in read("sessions"):
        sessions.setdefault(session["ticket_id"], []).append(session)
    lines: dict[str, list[Row]] = {}
    for line in read("logins"):
        ticket_id, _, result = line[id].rpartition(":")
        if result == "success":
            lines.setdefault(ticket_id, []).append(line)
    return Stored(
        atomic=atomic,
        people={(row["provider"], row["subject"]): row for row in read("identities")},
        logins_counted={row[id]: row["login_count"] for row in read("users")},
        sessions=sessions,
        tickets={row[id]: row for row in read("tickets")},
        success_lines=lines,
        notices=[
            Notice(row["id"], row["event"], json.loads(row["payload"])["data"]) for row in read("outbox")
        ]
        if notices
        else [],
        faults=faults,
    )
