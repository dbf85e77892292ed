"""Events in bulk into the ledger: beside a service that writes to it too, so in many short transactions."""

import sqlite3
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal, NamedTuple

from sqlalchemy import bindparam, select

from decisioning.errors import StoreError
from decisioning.events import EventRecord
from decisioning.moments import AwaitedMoment
from storage.ledger.checkpoint import Checkpointer
from storage.ledger.database import first_line, open_ledger, reading, writing
from storage.ledger.rows import Row, event_of, event_row, moment_row
from storage.ledger.statements import insert_all, insert_new
from storage.ledger.tables import events, moments
from storage.settings import Settings

# A commit of so many holds the lock for 5 to 20 ms, which a decision can wait for; then others have as long.
EVENTS_PER_COMMIT = 200
# For the lock, which answers take too.
PATIENCE = timedelta(seconds=30)
_KEPT = select(events.c.event_id, events.c.domain, events.c.digest, events.c.record).where(
    events.c.event_id.in_(bindparam("ids", expanding=True))
)


class Kept(NamedTuple):
    """What became of an event, and the one that stands under its id: this one, or the one told first."""

    status: Literal["accepted", "duplicate", "conflict"]
    standing: EventRecord


class BulkEvents:
    """Appends events to the domain's ledger, many in one commit; not for the event loop."""

    def __init__(self, settings: Settings) -> None:
        """Open the ledger, created or migrated first where needed.

        Raises:
            SetupError: The state directory or the file cannot be used, or is of a newer version.
        """
        self._engine = open_ledger(settings, busy_timeout=PATIENCE)
        self._domain = settings.domain
        self._checkpointer = Checkpointer(self._engine)

    def append(self, told: Sequence[tuple[EventRecord, str]], *, begun: Sequence[AwaitedMoment] = ()) -> list[Kept]:
        """Return once all are durable, each with its digest; the first event with an id stands.

        The moments that an event has `begun` are kept in the same transaction, if the event is new.

        Raises:
            StoreError: Not all could be kept; do it again.
        """
        kept: list[Kept] = []
        for start in range(0, len(told), EVENTS_PER_COMMIT):
            began = time.monotonic()
            kept += self._append(told[start : start + EVENTS_PER_COMMIT], begun)
            time.sleep(time.monotonic() - began)
        return kept

    def contains(self, event_id: str) -> bool:
        """Whether the domain has this event.

        Raises:
            StoreError: The ledger cannot be read.
        """
        query = select(events.c.seq).where(events.c.event_id == event_id, events.c.domain == self._domain)
        with reading(self._engine) as connection:
            return connection.execute(query).first() is not None

    def close(self) -> None:
        """Let go of the file."""
        self._checkpointer.close()
        self._engine.dispose()

    def _append(self, told: Sequence[tuple[EventRecord, str]], begun: Sequence[AwaitedMoment]) -> list[Kept]:
        rows = [event_row(event, self._domain, digest) for event, digest in told]
        new: list[Row] = []
        kept: list[Kept] = []
        try:
            with writing(self._engine) as connection:
                found = connection.execute(_KEPT, {"ids": [row[0] for row in rows]})
                before = {row.event_id: ((row.domain, row.digest), row.record) for row in found}
                for (event, digest), row in zip(told, rows, strict=True):
                    first = before.get(event.event_id)
                    if first is None:
                        before[event.event_id] = (self._domain, digest), row[-1]
                        new.append(row)
                        kept.append(Kept("accepted", event))
                    else:
                        again = first[0] == (self._domain, digest)
                        kept.append(Kept("duplicate" if again else "conflict", event_of(first[1])))
                if new:
                    connection.exec_driver_sql(insert_all(events, 1), new)
                    ids = {row[0] for row in new}
                    if moment_rows := [moment_row(each, self._domain) for each in begun if each.event_id in ids]:
                        connection.exec_driver_sql(insert_new(moments), moment_rows)
        except sqlite3.Error as error:  # of the driver itself
            raise StoreError(f"the ledger cannot be written: {first_line(error)}") from error
        if new:
            self._checkpointer.written()
        return kept
