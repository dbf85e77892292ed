"""The ledger by arrival: what is new behind a place, and what the decisions that it touches were and are by it.

An outcome may come days after its decision, before it, or be of a reload that still is the contact of an
earlier decision. Whoever keeps counts over decisions needs, for each that is touched, what it was counted
as, and what it is now.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, Table, func, select

from decisioning.events import PURCHASE
from decisioning.record import DecisionRecord, OutcomeRecord
from decisioning.reward import credited
from storage.instants import to_microseconds
from storage.ledger.database import open_ledger, reading
from storage.ledger.rows import decoded, outcome_of
from storage.ledger.tables import decisions, events, outcomes
from storage.settings import Settings

_NAMES_PER_QUERY = 500
_A_REPEAT = b'"repeats":"'  # in the JSON of a record with a slot that repeats


class Place(NamedTuple):
    """How far the ledger is read: the last `seq` of decisions and of outcomes."""

    decisions: int
    outcomes: int


class Touched(NamedTuple):
    """A decision with the outcomes credited to it at two places; `before` is None if it had not arrived."""

    record: DecisionRecord
    before: list[OutcomeRecord] | None
    after: list[OutcomeRecord]


class Arrivals:
    """Reads a bundle's decisions by arrival; not for the event loop. Each call raises `StoreError` where it fails."""

    def __init__(self, settings: Settings) -> None:
        """Open the ledger, created or migrated first where needed.

        Raises:
            SetupError: The state directory or the file cannot be used, or is of a newer version.
        """
        self._engine = open_ledger(settings)
        self._domain = settings.domain

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def end(self) -> Place:
        """How far the ledger goes now."""
        with reading(self._engine) as connection:
            return Place(_last(connection, decisions), _last(connection, outcomes))

    def before(self, since: datetime) -> Place:
        """Before the domain's first decision after a time: from there on, none of them is left out.

        Of outcomes it is the end, since a decision that is read comes with all that it has by then.
        """
        first = select(func.min(decisions.c.seq)).where(
            decisions.c.domain == self._domain, decisions.c.decided_at > to_microseconds(since)
        )
        with reading(self._engine) as connection:
            found = connection.execute(first).scalar()
            return Place(_last(connection, decisions) if found is None else found - 1, _last(connection, outcomes))

    def has_orders(self, since: datetime) -> bool:
        """Whether events told the domain of purchases since: orders, which need not name a decision."""
        told = select(events.c.seq).where(
            events.c.received_at > to_microseconds(since),
            events.c.domain == self._domain,
            events.c.type == "track",
            events.c.name == PURCHASE,
        )
        with reading(self._engine) as connection:
            return connection.execute(told.limit(1)).first() is not None

    def behind(self, after: Place, *, bundle_sha256: str, rows: int) -> tuple[Place, list[Touched]]:
        """What at most so many new decisions, and as many new outcomes, touch of a bundle's decisions; how far they go.

        What is reported of a reload counts for the decision that it repeats (`reward.credited`) where both
        are the same customer's.
        """
        with reading(self._engine) as connection:
            arrived = connection.execute(_behind(decisions, after.decisions, rows)).all()
            told = connection.execute(_behind(outcomes, after.outcomes, rows)).all()
            upto = Place(arrived[-1].seq if arrived else after.decisions, told[-1].seq if told else after.outcomes)
            of_told = _decisions(connection, {row.decision_id for row in told}, upto)
            met = {row.decision_id: row for row in (*arrived, *of_told)}
            repeated = {
                slot.repeats
                for row in met.values()
                if _A_REPEAT in row.record
                for slot in decoded(row.record).slots
                if slot.repeats is not None
            }
            met.update((row.decision_id, row) for row in _decisions(connection, repeated - met.keys(), upto))
            mine = [row for row in met.values() if (row.domain, row.bundle_sha256) == (self._domain, bundle_sha256)]
            records = {row.seq: decoded(row.record) for row in sorted(mine)}
            reloads = _reloads(connection, records.values(), self._domain, upto)
            reported = _outcomes(
                connection,
                {record.decision_id for record in records.values()}.union(reload.decision_id for _, reload in reloads),
                upto,
            )
        touched = []
        for seq, record in records.items():
            own = [(at, reload) for at, reload in reloads if _repeats(reload, record)]
            then, now = (_credited(record, own, reported, place) for place in (after, upto))
            touched.append(Touched(record, then if seq <= after.decisions else None, now))
        return upto, touched


def _behind(table: Table, after: int, rows: int) -> Select[Any]:
    columns = [table.c.seq, table.c.decision_id]
    if table is decisions:
        columns = [*columns, table.c.domain, table.c.bundle_sha256, table.c.record]
    return select(*columns).where(table.c.seq > after).order_by(table.c.seq).limit(rows)


def _last(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.max(table.c.seq))).scalar() or 0


def _parts(names: Iterable[str]) -> list[list[str]]:
    listed = sorted(names)
    return [listed[begin : begin + _NAMES_PER_QUERY] for begin in range(0, len(listed), _NAMES_PER_QUERY)]


def _decisions(connection: Connection, ids: Iterable[str], upto: Place) -> list[Any]:
    c = decisions.c
    query = select(c.seq, c.decision_id, c.domain, c.bundle_sha256, c.record).where(c.seq <= upto.decisions)
    return [row for part in _parts(ids) for row in connection.execute(query.where(c.decision_id.in_(part)))]


def _reloads(
    connection: Connection, records: Iterable[DecisionRecord], domain: str, upto: Place
) -> list[tuple[int, DecisionRecord]]:
    """Decisions of these customers, since, with a slot that repeats, and their places."""
    c = decisions.c
    since = min((to_microseconds(record.decided_at) for record in records), default=0)
    query = select(c.seq, c.record).where(
        c.domain == domain,
        c.seq <= upto.decisions,
        c.decided_at >= since,
        func.instr(c.record, _A_REPEAT) > 0,
    )
    return [
        (row.seq, decoded(row.record))
        for part in _parts({record.customer_id for record in records})
        for row in connection.execute(query.where(c.customer_id.in_(part)).order_by(c.seq))
    ]


def _outcomes(connection: Connection, ids: Iterable[str], upto: Place) -> dict[str, list[tuple[int, OutcomeRecord]]]:
    query = select(outcomes).where(outcomes.c.seq <= upto.outcomes).order_by(outcomes.c.seq)
    found: dict[str, list[tuple[int, OutcomeRecord]]] = defaultdict(list)
    for part in _parts(ids):
        for row in connection.execute(query.where(outcomes.c.decision_id.in_(part))):
            found[row.decision_id].append((row.seq, outcome_of(row[1:-1])))
    return found


def _repeats(reload: DecisionRecord, record: DecisionRecord) -> bool:
    same = reload.customer_id == record.customer_id
    return same and any(slot.repeats == record.decision_id for slot in reload.slots)


def _credited(
    record: DecisionRecord,
    reloads: Sequence[tuple[int, DecisionRecord]],
    reported: Mapping[str, Sequence[tuple[int, OutcomeRecord]]],
    at: Place,
) -> list[OutcomeRecord]:
    """The decision's outcomes, as far as the ledger is read."""
    known = [record, *(reload for seq, reload in reloads if seq <= at.decisions)]
    told = {
        each.decision_id: [outcome for seq, outcome in reported.get(each.decision_id, ()) if seq <= at.outcomes]
        for each in known
    }
    return credited(told, known).get(record.decision_id, [])
