"""The states of features over events in SQLite's hot state: in a transaction of the caller's, and in bulk."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta

import msgspec

from decisioning.errors import StoreError
from decisioning.event_state import KeptStates
from decisioning.state_change import StateChange
from storage.hot_state.schema import connect, transaction
from storage.hot_state.states import IN_USE, Replay
from storage.instants import to_microseconds
from storage.settings import Settings

_READ = """
SELECT customer_id, state FROM event_states
WHERE domain = ?1 AND digest = ?2 AND customer_id IN (SELECT value FROM json_each(?3))
"""
_WRITE = """
INSERT INTO event_states VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET ends = excluded.ends, state = excluded.state
"""
_PURGE = (
    "DELETE FROM event_states WHERE rowid IN (SELECT rowid FROM event_states WHERE ends <= ? ORDER BY ends LIMIT 8)"
)
_REPLAYED = "SELECT upto, complete FROM replays WHERE (domain, digest) = (?, ?)"
_NOTE = """
INSERT INTO replays VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET upto = excluded.upto, complete = excluded.complete, used_at = excluded.used_at
"""
_DROP = (
    "DELETE FROM event_states WHERE rowid IN (SELECT rowid FROM event_states WHERE (domain, digest) = (?, ?) LIMIT ?)"
)
# A commit of so many holds the lock for a few milliseconds; then others have as long.
UNITS_PER_COMMIT = 100
DROPPED_PER_COMMIT = 500
PAUSE_BETWEEN_COMMITS = timedelta(milliseconds=5)


def read_states(connection: sqlite3.Connection, domain: str, digest: str, units: Sequence[str]) -> KeptStates:
    """The states of these ids, and whether they hold all that happened."""
    found = connection.execute(_READ, (domain, digest, msgspec.json.encode(units).decode()))
    by_unit = dict(found.fetchall())
    return KeptStates(replayed(connection, domain, digest).complete, by_unit)


def change_states(connection: sqlite3.Connection, domain: str, change: StateChange, units: Sequence[str]) -> None:
    """Add the events of these ids to their states; again, or in another order, the result is the same."""
    before = dict(connection.execute(_READ, (domain, change.digest, msgspec.json.encode(units).decode())).fetchall())
    new = ((unit, change.of(unit, before.get(unit))) for unit in units)
    rows = [
        (domain, change.digest, unit, None if state.ends is None else to_microseconds(state.ends), state.blob)
        for unit, state in new
        if state is not None
    ]
    connection.executemany(_WRITE, rows)


def purge_states(connection: sqlite3.Connection, *, now: datetime) -> None:
    """Forget a few states of which nothing is left."""
    connection.execute(_PURGE, (to_microseconds(now),))


def replayed(connection: sqlite3.Connection, domain: str, digest: str) -> Replay:
    """How far the ledger's events are in these states."""
    row = connection.execute(_REPLAYED, (domain, digest)).fetchone()
    return Replay() if row is None else Replay(row[0], bool(row[1]))


class SqliteStates:
    """See `states.BulkStates`: in many short transactions, so that answers need not wait."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is opened yet."""
        self._path = settings.hot_path
        self._domain = settings.domain

    def change(self, change: StateChange) -> None:
        """See `BulkStates`."""
        with self._connection() as connection:
            for start in range(0, len(change.units), UNITS_PER_COMMIT):
                with transaction(connection):
                    change_states(connection, self._domain, change, change.units[start : start + UNITS_PER_COMMIT])
                time.sleep(PAUSE_BETWEEN_COMMITS.total_seconds())

    def replayed(self, digest: str) -> Replay:
        """See `BulkStates`."""
        with self._connection() as connection:
            return replayed(connection, self._domain, digest)

    def note_replayed(self, digest: str, replay: Replay, *, now: datetime) -> None:
        """See `BulkStates`."""
        with self._connection() as connection:
            connection.execute(_NOTE, (self._domain, digest, replay.upto, replay.complete, to_microseconds(now)))

    def say_in_use(self, digest: str, *, now: datetime) -> None:
        """See `BulkStates`."""
        said = "UPDATE replays SET used_at = ? WHERE (domain, digest) = (?, ?)"
        with self._connection() as connection:
            connection.execute(said, (to_microseconds(now), self._domain, digest))

    def unused(self, *, now: datetime) -> list[str]:
        """See `BulkStates`."""
        asked = "SELECT digest FROM replays WHERE domain = ? AND used_at <= ?"
        with self._connection() as connection:
            found = connection.execute(asked, (self._domain, to_microseconds(now - IN_USE)))
            return [digest for (digest,) in found]

    def drop(self, digest: str) -> None:
        """See `BulkStates`."""
        with self._connection() as connection:
            # First: what is half dropped must not count as whole.
            connection.execute("DELETE FROM replays WHERE (domain, digest) = (?, ?)", (self._domain, digest))
            while connection.execute(_DROP, (self._domain, digest, DROPPED_PER_COMMIT)).rowcount == DROPPED_PER_COMMIT:
                time.sleep(PAUSE_BETWEEN_COMMITS.total_seconds())

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(connect(self._path)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise StoreError(f"hot state {self._path} cannot be used: {error}") from error
