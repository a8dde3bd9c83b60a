"""What the file itself promises: one process, one owner, nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from errors import StoreLocked, StoreUnavailable
from storage import sqlite, sqlite_people
from storage.base import Page, Storage, Transaction
from storage.records import LoginFilter
from storage.sqlite_schema import SCHEMA_VERSION
from tests.storage.samples import NOW, login, ticket

ROOT = Path(__file__).parents[2]


def append(storage: Storage, id: str, **fields: object) -> asyncio.Task[None]:
    async def work(transaction: Transaction) -> None:
        await transaction.logins.append(login(id, **fields))

    return asyncio.ensure_future(storage.transact(work))


async def stored_ids(storage: Storage) -> set[str]:
    """Of the newest lines, 200 at most."""

    async def work(transaction: Transaction) -> set[str]:
        return {line.id for line in await transaction.logins.newest(limit=1000)}

    return await storage.transact(work)


def python(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


OPEN = "import sys; from pathlib import Path; from storage import sqlite; sqlite.open(Path(sys.argv[1]))"


async def test_second_process_is_refused_and_told_of_mongodb(tmp_path: Path) -> None:
    storage = sqlite.open(tmp_path / "saoma.db")
    await append(storage, "1")
    second = python(OPEN, str(tmp_path / "saoma.db"))
    _, said = await asyncio.to_thread(second.communicate, timeout=20)
    assert second.returncode != 0
    assert "StoreLocked" in said
    assert "in use by another process" in said
    assert "mongodb://" in said
    await append(storage, "2")  # the first one goes on
    await storage.close()
    third = python(OPEN, str(tmp_path / "saoma.db"))
    _, said = await asyncio.to_thread(third.communicate, timeout=20)
    assert (third.returncode, said) == (0, "")


async def test_second_opening_in_one_process_is_refused(tmp_path: Path) -> None:
    storage = sqlite.open(tmp_path / "saoma.db")
    with pytest.raises(StoreLocked):
        sqlite.open(tmp_path / "saoma.db")
    await storage.close()


async def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        storage = sqlite.open(tmp_path / "new" / "saoma.db")
        await append(storage, "1")
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
    finally:
        os.umask(former)
    assert modes == {"saoma.db": 0o600, "saoma.db-wal": 0o600}
    await storage.close()


async def test_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "saoma.db"
    await sqlite.open(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    newer.close()
    content = path.read_bytes()
    with pytest.raises(StoreUnavailable, match=f"version {SCHEMA_VERSION + 1}.*{SCHEMA_VERSION}"):
        sqlite.open(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("what", ["folder", "other file", "below a file"])
def test_what_is_no_database_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "saoma.db"
    if what == "folder":
        path.mkdir()
    else:
        path.write_text("no database at all. " * 500)
    with pytest.raises(StoreUnavailable, match=r"saoma\.db"):
        sqlite.open(path / "saoma.db" if what == "below a file" else path)


WRITER = """
import asyncio, sys
from pathlib import Path
from time import monotonic, sleep
from storage import sqlite, sqlite_people
from tests.storage.samples import ticket

async def main():
    storage = sqlite.open(Path(sys.argv[1]))
    async def write(n):
        while True:
            await storage.transact(lambda transaction: transaction.tickets.create(ticket(str(n))))
            sys.stdout.write(f"{n}\\n")
            sys.stdout.flush()
            n += 8
    await asyncio.gather(*(write(n) for n in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 500])
