"""Hot state in SQLite: for one machine, its processes sharing one file.

Calls are methods of a port that may go over a network, so they are coroutines; these ones do not
wait for anything but a lock: for microseconds, or for so short that the event loop can bear it.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice

from decisioning.catalog import CONTACT_MEMORY
from decisioning.errors import StoreError
from decisioning.profile import Consent, ConsentChange, Contact, HotProfile
from decisioning.record import OutcomeRecord
from decisioning.reservation import AlreadyClaimed, ReservationRequest, take
from decisioning.slots import FilledSlot
from storage.hot_state.changes import LIFTS, apply_outcome, change_consents, insert_contacts
from storage.hot_state.schema import connect, transaction
from storage.instants import from_microseconds, to_microseconds
from storage.ledger.reader import LedgerReader
from storage.settings import Settings, prepare_home

# A wait for the lock stops the whole event loop; better one fallback than everyone late.
PATIENCE = timedelta(milliseconds=50)
# Whoever claimed an id and left no record after this long is taken for dead.
CLAIM_TIME_OUT = timedelta(seconds=5)
# By then the ledger answers for the id.
CLAIM_KEPT = timedelta(days=1)
# A reservation that ran out may still be confirmed by an outcome that comes late.
UNCONFIRMED_KEPT = timedelta(days=7)
# A lock held for 2 ms in every 7 lets everyone in who is patient for 50.
CHANGES_PER_COMMIT = 500
PAUSE_BETWEEN_COMMITS = timedelta(milliseconds=5)

_CONTACTS = """
SELECT action_id, grp, channel, at FROM contacts
WHERE domain = ?1 AND customer_id = ?2 AND at > ?3
    AND (state = 'confirmed' OR (state = 'reserved' AND expires_at > ?4))
