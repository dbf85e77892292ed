"""What changes hot state, inside a transaction of the caller's: live and when it is rebuilt.

Every change can be made twice, and in any order, with the same result. So it does not matter that
an outcome comes again, or that the ledger kept outcomes in another order than they were applied.
"""

import sqlite3
from collections.abc import Iterable

from decisioning.catalog import NO_ACTION, Purpose
from decisioning.profile import ConsentChange, Contact
from decisioning.record import OutcomeRecord
from decisioning.reward import NEVER_SEEN, PROVES_SHOWN
from storage.instants import to_microseconds

# Of a message, going out and arriving count as well: it weighs on the customer whether read or not.
CONFIRMS = PROVES_SHOWN | {"sent", "delivered"}
RELEASES = NEVER_SEEN
SUPPRESSES = frozenset({"unsubscribe", "complaint"})  # and a hard bounce
# Consent to this, given after the channel was suppressed, opens it again.
LIFTS: Purpose = "marketing"

_INSERT = "INSERT OR REPLACE INTO contacts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_CONFIRM = """
UPDATE contacts SET state = 'confirmed', expires_at = NULL
WHERE domain = ?1 AND customer_id = ?2 AND decision_id = ?3 AND (?4 IS NULL OR action_id = ?4) AND state = 'reserved'
"""
_RELEASE = """
UPDATE contacts SET state = 'released', expires_at = NULL
WHERE domain = ?1 AND customer_id = ?2 AND decision_id = ?3 AND (?4 IS NULL OR action_id = ?4)
"""
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
_SUPPRESS = """
INSERT INTO suppressions VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET at = max(at, excluded.at)
"""


def suppresses(outcome: OutcomeRecord) -> bool:
    """Whether the customer, or their mailbox, does not want to be written to on this channel.

    Every such type is among `CONFIRMS` and `RELEASES`.
    """
    return outcome.type in SUPPRESSES or (outcome.type == "bounce" and outcome.detail == "hard")


def insert_contacts(
    connection: sqlite3.Connection,
    domain: str,
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
            (domain, customer_id, decision_id, slot, contact.action_id, contact.group, contact.channel,
             to_microseconds(contact.at), expires_at, state)
            for slot, contact in slots
            if contact.action_id != NO_ACTION
        ],
    )  # fmt: skip


def apply_outcome(
    connection: sqlite3.Connection, domain: str, customer_id: str, outcome: OutcomeRecord, channel: str
) -> None:
    """Confirm or release the contacts that the outcome is about.

    Where the customer wants or gets nothing more on the channel, suppress it and withdraw consent.
    """
    contact = (domain, customer_id, outcome.decision_id, outcome.action_id)
    if outcome.type in RELEASES:
        connection.execute(_RELEASE, contact)
    elif outcome.type in CONFIRMS and outcome.detail != "machine":
        connection.execute(_CONFIRM, contact)
    if suppresses(outcome):
        at = to_microseconds(outcome.occurred_at)
        connection.execute(_SUPPRESS, (domain, customer_id, channel, at))
        connection.execute(_CONSENT, (domain, customer_id, LIFTS, channel, False, at))


def change_consents(connection: sqlite3.Connection, domain: str, changes: Iterable[ConsentChange]) -> None:
    """Let the last word of each customer, purpose and channel count."""
    connection.executemany(
        _CONSENT,
        (
            (domain, change.customer_id, change.purpose, change.channel, change.granted, to_microseconds(change.at))
            for change in changes
        ),
    )
