"""`server.py backup`: a whole copy of the SQLite file, made while logins go on, and of its key."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from composition import copy_alone
from config import Settings, secret_key_path
from control import CannotAsk, ask_for_copy
from errors import SaomaError, StoreLocked

KEY_SUFFIX = ".secret.key"


async def backup(settings: Settings, to: Path) -> bool:
    """Writes the copy, and beside it the key where saoma made that itself. Whether they are on the disk."""
    try:
        if settings.sqlite_path is None:
            raise CannotAsk(_of_mongodb(settings))
        _see_that_there_is_one(settings.sqlite_path)
        copied = await _copy(settings, settings.sqlite_path, to)
    except (CannotAsk, SaomaError) as error:
        print(f"FAULT  {error}", file=sys.stderr)
        return False
    except OSError as error:
        print(f"FAULT  {error.filename or to}: {error.strerror}; nothing was copied", file=sys.stderr)
        return False
    for path in copied:
        print(f"copied: {path} ({path.stat().st_size} bytes)")
    print(_not_in_it(settings), file=sys.stderr)
    return True


def _see_that_there_is_one(database: Path) -> None:
    if not database.exists():
        raise CannotAsk(f"there is no database at {database} yet")


async def _copy(settings: Settings, database: Path, to: Path) -> list[Path]:
    key = None if settings.server.secret_key.get_secret_value() else secret_key_path(settings)
    with _made(to) as file:
        if not await ask_for_copy(settings, file):
            try:
                with copy_alone(database) as copy:
                    shutil.copyfileobj(copy, file)
            except StoreLocked:
                raise CannotAsk(
                    "a server runs with this database but cannot be asked:"
                    " its log says why it has no control.sock"
                ) from None
        file.flush()
        _see_that_it_is_whole(Path(file.name))
        if key is None or not key.exists():
            return [to]
        beside = to.with_name(to.name + KEY_SUFFIX)
        with _made(beside) as kept:
            kept.write(key.read_bytes())
    return [to, beside]


@contextmanager
def _made(path: Path) -> Iterator[BinaryIO]:
    """A new file of its owner's alone: under its name and on the disk at the end, gone after an error."""
    part = path.with_name(f"{path.name}.part")
    # The name is taken first, as not every disk for copies can link: an empty file was not finished.
    os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    try:
        part.unlink(missing_ok=True)  # of a command that was killed
        with open(part, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        path.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
        raise


def _see_that_it_is_whole(path: Path) -> None:
    """Raises CannotAsk for a copy that nobody could go back to."""
    address = f"file:{quote(os.fspath(path))}?mode=ro&immutable=1"  # so that no file is made beside it
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        raise CannotAsk(f"the copy is not whole, and was thrown away: {found}")


def _of_mongodb(settings: Settings) -> str:
    key = (
        "" if settings.server.secret_key.get_secret_value() else f", and {secret_key_path(settings)} with it"
    )
    return (
        "the people are in MongoDB, which has a tool of its own:"
        " mongodump --uri=… --gzip --archive=FILE (and --oplog with a replica set)."
        f" Keep the settings{key}; see docs/deploy.md"
    )


def _not_in_it(settings: Settings) -> str:
    if settings.server.secret_key.get_secret_value():
        return "Keep the settings too: server.secret_key is there, and the copy is of little use without it."
    return "Keep the settings too, and the key apart from the copy: together they are as good as the server."
