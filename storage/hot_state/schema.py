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

SCHEMA_VERSION = 8
# For work in bulk. What answers wait for has a patience of its own.
BUSY_TIMEOUT = timedelta(seconds=10)

# A contact is `reserved` until something proves that it was seen; only then it is for good.
# `released` is final: an e-mail that came back was never seen, whatever arrives later.
# `charged` is whether its charge is among what its budget has spent.
# `granted_at` and `suppressions.at` are the latest of their kind: which of the two is later does not
# depend on the order in which they became known.
# Of an id that a link names, `identities` has what links say (`identity.Ties`) and, where it is one person
# with others, that `Person`. A profile is another one when the person is.
# `event_states` has what features over events are computed from, by the digest of what keeps the same of
# them; `replays`, how far into the ledger's events all are in them (`states`).
# `posteriors` has what the online posterior is fitted to and what came of it (`posteriors`), and who is at it.
# `erased` has the hashes of ids (`storage.id_digests`) of which nothing may be kept.
# `spending` has a row for each period that was ever asked for, `versions` one for each customer and
# account that was ever written; triggers keep both, so that no change can forget to.
_TABLES = """
CREATE TABLE contacts (
    domain TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    decision_id TEXT NOT NULL,
    slot INTEGER NOT NULL,
    account_id TEXT,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'confirmed', 'released')),
    charged INTEGER NOT NULL,
    charge INTEGER NOT NULL,
    action_id TEXT NOT NULL,
    grp TEXT NOT NULL,
    channel TEXT NOT NULL,
    at INTEGER NOT NULL,
    goal TEXT NOT NULL,
    placement TEXT NOT NULL,
    until INTEGER,
    clicked_at INTEGER,
    accepted_at INTEGER,
    rejected_at INTEGER,
    budget TEXT,
    cost REAL NOT NULL,
    PRIMARY KEY (domain, customer_id, decision_id, slot)
) WITHOUT ROWID;
CREATE INDEX contacts_by_time ON contacts (at) WHERE budget IS NULL;
CREATE INDEX charges_by_time ON contacts (at) WHERE budget IS NOT NULL;
CREATE INDEX charges_by_budget ON contacts (domain, budget, at) WHERE charged;
CREATE INDEX charges_by_end ON contacts (domain, budget, until) WHERE charged AND state = 'reserved';
CREATE INDEX contacts_by_account ON contacts (domain, account_id, at) WHERE account_id IS NOT NULL;
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
CREATE TABLE preferences (
    domain TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (domain, customer_id)
) WITHOUT ROWID;
CREATE TABLE suppressions (
    domain TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    channel TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (domain, customer_id, channel)
) WITHOUT ROWID;
CREATE TABLE purchases (
    domain TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    product TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (domain, customer_id, product)
) WITHOUT ROWID;
CREATE TABLE events (
    domain TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    name TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (domain, customer_id, name)
) WITHOUT ROWID;
CREATE TABLE identities (
    domain TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    ties BLOB NOT NULL,
    person BLOB,
    PRIMARY KEY (domain, customer_id)
) WITHOUT ROWID;
CREATE TABLE event_states (
    domain TEXT NOT NULL,
    digest TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    ends INTEGER,
    state BLOB NOT NULL,
    PRIMARY KEY (domain, digest, customer_id)
);
CREATE INDEX event_states_by_end ON event_states (ends) WHERE ends IS NOT NULL;
CREATE TABLE replays (
    domain TEXT NOT NULL,
    digest TEXT NOT NULL,
    upto INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    PRIMARY KEY (domain, digest)
) WITHOUT ROWID;
CREATE TABLE posteriors (
    domain TEXT PRIMARY KEY,
    revision TEXT NOT NULL,
    counted BLOB NOT NULL,
    fitted BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE posterior_leases (
    domain TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE paused (
    domain TEXT NOT NULL,
    action TEXT NOT NULL,
    PRIMARY KEY (domain, action)
) WITHOUT ROWID;
CREATE TABLE spending (
    domain TEXT NOT NULL,
    budget TEXT NOT NULL,
    period_begin INTEGER NOT NULL,
    period_end INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    PRIMARY KEY (domain, budget, period_begin, period_end)
) WITHOUT ROWID;
CREATE TABLE versions (
    domain TEXT NOT NULL,
    whose TEXT NOT NULL CHECK (whose IN ('customer', 'account')),
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (domain, whose, id)
) WITHOUT ROWID;
CREATE TABLE erased (
    domain TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (domain, digest)
) WITHOUT ROWID;
CREATE TABLE claims (
    seq INTEGER PRIMARY KEY,
    decision_id TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    at INTEGER NOT NULL
);
CREATE TABLE written_since (boot_id TEXT NOT NULL);
"""

