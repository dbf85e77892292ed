"""Decisions, outcomes, events, customers' words and the audit become durable, many in one commit.

One thread takes all that waits, writes it in one transaction and only then lets the callers go
on. So a commit's cost (one `fsync`) is shared by everyone who came while the one before it ran,
and no answer leaves before its record would survive a power cut.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from msgspec import json
from sqlalchemy import Table
from sqlalchemy.pool import PoolProxiedConnection

from decisioning.errors import DecisionConflict, StoreError
from decisioning.events import EventRecord
from decisioning.moments import AwaitedMoment
from decisioning.preferences import PreferencesChange
from decisioning.profile import ConsentChange
from decisioning.record import AuditRecord, DecisionRecord, OutcomeRecord
from storage.id_digests import id_digests
from storage.instants import from_microseconds
from storage.ledger.checkpoint import Checkpointer
from storage.ledger.database import BUSY_TIMEOUT, first_line, open_ledger
from storage.ledger.rows import (
    Row,
    audit_row,
    consent_row,
    decision_row,
    decoded,
    event_of,
    event_row,
    moment_row,
    outcome_of,
    outcome_row,
    preferences_row,
)
from storage.ledger.statements import (
    SELECT_DECISION,
    SELECT_ERASED,
    SELECT_EVENT,
    SELECT_MET,
    SELECT_OF_MAILBOX,
    SELECT_OUTCOMES,
    digest_place,
    insert_all,
    insert_new,
    select_digest,
)
from storage.ledger.tables import audit, consents, decisions, events, moments, outcomes, preferences
from storage.settings import Settings

Status = Literal["accepted", "duplicate", "conflict"]

ROWS_PER_COMMIT = 512  # bounds how long the first of a burst waits for the last
ROWS_PER_STATEMENT = 64
# What the driver raises for a row that it cannot take, as opposed to a database that cannot.
UNFIT_ROW = (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.DataError,
             OverflowError, TypeError, ValueError)  # fmt: skip


class _Write(NamedTuple):
    """Rows of one call, and who waits for them.

    `begun` are moments, each with the place of its event's row: kept with it, or not at all.
    """

    table: Table
    rows: list[Row]
    begun: list[tuple[int, Row]]
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[list[Status]]"


class Ledger:
    """Appends to the ledger from any event loop; several processes may do so at once."""

    def __init__(self, settings: Settings, *, busy_timeout: timedelta = BUSY_TIMEOUT) -> None:
        """Open the ledger, created or migrated first where needed.

        Raises:
            SetupError: The state directory or the file cannot be used, or is of a newer version.
        """
        self._engine = open_ledger(settings, busy_timeout=busy_timeout)
        self._domain = settings.domain
        self._digests = id_digests(settings)
        self._limit = settings.ledger_queue
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._entry = threading.Lock()  # nothing may enter the queue behind its end
        self._closed = False
        self._reader = self._engine.raw_connection()
        self._reading = threading.Lock()
        self._writer: PoolProxiedConnection | None = None
        self._checkpointer = Checkpointer(self._engine)
        self._thread = threading.Thread(target=self._run, name="nextmove-ledger", daemon=True)
        self._thread.start()

    async def append_decision(self, record: DecisionRecord, *, digest: str) -> Literal["accepted", "duplicate"]:
        """Return once the record is durable.

        A duplicate has the id and the digest of a record that is kept already, and that stands:
        `get` returns it.

        Raises:
            DecisionConflict: The id stands for another request.
            StoreError: It could not be kept.
        """
        [status] = await self._submit(decisions, [decision_row(record, digest)])
        if status == "conflict":
            raise DecisionConflict(
                f"decision_id '{record.decision_id}' was already used with another body; send a new id"
            )
        return status

    async def append_outcomes(self, records: Sequence[tuple[OutcomeRecord, str]]) -> list[Status]:
        """Return once all are durable; the first outcome with an id stands, one by one in order.

        Raises:
            StoreError: They could not be kept, none of them.
        """
        if not records:
            return []
        return await self._submit(outcomes, [outcome_row(record, digest) for record, digest in records])

    async def append_events(
        self, records: Sequence[tuple[EventRecord, str]], *, begun: Sequence[AwaitedMoment] = ()
    ) -> list[Status]:
        """Return once all are durable, each with its digest; the first event with an id stands.

        The moments that an event has `begun` are kept in the same transaction, if the event is new.

        Raises:
            StoreError: They could not be kept, none of them.
        """
        if not records:
            return []
        places = {event.event_id: place for place, (event, _) in reversed(list(enumerate(records)))} if begun else {}
        return await self._submit(
            events,
            [event_row(event, self._domain, digest) for event, digest in records],
            [(places[moment.event_id], moment_row(moment, self._domain)) for moment in begun],
        )

    async def append_consents(self, changes: Sequence[ConsentChange]) -> None:
        """Return once all are durable; the same word twice is one word.

        Raises:
            StoreError: They could not be kept, none of them.
        """
        await self._submit(consents, [consent_row(change, self._domain) for change in changes])

    async def append_preferences(self, change: PreferencesChange) -> None:
        """Return once it is durable; told twice, it is kept twice.

        Raises:
            StoreError: It could not be kept.
        """
        await self._submit(preferences, [preferences_row(change, self._domain)])

    async def append_audit(self, entry: AuditRecord) -> None:
        """Return once the entry is durable; told twice, it is kept twice.

        Raises:
            StoreError: It could not be kept.
        """
        await self._submit(audit, [audit_row(entry)])

    async def get(self, decision_id: str) -> tuple[DecisionRecord, str] | None:
        """A decision and its request's digest.

        Raises:
            StoreError: The ledger cannot be read.
        """
        rows = self._fetch(SELECT_DECISION, decision_id)
        return (decoded(rows[0][0]), rows[0][1]) if rows else None

    async def outcomes_of(self, decision_id: str) -> list[OutcomeRecord]:
        """The outcomes of one decision, known or not, in the order of arrival.

        Raises:
            StoreError: The ledger cannot be read.
        """
        return [outcome_of(row) for row in self._fetch(SELECT_OUTCOMES, decision_id)]

    async def of_mailbox(self, customer_id: str, *, channel: str) -> list[OutcomeRecord]:
        """The last 50 outcomes that tell whether what is sent there arrives, the newest first.

        Raises:
            StoreError: The ledger cannot be read.
        """
        return [outcome_of(row) for row in self._fetch(SELECT_OF_MAILBOX, self._domain, customer_id, channel)]

    async def events_of(self, event_ids: Sequence[str]) -> list[EventRecord]:
        """The events with these ids, as they were told first.

        Raises:
            StoreError: The ledger cannot be read.
        """
        return [event_of(row[0]) for event_id in event_ids for row in self._fetch(SELECT_EVENT, event_id)]

    async def met(self, units: Collection[str]) -> dict[str, datetime]:
        """When decisions were first made for these customers and visitors, of those for whom any were.

        Raises:
            StoreError: The ledger cannot be read.
        """
        rows = self._fetch(SELECT_MET, self._domain, json.encode(list(units)).decode())
        return {unit: from_microseconds(at) for unit, at in rows if at is not None}

    async def erased(self, names: Collection[str]) -> frozenset[str]:
        """Which of these ids are erased, so that nothing of them may be kept; of decisions, `decision_name`.

        Raises:
            StoreError: The ledger cannot be read.
        """
        wanted = self._digests.by_digest(names)
        rows = self._fetch(SELECT_ERASED, self._domain, json.encode(list(wanted)).decode())
        return frozenset(wanted[digest] for (digest,) in rows)

    def close(self) -> None:
        """Write what waits, then let go of the file. A second time does nothing."""
        with self._entry:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self._checkpointer.close()
        with self._reading:
            self._reader.close()
        self._engine.dispose()

    def _fetch(self, statement: str, *names: str) -> list[Row]:
        try:
            with self._reading:
                if self._closed:
                    raise StoreError("the ledger is closed")
                cursor = self._reader.cursor()
                cursor.execute(statement, names)
                return list(cursor.fetchall())
        except UnicodeEncodeError:
            return []  # half a surrogate pair: no id that was ever kept
        except sqlite3.Error as error:
            raise StoreError(f"the ledger cannot be read: {first_line(error)}") from error

    async def _submit(self, table: Table, rows: list[Row], begun: Sequence[tuple[int, Row]] = ()) -> list[Status]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[Status]] = loop.create_future()
        with self._entry:
            if self._closed:
                raise StoreError("the ledger is closed")
            if self._queue.qsize() >= self._limit:
                raise StoreError(f"{self._limit} writes wait for the ledger already; send it again later")
            self._queue.put(_Write(table, rows, list(begun), loop, done))
        return await done

    def _run(self) -> None:
        for batch in self._batches():
            _deliver(batch, self._write(batch))
            self._checkpointer.written()
        self._forget_connection()

    def _batches(self) -> Iterator[list[_Write]]:
        """All that waits, time after time, until the queue's end."""
        ended = False
        while not ended:
            batch: list[_Write] = []
            rows = 0
            while rows < ROWS_PER_COMMIT and not (batch and self._queue.empty()):
                write = self._queue.get()
                if write is None:
                    ended = True
                    break
                batch.append(write)
                rows += len(write.rows)
            if batch:
                yield batch

    def _write(self, batch: list[_Write]) -> list[list[Status] | StoreError]:
        """What became of each write; either all are committed, or those that failed left nothing."""
        try:
            connection = self._connection()
            try:
                _write_together(connection, batch)
                return [["accepted"] * len(write.rows) for write in batch]
            except UNFIT_ROW:
                pass  # one of them, or one whose id is there already; found below
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return self._write_one_by_one(connection, batch)
        except Exception as error:  # whatever it is, callers must not wait for ever
            self._forget_connection()
            failure = f"the ledger cannot be written: {first_line(error)}"
            return [StoreError(failure) for _ in batch]

    def _write_one_by_one(self, connection: sqlite3.Connection, batch: list[_Write]) -> list[list[Status] | StoreError]:
        results: list[list[Status] | StoreError] = []
        connection.execute("BEGIN IMMEDIATE")
        for write in batch:
            connection.execute("SAVEPOINT write")
            try:
                statuses = [_insert(connection, write.table, row) for row in write.rows]
                for place, row in write.begun:
                    if statuses[place] == "accepted":
                        _insert(connection, moments, row)
                results.append(statuses)
            except UNFIT_ROW as error:
                connection.execute("ROLLBACK TO write")
                results.append(StoreError(f"the record cannot be kept: {first_line(error)}"))
            connection.execute("RELEASE write")
        connection.execute("COMMIT")
        return results

    def _connection(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self._engine.raw_connection()
        connection = self._writer.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        return connection

    def _forget_connection(self) -> None:
        """After a failure the next batch starts with a new one; what was open is rolled back."""
        if self._writer is not None:
            self._writer.invalidate()
            self._writer = None


def _write_together(connection: sqlite3.Connection, batch: list[_Write]) -> None:
    """Write every row as a new one; if that fails, none of them."""
    statements = [
        (insert_all(table, len(rows)), [value for row in rows for value in row])
        for table in (decisions, outcomes, events, consents, preferences, audit)
        for rows in _chunks([row for write in batch if write.table is table for row in write.rows])
    ]
    begun = [row for write in batch for _, row in write.begun]
    statements += [(insert_all(moments, len(rows)), [v for row in rows for v in row]) for rows in _chunks(begun)]
    if len(statements) == 1:
        connection.execute(*statements[0])  # commits by itself
        return
    connection.execute("BEGIN IMMEDIATE")
    for statement in statements:
        connection.execute(*statement)
    connection.execute("COMMIT")


def _insert(connection: sqlite3.Connection, table: Table, row: Row) -> Status:
    if connection.execute(insert_new(table), row).rowcount == 1:
        return "accepted"
    place = digest_place(table)
    if place is None:
        return "duplicate"
    (stored,) = connection.execute(select_digest(table), (row[0],)).fetchone()
    return "duplicate" if stored == row[place] else "conflict"


def _chunks(rows: list[Row]) -> list[list[Row]]:
    return [rows[start : start + ROWS_PER_STATEMENT] for start in range(0, len(rows), ROWS_PER_STATEMENT)]


def _deliver(batch: list[_Write], results: list[list[Status] | StoreError]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Write, list[Status] | StoreError]]] = {}
    for write, result in zip(batch, results, strict=True):
        by_loop.setdefault(write.loop, []).append((write, result))
    for loop, settled in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle, settled)
        except RuntimeError:
            continue  # the loop was closed, so nobody waits any more


def _settle(settled: list[tuple[_Write, list[Status] | StoreError]]) -> None:
    for write, result in settled:
        if write.done.done():
            continue  # its caller was cancelled
        if isinstance(result, StoreError):
            write.done.set_exception(result)
        else:
            write.done.set_result(result)