async def test_killed_in_the_middle_all_that_was_acknowledged_is_there(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "saoma.db"
    child = python(WRITER, str(path))
    assert child.stdout is not None
    acknowledged = [await asyncio.to_thread(child.stdout.readline) for _ in range(lines)]
    child.send_signal(signal.SIGKILL)
    rest, _ = await asyncio.to_thread(child.communicate)
    # The last line may be cut off.
    acknowledged += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    assert len(acknowledged) >= lines
    storage = sqlite.open(path)

    async def work(transaction: Transaction) -> list[str]:
        ids = [line.strip() for line in acknowledged]
        return [id for id in ids if await transaction.tickets.get(id, now=NOW) is None]

    assert await storage.transact(work) == []
    await storage.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_full_disk_is_unavailable_until_there_is_room(
    small_disk: Path, expect_log: Callable[[str], None]
) -> None:
    expect_log("saoma.storage: the database refused a transaction: .*full")
    storage = sqlite.open(small_disk / "saoma.db")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    acknowledged: set[str] = set()
    with contextlib.suppress(StoreUnavailable):
        for n in range(200):
            await append(storage, f"{n}", browser="x" * 20_000)
            acknowledged.add(f"{n}")
    assert 0 < len(acknowledged) < 100
    with pytest.raises(StoreUnavailable):
        await append(storage, "one more", browser="x" * 20_000)
    assert await stored_ids(storage) == acknowledged
    ballast.unlink()
    await storage.ping()
    await append(storage, "after", browser="x" * 20_000)
    assert await stored_ids(storage) == acknowledged | {"after"}
    await storage.close()
    storage = sqlite.open(small_disk / "saoma.db")
    assert await stored_ids(storage) == acknowledged | {"after"}
    await storage.close()


async def test_ping_notices_a_full_disk(small_disk: Path, expect_log: Callable[[str], None]) -> None:
    expect_log("saoma.storage: the database refused a transaction")
    storage = sqlite.open(small_disk / "saoma.db")
    with (small_disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(bytes(1000))
    # What is left of the log's last page may take a few.
    outcomes = [await asyncio.gather(storage.ping(), return_exceptions=True) for _ in range(20)]
    assert isinstance(outcomes[-1][0], StoreUnavailable)
    await storage.close()


async def test_many_loops_in_many_threads(tmp_path: Path) -> None:
    storage = sqlite.open(tmp_path / "saoma.db")

    async def write(thread: int) -> None:
        await asyncio.gather(*(append(storage, f"{thread} {n}") for n in range(40)))

    threads = [threading.Thread(target=lambda n=n: asyncio.run(write(n))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert await stored_ids(storage) == {f"{thread} {n}" for thread in range(4) for n in range(40)}
    await storage.close()


async def test_close_finishes_what_was_submitted(tmp_path: Path) -> None:
    storage = sqlite.open(tmp_path / "saoma.db")
    tasks = [append(storage, f"{n}") for n in range(100)]
    await asyncio.sleep(0)
    await storage.close()
    await asyncio.gather(*tasks)
    with pytest.raises(StoreUnavailable):
        await append(storage, "late")
    storage = sqlite.open(tmp_path / "saoma.db")
    assert len(await stored_ids(storage)) == 100
    await storage.close()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said to SQLite from now on."""
    said: list[str] = []
    connect = sqlite3.connect

    def connect_and_listen(*arguments: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(said.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_and_listen)
    return said


async def test_concurrent_work_shares_a_commit(tmp_path: Path, statements: list[str]) -> None:
    storage = sqlite.open(tmp_path / "saoma.db")
    statements.clear()
    await asyncio.gather(*(append(storage, f"{n}") for n in range(200)))
    assert sum(said.startswith("INSERT") for said in statements) == 200
    assert statements.count("COMMIT") <= 20
    await storage.close()


class Unheard(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize("error", [LookupError, sqlite3.IntegrityError, Unheard, asyncio.CancelledError])
async def test_work_that_raises_disturbs_nobody_in_its_group(
    tmp_path: Path, error: type[BaseException]
) -> None:
    storage = sqlite.open(tmp_path / "saoma.db")

    async def failing(transaction: Transaction) -> None:
        await transaction.logins.append(login("undone"))
        raise error

    before = [append(storage, f"before {n}") for n in range(5)]
    failed = asyncio.ensure_future(storage.transact(failing))
    after = [append(storage, f"after {n}") for n in range(5)]
    await asyncio.gather(*before, *after)
    with pytest.raises(ValueError if error is sqlite3.IntegrityError else error):
        await failed
    assert len(await stored_ids(storage)) == 10
    await storage.close()


async def test_a_group_is_done_again_only_where_something_has_to_be_taken_back(
    tmp_path: Path, statements: list[str]
) -> None:
    storage = sqlite.open(tmp_path / "saoma.db")

    async def refused(transaction: Transaction) -> None:
        raise LookupError

    async def too_late(transaction: Transaction) -> None:
        await transaction.logins.append(login("undone"))
        raise LookupError

    for failing, inserted in ((refused, 1), (too_late, 3)):  # its own twice
        statements.clear()
        kept = append(storage, failing.__name__)
        with pytest.raises(LookupError):
            await storage.transact(failing)
        await kept
        assert sum(said.startswith("INSERT") for said in statements) == inserted
        assert any(said.startswith("SAVEPOINT") for said in statements) == (failing is too_late)
    assert await stored_ids(storage) == {"refused", "too_late"}
    await storage.close()


async def test_work_that_waits_for_something_else_is_a_mistake(tmp_path: Path) -> None:
    storage = sqlite.open(tmp_path / "saoma.db")

    async def waiting(transaction: Transaction) -> None:
        await transaction.tickets.create(ticket())
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="wait for nothing"):
        await storage.transact(waiting)
    assert await storage.transact(lambda transaction: transaction.tickets.get("ticket", now=NOW)) is None
    await storage.close()


async def test_store_that_hangs_is_unavailable_in_time(tmp_path: Path) -> None:
    storage = sqlite.open(tmp_path / "saoma.db")

    async def hanging(transaction: Transaction) -> None:
        sleep(4)  # noqa: ASYNC251 - the thread itself, as on a disk that does not answer

    began = monotonic()
    outcomes = await asyncio.gather(storage.transact(hanging), append(storage, "1"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable, StoreUnavailable]
    assert monotonic() - began < 3.9
    await storage.close()


async def test_index_answers_what_would_else_read_a_table(tmp_path: Path, statements: list[str]) -> None:
    """With a million people logins would wait for seconds behind each of these."""
    storage = sqlite.open(tmp_path / "saoma.db")
    await append(storage, "1", user_id="me")
    statements.clear()

    async def work(transaction: Transaction) -> list[str]:
        page = await transaction.logins.find(LoginFilter(user_id="me"))
        lines = (*page.logins, *await transaction.logins.newest(user_id="me"))
        await transaction.logins.tally(since=0, until=NOW)
        await transaction.sessions.count(now=NOW)
        return [line.id for line in lines]

    assert await storage.transact(work) == ["1", "1"]
    await storage.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "saoma.db")) as connection:
        plans = [
            connection.execute(f"EXPLAIN QUERY PLAN {statement.replace('Inf', '9e999')}").fetchone()[3]
            for statement in statements
            if "FROM logins" in statement or "FROM sessions" in statement
        ]
    assert plans == [
        "SEARCH logins USING INDEX logins_by_user (user_id=? AND at<?)",
        "SEARCH logins USING INDEX logins_by_user (user_id=? AND at<?)",
        "SEARCH logins USING COVERING INDEX logins_by_time (at>? AND at<?)",
        "SEARCH sessions USING INDEX sessions_alive (expires_at>?)",
    ]


async def test_a_search_looks_at_so_many_people_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All logins wait for the one thread while somebody is searched for."""
    monkeypatch.setattr(sqlite_people, "SEARCHED_AT_ONCE", 3)
    storage = sqlite.open(tmp_path / "saoma.db")

    async def arrive(transaction: Transaction) -> None:
        for n in range(10):
            await transaction.users.upsert_identity(
                "wechat", f"openid {n}", following=True, event_at=NOW, new_id=f"user {n}", now=NOW + n // 2
            )

    await storage.transact(arrive)

    async def pages(text: str) -> list[list[str]]:
        found, cursor = [], ""

        async def look(transaction: Transaction) -> Page:
            return await transaction.users.search(text, cursor=cursor, limit=2)

        while True:
            page = await storage.transact(look)
            found.append([user.id for user in page.users])
            if not (cursor := page.cursor):
                return found

    assert await pages("nobody") == [[], [], [], []]
    assert await pages("openid 7") == [[], [], ["user 7"], []]
    assert await pages("") == [["user 0", "user 1"], ["user 2", "user 3"], ["user 4", "user 5"],
                               ["user 6", "user 7"], ["user 8", "user 9"]]  # fmt: skip
    await storage.close()
