"""The tables of SQLite's hot state, and how it is opened.

Everything here can be rebuilt from the ledger, so a commit does not wait for the disk. A process
that dies loses nothing by that; a machine that does may, so the file notes since which start of the
machine it is written. A file of another schema is not migrated but rebuilt.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

SCHEMA_VERSION = 2
# For work in bulk. What answers wait for has a patience of its own.
BUSY_TIMEOUT = timedelta(seconds=10)

# A contact is `reserved` until something proves that it was seen; only then it is for good.
# `released` is final: an e-mail that came back was never seen, whatever arrives later.
# `granted_at` and `suppressions.at` are the latest of their kind: which of the two is later does not
# depend on the order in which they became known.
SCHEMA = """
CREATE TABLE contacts (
    domain TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    decision_id TEXT NOT NULL,
    slot INTEGER NOT NULL,
    action_id TEXT NOT NULL,
    grp TEXT NOT NULL,
    channel TEXT NOT NULL,
    at INTEGER NOT NULL,
    expires_at INTEGER,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'confirmed', 'released')),
    PRIMARY KEY (domain, customer_id, decision_id, slot)
) WITHOUT ROWID;
CREATE INDEX contacts_by_time ON contacts (at);
CREATE TABLE consents (
    domain TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    purpose TEXT NOT NULL,
    channel TEXT NOT NULL,
    granted INTEGER NOT NULL,
    at INTEGER NOT NULL,
    granted_at INTEGER,
    PRIMARY KEY (domain, customer_id, purpose, channel)
) WITHOUT ROWID;
CREATE TABLE suppressions (
    domain TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    channel TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (domain, customer_id, channel)
) WITHOUT ROWID;
CREATE TABLE claims (
    seq INTEGER PRIMARY KEY,
    decision_id TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    at INTEGER NOT NULL
);
CREATE TABLE written_since (boot_id TEXT NOT NULL);
"""


def connect(path: Path, *, busy_timeout: timedelta = BUSY_TIMEOUT) -> sqlite3.Connection:
    """A connection whose transactions are begun by hand, on a file that may be new.

    Raises:
        sqlite3.Error: The file cannot be opened, or is no hot state of this version.
    """
    connection = sqlite3.connect(
        path, timeout=busy_timeout.total_seconds(), isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        if _version(connection) == 0:
            _create(connection)
        if _version(connection) != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(
                f"hot state has schema {_version(connection)}, this version uses {SCHEMA_VERSION}"
            )
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that leaves all or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _create(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        if _version(connection) != 0:
            return  # somebody was faster
        for statement in SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute("INSERT INTO written_since VALUES (?)", (boot_id(),))
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def boot_id() -> str:
    """Which start of the machine this is; empty where the system does not tell."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""
