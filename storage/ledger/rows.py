"""Records to rows and back. Rows are in the order of the table's columns after `seq`."""

from collections.abc import Sequence
from sys import intern
from typing import Any

import msgspec

from decisioning.errors import StoreError
from decisioning.events import EventRecord
from decisioning.moments import AwaitedMoment, decision_id_of
from decisioning.preferences import Preferences, PreferencesChange
from decisioning.profile import ConsentChange
from decisioning.record import AuditRecord, DecisionRecord, OutcomeRecord
from storage.instants import from_microseconds, to_microseconds

Row = tuple[Any, ...]

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(DecisionRecord)
_preferences_decoder = msgspec.json.Decoder(Preferences)
_event_decoder = msgspec.json.Decoder(EventRecord)


def decision_row(record: DecisionRecord, digest: str) -> Row:
    """A row of `decisions`.

    Raises:
        StoreError: The record holds something that JSON cannot.
    """
    try:
        encoded = _encoder.encode(record)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise StoreError(f"decision {record.decision_id!r} cannot be kept: {error}") from error
    return (
        record.decision_id,
        record.domain,
        record.market,
        record.customer_id,
        record.placement,
        record.channel,
        to_microseconds(record.decided_at),
        record.slots[0].action_id if record.slots else None,
        record.reason,
        record.drawn,
        record.catalog_version,
        record.model.bundle_sha256 if record.model else None,
        digest,
        encoded,
    )


def outcome_row(record: OutcomeRecord, digest: str) -> Row:
    """A row of `outcomes`."""
    return (
        record.outcome_id,
        record.decision_id,
        record.action_id,
        record.type,
        record.detail,
        record.value,
        to_microseconds(record.occurred_at),
        to_microseconds(record.received_at),
        record.source,
        digest,
    )


def event_row(event: EventRecord, domain: str, digest: str) -> Row:
    """A row of `events`.

    Raises:
        StoreError: The event holds something that JSON cannot.
    """
    try:
        encoded = _encoder.encode(event)
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise StoreError(f"event {event.event_id!r} cannot be kept: {error}") from error
    return (
        event.event_id,
        domain,
        event.source,
        event.type,
        event.name,
        event.customer_id,
        event.anonymous_id,
        event.previous_id,
        to_microseconds(event.occurred_at),
        to_microseconds(event.received_at),
        digest,
        encoded,
    )


def moment_row(awaited: AwaitedMoment, domain: str) -> Row:
    """A row of `moments` that waits until it is due.

    Raises:
        StoreError: The event holds something that JSON cannot.
    """
    try:
        encoded = _encoder.encode({"event": awaited.trigger})
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise StoreError(f"moment {awaited.moment_id} cannot be kept: {error}") from error
    due_at = to_microseconds(awaited.due_at)
    return (
        awaited.moment_id,
        domain,
        awaited.moment,
        awaited.event_id,
        awaited.customer_id,
        awaited.anonymous_id,
        awaited.market,
        awaited.channel,
        None,
        "waiting",
        None,
        to_microseconds(awaited.trigger.occurred_at),
        due_at,
        to_microseconds(awaited.ready_at),
        None,
        None,
        None,
        0,
        decision_id_of(awaited.moment_id),
        encoded,
        None,
    )


def event_of(record: bytes) -> EventRecord:
    """The event in the column `record`.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        return _event_decoder.decode(record)
    except msgspec.MsgspecError as error:
        raise StoreError(f"an event in the ledger cannot be read: {error}; restore it from a backup") from error


def decoded(record: bytes) -> DecisionRecord:
    """The decision in the column `record`.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        return _decoder.decode(record)
    except msgspec.MsgspecError as error:
        raise StoreError(f"a decision in the ledger cannot be read: {error}; restore it from a backup") from error


def outcome_of(row: Sequence[Any]) -> OutcomeRecord:
    """The outcome in a row of `outcomes`, without `seq` and `digest`."""
    # Few texts, and millions of rows: each text once.
    outcome_id, decision_id, action_id, kind, detail, value, occurred_at, received_at, source = row
    return OutcomeRecord(
        outcome_id=outcome_id,
        decision_id=decision_id,
        action_id=action_id if action_id is None else intern(action_id),
        type=intern(kind),
        detail=detail,
        value=value,
        occurred_at=from_microseconds(occurred_at),
        received_at=from_microseconds(received_at),
        source=source,
    )


def audit_row(entry: AuditRecord) -> Row:
    """A row of `audit`."""
    return to_microseconds(entry.at), entry.domain, entry.actor, entry.what, entry.subject, entry.reason


def audit_of(row: Sequence[Any]) -> AuditRecord:
    """The entry in a row of `audit`, without `seq`."""
    at, domain, actor, what, subject, reason = row
    return AuditRecord(at=from_microseconds(at), domain=domain, actor=actor, what=what, subject=subject, reason=reason)


def consent_row(change: ConsentChange, domain: str) -> Row:
    """A row of `consents`."""
    at = to_microseconds(change.at)
    word = change.purpose, change.channel, change.granted, at, change.source, change.legal_basis
    return domain, change.customer_id, *word


def preferences_row(change: PreferencesChange, domain: str) -> Row:
    """A row of `preferences`."""
    at = to_microseconds(change.at)
    return domain, change.customer_id, at, change.source, _encoder.encode(change.preferences)


def preferences_of(row: Sequence[Any]) -> PreferencesChange:
    """What a customer said, in a row of `preferences`, without `seq` and `domain`.

    Raises:
        StoreError: It cannot be read.
    """
    customer_id, at, source, record = row
    try:
        preferences = _preferences_decoder.decode(record)
    except msgspec.MsgspecError as error:
        raise StoreError(f"preferences in the ledger cannot be read: {error}; restore it from a backup") from error
    return PreferencesChange(customer_id=customer_id, preferences=preferences, at=from_microseconds(at), source=source)


def consent_of(row: Sequence[Any]) -> ConsentChange:
    """The change in a row of `consents`, without `seq` and `domain`."""
    customer_id, purpose, channel, granted, at, source, legal_basis = row
    return ConsentChange(
        customer_id=customer_id,
        purpose=purpose,
        channel=channel,
        granted=bool(granted),
        at=from_microseconds(at),
        source=source,
        legal_basis=legal_basis,
    )
