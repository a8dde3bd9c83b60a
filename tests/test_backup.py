"""`server.py backup`: whole copies while people log in, and the way back from one."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import shutil
import signal
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import backup as command
from backup import backup
from composition import opened
from control import ask_for_copy
from errors import StoreUnavailable
from storage import sqlite, sqlite_copy
from storage.base import Transaction
from tests.harness import Child, document, new_account, running, settings_for, write_settings
from tests.storage.samples import login

SITE = {"id": "shop", "name": "Shop", "secret": "s" * 32, "redirect_uris": ["https://shop.example.com/back"]}


def settings_of(folder: Path, **more: Any):
    """Of a server that does not run."""
    return settings_for(new_account(), "http://127.0.0.1:9", folder, more)


async def filled(folder: Path, lines: int = 1, **more: Any):
    """The settings of a database with so many lines in its log of logins, 4 kB each."""
    settings = settings_of(folder, **more)
    async with opened(settings) as context:
        await append(context.storage, *(f"{number}" for number in range(lines)))
    return settings


async def append(storage: Any, *ids: str) -> None:
    async def work(transaction: Transaction) -> None:
        for id in ids:
            await transaction.logins.append(login(id, browser="x" * 4000))

    await storage.transact(work)


@pytest.fixture
def slow_disk(monkeypatch):
    """A copy takes 60 steps of 2 ms and more."""

    def slowly(connection: sqlite3.Connection, path: Path, meanwhile: Callable[[], None]) -> BinaryIO:
        def step() -> None:
            time.sleep(0.002)
            meanwhile()

        return sqlite_copy.take_copy(connection, path, step)

    monkeypatch.setattr(sqlite_copy, "STEP_PAGES", 8)
    monkeypatch.setattr(sqlite, "take_copy", slowly)


def ids_in(path: Path) -> set[str]:
    with sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True) as connection:
        ids = {row[0] for row in connection.execute("SELECT id FROM logins")}
    connection.close()
    return ids


# --- The whole: logins go on, the copy is put into an empty folder, everybody is still logged in.


async def test_from_a_copy_made_under_load_everybody_comes_back(tmp_path, capsys):
    to = tmp_path / "copies" / "saoma.db"
    to.parent.mkdir()
    account = new_account()
    acknowledged: list[tuple[str, dict[str, str]]] = []
    async with running(tmp_path / "old", account=account, sites=[SITE]) as whole:
        published = document(await whole.browser().get("/oauth2/jwks"))
        ended = asyncio.Event()

        async def logins(number: int) -> None:
            while not ended.is_set():
                browser = whole.browser()
                answer = await whole.log_in(browser, whole.person(number))
                acknowledged.append((answer["user"]["id"], browser.cookies))

        load = [asyncio.create_task(logins(number)) for number in range(3)]
        while len(acknowledged) < 5:
            await asyncio.sleep(0.01)
        before = list(acknowledged)
        assert await backup(whole.server.settings, to)
        ended.set()
        await asyncio.gather(*load)
    assert len(acknowledged) > len(before), "nobody logged in meanwhile"
    said = capsys.readouterr()
    assert said.out.count("copied: ") == 2
    assert "the key apart" in said.err

    data = tmp_path / "new" / "data"
    data.mkdir(parents=True)
    shutil.copy(to, data / "saoma.db")
    shutil.copy(f"{to}.secret.key", data / "secret.key")
    async with running(tmp_path / "new", account=account, sites=[SITE]) as whole:
        for user_id, cookies in before:
            browser = whole.browser()
            browser.cookies = dict(cookies)
            assert document(await browser.get("/api/v1/me"))["id"] == user_id
        assert document(await whole.browser().get("/oauth2/jwks")) == published, (
            "the sealed keys were not opened"
        )
        await whole.log_in(whole.browser(), whole.person())


async def test_what_is_written_during_the_copy_is_in_it_and_nobody_waits_long(tmp_path, slow_disk):
    settings = await filled(tmp_path, 500)
    storage = sqlite.open(settings.sqlite_path)
    copying = asyncio.create_task(storage.copy())
    acknowledged: list[str] = []
    longest = 0.0
    while not copying.done():
        began = time.monotonic()
        await append(storage, name := f"during {len(acknowledged)}")
        longest = max(longest, time.monotonic() - began)
        if not copying.done():
            acknowledged.append(name)
    with await copying as file, (tmp_path / "copy.db").open("wb") as kept:
        shutil.copyfileobj(file, kept)
    await storage.close()
    assert len(acknowledged) > 2
    # The last one's answer may have been on its way when the copy was ready.
    assert ids_in(tmp_path / "copy.db") >= {*(f"{n}" for n in range(500)), *acknowledged[:-1]}
    assert longest < 2
    assert not list((tmp_path / "data").glob("*copying*"))


async def test_work_that_fails_during_the_copy_is_not_in_it(tmp_path, slow_disk):
    settings = await filled(tmp_path, 500)
    storage = sqlite.open(settings.sqlite_path)
    copying = asyncio.create_task(storage.copy())

    async def undone(transaction: Transaction) -> None:
        await transaction.logins.append(login("undone"))
        raise LookupError

    attempts = 0
    while not copying.done():
        with pytest.raises(LookupError):
            await storage.transact(undone)
        attempts += 1
    assert attempts > 2
    with await copying as file, (tmp_path / "copy.db").open("wb") as kept:
        shutil.copyfileobj(file, kept)
    await storage.close()
    assert ids_in(tmp_path / "copy.db") == {f"{n}" for n in range(500)}


async def test_a_server_that_stops_does_not_wait_for_the_copy(tmp_path, slow_disk):
    settings = await filled(tmp_path, 500)
    storage = sqlite.open(settings.sqlite_path)
    copies = [asyncio.create_task(storage.copy()) for _ in range(2)]
    while not (tmp_path / "data" / "saoma.db.copying").exists():
        await asyncio.sleep(0.001)
    last = asyncio.create_task(append(storage, "last"))
    await asyncio.sleep(0)
    await storage.close()
    await last
    for copying in copies:
        with pytest.raises(StoreUnavailable, match="closed"):
            await copying
    assert not list((tmp_path / "data").glob("*copying*"))


# --- The files.


@pytest.mark.parametrize("runs", [True, False])
async def test_the_files_are_their_owners_alone(tmp_path, capsys, runs):
    former = os.umask(0)
    try:
        async with running(tmp_path) as whole:
            settings = whole.server.settings
            if runs:
                assert await backup(settings, tmp_path / "copy.db")
        if not runs:
            assert await backup(settings, tmp_path / "copy.db")
    finally:
        os.umask(former)
    kept = sorted(path for path in tmp_path.iterdir() if path.name.startswith("copy"))
    assert [path.name for path in kept] == ["copy.db", "copy.db.secret.key"]
    assert {stat.filemode(path.stat().st_mode) for path in kept} == {"-rw-------"}
    assert kept[1].read_bytes() == (tmp_path / "data" / "secret.key").read_bytes()
    assert [line.split(" (")[0] for line in capsys.readouterr().out.splitlines()] == [
        f"copied: {path}" for path in kept
    ]


async def test_a_key_from_the_settings_is_not_written_down(tmp_path, capsys):
    settings = await filled(tmp_path, server={"secret_key": "k" * 32})
    assert await backup(settings, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db.secret.key").exists()
    said = capsys.readouterr()
    assert "server.secret_key is there" in said.err
    assert "k" * 32 not in said.out + said.err


@pytest.mark.parametrize("name", ["copy.db", "copy.db.secret.key"])
async def test_nothing_is_overwritten(tmp_path, capsys, name):
    settings = await filled(tmp_path)
    (tmp_path / name).write_text("of yesterday")
    assert not await backup(settings, tmp_path / "copy.db")
    assert "File exists; nothing was copied" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob("copy*")] == [name]
    assert (tmp_path / name).read_text() == "of yesterday"


async def test_a_link_that_leads_nowhere_is_not_followed(tmp_path, capsys):
    settings = await filled(tmp_path)
    (tmp_path / "copy.db").symlink_to(tmp_path / "elsewhere")
    assert not await backup(settings, tmp_path / "copy.db")
    assert "File exists" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()


async def test_half_a_copy_of_a_command_that_was_killed_is_in_nobodys_way(tmp_path):
    settings = await filled(tmp_path, 3)
    (tmp_path / "copy.db.part").write_text("half")
    (tmp_path / "data" / "saoma.db.copying").write_text("half")
    assert await backup(settings, tmp_path / "copy.db")
    assert ids_in(tmp_path / "copy.db") == {"0", "1", "2"}
    assert not (tmp_path / "copy.db.part").exists()


async def test_an_older_schema_is_copied_as_it_is(tmp_path):
    settings = await filled(tmp_path, 2)
    with sqlite3.connect(settings.sqlite_path) as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    assert await backup(settings, tmp_path / "copy.db")
    with sqlite3.connect(tmp_path / "copy.db") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()


# --- What goes wrong.


async def faulty(settings: Any, to: Path, capsys: Any) -> str:
    assert not await backup(settings, to)
    said = capsys.readouterr()
    assert not said.out
    assert said.err.startswith("FAULT  ")
    assert not list(to.parent.glob(f"{to.name}*"))
    return said.err


async def test_no_database_no_folder(tmp_path, capsys):
    assert "there is no database" in await faulty(settings_of(tmp_path), tmp_path / "copy.db", capsys)
    settings = await filled(tmp_path)
    assert "No such file or directory" in await faulty(settings, tmp_path / "none" / "copy.db", capsys)


async def test_a_server_that_cannot_be_asked(tmp_path, capsys):
    settings = await filled(tmp_path)
    storage = sqlite.open(settings.sqlite_path)
    assert "no control.sock" in await faulty(settings, tmp_path / "copy.db", capsys)
    await storage.close()


async def test_a_full_disk_is_left_alone(tmp_path, capsys, monkeypatch):
    async with running(tmp_path) as whole:
        monkeypatch.setattr(sqlite_copy, "SPARE_BYTES", 2**60)
        said = await faulty(whole.server.settings, tmp_path / "copy.db", capsys)
        assert "MiB free meanwhile" in said
        await whole.log_in(whole.browser(), whole.person())


class Full(io.RawIOBase):
    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_where_the_copy_goes(tmp_path):
    async with running(tmp_path) as whole:
        with pytest.raises(OSError, match="No space left"):
            await ask_for_copy(whole.server.settings, Full())
        await whole.log_in(whole.browser(), whole.person())


async def test_a_damaged_copy_is_thrown_away(tmp_path, capsys, monkeypatch):
    settings = await filled(tmp_path, 50)

    async def damaged(_: Any, file: Any) -> bool:
        content = bytearray(settings.sqlite_path.read_bytes())
        content[4096 : 4096 * 8] = bytes(4096 * 7)
        file.write(content)
        return True

    monkeypatch.setattr(command, "ask_for_copy", damaged)
    assert "not whole" in await faulty(settings, tmp_path / "copy.db", capsys)


async def test_mongodb_has_a_tool_of_its_own(tmp_path, capsys):
    settings = settings_of(tmp_path, storage={"url": "mongodb://saoma:secret-of-it@127.0.0.1:9/saoma"})
    said = await faulty(settings, tmp_path / "copy.db", capsys)
    assert "mongodump --uri=" in said
    assert "secret.key" in said
    assert "secret-of-it" not in said


async def test_it_is_not_on_the_web(tmp_path):
    async with running(tmp_path) as whole:
        assert (await whole.browser().post("/backup")).code == 404


async def test_the_command_line(tmp_path):
    """With a server of its own process, as cron runs it."""
    path = write_settings(
        tmp_path, new_account(), "http://127.0.0.1:9", server={"port": 0}, metrics={"port": 0}
    )
    async with Child.serving(path) as child:
        await child.says("serving ")
        copying = Child("backup", "--settings", str(path), "--to", str(tmp_path / "copy.db"))
        await copying.start()
        assert await copying.ended() == 0, copying.output
        await copying.start()
        assert await copying.ended() == 1, copying.output
        assert "File exists" in copying.output
        assert await child.end(signal.SIGTERM) == 0
    assert ids_in(tmp_path / "copy.db") == set()
