"""The file's schema, and what becomes of a file that has an older one."""

from __future__ import annotations

import filecmp
import itertools
import logging
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from errors import StoreTooNew

# What each version of the schema adds to the one before; the file's `user_version` counts them.
_VERSIONS = (
    """
CREATE TABLE users (
    id TEXT PRIMARY KEY, created_at REAL NOT NULL, chosen_name TEXT NOT NULL DEFAULT '',
    unionid TEXT UNIQUE, blocked INTEGER NOT NULL DEFAULT 0,
    login_count INTEGER NOT NULL DEFAULT 0, last_login_at REAL NOT NULL DEFAULT 0,
    last_ticket_id TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX users_by_age ON users (created_at, id);
CREATE TABLE former_users (id TEXT PRIMARY KEY, user_id TEXT NOT NULL) STRICT;
CREATE INDEX former_users_by_user ON former_users (user_id);
CREATE TABLE identities (
    provider TEXT NOT NULL, subject TEXT NOT NULL, user_id TEXT NOT NULL REFERENCES users (id),
    following INTEGER NOT NULL, event_at REAL NOT NULL, created_at REAL NOT NULL,
    profile_at REAL NOT NULL DEFAULT 0, nickname TEXT NOT NULL DEFAULT '', picture TEXT NOT NULL DEFAULT '',
    country TEXT NOT NULL DEFAULT '', province TEXT NOT NULL DEFAULT '', city TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (provider, subject)
) STRICT;
CREATE INDEX identities_by_user ON identities (user_id, created_at);
CREATE TABLE sessions (
    id TEXT NOT NULL UNIQUE, token_hash BLOB NOT NULL UNIQUE, ticket_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL, provider TEXT NOT NULL, client TEXT NOT NULL, site TEXT NOT NULL,
    created_at REAL NOT NULL, last_used_at REAL NOT NULL, expires_at REAL NOT NULL,
    revoked INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_end ON sessions (expires_at);
CREATE TABLE tickets (
    id TEXT PRIMARY KEY, secret_hash BLOB NOT NULL, method TEXT NOT NULL, client TEXT NOT NULL,
    created_at REAL NOT NULL, expires_at REAL NOT NULL, code TEXT NOT NULL, code_ticket TEXT NOT NULL,
    state TEXT NOT NULL, site TEXT NOT NULL, next TEXT NOT NULL, language TEXT NOT NULL,
    browser TEXT NOT NULL, system TEXT NOT NULL, address TEXT NOT NULL,
    scanner_provider TEXT NOT NULL, scanner_subject TEXT NOT NULL, user_id TEXT NOT NULL,
    confirmed_at REAL NOT NULL, consumed_at REAL NOT NULL
) STRICT;
CREATE INDEX tickets_by_end ON tickets (expires_at);
CREATE INDEX tickets_by_user ON tickets (user_id) WHERE user_id <> '';
CREATE TABLE deliveries (key TEXT PRIMARY KEY, reply BLOB NOT NULL, expires_at REAL NOT NULL) STRICT;
CREATE INDEX deliveries_by_end ON deliveries (expires_at);
CREATE TABLE signatures (
    signature TEXT PRIMARY KEY, body_hash BLOB NOT NULL, expires_at REAL NOT NULL
) STRICT;
CREATE INDEX signatures_by_end ON signatures (expires_at);
CREATE TABLE links (
    token_hash BLOB PRIMARY KEY, purpose TEXT NOT NULL, ticket_id TEXT NOT NULL, user_id TEXT NOT NULL,
    created_at REAL NOT NULL, expires_at REAL NOT NULL, site TEXT NOT NULL, browser TEXT NOT NULL,
    system TEXT NOT NULL, address TEXT NOT NULL, used INTEGER NOT NULL
) STRICT;
CREATE INDEX links_by_end ON links (expires_at);
CREATE TABLE logins (
    id TEXT PRIMARY KEY, at REAL NOT NULL, result TEXT NOT NULL, method TEXT NOT NULL,
    user_id TEXT NOT NULL, site TEXT NOT NULL, browser TEXT NOT NULL, system TEXT NOT NULL,
    address TEXT NOT NULL
) STRICT;
CREATE INDEX logins_by_time ON logins (at);
CREATE INDEX logins_by_user ON logins (user_id, at);
""",
    """
CREATE TABLE grants (
    id TEXT PRIMARY KEY, site TEXT NOT NULL, user_id TEXT NOT NULL, session_id TEXT NOT NULL,
    redirect_uri TEXT NOT NULL, scope TEXT NOT NULL, nonce TEXT NOT NULL, code_challenge TEXT NOT NULL,
    auth_time REAL NOT NULL, created_at REAL NOT NULL, expires_at REAL NOT NULL,
    code_hash BLOB NOT NULL, code_expires_at REAL NOT NULL, redeemed INTEGER NOT NULL,
    family_hash BLOB NOT NULL, refresh_hash BLOB NOT NULL,
    access_hash BLOB NOT NULL, access_expires_at REAL NOT NULL, access_scope TEXT NOT NULL,
    former_access_hash BLOB NOT NULL, former_access_expires_at REAL NOT NULL,
    former_access_scope TEXT NOT NULL, revoked INTEGER NOT NULL
) STRICT;
CREATE INDEX grants_by_session ON grants (session_id);
CREATE INDEX grants_by_user ON grants (user_id);
CREATE INDEX grants_by_end ON grants (expires_at);
CREATE TABLE outbox (
    endpoint TEXT NOT NULL, id TEXT NOT NULL, person TEXT NOT NULL, event TEXT NOT NULL,
    payload TEXT NOT NULL, created_at REAL NOT NULL, due_at REAL NOT NULL, expires_at REAL NOT NULL,
    attempts INTEGER NOT NULL, state TEXT NOT NULL, result TEXT NOT NULL, PRIMARY KEY (endpoint, id)
) STRICT;
CREATE INDEX outbox_pending ON outbox (endpoint, due_at) WHERE state = 'pending';
CREATE INDEX outbox_by_person ON outbox (endpoint, person, created_at, id) WHERE state = 'pending';
CREATE INDEX outbox_by_time ON outbox (created_at);
CREATE INDEX outbox_by_end ON outbox (expires_at);
CREATE TABLE signing_keys (
    slot TEXT PRIMARY KEY, id TEXT NOT NULL, algorithm TEXT NOT NULL, sealed TEXT NOT NULL,
    created_at REAL NOT NULL, signs_from REAL NOT NULL, signs_until REAL NOT NULL, expires_at REAL NOT NULL
) STRICT;
ALTER TABLE users ADD COLUMN remark TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN admin INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN browser TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN system TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN agreed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tickets ADD COLUMN browser_hash BLOB NOT NULL DEFAULT x'';
ALTER TABLE tickets ADD COLUMN agreed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tickets ADD COLUMN scanned_at REAL NOT NULL DEFAULT 0;
ALTER TABLE logins ADD COLUMN expires_at REAL NOT NULL DEFAULT 9e15;
CREATE INDEX logins_by_end ON logins (expires_at);
CREATE TABLE audit (
    id TEXT PRIMARY KEY, at REAL NOT NULL, admin_id TEXT NOT NULL, action TEXT NOT NULL,
    target TEXT NOT NULL, detail TEXT NOT NULL, address TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_time ON audit (at, id);
CREATE TABLE known_browsers (
    token_hash BLOB NOT NULL, user_id TEXT NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (token_hash, user_id)
) STRICT;
CREATE INDEX known_browsers_by_user ON known_browsers (user_id);
CREATE INDEX known_browsers_by_end ON known_browsers (expires_at);
""",
    """
ALTER TABLE tickets ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tickets ADD COLUMN wrong_numbers INTEGER NOT NULL DEFAULT 0;
CREATE INDEX sessions_alive ON sessions (expires_at) WHERE revoked = 0;
DROP INDEX logins_by_time;
CREATE INDEX logins_by_time ON logins (at, method, result);
""",
)
SCHEMA_VERSION = len(_VERSIONS)

