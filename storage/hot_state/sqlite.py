"""Hot state in SQLite: for one machine, its processes sharing one file.

Calls are methods of a port that may go over a network, so they are coroutines; these ones do not
wait for anything but a lock, for microseconds.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from decisioning.catalog import CONTACT_MEMORY
from decisioning.errors import StoreError
from decisioning.profile import Consent, ConsentChange, Contact, HotProfile
from decisioning.record import OutcomeRecord
from decisioning.reservation import AlreadyClaimed, ReservationRequest, take
from decisioning.slots import FilledSlot
from storage.hot_state.changes import apply_outcome, change_consents, insert_contacts
from storage.hot_state.schema import BUSY_TIMEOUT, connect
from storage.instants import from_microseconds, to_microseconds
from storage.ledger.reader import LedgerReader
from storage.settings import Settings, prepare_home

# Whoever claimed an id and left no record after this long is taken for dead.
CLAIM_TIME_OUT = timedelta(seconds=5)
# By then the ledger answers for the id.
CLAIM_KEPT = timedelta(days=1)
# A reservation that ran out may still be confirmed by an outcome that comes late.
UNCONFIRMED_KEPT = timedelta(days=7)

_CONTACTS = """
SELECT action_id, grp, channel, at FROM contacts
WHERE customer_id = ?1 AND at > ?2 AND (state = 'confirmed' OR (state = 'reserved' AND expires_at > ?3))
"""
_CONSENTS = "SELECT purpose, NULL, channel, 0 FROM consents WHERE customer_id = ?1 AND granted"
_PROFILE = " UNION ALL ".join((_CONTACTS, _CONSENTS))
_PURGE_CONTACTS = """
DELETE FROM contacts WHERE customer_id = ? AND (at <= ? OR (state <> 'confirmed' AND at <= ?))
"""
_PURGE_CLAIMS = "DELETE FROM claims WHERE seq IN (SELECT seq FROM claims ORDER BY seq LIMIT 4) AND at <= ?"


class SqliteHotState:
    """Consents, contacts and claims, from any number of threads and processes."""

    def __init__(self, settings: Settings, *, busy_timeout: timedelta = BUSY_TIMEOUT) -> None:
        """Open hot state, empty where it did not exist; `rebuild.open_hot_state` fills it first.

        Raises:
            SetupError: The state directory cannot be used.
            StoreError: The file cannot be used; `nextmove state rebuild` makes it anew.
        """
        prepare_home(settings)
        self._path = settings.hot_path
        self._busy_timeout = busy_timeout
        self._ledger = LedgerReader(settings)
        self._lock = threading.Lock()
        self._open: sqlite3.Connection | None = None
        with self._connection():
            pass

    async def read(self, customer_id: str, *, now: datetime) -> HotProfile:
        """Consents that are given, and contacts of the last 30 days, oldest first.

        Raises:
            StoreError: Hot state cannot be read.
        """
        with self._connection() as connection:
            return _profile(connection, customer_id, now)

    async def reserve(self, request: ReservationRequest) -> tuple[FilledSlot, ...] | AlreadyClaimed:
        """Claim the decision's id, see what is available at this instant, and take it.

        A claim of the same body that left no record within 5 s is taken over, its contacts replaced.

        Raises:
            StoreError: Hot state cannot be written; nothing was reserved.
        """
        at = to_microseconds(request.now)
        with self._transaction() as connection:
            claim = connection.execute(
                "SELECT digest, at FROM claims WHERE decision_id = ?", (request.decision_id,)
            ).fetchone()
            if claim is not None:
                digest, claimed_at = claim[0], from_microseconds(claim[1])
                alive = request.now - claimed_at < CLAIM_TIME_OUT
                if digest != request.digest or alive or self._ledger.contains(request.decision_id):
                    return AlreadyClaimed(digest, claimed_at)
                connection.execute("UPDATE claims SET at = ? WHERE decision_id = ?", (at, request.decision_id))
                connection.execute(
                    "DELETE FROM contacts WHERE customer_id = ? AND decision_id = ?",
                    (request.customer_id, request.decision_id),
                )
            else:
                connection.execute(
                    "INSERT INTO claims (decision_id, digest, at) VALUES (?, ?, ?)",
                    (request.decision_id, request.digest, at),
                )
            # Anew: consent may have been withdrawn since the engine read it.
            filled = take(request, _profile(connection, request.customer_id, request.now))
            insert_contacts(
                connection,
                request.customer_id,
                request.decision_id,
                ((slot, request.candidates[taken.chosen]) for slot, taken in enumerate(filled, start=1)),
                expires_at=None if request.confirmed else to_microseconds(request.expires_at),
            )
            connection.execute(
                _PURGE_CONTACTS,
                (
                    request.customer_id,
                    to_microseconds(request.now - CONTACT_MEMORY),
                    to_microseconds(request.now - UNCONFIRMED_KEPT),
                ),
            )
            connection.execute(_PURGE_CLAIMS, (to_microseconds(request.now - CLAIM_KEPT),))
        return filled

    async def apply(self, customer_id: str, outcome: OutcomeRecord, channel: str) -> None:
        """Let an outcome confirm or release a contact or withdraw consent; again changes nothing.

        Raises:
            StoreError: Hot state cannot be written.
        """
        with self._transaction() as connection:
            apply_outcome(connection, customer_id, outcome, channel)

    def set_consents(self, changes: Iterable[ConsentChange]) -> None:
        """Let the last word count, by the time at which it was said. All changes or none.

        Raises:
            StoreError: Hot state cannot be written.
        """
        with self._transaction() as connection:
            change_consents(connection, changes)

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        with self._lock:
            self._forget()
        self._ledger.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """The connection, alone. After a failure the next call opens a new one."""
        with self._lock:
            try:
                if self._open is None:
                    self._open = connect(self._path, busy_timeout=self._busy_timeout)
                yield self._open
            except sqlite3.Error as error:
                self._forget()
                raise StoreError(f"hot state {self._path} cannot be used: {error}") from error

    def _forget(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _profile(connection: sqlite3.Connection, customer_id: str, now: datetime) -> HotProfile:
    seen_from = customer_id, to_microseconds(now - CONTACT_MEMORY), to_microseconds(now)
    rows = connection.execute(_PROFILE, seen_from).fetchall()
    consents = sorted((purpose, channel) for purpose, group, channel, _ in rows if group is None)
    return HotProfile(
        consents=tuple(Consent(purpose, channel) for purpose, channel in consents),
        contacts=_contacts(row for row in rows if row[1] is not None),
    )


def _contacts(rows: Iterable[tuple[str, str, str, int]]) -> tuple[Contact, ...]:
    """Oldest first; those of the same instant in the order of their decisions and slots."""
    return tuple(
        Contact(action_id, group, channel, from_microseconds(at))
        for action_id, group, channel, at in sorted(rows, key=lambda row: row[3])
    )
