"""The online posterior in SQLite's hot state."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

from decisioning.errors import StoreError
from storage.hot_state.kept_posterior import Kept, new_revision
from storage.hot_state.schema import connect, transaction
from storage.instants import to_microseconds
from storage.settings import Settings

_KEEP = "INSERT OR REPLACE INTO posteriors VALUES (?, ?, ?, ?)"
_LEASE = """
INSERT INTO posterior_leases VALUES (?1, ?2, ?3)
ON CONFLICT DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE holder = ?2 OR until <= ?4
"""


class SqlitePosterior:
    """See `posteriors.PosteriorStore`."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened yet."""
        self._path = settings.hot_path
        self._domain = settings.domain

    def revision(self) -> str | None:
        """See `PosteriorStore`."""
        with self._connection() as connection:
            return self._revision(connection)

    def kept(self) -> Kept | None:
        """See `PosteriorStore`."""
        asked = "SELECT revision, counted, fitted FROM posteriors WHERE domain = ?"
        with self._connection() as connection:
            row = connection.execute(asked, (self._domain,)).fetchone()
            return None if row is None else Kept(*row)

    def keep(self, counted: bytes, fitted: bytes, *, over: str | None) -> str | None:
        """See `PosteriorStore`."""
        revision = new_revision()
        with self._connection() as connection, transaction(connection):
            if self._revision(connection) != over:
                return None
            connection.execute(_KEEP, (self._domain, revision, counted, fitted))
        return revision

    def lease(self, holder: str, *, duration: timedelta) -> bool:
        """See `PosteriorStore`."""
        now = datetime.now(UTC)
        until = to_microseconds(now + duration)
        with self._connection() as connection:
            done = connection.execute(_LEASE, (self._domain, holder, until, to_microseconds(now)))
            return done.rowcount == 1

    def forget(self) -> None:
        """See `PosteriorStore`."""
        with self._connection() as connection:
            connection.execute("DELETE FROM posteriors WHERE domain = ?", (self._domain,))

    def _revision(self, connection: sqlite3.Connection) -> str | None:
        row = connection.execute("SELECT revision FROM posteriors WHERE domain = ?", (self._domain,)).fetchone()
        return None if row is None else str(row[0])

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(connect(self._path)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise StoreError(f"hot state {self._path} cannot be used: {error}") from error
