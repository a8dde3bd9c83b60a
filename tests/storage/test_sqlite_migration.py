"""A file of an older schema is brought up to date: nothing lost, a copy kept, whole or not at all."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from errors import StoreUnavailable
from storage import sqlite
from storage.sqlite_schema import SCHEMA_VERSION
from tests.storage.drivers import Store
from tests.storage.samples import grant, notice, sha256
from tickets import Scanner, State

ROOT = Path(__file__).parents[2]
VERSION_1, VERSION_2 = (
    (ROOT / "tests" / "fixtures" / f"saoma-v{version}.sql").read_text("utf-8") for version in (1, 2)
)
THEN = 1_800_000_000.0  # the fixtures' time


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    return file_of(VERSION_1, tmp_path / "saoma.db")


def file_of(script: str, path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(script)
    return path


def content(path: Path) -> tuple[int, list[str]]:
    """The version and all that is in the file; no file is made where there is none."""
    with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute("PRAGMA user_version").fetchone()[0], list(connection.iterdump())


def schema(path: Path) -> dict[str, str]:
    return {line.split(" (")[0]: line for line in content(path)[1] if line.startswith("CREATE")}


def open_and_close(path: Path) -> None:
    asyncio.run(sqlite.open(path).close())


async def opened(path: Path) -> Store:
    async def open() -> sqlite.SqliteStorage:
        return sqlite.open(path)

    return Store(open, await open())


def copies(path: Path) -> list[str]:
    return sorted(other.name for other in path.parent.iterdir() if "backup" in other.name)


async def test_version_1_is_brought_up_to_date(old_file: Path) -> None:
    store = await opened(old_file)
    anna = await store.users.get("anna2")
    assert (anna.id, anna.name, anna.previous_ids, anna.unionid) == ("anna", "小明", ("anna2",), "union")
    assert [known.subject for known in anna.identities] == ["o-anna", "o-anna-2"]
    assert (await store.users.get("bo")).blocked
    assert (await store.users.by_identity("app", "7")).chosen_name == "陈'; --"
    assert (await store.sessions.get(sha256("chen"))).provider == "app"
    assert (await store.sessions.by_ticket("ticket of bo")).revoked
    scanned = await store.tickets.get("scanned", now=THEN)
    assert (scanned.state, scanned.scanner, scanned.next) == (
        State.SCANNED,
        Scanner("wechat", "o-anna"),
        "/留言",
    )
    assert (await store.links.get(sha256("link"), now=THEN)).site == "Shop"
    assert len(await store.logins.newest()) == 3
    assert await store.deliveries.reply_to("event", now=THEN) == b"<xml/>"
    await store.grants.create(grant())
    await store.outbox.add(notice())
    await store.reopen()
    assert await store.grants.get("grant", now=THEN) == grant()
    assert await store.outbox.newest() == [notice()]
    await store.storage.close()


async def test_version_2_is_brought_up_to_date(tmp_path: Path) -> None:
    path = file_of(VERSION_2, tmp_path / "saoma.db")
    before = content(path)
    store = await opened(path)
    assert copies(path) == ["saoma.db.v2-backup"]
    assert content(path.with_name("saoma.db.v2-backup")) == before
    scanned = await store.tickets.get("scanned", now=THEN)
    assert (scanned.state, scanned.scanner) == (State.SCANNED, Scanner("app", "7"))
    assert (scanned.number, scanned.tries_left) == (0, 3), "no number was shown, so none is asked for"
    asked = await store.tickets.update("waiting", lambda ticket: replace(ticket, number=42), now=THEN)
    assert await store.tickets.get("waiting", now=THEN) == asked
    assert (await store.users.get("anna")).admin
    assert (await store.grants.get("grant", now=THEN)).user_id == "chen"
    assert await store.known_browsers.is_known(sha256("browser"), "chen", now=THEN)
    assert len(await store.outbox.newest()) == len(await store.signing_keys.all(now=THEN)) == 1
    await store.storage.close()


def test_copy_is_the_file_as_it_was_for_its_owner_alone(old_file: Path) -> None:
    before = content(old_file)
    former = os.umask(0)
    try:
        open_and_close(old_file)
    finally:
        os.umask(former)
    assert copies(old_file) == ["saoma.db.v1-backup"]
    kept = old_file.with_name("saoma.db.v1-backup")
    assert content(kept) == before
    assert kept.stat().st_mode & 0o777 == 0o600
    open_and_close(old_file)
    assert copies(old_file) == ["saoma.db.v1-backup"], "once"


def test_old_file_gets_the_schema_of_a_new_one(old_file: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    new = tmp_path / "new" / "saoma.db"
    for path in (old_file, new):
        open_and_close(path)
    assert schema(old_file) == schema(new)
    assert content(old_file)[0] == content(new)[0] == SCHEMA_VERSION
    assert copies(new) == [], "in a new file there is nothing to keep"


def test_earlier_copies_stay_as_they_are(old_file: Path) -> None:
    before = content(old_file)
    for name in ("saoma.db.v1-backup", "saoma.db.v1-backup.2"):
        old_file.with_name(name).write_text("of another time")
    open_and_close(old_file)
    for name in ("saoma.db.v1-backup", "saoma.db.v1-backup.2"):
        assert old_file.with_name(name).read_text() == "of another time"
    assert content(old_file.with_name("saoma.db.v1-backup.3")) == before


def test_without_a_copy_the_file_is_left_alone(old_file: Path) -> None:
    before = content(old_file)
    old_file.with_name("saoma.db.v1-backup.part").mkdir()  # no copy can be written
    with pytest.raises(StoreUnavailable, match=r"saoma\.db\.v1-backup\.part"):
        sqlite.open(old_file)
    assert content(old_file) == before


# Opens a file and kills itself when SQLite or the system is told the words given.
KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from storage import sqlite
from storage.sqlite_schema import SCHEMA_VERSION

def listen(words):
    if words.strip().startswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

connect, fsync = sqlite3.connect, os.fsync

def connect_and_listen(*arguments, **options):
    connection = connect(*arguments, **options)
    connection.set_trace_callback(listen)
    return connection

def fsync_and_listen(descriptor):
    listen("fsync of " + os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2])
    fsync(descriptor)

sqlite3.connect, os.fsync = connect_and_listen, fsync_and_listen
sqlite.open(Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("PRAGMA journal_mode = OFF", False),  # the copy is begun
        ("fsync of saoma.db.v1-backup.part", False),  # it is written
        ("fsync of data", True),  # it has its name
        ("CREATE TABLE outbox", True),  # half of the tables are made
        ("COMMIT", True),
    ],
)
def test_killed_in_the_middle_it_is_still_version_1(old_file: Path, words: str, kept: bool) -> None:
    (old_file.parent / "data").mkdir()
    path = old_file.rename(old_file.parent / "data" / "saoma.db")
    before = content(path)
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), words], cwd=ROOT, capture_output=True, timeout=30
    )
    assert (child.returncode, child.stderr) == (-signal.SIGKILL, b"")
    assert copies(path) == ["saoma.db.v1-backup" if kept else "saoma.db.v1-backup.part"]
    if kept:
        assert content(path.with_name("saoma.db.v1-backup")) == before
    assert content(path) == before
    open_and_close(path)
    assert content(path)[0] == SCHEMA_VERSION
    assert copies(path) == ["saoma.db.v1-backup"]
    assert content(path.with_name("saoma.db.v1-backup")) == before