log = logging.getLogger("saoma.storage")


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Makes the tables of a new file, and adds to an older one, of which a copy is kept beside it.

    Raises StoreTooNew where the schema is newer than ours, sqlite3.Error and OSError; then nothing is
    changed.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreTooNew(f"{path} has schema version {version}; this saoma knows version {SCHEMA_VERSION}.")
    if version == SCHEMA_VERSION:
        return
    kept = _keep_copy(connection, path, version) if version else None
    connection.execute("BEGIN IMMEDIATE")
    for addition in _VERSIONS[version:]:
        for statement in filter(str.strip, addition.split(";")):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
    if kept is not None:
        log.info("%s now has schema version %d; as it was, it is kept as %s", path, SCHEMA_VERSION, kept)


def _keep_copy(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """Where the file's copy is, whole and on the disk; no earlier copy is overwritten."""
    name = f"{path.name}.v{version}-backup"
    fresh = path.with_name(f"{name}.part")
    fresh.unlink(missing_ok=True)  # of a start that was killed
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(sqlite3.connect(fresh)) as copy:
            copy.execute("PRAGMA journal_mode = OFF")  # no file beside it: half a copy is thrown away
            connection.backup(copy)
        _flush(fresh)
        for number in itertools.count(1):
            kept = path.with_name(name if number == 1 else f"{name}.{number}")
            if not os.path.lexists(kept):
                fresh.rename(kept)
                _flush(path.parent)
                break
            if filecmp.cmp(fresh, kept, shallow=False):  # of a start that was killed a little later
                break
        return kept
    finally:
        fresh.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