_CUSTOMER_CHANGED = """
    INSERT INTO versions VALUES (new.domain, 'customer', new.customer_id, 1)
    ON CONFLICT DO UPDATE SET version = version + 1;"""
_ACCOUNT_CHANGED = """
    INSERT INTO versions SELECT new.domain, 'account', new.account_id, 1 WHERE new.account_id IS NOT NULL
    ON CONFLICT DO UPDATE SET version = version + 1;"""


def _when(table: str, event: str, condition: str, then: str) -> str:
    name = f"{table}_{event.split()[0].lower()}_{'charge' if 'spending' in then else 'version'}"
    return f"CREATE TRIGGER {name} AFTER {event} ON {table} WHEN {condition} BEGIN {then} END"


def _spend(row: str, amount: str) -> str:
    return f"""
    UPDATE spending SET spent = spent + {amount}
    WHERE domain = {row}.domain AND budget = {row}.budget AND period_begin <= {row}.at AND {row}.at < period_end;"""  # noqa: S608 (names of ours)


_TRIGGERS = (
    _when("contacts", "INSERT", "TRUE", _CUSTOMER_CHANGED + _ACCOUNT_CHANGED),
    _when(
        "contacts",
        "UPDATE OF state, clicked_at, accepted_at, rejected_at",
        "old.state <> new.state OR old.clicked_at IS NOT new.clicked_at"
        " OR old.accepted_at IS NOT new.accepted_at OR old.rejected_at IS NOT new.rejected_at",
        _CUSTOMER_CHANGED + _ACCOUNT_CHANGED,
    ),
    _when("contacts", "INSERT", "new.charged", _spend("new", "new.charge")),
    _when(
        "contacts",
        "UPDATE OF charged",
        "old.charged <> new.charged",
        _spend("new", "(new.charged - old.charged) * new.charge"),
    ),
    # What is confirmed stays spent when its contact is forgotten.
    _when("contacts", "DELETE", "old.charged AND old.state = 'reserved'", _spend("old", "-old.charge")),
    _when("consents", "INSERT", "TRUE", _CUSTOMER_CHANGED),
    _when(
        "consents",
        "UPDATE",
        "old.granted <> new.granted OR old.granted_at IS NOT new.granted_at",
        _CUSTOMER_CHANGED,
    ),
    _when("identities", "UPDATE OF person", "old.person IS NOT new.person", _CUSTOMER_CHANGED),
    _when("preferences", "INSERT", "TRUE", _CUSTOMER_CHANGED),
    _when("preferences", "UPDATE", "old.record <> new.record", _CUSTOMER_CHANGED),
    *(
        trigger
        for table in ("suppressions", "purchases", "events")
        for trigger in (
            _when(table, "INSERT", "TRUE", _CUSTOMER_CHANGED),
            _when(table, "UPDATE", "old.at <> new.at", _CUSTOMER_CHANGED),
        )
    ),
)


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
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is gone from the file
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
def transaction(connection: sqlite3.Connection, *, writes: bool = True) -> Iterator[None]:
    """A transaction that leaves all or nothing; one that only reads sees one instant and waits for nobody."""
    connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
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
        for statement in (*_TABLES.split(";\n"), *_TRIGGERS):
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
