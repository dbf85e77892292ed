"""Hot state anew from the ledger: consents, what decisions showed, what outcomes said of it."""

import fcntl
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

import msgspec

from decisioning.catalog import CONTACT_MEMORY
from decisioning.errors import StoreError
from decisioning.profile import Contact
from decisioning.record import ShownSlot
from storage.hot_state.changes import (
    CONFIRMS,
    RELEASES,
    apply_outcome,
    change_consents,
    insert_contacts,
    suppresses,
)
from storage.hot_state.schema import boot_id, connect, transaction
from storage.hot_state.sqlite import PAUSE_BETWEEN_COMMITS, SqliteHotState
from storage.instants import to_microseconds
from storage.ledger.reader import LedgerReader
from storage.settings import Settings, prepare_home

Progress = Callable[[str], None]

# What was reserved this short ago may belong to a decision that is on its way to the ledger.
UNDER_WAY = timedelta(minutes=1)
JUST_ARRIVED = timedelta(hours=1)
OUTCOMES_PER_COMMIT = 200


class _Shown(msgspec.Struct):
    """What of a decision makes contacts."""

    decision_id: str
    decided_at: datetime
    expires_at: datetime
    domain: str
    customer_id: str
    channel: str
    slots: tuple[ShownSlot, ...]


def open_hot_state(settings: Settings, *, now: datetime, progress: Progress | None = None) -> SqliteHotState:
    """Hot state, rebuilt first where that is needed, else with its newest outcomes made sure of.

    Raises:
        SetupError: The state directory or the ledger cannot be used.
        StoreError: Hot state cannot be written.
    """
    if needs_rebuild(settings):
        rebuild(settings, now=now, progress=progress)
    else:
        _reapply(settings, now)
    return SqliteHotState(settings)


def _reapply(settings: Settings, now: datetime) -> None:
    """Outcomes are durable first and applied second; a process may have died in between."""
    reader = LedgerReader(settings)
    try:
        newest = reader.last_arrival(settings.domain)
        if newest is None:
            return
        since = min(now, newest) - JUST_ARRIVED
        rest = reader.addressed_outcomes(CONFIRMS | RELEASES, domain=settings.domain, received_since=since)
        with closing(connect(settings.hot_path)) as connection:
            while chunk := list(islice(rest, OUTCOMES_PER_COMMIT)):
                with transaction(connection):
                    for told in chunk:
                        apply_outcome(connection, told.domain, told.customer_id, told.outcome, told.channel)
                time.sleep(PAUSE_BETWEEN_COMMITS.total_seconds())
    except sqlite3.Error as error:
        raise StoreError(f"hot state {settings.hot_path} cannot be used: {error}") from error
    finally:
        reader.close()


def needs_rebuild(settings: Settings) -> bool:
    """Whether hot state is lost, damaged, of another schema, or from before the machine's last start."""
    if settings.hot_path.exists():
        try:
            with closing(connect(settings.hot_path)) as connection:
                return connection.execute("SELECT boot_id FROM written_since").fetchone() != (boot_id(),)
        except sqlite3.OperationalError:
            return False  # somebody else is using it
        except sqlite3.DatabaseError:
            return True
    with closing(LedgerReader(settings)) as reader:
        counts = reader.counts()
    return counts.decisions > 0 or counts.consents > 0


def rebuild(settings: Settings, *, now: datetime, progress: Progress | None = None) -> None:
    """Make hot state anew. A service that runs meanwhile sees the old one, then the new one.

    Raises:
        SetupError: The state directory or the ledger cannot be used.
        StoreError: Hot state cannot be written, or the ledger not be read.
    """
    prepare_home(settings)
    reader = LedgerReader(settings)
    # Aside: in place it would hold the lock for as long as the ledger is read, and under its own
    # name a part of it would count as whole.
    fresh = settings.hot_path.with_name("hot.db.new")
    try:
        with not_during_rebuild(settings):
            _remove(fresh)
            with closing(connect(fresh)) as connection, transaction(connection):
                _fill(connection, reader, now, progress or _silent)
            if settings.hot_path.exists() and _take_over(settings.hot_path, fresh, reader, now):
                _remove(fresh)
            else:
                _remove(settings.hot_path)
                fresh.replace(settings.hot_path)
    except sqlite3.Error as error:
        raise StoreError(f"hot state {settings.hot_path} cannot be rebuilt: {error}") from error
    finally:
        reader.close()


@contextmanager
def not_during_rebuild(settings: Settings) -> Iterator[None]:
    """Alone among processes: a change that is in the ledger but not yet in hot state would be lost."""
    with (settings.home / "hot.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _take_over(path: Path, fresh: Path, reader: LedgerReader, now: datetime) -> bool:
    """Whether the rows could be replaced under open connections; those of a damaged file cannot."""
    under_way = now - UNDER_WAY
    try:
        with closing(connect(path)) as connection:
            connection.execute("ATTACH ? AS fresh", (str(fresh),))
            with transaction(connection):
                connection.execute("DELETE FROM contacts WHERE at <= ?", (to_microseconds(under_way),))
                connection.execute("INSERT OR REPLACE INTO contacts SELECT * FROM fresh.contacts")
                connection.execute("DELETE FROM consents")
                connection.execute("INSERT INTO consents SELECT * FROM fresh.consents")
                connection.execute("DELETE FROM suppressions")
                connection.execute("INSERT INTO suppressions SELECT * FROM fresh.suppressions")
                connection.execute("UPDATE written_since SET boot_id = ?", (boot_id(),))
                for told in reader.addressed_outcomes(CONFIRMS | RELEASES, received_since=under_way):
                    apply_outcome(connection, told.domain, told.customer_id, told.outcome, told.channel)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return False
    return True


def _fill(connection: sqlite3.Connection, reader: LedgerReader, now: datetime, progress: Progress) -> None:
    oldest = now - CONTACT_MEMORY
    for domain in reader.domains_of_consents():
        change_consents(connection, domain, reader.consents(domain))
    decisions = 0
    for decision in reader.all_decisions(_Shown, since=oldest):
        for slot in decision.slots:
            contact = Contact(slot.action_id, slot.group, decision.channel, decision.decided_at)
            insert_contacts(
                connection,
                decision.domain,
                decision.customer_id,
                decision.decision_id,
                [(slot.slot, contact)],
                expires_at=None if slot.confirmed else to_microseconds(decision.expires_at),
            )
        decisions += 1
        if decisions % 10_000 == 0:
            progress(f"{decisions} decisions")
    outcomes = 0
    for told in reader.addressed_outcomes(CONFIRMS | RELEASES):
        if told.decided_at > oldest or suppresses(told.outcome):
            apply_outcome(connection, told.domain, told.customer_id, told.outcome, told.channel)
            outcomes += 1
    progress(f"hot state rebuilt from {decisions} decisions and {outcomes} outcomes")


def _remove(path: Path) -> None:
    """The database with its log: a log left behind would be taken for the next file's."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _silent(_message: str) -> None:
    """Report nothing."""
