"""Hot state in SQLite: for one machine, its processes sharing one file.

Calls are methods of a port that may go over a network, so they are coroutines; these ones do not
wait for anything but a lock: for microseconds, or for so short that the event loop can bear it.

A budget of everyone's is exact here. A reservation is charged in its own transaction and given
back when its contact is released or runs out. One that is confirmed after it ran out is charged
again, even where nothing is left by then: it was shown.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec

from decisioning.content import Budget
from decisioning.content_types import CONTACT_MEMORY
from decisioning.errors import StoreError
from decisioning.events import Happened, latest
from decisioning.identity import Link
from decisioning.preferences import PreferencesChange
from decisioning.profile import BudgetLeft, ConsentChange, HotProfile, Subject
from decisioning.record import Told
from decisioning.reservation import AlreadyClaimed, ReservationRequest, Reserved, take, with_contacts
from decisioning.state_change import StateChange
from storage.hot_state.changes import (
    apply_outcome,
    change_consents,
    change_erased,
    change_pause,
    change_preferences,
    insert_contacts,
    note_happened,
)
from storage.hot_state.charges import CHARGE_MEMORY, of_everyone, period_at, room_in, with_room
from storage.hot_state.reserving import CLAIM_KEPT, UNCONFIRMED_KEPT, is_abandoned
from storage.hot_state.schema import connect, transaction
from storage.hot_state.sqlite_identity import change_of, link_ids
from storage.hot_state.sqlite_profile import read_profile, read_version
from storage.hot_state.sqlite_states import change_states, purge_states, read_states
from storage.id_digests import id_digests
from storage.instants import from_microseconds, to_microseconds
from storage.ledger.reader import LedgerReader
from storage.settings import Settings, prepare_home

# A wait for the lock stops the whole event loop; better one fallback than everyone late.
PATIENCE = timedelta(milliseconds=50)
# A lock held for 2 ms in every 7 lets everyone in who is patient for 50.
CHANGES_PER_COMMIT = 150
PAUSE_BETWEEN_COMMITS = timedelta(milliseconds=5)
Change = TypeVar("Change")

_COUNT = """
SELECT coalesce(sum(charge), 0) FROM contacts
WHERE domain = ?1 AND budget = ?2 AND at >= ?3 AND at < ?4 AND charged
"""
_START_COUNTING = f"INSERT OR IGNORE INTO spending SELECT ?1, ?2, ?3, ?4, ({_COUNT})"
# Less what is charged, but whose time ran out and nobody has swept yet.
_SPENT = """
SELECT spent - (
    SELECT coalesce(sum(charge), 0) FROM contacts INDEXED BY charges_by_end
    WHERE domain = ?1 AND budget = ?2 AND charged AND state = 'reserved' AND until <= ?5 AND at >= ?3 AND at < ?4
)
FROM {counted}
"""
_SPENT_AS_COUNTED = _SPENT.format(
    counted="spending WHERE (domain, budget, period_begin, period_end) = (?1, ?2, ?3, ?4)"
)
_SPENT_UNCOUNTED = _SPENT.format(counted=f"({_COUNT.replace('sum(charge), 0)', 'sum(charge), 0) AS spent')})")
_SWEEP = """
UPDATE contacts SET charged = FALSE
WHERE domain = ?1 AND budget = ?2 AND charged AND state = 'reserved' AND until <= ?3
"""
# Released first, so that the version changes.
_LET_GO = """
UPDATE contacts SET state = 'released', charged = FALSE WHERE domain = ? AND customer_id = ? AND decision_id = ?
"""
_REMOVE = "DELETE FROM contacts WHERE domain = ? AND customer_id = ? AND decision_id = ?"
_PURGE_OWN = """
DELETE FROM contacts
WHERE domain = ?1 AND customer_id = ?2 AND state <> 'confirmed' AND at <= ?3 AND (until IS NULL OR until <= ?3)
"""
_PURGE_OLDEST = """
DELETE FROM contacts WHERE (domain, customer_id, decision_id, slot) IN (
    SELECT domain, customer_id, decision_id, slot FROM contacts WHERE at <= ? AND budget {} ORDER BY at LIMIT 8
)
"""
_PURGE_CONTACTS, _PURGE_CHARGES = _PURGE_OLDEST.format("IS NULL"), _PURGE_OLDEST.format("IS NOT NULL")
_PURGE_CLAIMS = """
DELETE FROM claims WHERE seq IN (SELECT seq FROM claims ORDER BY seq LIMIT 4) AND (at <= ? OR at > ?)
"""


class _Noted(NamedTuple):
    """What one caller tells, and waits for."""

    happened: Sequence[Happened]
    states: StateChange | None
    done: "asyncio.Future[None]"


def _clock() -> datetime:
    return datetime.now(UTC)


class SqliteHotState:
    """One domain's hot state, from any number of threads and processes."""

    def __init__(
        self,
        settings: Settings,
        *,
        busy_timeout: timedelta = PATIENCE,
        clock: Callable[[], datetime] = _clock,
    ) -> None:
        """Open hot state, empty where it did not exist; `rebuild.open_hot_state` fills it first.

        By `clock`, claims are stamped and judged. It also guards against a request whose own `now` is
        in the far future: by that nothing may be called old or run out that others still count.

        Raises:
            SetupError: The state directory cannot be used.
            StoreError: The file cannot be used; `nextmove state rebuild` makes it anew.
        """
        prepare_home(settings)
        self._path = settings.hot_path
        self._domain = settings.domain
        self._digests = id_digests(settings)
        self._busy_timeout = busy_timeout
        self._clock = clock
        self._ledger = LedgerReader(settings)
        self._lock = threading.Lock()
        self._open: sqlite3.Connection | None = None
        self._noted: dict[asyncio.AbstractEventLoop, list[_Noted]] = {}
        try:
            connect(self._path).close()  # creating it may take longer than a call may wait
        except sqlite3.Error as error:
            raise StoreError(f"hot state {self._path} cannot be used: {error}") from error

    @property
    def problem(self) -> str | None:
        """Nothing: a file that is lost is an error of the call that meets it."""
        return None

    async def read(
        self,
        subject: Subject,
        *,
        now: datetime,
        budgets: Sequence[Budget] = (),
        at: datetime | None = None,
        states: str | None = None,
    ) -> HotProfile:
        """All that is true of this customer, and what is left `at` a time (`now`) of budgets that are everyone's.

        `states` are those that are read too, by their digest.

        Raises:
            StoreError: Hot state cannot be read.
        """
        at = at or now
        with self._connection() as connection, transaction(connection, writes=False):
            profile = self._profile(connection, subject, now)
            if states is not None:
                units = profile.person.members if profile.person else (subject.customer_id,)
                kept = read_states(connection, self._domain, states, units)
                profile = msgspec.structs.replace(profile, states=kept)
            room = [
                room_in(budget, self._spent(connection, budget, period_of=at, now=now), now=at)
                for budget in of_everyone(budgets)
            ]
        return msgspec.structs.replace(profile, budgets=tuple(room)) if room else profile

    async def reserve(self, request: ReservationRequest) -> Reserved | AlreadyClaimed:
        """Claim the decision's id, see what is available at this instant, and take it.

        A claim of the same body that left no record within 5 s is taken over, its contacts replaced.

        Raises:
            StoreError: Hot state cannot be written; nothing was reserved.
        """
        with self._transaction() as connection:
            claimed = self._claim(connection, request)
            if claimed is not None:
                return claimed
            profile = request.seen
            # Consent may have been withdrawn, or a contact made, since the engine read it.
            if self._version(connection, request, profile) != profile.version:
                profile = self._profile(connection, request.subject, request.now)
            room = self._room(connection, request)
            profile = msgspec.structs.replace(profile, budgets=with_room(request.seen, room))
            filled = take(request, profile)
            contacts = request.new_contacts(filled)
            insert_contacts(connection, self._domain, request.subject, contacts, confirmed=request.confirmed)
            if contacts:
                version = self._version(connection, request, profile)
                profile = with_contacts(profile, [contact for _, contact in contacts], version=version)
            self._purge(connection, request)
        return Reserved(filled, profile)

    async def apply(self, told: Told) -> None:
        """Let an outcome change contacts, consent, purchases and events; again changes nothing.

        Raises:
            StoreError: Hot state cannot be written.
        """
        with self._transaction() as connection:
            apply_outcome(connection, self._domain, told)

    async def note(self, happened: Sequence[Happened], states: StateChange | None = None) -> None:
        """Let what customers did elsewhere count from the next decision on; again changes nothing.

        All that comes in one turn of the event loop is one transaction, which costs more than what is in it.

        Raises:
            StoreError: Hot state cannot be written.
        """
        loop = asyncio.get_running_loop()
        waiting = self._noted.get(loop)
        if waiting is None:
            waiting = self._noted[loop] = []
            loop.call_soon(self._write_noted, loop)
        done: asyncio.Future[None] = loop.create_future()
        waiting.append(_Noted(happened, states, done))
        await done

    def _write_noted(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = self._noted.pop(loop)
        failure = None
        try:
            with self._transaction() as connection:
                note_happened(connection, self._domain, [each for noted in waiting for each in noted.happened])
                for noted in waiting:
                    if noted.states is not None:
                        change_states(connection, self._domain, noted.states, noted.states.units)
                        purge_states(connection, now=self._clock())
        except StoreError as error:
            failure = error.message
        for _, _, done in waiting:
            if done.done():
                continue  # its caller was cancelled
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(StoreError(failure))

    async def link(self, links: Sequence[Link]) -> None:
        """Let ids be one person from the next decision on; again changes nothing.

        Raises:
            StoreError: Hot state cannot be written; tell it again.
        """
        with self._connection() as connection:
            with transaction(connection, writes=False):
                if not change_of(connection, self._domain, links).ties:
                    return  # as almost always: who logs in was known to
            with transaction(connection):
                link_ids(connection, self._domain, links)

    async def consent(self, changes: Sequence[ConsentChange]) -> None:
        """Let the last word count from the next decision on, by the time at which it was said; again changes nothing.

        Raises:
            StoreError: Hot state cannot be written.
        """
        with self._transaction() as connection:
            change_consents(connection, self._domain, changes)

    async def prefer(self, change: PreferencesChange) -> None:
        """Let the last word count from the next decision on, likewise.

        Raises:
            StoreError: Hot state cannot be written.
        """
        with self._transaction() as connection:
            change_preferences(connection, self._domain, [change])

    async def pause(self, action: str, *, paused: bool) -> None:
        """Stop an action from the next decision on, or let it go on.

        Raises:
            StoreError: Hot state cannot be written.
        """
        with self._transaction() as connection:
            change_pause(connection, self._domain, action, paused=paused)

    async def bury(self, names: Collection[str], *, erased: bool = True) -> None:
        """Let these ids be erased from the next call on, or no longer; again changes nothing.

        Raises:
            StoreError: Hot state cannot be written.
        """
        with self._transaction() as connection:
            change_erased(connection, self._domain, self._digests.by_digest(names), erased=erased)

    def set_consents(self, changes: Iterable[ConsentChange]) -> None:
        """Let the last word count, by the time at which it was said.

        In many short transactions, so that answers need not wait; for bulk work, not for the event
        loop. Again changes nothing.

        Raises:
            StoreError: Hot state cannot be written; do it again, since some changes may be missing.
        """
        self._in_parts(changes, change_consents)

    def note_in_bulk(self, happened: Iterable[Happened]) -> None:
        """What `note` does, in many short transactions; for bulk work, not for the event loop.

        Raises:
            StoreError: Hot state cannot be written; do it again, since some of it may be missing.
        """
        self._in_parts(latest(happened), note_happened)

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        with self._lock:
            self._forget()
        self._ledger.close()

    def _in_parts(
        self, changes: Iterable[Change], change: Callable[[sqlite3.Connection, str, Iterable[Change]], None]
    ) -> None:
        rest = iter(changes)
        try:
            with closing(connect(self._path)) as connection:
                while chunk := list(islice(rest, CHANGES_PER_COMMIT)):
                    with transaction(connection):
                        change(connection, self._domain, chunk)
                    time.sleep(PAUSE_BETWEEN_COMMITS.total_seconds())
        except sqlite3.Error as error:
            raise StoreError(f"hot state {self._path} cannot be used: {error}") from error

    def _claim(self, connection: sqlite3.Connection, request: ReservationRequest) -> AlreadyClaimed | None:
        # Not by the request's `now`: whoever sends it again after a crash sends the same.
        clock = self._clock()
        at = to_microseconds(clock)
        claim = connection.execute(
            "SELECT digest, at FROM claims WHERE decision_id = ?", (request.decision_id,)
        ).fetchone()
        if claim is None:
            connection.execute(
                "INSERT INTO claims (decision_id, digest, at) VALUES (?, ?, ?)",
                (request.decision_id, request.digest, at),
            )
            return None
        digest, claimed_at = claim[0], from_microseconds(claim[1])
        abandoned = is_abandoned(claimed_at, now=clock)
        if digest != request.digest or not abandoned or self._ledger.contains(request.decision_id):
            return AlreadyClaimed(digest, claimed_at)
        connection.execute("UPDATE claims SET at = ? WHERE decision_id = ?", (at, request.decision_id))
        own = (self._domain, request.subject.customer_id, request.decision_id)
        connection.execute(_LET_GO, own)
        connection.execute(_REMOVE, own)
        return None

    def _profile(self, connection: sqlite3.Connection, subject: Subject, now: datetime) -> HotProfile:
        digest = self._digests.of(subject.customer_id)
        return read_profile(connection, self._domain, subject, now, digest=digest)

    def _version(self, connection: sqlite3.Connection, request: ReservationRequest, seen: HotProfile) -> int:
        return read_version(connection, self._domain, request.subject, seen.person)

    def _room(self, connection: sqlite3.Connection, request: ReservationRequest) -> list[BudgetLeft]:
        """What is left of the budgets that candidates are charged to, at the time of the contact."""
        room = []
        swept = to_microseconds(min(request.now, self._clock()))
        for budget in of_everyone(request.budgets.values()):
            period = period_at(budget, request.at)
            if period is not None:
                connection.execute(_SWEEP, (self._domain, budget.id, swept))
                connection.execute(_START_COUNTING, (self._domain, budget.id, *period))
            spent = self._spent(connection, budget, period_of=request.at, now=request.now)
            room.append(room_in(budget, spent, now=request.at))
        return room

    def _spent(self, connection: sqlite3.Connection, budget: Budget, *, period_of: datetime, now: datetime) -> int:
        """What was charged in the period of a time, without what has run out by `now`."""
        period = period_at(budget, period_of)
        if period is None:
            return 0
        which = (self._domain, budget.id, *period, to_microseconds(now))
        found = connection.execute(_SPENT_AS_COUNTED, which).fetchone()
        (spent,) = found or connection.execute(_SPENT_UNCOUNTED, which).fetchone()
        return int(spent)

    def _purge(self, connection: sqlite3.Connection, request: ReservationRequest) -> None:
        """Forget a few rows that count no more: this customer's, and the oldest of all."""
        clock = self._clock()
        earlier = min(request.now, clock)
        unconfirmed = to_microseconds(earlier - UNCONFIRMED_KEPT)
        connection.execute(_PURGE_OWN, (self._domain, request.subject.customer_id, unconfirmed))
        connection.execute(_PURGE_CONTACTS, (to_microseconds(earlier - CONTACT_MEMORY),))
        connection.execute(_PURGE_CHARGES, (to_microseconds(earlier - CHARGE_MEMORY),))
        # One from the future (the clock was set back) would never grow old and keep all behind it.
        claims = to_microseconds(clock - CLAIM_KEPT), to_microseconds(clock + CLAIM_KEPT)
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