"""
_CONSENTS = "SELECT purpose, NULL, channel, 0 FROM consents WHERE domain = ?1 AND customer_id = ?2 AND granted"
_SUPPRESSED = """
SELECT NULL, NULL, channel, 0 FROM suppressions AS s
WHERE domain = ?1 AND customer_id = ?2 AND NOT EXISTS (
    SELECT 1 FROM consents AS c
    WHERE c.domain = ?1 AND c.customer_id = ?2 AND c.purpose = ?5 AND c.channel = s.channel
        AND c.granted_at > s.at
)
"""
_PROFILE = " UNION ALL ".join((_CONTACTS, _CONSENTS, _SUPPRESSED))
_PURGE_OWN = "DELETE FROM contacts WHERE domain = ? AND customer_id = ? AND state <> 'confirmed' AND at <= ?"
_PURGE_OLDEST = """
DELETE FROM contacts WHERE (domain, customer_id, decision_id, slot) IN (
    SELECT domain, customer_id, decision_id, slot FROM contacts WHERE at <= ? ORDER BY at LIMIT 8
)
"""
_PURGE_CLAIMS = """
DELETE FROM claims WHERE seq IN (SELECT seq FROM claims ORDER BY seq LIMIT 4) AND (at <= ? OR at > ?)
"""


def _clock() -> datetime:
    return datetime.now(UTC)


class SqliteHotState:
    """One domain's consents, contacts and claims, from any number of threads and processes."""

    def __init__(
        self,
        settings: Settings,
        *,
        busy_timeout: timedelta = PATIENCE,
        clock: Callable[[], datetime] = _clock,
    ) -> None:
        """Open hot state, empty where it did not exist; `rebuild.open_hot_state` fills it first.

        `clock` only guards against the deletion of contacts that a request calls old whose own
        `now` is in the far future.

        Raises:
            SetupError: The state directory cannot be used.
            StoreError: The file cannot be used; `nextmove state rebuild` makes it anew.
        """
        prepare_home(settings)
        self._path = settings.hot_path
        self._domain = settings.domain
        self._busy_timeout = busy_timeout
        self._clock = clock
        self._ledger = LedgerReader(settings)
        self._lock = threading.Lock()
        self._open: sqlite3.Connection | None = None
        try:
            connect(self._path).close()  # creating it may take longer than a call may wait
        except sqlite3.Error as error:
            raise StoreError(f"hot state {self._path} cannot be used: {error}") from error

    async def read(self, customer_id: str, *, now: datetime) -> HotProfile:
        """Consents that are given, suppressed channels, and contacts of the last 30 days, oldest first.

        Raises:
            StoreError: Hot state cannot be read.
        """
        with self._connection() as connection:
            return self._profile(connection, customer_id, now)

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
                alive = abs(request.now - claimed_at) < CLAIM_TIME_OUT
                if digest != request.digest or alive or self._ledger.contains(request.decision_id):
                    return AlreadyClaimed(digest, claimed_at)
                connection.execute("UPDATE claims SET at = ? WHERE decision_id = ?", (at, request.decision_id))
                connection.execute(
                    "DELETE FROM contacts WHERE domain = ? AND customer_id = ? AND decision_id = ?",
                    (self._domain, request.customer_id, request.decision_id),
                )
            else:
                connection.execute(
                    "INSERT INTO claims (decision_id, digest, at) VALUES (?, ?, ?)",
                    (request.decision_id, request.digest, at),
                )
            # Anew: consent may have been withdrawn since the engine read it.
            filled = take(request, self._profile(connection, request.customer_id, request.now))
            insert_contacts(
                connection,
                self._domain,
                request.customer_id,
                request.decision_id,
                ((slot, request.candidates[taken.chosen]) for slot, taken in enumerate(filled, start=1)),
                expires_at=None if request.confirmed else to_microseconds(request.expires_at),
            )
            self._purge(connection, request)
        return filled

    async def apply(self, customer_id: str, outcome: OutcomeRecord, channel: str) -> None:
        """Let an outcome confirm or release a contact or withdraw consent; again changes nothing.

        Raises:
            StoreError: Hot state cannot be written.
        """
        with self._transaction() as connection:
            apply_outcome(connection, self._domain, customer_id, outcome, channel)

    def set_consents(self, changes: Iterable[ConsentChange]) -> None:
        """Let the last word count, by the time at which it was said.

        In many short transactions, so that answers need not wait; for bulk work, not for the event
        loop. Again changes nothing.

        Raises:
            StoreError: Hot state cannot be written; do it again, since some changes may be missing.
        """
        rest = iter(changes)
        try:
            with closing(connect(self._path)) as connection:
                while chunk := list(islice(rest, CHANGES_PER_COMMIT)):
                    with transaction(connection):
                        change_consents(connection, self._domain, chunk)
                    time.sleep(PAUSE_BETWEEN_COMMITS.total_seconds())
        except sqlite3.Error as error:
            raise StoreError(f"hot state {self._path} cannot be used: {error}") from error

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        with self._lock:
            self._forget()
        self._ledger.close()

    def _profile(self, connection: sqlite3.Connection, customer_id: str, now: datetime) -> HotProfile:
        seen_from, at = to_microseconds(now - CONTACT_MEMORY), to_microseconds(now)
        rows = connection.execute(_PROFILE, (self._domain, customer_id, seen_from, at, LIFTS)).fetchall()
        plain = [(purpose, channel) for purpose, group, channel, _ in rows if group is None]
        return HotProfile(
            consents=tuple(Consent(*given) for given in sorted(given for given in plain if given[0] is not None)),
            contacts=_contacts(row for row in rows if row[1] is not None),
            suppressed=tuple(sorted(channel for purpose, channel in plain if purpose is None)),
        )

    def _purge(self, connection: sqlite3.Connection, request: ReservationRequest) -> None:
        """Forget a few rows that count no more: this customer's, and the oldest of all."""
        clock = self._clock()
        earlier, later = min(request.now, clock), max(request.now, clock)
        unconfirmed = to_microseconds(earlier - UNCONFIRMED_KEPT)
        connection.execute(_PURGE_OWN, (self._domain, request.customer_id, unconfirmed))
        connection.execute(_PURGE_OLDEST, (to_microseconds(earlier - CONTACT_MEMORY),))
        # One from the future would never grow old and keep all behind it.
        claims = to_microseconds(earlier - CLAIM_KEPT), to_microseconds(later + CLAIM_KEPT)
        connection.execute(_PURGE_CLAIMS, claims)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection, transaction(connection):
            yield connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """The connection, alone. After a failure other than a lock the next call opens a new one."""
        with self._lock:
            try:
                if self._open is None:
                    self._open = connect(self._path, busy_timeout=self._busy_timeout)
                yield self._open
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:
                    self._forget()
                raise StoreError(f"hot state {self._path} cannot be used: {error}") from error

    def _forget(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def _contacts(rows: Iterable[tuple[str, str, str, int]]) -> tuple[Contact, ...]:
    """Oldest first; those of the same instant in the order of their decisions and slots."""
    return tuple(
        Contact(action_id, group, channel, from_microseconds(at))
        for action_id, group, channel, at in sorted(rows, key=lambda row: row[3])
    )
