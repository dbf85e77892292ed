"""What changes hot state, inside a transaction of the caller's: live and when it is rebuilt.

Every change can be made twice, and in any order, with the same result. So it does not matter that
an outcome comes again, or that the ledger kept outcomes in another order than they were applied.
"""

import sqlite3
from collections.abc import Iterable

from decisioning.catalog import NO_ACTION
from decisioning.profile import ConsentChange, Contact
from decisioning.record import OutcomeRecord
from storage.instants import to_microseconds

# Proofs that the customer saw it; an open may be a mail program's, a custom outcome anything.
CONFIRMS = frozenset(
    {"impression", "sent", "delivered", "click", "accept", "reject", "purchase", "complaint", "unsubscribe"}
)
RELEASES = frozenset({"not_sent", "bounce"})
WITHDRAWS = frozenset({"unsubscribe", "complaint"})

_INSERT = "INSERT OR REPLACE INTO contacts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_CONFIRM = """
UPDATE contacts SET state = 'confirmed', expires_at = NULL
WHERE customer_id = ?1 AND decision_id = ?2 AND (?3 IS NULL OR action_id = ?3) AND state = 'reserved'
"""
_RELEASE = """
UPDATE contacts SET state = 'released', expires_at = NULL
WHERE customer_id = ?1 AND decision_id = ?2 AND (?3 IS NULL OR action_id = ?3)
"""
# The last word counts, whenever it arrives; of two at the same instant, the one that withdraws.
_CONSENT = """
INSERT INTO consents VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET granted = excluded.granted, at = excluded.at
WHERE excluded.at > at OR (excluded.at = at AND excluded.granted < granted)
"""


def withdraws_consent(outcome: OutcomeRecord) -> bool:
    """Whether the customer, or their mailbox, does not want to be written to on this channel."""
    return outcome.type in WITHDRAWS or (outcome.type == "bounce" and outcome.detail == "hard")


def insert_contacts(
    connection: sqlite3.Connection,
    customer_id: str,
    decision_id: str,
    slots: Iterable[tuple[int, Contact]],
    *,
    expires_at: int | None,
) -> None:
    """Count these slots as contacts: for good without `expires_at`, else reserved until then."""
    state = "confirmed" if expires_at is None else "reserved"
    connection.executemany(
        _INSERT,
        [
            (customer_id, decision_id, slot, contact.action_id, contact.group, contact.channel,
             to_microseconds(contact.at), expires_at, state)
            for slot, contact in slots
            if contact.action_id != NO_ACTION
        ],
    )  # fmt: skip


def apply_outcome(connection: sqlite3.Connection, customer_id: str, outcome: OutcomeRecord, channel: str) -> None:
    """Confirm or release the contacts that the outcome is about, and withdraw consent where it says so."""
    contact = (customer_id, outcome.decision_id, outcome.action_id)
    if outcome.type in RELEASES:
        connection.execute(_RELEASE, contact)
    elif outcome.type in CONFIRMS and outcome.detail != "machine":
        connection.execute(_CONFIRM, contact)
    if withdraws_consent(outcome):
        connection.execute(_CONSENT, (customer_id, "marketing", channel, False, to_microseconds(outcome.occurred_at)))


def change_consents(connection: sqlite3.Connection, changes: Iterable[ConsentChange]) -> None:
    """Let the last word of each customer, purpose and channel count."""
    connection.executemany(
        _CONSENT,
        (
            (change.customer_id, change.purpose, change.channel, change.granted, to_microseconds(change.at))
            for change in changes
        ),
    )
