"""A disk that is full, and one that takes no writes any more."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from emulator import Push
from tests.faults.asking import Asking, made
from tests.harness import Child

MEGABYTES = 2
MANY = 3000  # more than the room that the file has left takes


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; a test that may not mount is skipped, and fails where CI is set."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    mounted = subprocess.run(mounting, capture_output=True, text=True)
    if mounted.returncode:
        reason = f"no file system can be mounted here: {mounted.stderr.strip()}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    path = folder / "filling"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def stored(database: Path) -> set[str]:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return {subject for (subject,) in connection.execute("SELECT subject FROM identities")}


async def until_refused(asking: Asking) -> list[Push]:
    """Goes on until there is no room left; returns what was acknowledged meanwhile."""
    acknowledged: list[Push] = []
    for _ in range(MANY):
        push = asking.push()
        attempt = await asking.post(push)
        if attempt.fault:
            assert (attempt.status, attempt.answer) == (503, b""), attempt
            return acknowledged
        acknowledged.append(push)
    raise AssertionError("there was room for all of them")


async def test_a_full_disk(tmp_path, small_disk, emulator):
    database = small_disk / "saoma.db"
    site = await made(tmp_path, emulator, storage={"url": f"sqlite:{database}"})
    async with site.child() as child:
        await child.says("serving")
        asking = await Asking.begin(site)
        filling = fill(small_disk)
        taken = asking.ticket_id
        acknowledged = await until_refused(asking)
        await asking.all_are_refused()
        assert (await asking.member.get("/api/v1/me")).code == 200, "what only reads goes on"
        assert "the database refused a transaction: database or disk is full" in child.output
        filling.unlink()
        asking.ticket_id = await asking.waiting.open_login("/login?next=/again")
        assert asking.ticket_id != taken
        await asking.well_again()
        await child.end(9)  # SIGKILL
    assert {push.openid for push in acknowledged} <= stored(database)
    assert "Traceback" not in child.output


def take_no_writes(child: Child, most: int) -> None:
    """From now on the kernel refuses to write to files: as one turned read-only, open ones too.

    (A real `remount,ro` is refused while a file is open for writing; the kernel itself does it after errors.)
    """
    assert child.process is not None
    _, hard = resource.prlimit(child.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(child.process.pid, resource.RLIMIT_FSIZE, (most, hard))


async def test_a_disk_that_takes_no_writes(tmp_path, emulator):
    site = await made(tmp_path, emulator)
    async with site.child() as child:
        await child.says("serving")
        asking = await Asking.begin(site)
        take_no_writes(child, 0)
        await asking.all_are_refused()
        assert (await asking.member.get("/api/v1/me")).code == 200, "what only reads goes on"
        assert "the database refused a transaction" in child.output
        take_no_writes(child, resource.RLIM_INFINITY)
        await asking.well_again()
        await child.end(9)  # SIGKILL
    assert stored(tmp_path / "data" / "saoma.db")
    assert "Traceback" not in child.output
