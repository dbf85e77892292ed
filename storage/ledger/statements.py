"""The writer's SQL, compiled from the tables once.

Executing through SQLAlchemy costs 100 us a call, several times what SQLite needs for the row. And
the rows of a batch go in one statement: SQLite's driver gives up the interpreter's lock at every
statement, and getting it back beside a busy event loop takes up to 5 ms each time.
"""

from functools import cache

from sqlalchemy import Column, Table, bindparam, literal_column, select
from sqlalchemy.dialects import sqlite

from decisioning.outcome_types import OF_MAILBOX
from storage.ledger.tables import decisions, events, outcomes

_DIALECT = sqlite.dialect(paramstyle="qmark")

SELECT_DECISION = str(
    select(decisions.c.record, decisions.c.digest)
    .where(decisions.c.decision_id == bindparam("decision_id"))
    .compile(dialect=_DIALECT)
)

SELECT_EVENT = str(select(events.c.record).where(events.c.event_id == bindparam("event_id")).compile(dialect=_DIALECT))
SELECT_OUTCOMES = str(
    select(*outcomes.columns[1:-1])
    .where(outcomes.c.decision_id == bindparam("decision_id"))
    .order_by(outcomes.c.seq)
    .compile(dialect=_DIALECT)
)
# Parameters: domain, hashes as JSON.
SELECT_ERASED = "SELECT digest FROM erased WHERE domain = ? AND digest IN (SELECT value FROM json_each(?))"
# When each was first decided for. Parameters: domain, ids as JSON. The index has rows in the order of `seq`, so one
# is read of each, however many there are.
SELECT_MET = """
SELECT value, (SELECT decided_at FROM decisions WHERE customer_id = value AND domain = ? ORDER BY seq LIMIT 1)
FROM json_each(?)
"""
# Parameters: domain, customer, channel. The newest are enough to see whether something came through.
SELECT_OF_MAILBOX = f"""{
    select(*outcomes.columns[1:-1])
    .join(decisions, decisions.c.decision_id == outcomes.c.decision_id)
    .where(decisions.c.domain == bindparam("domain"))
    .where(decisions.c.customer_id == bindparam("customer_id"))
    .where(decisions.c.channel == bindparam("channel"))
    .where(outcomes.c.type.in_([literal_column(f"'{kind}'") for kind in OF_MAILBOX]))
    .order_by(outcomes.c.occurred_at.desc(), outcomes.c.seq.desc())
    .compile(dialect=_DIALECT)
} LIMIT 50"""


@cache
def insert_all(table: Table, rows: int) -> str:
    """Insert so many rows, or none of them if one's id is there already.

    Parameters: the columns after `seq`, row after row.
    """
    names = [column.name for column in table.columns if column.name != "seq"]
    statement = str(sqlite.insert(table).values({name: bindparam(name) for name in names}).compile(dialect=_DIALECT))
    marks = f"({', '.join('?' * len(names))})"
    return statement.replace(marks, ", ".join([marks] * rows))


@cache
def insert_new(table: Table) -> str:
    """Insert one row, unless it is there already: by its id, or by what makes it the same word; else always."""
    return insert_all(table, 1) + " ON CONFLICT DO NOTHING"


@cache
def select_digest(table: Table) -> str:
    """The digest of one decision or outcome, by its id."""
    identity = _identity(table)
    assert identity is not None
    return str(select(table.c.digest).where(identity == bindparam("id")).compile(dialect=_DIALECT))


@cache
def digest_place(table: Table) -> int | None:
    """Where the digest stands in a row without `seq`; None where rows of one id cannot differ."""
    names = [column.name for column in table.columns if column.name != "seq"]
    return names.index("digest") if "digest" in names else None


def _identity(table: Table) -> "Column[str] | None":
    return next((column for column in table.columns if column.unique), None)
