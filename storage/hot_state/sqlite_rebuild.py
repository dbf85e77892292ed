"""SQLite's hot state anew from the ledger: aside first, then in place of the old rows."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from itertools import islice
from pathlib import Path

from storage.hot_state.changes import (
    apply_outcome,
    change_consents,
    change_erased,
    change_pause,
    change_preferences,
    insert_contacts,
    note_happened,
)
from storage.hot_state.history import (
    LINKS_TOGETHER,
    NEWEST_EVENTS,
    NEWEST_WORDS,
    UNDER_WAY,
    is_worth_a_rebuild,
    kept_contacts,
    kept_happened,
    kept_links,
    kept_outcomes,
    kept_pauses,
)
from storage.hot_state.schema import boot_id, connect, transaction
from storage.hot_state.sqlite import PAUSE_BETWEEN_COMMITS
from storage.hot_state.sqlite_identity import link_ids
from storage.instants import to_microseconds
from storage.ledger.reader import EVERY_WORD, LastWords, LedgerReader
from storage.settings import Settings

Progress = Callable[[str], None]
OUTCOMES_PER_COMMIT = 200


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
        return is_worth_a_rebuild(reader)


def rebuild(settings: Settings, reader: LedgerReader, *, now: datetime, progress: Progress) -> None:
    """Make it anew for every domain. A service that runs meanwhile sees the old one, then the new one."""
    # Aside: in place it would hold the lock for as long as the ledger is read, and under its own
    # name a part of it would count as whole.
    fresh = settings.hot_path.with_name("hot.db.new")
    _remove(fresh)
    said = reader.last_words()
    with closing(connect(fresh)) as connection, transaction(connection):
        _fill(connection, reader, now, progress)
    if settings.hot_path.exists() and _take_over(settings.hot_path, fresh, reader, now, said):
        _remove(fresh)
    else:
        _remove(settings.hot_path)
        fresh.replace(settings.hot_path)


def reapply(settings: Settings, reader: LedgerReader, *, now: datetime, received_since: datetime) -> None:
    """Make sure of the domain's newest outcomes, events and words of customers, and of its pauses."""
    rest = kept_outcomes(reader, now=now, domain=settings.domain, received_since=received_since)
    with closing(connect(settings.hot_path)) as connection:
        while chunk := list(islice(rest, OUTCOMES_PER_COMMIT)):
            with transaction(connection):
                for addressed in chunk:
                    apply_outcome(connection, addressed.domain, addressed.told)
            time.sleep(PAUSE_BETWEEN_COMMITS.total_seconds())
        others = kept_happened(reader, domain=settings.domain, received_since=received_since, newest=NEWEST_EVENTS)
        while chunk_of_events := list(islice(others, OUTCOMES_PER_COMMIT)):
            with transaction(connection):
                note_happened(connection, settings.domain, chunk_of_events)
            time.sleep(PAUSE_BETWEEN_COMMITS.total_seconds())
        links = kept_links(reader, domain=settings.domain, received_since=received_since, newest=NEWEST_EVENTS)
        while chunk_of_links := list(islice(links, OUTCOMES_PER_COMMIT)):
            with transaction(connection):
                link_ids(connection, settings.domain, chunk_of_links)
            time.sleep(PAUSE_BETWEEN_COMMITS.total_seconds())
        newest = reader.last_words().before(NEWEST_WORDS)
        said = reader.consents(settings.domain, after=newest.consents)
        while chunk_of_consents := list(islice(said, OUTCOMES_PER_COMMIT)):
            with transaction(connection):
                change_consents(connection, settings.domain, chunk_of_consents)
            time.sleep(PAUSE_BETWEEN_COMMITS.total_seconds())
        wished = reader.preferences(settings.domain, after=newest.preferences)
        while chunk_of_wishes := list(islice(wished, OUTCOMES_PER_COMMIT)):
            with transaction(connection):
                change_preferences(connection, settings.domain, chunk_of_wishes)
            time.sleep(PAUSE_BETWEEN_COMMITS.total_seconds())
        with transaction(connection):
            _apply_pauses(connection, reader, settings.domain)
            _apply_erased(connection, reader, settings.domain)


