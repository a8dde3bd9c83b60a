"""The key of this installation: given, or made on the first start and kept."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from config.faults import FaultySettings
from config.sections import Settings


def read_secret_key(settings: Settings) -> bytes:
    """`server.secret_key`, or the one made on the first start and kept beside the database, mode 0600."""
    if configured := settings.server.secret_key.get_secret_value():
        return configured.encode("utf-8")
    path = secret_key_path(settings)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _keep_new_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise FaultySettings(
            [f"server.secret_key: {path} cannot be made or read ({error.strerror})"]
        ) from None
    if len(key.strip()) < 32:
        raise FaultySettings([f"server.secret_key: {path} should hold 32 characters or more: delete it"])
    return key


def secret_key_path(settings: Settings) -> Path:
    """Where it is kept if it is not in the settings."""
    database = settings.sqlite_path
    return (database.parent if database else settings.folder / "data") / "secret.key"


def _keep_new_key(path: Path) -> None:
    """All of it or nothing: a start that is ended here leaves no half a key. The first of two wins."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
