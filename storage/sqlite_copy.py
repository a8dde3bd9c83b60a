"""A copy of the file as it is at one moment, made while logins go on."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from errors import StoreUnavailable

STEP_PAGES = 256  # between two steps logins are served: 1 MiB takes a few milliseconds
SPARE_BYTES = 64 * 1024 * 1024  # what a copy leaves free for the logins


def take_copy(connection: sqlite3.Connection, path: Path, meanwhile: Callable[[], None]) -> BinaryIO:
    """The copy, open to be read and without a name already, so that nothing stays behind.

    `meanwhile` is called between the steps. What it writes on this same connection is in the copy too, so the
    copy is of the moment at which this returns. Raises StoreUnavailable, and what `meanwhile` raises.
    """
    fresh = path.with_name(f"{path.name}.copying")
    try:
        _see_that_there_is_room(path)
        fresh.unlink(missing_ok=True)  # of a server that was killed
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with closing(sqlite3.connect(fresh)) as copy:
                copy.execute("PRAGMA journal_mode = OFF")  # half a copy is thrown away
                copy.execute("PRAGMA synchronous = OFF")  # it lasts for as long as it is read
                connection.backup(copy, pages=STEP_PAGES, progress=lambda *_: meanwhile())
            return fresh.open("rb")
        finally:
            fresh.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"no copy of {path} can be made: {error}") from error


def _see_that_there_is_room(path: Path) -> None:
    """A copy that filled the disk would end the logins."""
    log = path.with_name(f"{path.name}-wal")
    needed = path.stat().st_size + (log.stat().st_size if log.exists() else 0)
    if shutil.disk_usage(path.parent).free < needed + SPARE_BYTES:
        raise StoreUnavailable(
            f"no copy of {path} can be made: its folder needs"
            f" {(needed + SPARE_BYTES) >> 20} MiB free meanwhile"
        )
