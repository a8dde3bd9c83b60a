"""A start that cannot be says why in one line and exits with something else than 0."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

import logs
import server
from storage import sqlite
from storage.sqlite_schema import SCHEMA_VERSION
from tests.harness import collect_what_is_left
from tests.ports import free_port

Broken = Callable[[Path], dict[str, Any]]
SERVER = {"port": 0, "secret_key": "k" * 32}
DATABASE = Path("data/saoma.db")
NOBODY = 65534


@pytest.fixture(autouse=True)
def _keep_the_tests_logging(monkeypatch):
    monkeypatch.setattr(logs, "set_up", lambda *_, **__: None)
    yield
    collect_what_is_left()


def start(
    folder: Path, document: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[str]]:
    """The exit code, and the lines that were said."""
    settings = folder / "settings.yaml"
    settings.write_text(yaml.safe_dump({"server": {"port": 0}, "metrics": {"port": 0}, **document}))
    code = server.main(["serve", "--settings", str(settings)])
    told = capsys.readouterr()
    assert told.out == ""
    return code, told.err.splitlines()


def made(folder: Path) -> Path:
    """A good database."""
    path = folder / DATABASE
    sqlite.open(path)._connection.close()
    return path


def no_database(folder: Path) -> dict[str, Any]:
    (folder / DATABASE).parent.mkdir()
    (folder / DATABASE).write_text("a letter to a friend\n" * 100)
    return {}


def spoilt_header(folder: Path) -> dict[str, Any]:
    path = made(folder)
    with path.open("r+b") as file:
        file.write(b"\0" * 64)
    for more in path.parent.glob("saoma.db-*"):
        more.unlink()
    return {}


def cut_short(folder: Path) -> dict[str, Any]:
    path = made(folder)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    with path.open("r+b") as file:
        file.truncate(5000)
    return {}


def newer(folder: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(made(folder))) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    return {}


def a_folder(folder: Path) -> dict[str, Any]:
    (folder / DATABASE).mkdir(parents=True)
    return {}


def below_a_file(folder: Path) -> dict[str, Any]:
    (folder / "data").write_text("")
    return {}


def half_a_key(folder: Path) -> dict[str, Any]:
    made(folder)
    (folder / "data" / "secret.key").write_text("short")
    return {}


def nowhere(folder: Path) -> dict[str, Any]:
    return {"storage": {"url": f"mongodb://127.0.0.1:{free_port()}/saoma"}}


def no_redis(folder: Path) -> dict[str, Any]:
    return {
        "redis": {"url": f"redis://127.0.0.1:{free_port()}/0"},
        "server": SERVER,
    }


def wrong_address(folder: Path) -> dict[str, Any]:
    return {"server": {"address": "192.0.2.1", "base_url": "https://login.example.com", "port": 0}}


def no_redis_address(folder: Path) -> dict[str, Any]:
    return {"redis": {"url": "redis://127.0.0.1:nine"}, "server": SERVER}


BROKEN: list[tuple[Broken, int, str]] = [
    (no_database, 1, "FAULT  storage: {folder}/data/saoma.db: file is not a database"),
    (spoilt_header, 1, "FAULT  storage: {folder}/data/saoma.db: file is not a database"),
    (cut_short, 1, "FAULT  storage: {folder}/data/saoma.db: database disk image is malformed"),
    (newer, 1, f"FAULT  storage: {{folder}}/data/saoma.db has schema version {SCHEMA_VERSION + 1};"),
    (a_folder, 1, "FAULT  storage: {folder}/data/saoma.db: [Errno 21] Is a directory"),
    (below_a_file, 1, "FAULT  storage: {folder}/data/saoma.db: [Errno 17] File exists"),
    (half_a_key, 2, "FAULT  server.secret_key: {folder}/data/secret.key should hold 32 characters or more"),
    (nowhere, 1, "FAULT  storage: The MongoDB of storage.url did not answer or did not let us in:"),
    (no_redis, 1, "FAULT  storage: redis.url: Redis did not answer."),
    (no_redis_address, 1, "FAULT  storage: redis.url is no address that Redis's client understands."),
    (wrong_address, 2, "FAULT  server: cannot listen on 192.0.2.1:0 (Cannot assign requested address)"),
]


@pytest.mark.parametrize(("broken", "code", "words"), BROKEN, ids=[case[0].__name__ for case in BROKEN])
def test_a_broken_start_says_why(tmp_path, capsys, expect_log, broken, code, words):
    if broken is nowhere:
        expect_log("MongoDB did not do what was asked")
    ended, (line,) = start(tmp_path, broken(tmp_path), capsys)
    assert ended == code
    assert line.startswith(words.format(folder=tmp_path)), line


def test_a_taken_port(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, (line,) = start(tmp_path, {"server": {"port": port}}, capsys)
    assert (code, line) == (2, f"FAULT  server: cannot listen on 127.0.0.1:{port} (Address already in use)")


def test_a_database_in_use(tmp_path, capsys):
    held = sqlite.open(tmp_path / DATABASE)
    code, (line,) = start(tmp_path, {}, capsys)
    held._connection.close()
    assert code == 1
    assert "is in use by another process" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to make files of another owner")
def test_files_of_another_owner(tmp_path, capsys):
    path = made(tmp_path)
    path.parent.chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    settings = tmp_path / "settings.yaml"
    settings.write_text("metrics: {port: 0}\n")
    os.seteuid(NOBODY)
    try:
        code = server.main(["serve", "--settings", str(settings)])
    finally:
        os.seteuid(0)
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 1
    assert line.startswith(f"FAULT  storage: {path}: [Errno 13] Permission denied")
