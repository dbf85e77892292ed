"""What earlier runs took in of a domain's customers: by hashes, so that a run takes what is new or changed.

One SQLite file a domain, in `ingested/` of the state directory. What is lost here costs time: everything
is then taken once more.
"""

import hashlib
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple, Self, TypeVar

import msgspec

from decisioning.errors import SetupError, StoreError
from storage.ingested import FOLDER
from storage.instants import from_microseconds, to_microseconds
from storage.settings import Settings

KEY_BYTES = 16
CACHE_KIB = 65_536  # keys are hashes, so a part touches pages all over the file
Kind = TypeVar("Kind")
Default = TypeVar("Default")
_TABLES = """
CREATE TABLE IF NOT EXISTS versions (key BLOB PRIMARY KEY, digest BLOB NOT NULL, run INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS customers (key BLOB PRIMARY KEY, newest INTEGER, consents BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, said BLOB) WITHOUT ROWID;
"""


class Known(NamedTuple):
    """What was last said of a customer, or of one at a time; `run` is the run that said it."""

    digest: bytes
    run: int


class Customer(NamedTuple):
    """The time of the newest version of a customer, and the last word on each consent."""

    newest: datetime | None
    consents: dict[str, str]


class KnownCustomers:
    """The file of one domain, held open by one run; others are refused.

    Attributes:
        run: The number of this run.
    """

    def __init__(self, settings: Settings, domain: str) -> None:
        """Create it where there is none.

        Raises:
            SetupError: Another run is at it, or it cannot be used.
        """
        folder = settings.home / FOLDER
        self._path = folder / f"customers-{domain}.db"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, timeout=0, isolation_level=None)
            # For as long as it is open nobody else can use it; the system lets go of it when the process ends.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            # What a power cut takes is taken in again: parts of the offline table go with it.
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._db.execute("BEGIN EXCLUSIVE")
            for statement in _TABLES.split(";"):
                self._db.execute(statement)
            self.run = self._note("run", int, 0) + 1
            self.note("run", self.run)
            self._db.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            said = "another run is taking in customers; wait for it" if "locked" in str(error) else str(error)
            raise SetupError(f"{self._path} cannot be used: {said}", where=str(self._path)) from error

    def begin(self) -> None:
        """From here to `commit` everything is kept, or nothing."""
        self._db.execute("BEGIN")

    def commit(self) -> None:
        """Let it stand."""
        self._db.execute("COMMIT")

    def version(self, key: bytes) -> Known | None:
        """What was last said under this key."""
        found = self._db.execute("SELECT digest, run FROM versions WHERE key = ?", (key,)).fetchone()
        return None if found is None else Known(*found)

    def note_version(self, key: bytes, digest: bytes) -> None:
        """This run says so."""
        self._db.execute("INSERT OR REPLACE INTO versions VALUES (?, ?, ?)", (key, digest, self.run))

    def customer(self, customer_id: str) -> Customer:
        """What is known of a customer."""
        key = _key_of(customer_id)
        found = self._db.execute("SELECT newest, consents FROM customers WHERE key = ?", (key,)).fetchone()
        if found is None:
            return Customer(None, {})
        consents = msgspec.json.decode(found[1], type=dict[str, str]) if found[1] else {}
        return Customer(None if found[0] is None else from_microseconds(found[0]), consents)

    def note_customer(self, customer_id: str, newest: datetime, consents: Mapping[str, str]) -> None:
        """What is known of a customer now."""
        said = msgspec.json.encode(consents) if consents else None
        row = (_key_of(customer_id), to_microseconds(newest), said)
        self._db.execute("INSERT OR REPLACE INTO customers VALUES (?, ?, ?)", row)

    def forget_versions(self) -> None:
        """Take everything once more; what customers consented to stays known."""
        self._db.execute("DELETE FROM versions")
        self._db.execute("UPDATE customers SET newest = NULL")

    def forget(self, customer_id: str) -> None:
        """Know nothing of this customer any more."""
        key = _key_of(customer_id)
        self._db.execute("DELETE FROM versions WHERE key BETWEEN ? AND ?", (key, key + b"\xff" * 9))
        self._db.execute("DELETE FROM customers WHERE key = ?", (key,))

    @property
    def parts(self) -> int:
        """How many parts of the offline table were written."""
        return self._note("parts", int, 0)

    @property
    def meaning(self) -> str:
        """The mapping of the last run."""
        return self._note("meaning", str, "")

    @property
    def timing(self) -> str:
        """Since when things are so, by the mapping of the last run."""
        return self._note("timing", str, "")

    @property
    def read_until(self) -> datetime | None:
        """Rows that were last changed before this are known."""
        return self._note("read_until", datetime, None)

    def note(self, name: str, said: object) -> None:
        """One of the above."""
        self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, msgspec.json.encode(said)))

    def count(self) -> int:
        """How many customers are known."""
        return int(self._db.execute("SELECT count(*) FROM customers").fetchone()[0])

    def close(self) -> None:
        """Let others at it; what was not committed is as if it had not been."""
        with suppress(sqlite3.Error):
            self._db.execute("ROLLBACK")
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _note(self, name: str, kind: type[Kind], default: Default) -> Kind | Default:
        found = self._db.execute("SELECT said FROM notes WHERE name = ?", (name,)).fetchone()
        return default if found is None or found[0] == b"null" else msgspec.json.decode(found[0], type=kind)


def forget_customers(settings: Settings, customer_ids: Collection[str]) -> None:
    """Know nothing of these customers any more, in any domain.

    Raises:
        StoreError: A run is taking in customers; try again when it has ended.
    """
    for path in sorted((settings.home / FOLDER).glob("customers-*.db")):
        try:
            with KnownCustomers(settings, path.stem.removeprefix("customers-")) as known:
                for customer_id in customer_ids:
                    known.forget(customer_id)
        except (SetupError, sqlite3.Error) as error:
            raise StoreError(f"{path} cannot be used: {error}") from error


def version_key(customer_id: str, at: datetime | None) -> bytes:
    """What a version is known by: those of one customer begin with the same bytes."""
    return _key_of(customer_id) + (b"" if at is None else to_microseconds(at).to_bytes(8, "big", signed=True))


def _key_of(customer_id: str) -> bytes:
    return hashlib.blake2b(customer_id.encode(), digest_size=KEY_BYTES).digest()
