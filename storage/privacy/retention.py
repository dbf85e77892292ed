"""What is older than it may be is deleted, in short transactions, table by table as the settings say.

Consents, preferences and links between ids stay as long as the person does, and so do pauses that hold.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, Table, and_, delete, func, select

from decisioning.identity import LINKING
from storage.hot_state.history import PAUSES
from storage.instants import to_microseconds
from storage.ledger.database import reading, writing
from storage.ledger.tables import audit, decisions, erased, events, moments, outcomes, privacy_requests
from storage.privacy.ledger_rows import PAUSE, ROWS_PER_COMMIT, kept_charges
from storage.privacy.scrubbing import emptied
from storage.settings import Settings


class Purged(NamedTuple):
    """How many rows of a table are older than `before`; None where the table has no end."""

    table: str
    days: int | None
    rows: int


class _Rule(NamedTuple):
    table: Table
    key: ColumnElement[str]
    days: Callable[[Settings], int | None]
    old: Callable[[int], ColumnElement[bool]]  # rows that go, by the time before which they are old


_RULES = (
    _Rule(
        decisions,
        decisions.c.decision_id,
        lambda settings: settings.retention_days_decisions,
        lambda before: decisions.c.decided_at < before,
    ),
    _Rule(
        outcomes,  # those that never met their decision
        outcomes.c.outcome_id,
        lambda settings: settings.retention_days_decisions,
        lambda before: and_(
            outcomes.c.received_at < before,
            ~select(decisions.c.seq)
            .where(decisions.c.decision_id == outcomes.c.decision_id)
            .correlate(outcomes)
            .exists(),
        ),
    ),
    _Rule(
        events,
        events.c.event_id,
        lambda settings: settings.retention_days_events,
        lambda before: and_(events.c.received_at < before, events.c.type.not_in(LINKING)),
    ),
    _Rule(
        moments,
        moments.c.moment_id,
        lambda settings: settings.retention_days_moments,
        lambda before: and_(moments.c.settled_at.is_not(None), moments.c.settled_at < before),
    ),
    _Rule(
        audit,
        audit.c.seq,
        lambda settings: settings.retention_days_audit,
        lambda before: and_(audit.c.at < before, audit.c.what.not_in(PAUSES)),
    ),
    _Rule(
        privacy_requests,
        privacy_requests.c.request_id,
        lambda settings: settings.retention_days_requests,
        lambda before: and_(privacy_requests.c.state == "done", privacy_requests.c.completed_at < before),
    ),
    _Rule(
        erased,
        erased.c.digest,
        lambda settings: settings.retention_days_tombstones,
        lambda before: erased.c.at < before,
    ),
)


def purge(settings: Settings, engine: Engine, *, now: datetime, dry_run: bool = False) -> list[Purged]:
    """Delete what is older than the settings allow, or with `dry_run` say how much that is.

    Raises:
        StoreError: The ledger cannot be written; what was deleted stays deleted.
    """
    done = []
    for rule in _RULES:
        days = rule.days(settings)
        rows = 0
        if days is not None:
            old = rule.old(to_microseconds(now - timedelta(days=days)))
            if "domain" in rule.table.c:
                old = and_(rule.table.c.domain == settings.domain, old)
            rows = _count(engine, rule.table, old) if dry_run else _delete(engine, settings.domain, rule, old)
        done.append(Purged(rule.table.name, days, rows))
    if not dry_run and any(each.rows for each in done):
        emptied(settings.ledger_path)
    return done


def _count(engine: Engine, table: Table, old: ColumnElement[bool]) -> int:
    with reading(engine) as connection:
        return connection.execute(select(func.count()).select_from(table).where(old)).scalar_one()


def _delete(engine: Engine, domain: str, rule: _Rule, old: ColumnElement[bool]) -> int:
    done = 0
    while True:
        with writing(engine) as connection:
            number = _delete_some(connection, domain, rule, old)
        if not number:
            return done
        done += number
        time.sleep(PAUSE.total_seconds())


def _delete_some(connection: Connection, domain: str, rule: _Rule, old: ColumnElement[bool]) -> int:
    keys = list(connection.execute(select(rule.key).where(old).limit(ROWS_PER_COMMIT)).scalars())
    if rule.table is decisions:
        these, theirs = decisions.c.decision_id.in_(keys), outcomes.c.decision_id.in_(keys)
        kept_charges(connection, domain, these, theirs)
        connection.execute(delete(outcomes).where(theirs))
    return connection.execute(delete(rule.table).where(old, rule.key.in_(keys))).rowcount if keys else 0