def _take_over(path: Path, fresh: Path, reader: LedgerReader, now: datetime, said: LastWords) -> bool:
    """Whether the rows could be replaced under open connections; those of a damaged file cannot.

    Whoever has kept a word behind `said` writes it here after this transaction, or is found in it.
    """
    under_way = now - UNDER_WAY
    try:
        with closing(connect(path)) as connection:
            connection.execute("ATTACH ? AS fresh", (str(fresh),))
            with transaction(connection):
                # First: what is replaced need not be given back one by one. It is counted anew when asked for.
                connection.execute("DELETE FROM spending")
                connection.execute("DELETE FROM contacts WHERE at <= ?", (to_microseconds(under_way),))
                connection.execute("INSERT OR REPLACE INTO contacts SELECT * FROM fresh.contacts")
                for table in ("consents", "preferences", "suppressions", "purchases", "events", "identities"):
                    connection.execute(f"DELETE FROM {table}")  # noqa: S608 (a name of ours)
                    connection.execute(f"INSERT INTO {table} SELECT * FROM fresh.{table}")  # noqa: S608
                # States of features are made whole by a replay of their own.
                connection.execute("DELETE FROM replays")
                connection.execute("UPDATE versions SET version = version + 1")
                connection.execute("UPDATE written_since SET boot_id = ?", (boot_id(),))
                for addressed in kept_outcomes(reader, now=now, received_since=under_way):
                    apply_outcome(connection, addressed.domain, addressed.told)
                for domain in reader.domains_of_events():
                    rest = kept_happened(reader, domain=domain, received_since=under_way)
                    note_happened(connection, domain, rest)
                    link_ids(connection, domain, kept_links(reader, domain=domain, received_since=under_way))
                for domain in reader.domains_of_words():
                    _apply_words(connection, reader, domain, after=said)
                _apply_pauses(connection, reader, None)
                connection.execute("DELETE FROM erased")
                _apply_erased(connection, reader, None)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return False
    return True


def _fill(connection: sqlite3.Connection, reader: LedgerReader, now: datetime, progress: Progress) -> None:
    for domain in reader.domains_of_words():
        _apply_words(connection, reader, domain)
    contacts = 0
    for kept in kept_contacts(reader, now=now):
        insert_contacts(connection, kept.domain, kept.subject, [(kept.slot, kept.contact)], confirmed=kept.confirmed)
        contacts += 1
        if contacts % 10_000 == 0:
            progress(f"{contacts} contacts")
    outcomes = 0
    for addressed in kept_outcomes(reader, now=now):
        apply_outcome(connection, addressed.domain, addressed.told)
        outcomes += 1
    for domain in reader.domains_of_events():
        note_happened(connection, domain, kept_happened(reader, domain=domain))
        links = kept_links(reader, domain=domain)
        while chunk := list(islice(links, LINKS_TOGETHER)):
            link_ids(connection, domain, chunk)
    _apply_pauses(connection, reader, None)
    _apply_erased(connection, reader, None)
    connection.execute(
        "UPDATE contacts SET charged = FALSE WHERE charged AND state = 'reserved' AND until <= ?",
        (to_microseconds(now),),
    )
    progress(f"hot state rebuilt from {contacts} contacts and {outcomes} outcomes")


def _apply_words(
    connection: sqlite3.Connection, reader: LedgerReader, domain: str, *, after: LastWords = EVERY_WORD
) -> None:
    change_consents(connection, domain, reader.consents(domain, after=after.consents))
    change_preferences(connection, domain, reader.preferences(domain, after=after.preferences))


def _apply_pauses(connection: sqlite3.Connection, reader: LedgerReader, domain: str | None) -> None:
    for owner, action in kept_pauses(reader, domain=domain):
        change_pause(connection, owner, action, paused=True)


def _apply_erased(connection: sqlite3.Connection, reader: LedgerReader, domain: str | None) -> None:
    for owner, digest in reader.erased(domain):
        change_erased(connection, owner, [digest], erased=True)


def _remove(path: Path) -> None:
    """The database with its log: a log left behind would be taken for the next file's."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
