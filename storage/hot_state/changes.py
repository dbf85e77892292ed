"""What changes SQLite's hot state, inside a transaction of the caller's: live and when it is rebuilt."""

import sqlite3
from collections.abc import Iterable

import msgspec

from decisioning.events import Happened
from decisioning.preferences import PreferencesChange
from decisioning.profile import ConsentChange, Contact, Subject
from decisioning.record import Told
from storage.hot_state.charges import millionths
from storage.hot_state.effects import LIFTS, Effect, effects_of
from storage.instants import to_microseconds

_INSERT = f"INSERT OR REPLACE INTO contacts VALUES ({', '.join('?' * 20)})"  # noqa: S608 (no text of anybody's)
# One that ran out and is confirmed late was given back to its budget: it is charged again.
_CONFIRM = """
UPDATE contacts SET state = 'confirmed', charged = budget IS NOT NULL
WHERE domain = ? AND customer_id = ? AND decision_id = ? AND action_id = ? AND state = 'reserved'
"""
_RELEASE = """
UPDATE contacts SET state = 'released', charged = FALSE
WHERE domain = ? AND customer_id = ? AND decision_id = ? AND action_id = ?
"""
_ANSWER = {
    name: f"""
UPDATE contacts SET {name} = max(coalesce({name}, ?5), ?5)
WHERE domain = ?1 AND customer_id = ?2 AND decision_id = ?3 AND action_id = ?4
"""  # noqa: S608 (names of ours)
    for name in ("clicked_at", "accepted_at", "rejected_at")
}
# The last word counts, whenever it arrives; of two at the same instant, the one that withdraws.
_CONSENT = """
INSERT INTO consents VALUES (?1, ?2, ?3, ?4, ?5, ?6, iif(?5, ?6, NULL))
ON CONFLICT DO UPDATE SET
    granted = CASE
        WHEN excluded.at > at THEN excluded.granted
        WHEN excluded.at = at THEN min(granted, excluded.granted)
        ELSE granted
    END,
    at = max(at, excluded.at),
    granted_at = max(coalesce(granted_at, excluded.granted_at), coalesce(excluded.granted_at, granted_at))
"""
# Of two at the same instant one, whichever came first.
_PREFER = """
INSERT INTO preferences VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET at = excluded.at, record = excluded.record
WHERE (excluded.at, excluded.record) > (at, record)
"""
_LATEST = "INSERT INTO {} VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET at = max(at, excluded.at)"
_SUPPRESS, _BUY, _HAPPEN = (_LATEST.format(table) for table in ("suppressions", "purchases", "events"))


def insert_contacts(
    connection: sqlite3.Connection,
    domain: str,
    subject: Subject,
    slots: Iterable[tuple[int, Contact]],
    *,
    confirmed: bool,
) -> None:
    """Count these slots as contacts: for good, or reserved until their own `until`."""
    state = "confirmed" if confirmed else "reserved"
    connection.executemany(
        _INSERT,
        [
            (
                domain,
                subject.customer_id,
                contact.decision_id,
                slot,
                subject.account_id,
                state,
                contact.budget is not None,
                millionths(contact.cost),
                contact.action_id,
                contact.group,
                contact.channel,
                to_microseconds(contact.at),
                contact.goal,
                contact.placement,
                *(
                    None if at is None else to_microseconds(at)
                    for at in (contact.until, contact.clicked_at, contact.accepted_at, contact.rejected_at)
                ),
                contact.budget,
                contact.cost,
            )
            for slot, contact in slots
        ],
    )


def apply_outcome(connection: sqlite3.Connection, domain: str, told: Told) -> None:
    """Let an outcome change contacts, consent, purchases and events."""
    for part, effect in effects_of(told):
        _apply(connection, domain, part, effect)


def _apply(connection: sqlite3.Connection, domain: str, told: Told, effect: Effect) -> None:
    customer_id, at = told.subject.customer_id, to_microseconds(told.outcome.occurred_at)
    contacts = [(domain, customer_id, *contact) for contact in told.contacts]
    if effect.state is not None:
        connection.executemany(_RELEASE if effect.state == "released" else _CONFIRM, contacts)
    if effect.answered is not None:
        connection.executemany(_ANSWER[effect.answered], [(*contact, at) for contact in contacts])
    if effect.suppresses:
        connection.execute(_SUPPRESS, (domain, customer_id, told.channel, at))
        connection.execute(_CONSENT, (domain, customer_id, LIFTS, told.channel, False, at))
    connection.executemany(_BUY, [(domain, customer_id, product, at) for product in effect.products])
    connection.executemany(_HAPPEN, [(domain, customer_id, event, at) for event in effect.events])


def note_happened(connection: sqlite3.Connection, domain: str, happened: Iterable[Happened]) -> None:
    """Let what customers did count, at its latest time; again, or in another order, changes nothing."""
    timed = [(each, to_microseconds(each.at)) for each in happened]
    connection.executemany(_HAPPEN, [(domain, each.unit, each.name, at) for each, at in timed])
    connection.executemany(_BUY, [(domain, each.unit, bought, at) for each, at in timed for bought in each.products])


def change_consents(connection: sqlite3.Connection, domain: str, changes: Iterable[ConsentChange]) -> None:
    """Let the last word of each customer, purpose and channel count."""
    connection.executemany(
        _CONSENT,
        (
            (domain, change.customer_id, change.purpose, change.channel, change.granted, to_microseconds(change.at))
            for change in changes
        ),
    )


def change_preferences(connection: sqlite3.Connection, domain: str, changes: Iterable[PreferencesChange]) -> None:
    """Let the last word of each customer count."""
    connection.executemany(
        _PREFER,
        (
            (domain, change.customer_id, to_microseconds(change.at), msgspec.json.encode(change.preferences).decode())
            for change in changes
        ),
    )


def change_pause(connection: sqlite3.Connection, domain: str, action: str, *, paused: bool) -> None:
    """Stop an action, or let it go on."""
    statement = (
        "INSERT OR IGNORE INTO paused VALUES (?, ?)" if paused else "DELETE FROM paused WHERE (domain, action) = (?, ?)"
    )
    connection.execute(statement, (domain, action))


def change_erased(connection: sqlite3.Connection, domain: str, digests: Iterable[str], *, erased: bool) -> None:
    """Let the ids of these hashes be erased, or no longer."""
    statement = (
        "INSERT OR IGNORE INTO erased VALUES (?, ?)" if erased else "DELETE FROM erased WHERE (domain, digest) = (?, ?)"
    )
    connection.executemany(statement, [(domain, digest) for digest in digests])
