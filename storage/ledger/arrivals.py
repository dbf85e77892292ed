"""The ledger by arrival: what is new behind a place, and what the decisions that it touches were and are by it.

An outcome may come days after its decision, before it, or be of a reload that still is the contact of an
earlier decision. An order names no decision, and what earned it can change with each contact, outcome and link
that arrives later. Whoever keeps counts over decisions needs, for each that is touched, what it was counted
as, and what it is now.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, Table, func, select

from decisioning.record import DecisionRecord, OutcomeRecord
from decisioning.reward import credited
from storage.instants import to_microseconds
from storage.ledger.arrived_orders import Crediting, Orders, heard_behind
from storage.ledger.database import open_ledger, reading
from storage.ledger.parts import parts
from storage.ledger.rows import decoded, outcome_of
from storage.ledger.tables import decisions, events, outcomes
from storage.settings import Settings

_A_REPEAT = b'"repeats":"'  # in the JSON of a record with a slot that repeats
_DECISION = [decisions.c[name] for name in ("seq", "decision_id", "domain", "customer_id", "bundle_sha256", "record")]
Reported = Mapping[str, Sequence[tuple[int, OutcomeRecord]]]


class Place(NamedTuple):
    """How far the ledger is read: the last `seq` of decisions, of outcomes and of events."""

    decisions: int
    outcomes: int
    events: int


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
            return _end(connection)

    def before(self, since: datetime) -> Place:
        """Before the domain's first decision after a time: from there on, none of them is left out.

        Of outcomes and events it is the end, since a decision that is read comes with all that it has by then.
        """
        first = select(func.min(decisions.c.seq)).where(
            decisions.c.domain == self._domain, decisions.c.decided_at > to_microseconds(since)
        )
        with reading(self._engine) as connection:
            found, end = connection.execute(first).scalar(), _end(connection)
            return end if found is None else end._replace(decisions=found - 1)

    def behind(
        self, after: Place, *, bundle_sha256: str, crediting: Crediting, rows: int
    ) -> tuple[Place, list[Touched]]:
        """What new rows, at most so many of each kind, touch of a bundle's decisions; how far they go.

        What is reported of a reload counts for the decision that it repeats (`reward.credited`) where both
        are the same customer's. What is new of a person who ordered touches all decisions of that person.
        """
        with reading(self._engine) as connection:
            upto, met, units = self._met(connection, after, crediting, rows)
            orders = Orders(connection, self._domain, units, crediting, at=(after.events, upto.events))
            bought = _of_customers(connection, self._domain, orders.buyers, upto, since=crediting.since)
            mine = {row.seq for row in (*met, *bought) if row.bundle_sha256 == bundle_sha256}
            needed = {row.seq: row for row in (*met, *bought) if row.seq in mine or row.customer_id in orders.buyers}
            known = {seq: decoded(row.record) for seq, row in needed.items()}
            known |= _reloads(connection, self._domain, known.values(), upto)
            reported = _outcomes(connection, {record.decision_id for record in known.values()}, upto)
        then, now = (_earned(known, reported, orders, place) for place in (after, upto))
        touched = []
        for seq in sorted(mine):
            decision_id = known[seq].decision_id
            before = then.get(decision_id, []) if seq <= after.decisions else None
            touched.append(Touched(known[seq], before, now.get(decision_id, [])))
        return upto, touched

    def _met(
        self, connection: Connection, after: Place, crediting: Crediting, rows: int
    ) -> tuple[Place, list[Row[Any]], set[str]]:
        """How far new rows go, the domain's decisions that they are or name, and the ids that they concern."""
        arrived = connection.execute(_behind(decisions, after.decisions, rows)).all()
        told = connection.execute(_behind(outcomes, after.outcomes, rows)).all()
        heard, units = heard_behind(connection, self._domain, crediting, after=after.events, rows=rows)
        upto = Place(
            arrived[-1].seq if arrived else after.decisions,
            told[-1].seq if told else after.outcomes,
            heard[-1] if len(heard) == rows else _last(connection, events),
        )
        met = {row.decision_id: row for row in (*arrived, *_named(connection, {row.decision_id for row in told}, upto))}
        repeated = {
            slot.repeats
            for row in met.values()
            if _A_REPEAT in row.record
            for slot in decoded(row.record).slots
            if slot.repeats is not None
        }
        met.update((row.decision_id, row) for row in _named(connection, repeated - met.keys(), upto))
        own = [row for row in met.values() if row.domain == self._domain]
        return upto, own, units.union(row.customer_id for row in own)


def _behind(table: Table, after: int, rows: int) -> Select[Any]:
    columns = _DECISION if table is decisions else (table.c.seq, table.c.decision_id)
    return select(*columns).where(table.c.seq > after).order_by(table.c.seq).limit(rows)


def _last(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.max(table.c.seq))).scalar() or 0


def _end(connection: Connection) -> Place:
    return Place(*(_last(connection, table) for table in (decisions, outcomes, events)))


def _named(connection: Connection, ids: Iterable[str], upto: Place) -> list[Row[Any]]:
    query = select(*_DECISION).where(decisions.c.seq <= upto.decisions)
    return [row for part in parts(ids) for row in connection.execute(query.where(decisions.c.decision_id.in_(part)))]


def _of_customers(
    connection: Connection, domain: str, customers: Iterable[str], upto: Place, *, since: datetime
) -> list[Row[Any]]:
    """All decisions of these customers since."""
    c = decisions.c
    query = select(*_DECISION).where(
        c.domain == domain, c.seq <= upto.decisions, c.decided_at >= to_microseconds(since)
    )
    return [row for part in parts(customers) for row in connection.execute(query.where(c.customer_id.in_(part)))]


def _reloads(
    connection: Connection, domain: str, records: Collection[DecisionRecord], upto: Place
) -> dict[int, DecisionRecord]:
    """Decisions of these customers, since, with a slot that repeats, by their places."""
    c = decisions.c
    since = min((to_microseconds(record.decided_at) for record in records), default=0)
    query = select(c.seq, c.record).where(
        c.domain == domain,
        c.seq <= upto.decisions,
        c.decided_at >= since,
        func.instr(c.record, _A_REPEAT) > 0,
    )
    return {
        row.seq: decoded(row.record)
        for part in parts({record.customer_id for record in records})
        for row in connection.execute(query.where(c.customer_id.in_(part)))
    }


def _outcomes(connection: Connection, ids: Iterable[str], upto: Place) -> Reported:
    query = select(outcomes).where(outcomes.c.seq <= upto.outcomes).order_by(outcomes.c.seq)
    found: dict[str, list[tuple[int, OutcomeRecord]]] = defaultdict(list)
    for part in parts(ids):
        for row in connection.execute(query.where(outcomes.c.decision_id.in_(part))):
            found[row.decision_id].append((row.seq, outcome_of(row[1:-1])))
    return found


def _earned(
    known: Mapping[int, DecisionRecord], reported: Reported, orders: Orders, at: Place
) -> dict[str, list[OutcomeRecord]]:
    """Outcomes by the decision that earned them, as far as the ledger is read."""
    arrived = [record for seq, record in sorted(known.items()) if seq <= at.decisions]
    told = {
        record.decision_id: [each for seq, each in reported.get(record.decision_id, ()) if seq <= at.outcomes]
        for record in arrived
    }
    own = [record for record in arrived if all(slot.repeats_of is None for slot in record.slots)]
    return orders.credited(credited(told, own), arrived, at=at.events)
