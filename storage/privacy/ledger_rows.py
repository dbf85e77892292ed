"""What the ledger holds on a person: found by every id of theirs, shown, and erased.

Deleting goes in short transactions: decisions are recorded in between. `secure_delete` overwrites what is
deleted; `scrubbing` then empties the write-ahead log, which still has it.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, Row, Table, and_, delete, func, insert, or_, select, update
from sqlalchemy.dialects import sqlite

from decisioning.erased import visitor_ids, without_erased, without_mentions
from decisioning.identity import LINKING, visitor
from storage.id_digests import IdDigests, decision_name
from storage.ledger.database import reading, writing
from storage.ledger.rows import decoded, event_of
from storage.ledger.tables import (
    audit,
    consents,
    decisions,
    erased,
    erased_charges,
    events,
    moments,
    outcomes,
    preferences,
)
from storage.privacy.charges import Said, charges_of

ROWS_PER_COMMIT = 100
ROWS_PER_LOOK = 2_000
# As long as a commit took, others have their turn.
PAUSE = timedelta(milliseconds=5)
NOBODY = "(erased)"
Found = dict[str, Any]

# Columns in which an id may stand. A test holds this against the tables: a new column must be here or below.
HOLDS_IDS = {
    "decisions": {"decision_id", "customer_id", "digest", "record"},
    "outcomes": {"outcome_id", "decision_id", "digest"},
    "consents": {"customer_id", "source", "legal_basis"},
    "events": {"event_id", "customer_id", "anonymous_id", "previous_id", "digest", "record"},
    "preferences": {"customer_id", "source", "record"},
    "moments": {"moment_id", "event_id", "customer_id", "anonymous_id", "decision_id", "record"},
    "audit": {"subject"},
    "privacy_requests": {"subject"},
}
# Columns of texts and bytes that say nothing of a customer.
HOLDS_NONE = {
    "decisions": {
        "domain", "market", "placement", "channel", "action_id", "reason", "catalog_version", "bundle_sha256",
    },
    "outcomes": {"action_id", "type", "detail", "source"},
    "consents": {"domain", "purpose", "channel"},
    "events": {"domain", "source", "type", "name"},
    "preferences": {"domain"},
    "moments": {"domain", "moment", "market", "channel", "target", "state", "reason"},
    "audit": {"domain", "actor", "what", "reason"},
    "keys": {"key_id", "name", "sha256", "scopes", "market"},
    "privacy_requests": {"request_id", "domain", "kind", "state", "record"},
    "erased": {"domain", "digest"},
    "erased_charges": {"domain", "budget"},
    "feed_counts": {"domain", "source", "name", "what"},
    "audience_sizes": {"domain", "market", "kind", "id"},
    "blobs": {"sha256", "content"},
    "pointers": {"name", "sha256", "reason"},
    "gate_attempts": {"domain", "outcome", "bundle_sha256", "champion_sha256", "record"},
    "leases": {"name", "holder"},
}  # fmt: skip


class LedgerRows:
    """The rows of one person, by all their ids (`units`), in one domain."""

    def __init__(self, engine: Engine, domain: str, units: Collection[str]) -> None:
        """Nothing is read yet."""
        self._engine = engine
        self._domain = domain
        self._units = sorted(units)
        self._visitors = visitor_ids(units)
        names = {*units, *self._visitors}
        self._needles = sorted(msgspec.json.encode(name) for name in names)

    def parts(self) -> Iterator[tuple[str, Iterator[Found]]]:
        """Everything, table by table, as an export shows it."""
        ids: list[str] = []

        def its_decisions() -> Iterator[Found]:
            for row in self._rows(decisions, self._own(decisions)):
                ids.append(row.decision_id)
                yield _shown(row)

        def its_outcomes() -> Iterator[Found]:
            for start in range(0, len(ids), ROWS_PER_LOOK):
                chunk = outcomes.c.decision_id.in_(ids[start : start + ROWS_PER_LOOK])
                yield from (_shown(row) for row in self._rows(outcomes, chunk))

        yield "decisions", its_decisions()
        yield "outcomes", its_outcomes()
        for table in (consents, preferences):
            yield table.name, (_shown(row) for row in self._rows(table, self._own(table)))
        theirs = (self._rows(events, condition) for condition in (self._own(events), self._of_visitors()))
        yield "events", (_shown(row) for rows in theirs for row in rows)
        yield "moments", (_shown(row) for row in self._fetch(select(moments).where(self._of_moments())))
        yield "audit", (_shown(row) for row in self._rows(audit, self._of_audit()))

    def decision_ids(self) -> list[str]:
        """Their decisions."""
        return [row.decision_id for row in self._fetch(select(decisions.c.decision_id).where(self._own(decisions)))]

    def linked(self) -> set[str]:
        """Other ids that links name together with these: what is kept of them may name these in turn."""
        found: set[str] = set()
        for row in self._naming(events):
            if row.type not in LINKING:
                continue
            event = event_of(row.record)
            found |= {event.unit, *(visitor(name) for name in (event.anonymous_id, event.previous_id) if name)}
            if event.previous_id is not None:
                found.add(event.previous_id)
        return found - set(self._units)

    def erase(
        self, digests: IdDigests, *, at: int, naming: Collection[str], reached: Callable[[str], None]
    ) -> Counter[str]:
        """Delete all of it, and how many rows there were; again finds nothing.

        `at` is when it was asked for. `naming` are features that name customers. `reached` is called after each
        transaction.
        """
        done: Counter[str] = Counter()
        few = select(decisions.c.decision_id).where(self._own(decisions)).limit(ROWS_PER_COMMIT)
        while ids := [row.decision_id for row in self._fetch(few)]:
            done += self._drop_decisions(ids, digests, at)
            reached("decisions")
        for table in (consents, preferences, events):
            done += self._drop(table, self._own(table), reached)
        done += self._drop(events, self._of_visitors(), reached)
        done += self._edit_events(reached)
        done += self._edit_decisions(digests, at, naming, reached)
        with writing(self._engine) as connection:
            done["moments"] += connection.execute(delete(moments).where(self._of_moments())).rowcount
            changed = connection.execute(update(audit).where(self._of_audit()).values(subject=NOBODY))
            done["audit"] = changed.rowcount
        reached("moments")
        done["outcomes"] += self._drop_late_outcomes(digests, since=at)
        return +done

    def _own(self, table: Table) -> ColumnElement[bool]:
        return and_(table.c.domain == self._domain, table.c.customer_id.in_(self._units))

    def _of_visitors(self) -> ColumnElement[bool]:
        # Apart from `_own`: of an OR of the two SQLite makes one search of all that the domain has.
        alone = and_(events.c.anonymous_id.in_(self._visitors), events.c.customer_id.is_(None))
        return and_(events.c.domain == self._domain, alone)

    def _of_moments(self) -> ColumnElement[bool]:
        theirs = or_(moments.c.customer_id.in_(self._units), moments.c.anonymous_id.in_(self._visitors))
        return and_(moments.c.domain == self._domain, theirs)

    def _of_audit(self) -> ColumnElement[bool]:
        return and_(audit.c.domain == self._domain, audit.c.what.like("customer.%"), audit.c.subject.in_(self._units))

    def _naming(self, table: Table) -> Iterator[Row[Any]]:
        """Rows whose record has one of the ids as a text of its own; a look at all there are, part by part."""
        named = or_(*(func.instr(table.c.record, each) > 0 for each in self._needles))
        query = select(table).where(table.c.domain.concat("") == self._domain, named).order_by(table.c.seq)
        [(end,)] = self._fetch(select(func.max(table.c.seq)))
        for start in range(0, end or 0, ROWS_PER_LOOK):
            yield from self._fetch(query.where(table.c.seq > start, table.c.seq <= start + ROWS_PER_LOOK))

    def _drop(self, table: Table, condition: ColumnElement[bool], reached: Callable[[str], None]) -> Counter[str]:
        done: Counter[str] = Counter()
        few = select(table.c.seq).where(condition).limit(ROWS_PER_COMMIT)
        while True:
            with writing(self._engine) as connection:
                number = connection.execute(delete(table).where(table.c.seq.in_(few))).rowcount
            if not number:
                return done
            time.sleep(PAUSE.total_seconds())
            done[table.name] += number
            reached(table.name)

    def _drop_decisions(self, ids: list[str], digests: IdDigests, at: int) -> Counter[str]:
        """A few decisions with their outcomes; what budgets were charged stays, and that they are erased."""
        these, theirs = decisions.c.decision_id.in_(ids), outcomes.c.decision_id.in_(ids)
        with writing(self._engine) as connection:
            kept_charges(connection, self._domain, these, theirs)
            tombstones = [{"domain": self._domain, "digest": digests.of(decision_name(each)), "at": at} for each in ids]
            connection.execute(sqlite.insert(erased).on_conflict_do_nothing(), tombstones)
            found = Counter(outcomes=connection.execute(delete(outcomes).where(theirs)).rowcount)
            found["moments"] = connection.execute(delete(moments).where(moments.c.decision_id.in_(ids))).rowcount
            found["decisions"] = connection.execute(delete(decisions).where(these)).rowcount
        time.sleep(PAUSE.total_seconds())
        return found

    def _edit_events(self, reached: Callable[[str], None]) -> Counter[str]:
        """Others' events from a shared device lose its id; those that say that an id was another's go."""
        done: Counter[str] = Counter()
        for row in self._naming(events):
            event = event_of(row.record)
            left = without_erased(event, self._units)
            if left is event:
                continue  # the text means something else
            this = events.c.seq == row.seq
            with writing(self._engine) as connection:
                if left is None:
                    connection.execute(delete(events).where(this))
                else:
                    record = msgspec.json.encode(left)
                    connection.execute(update(events).where(this).values(anonymous_id=None, record=record))
            done["events"] += 1
            reached("events")
        return done

    def _edit_decisions(
        self, digests: IdDigests, at: int, naming: Collection[str], reached: Callable[[str], None]
    ) -> Counter[str]:
        """Decisions of others lose what names these ids; those that were asked for these ids go."""
        done: Counter[str] = Counter()
        for row in self._naming(decisions):
            record = decoded(row.record)
            if record.request.unit in self._units:
                done += self._drop_decisions([record.decision_id], digests, at)
            else:
                left = without_mentions(record, self._units, naming=naming)
                if left == record:
                    continue  # the text means something else
                with writing(self._engine) as connection:
                    this = decisions.c.seq == row.seq
                    connection.execute(update(decisions).where(this).values(record=msgspec.json.encode(left)))
                done["decisions_of_others"] += 1
            reached("decisions")
        return done

    def _drop_late_outcomes(self, digests: IdDigests, *, since: int) -> int:
        """Outcomes that were on their way while their decision was erased."""
        its = select(decisions.c.seq).where(decisions.c.decision_id == outcomes.c.decision_id).correlate(outcomes)
        late = and_(outcomes.c.received_at >= since, ~its.exists())
        found = {digests.of(decision_name(row.decision_id)): row.decision_id for row in self._rows(outcomes, late)}
        if not found:
            return 0
        with writing(self._engine) as connection:
            known = connection.execute(
                select(erased.c.digest).where(erased.c.domain == self._domain, erased.c.digest.in_(list(found)))
            ).scalars()
            ids = [found[digest] for digest in known]
            return connection.execute(delete(outcomes).where(outcomes.c.decision_id.in_(ids))).rowcount

    def _rows(self, table: Table, condition: ColumnElement[bool]) -> Iterator[Row[Any]]:
        """Rows for which this is true, a part of them at a time."""
        places = [row.seq for row in self._fetch(select(table.c.seq).where(condition).order_by(table.c.seq))]
        for start in range(0, len(places), ROWS_PER_COMMIT):
            these = table.c.seq.in_(places[start : start + ROWS_PER_COMMIT])
            yield from self._fetch(select(table).where(these).order_by(table.c.seq))

    def _fetch(self, query: Any) -> list[Row[Any]]:
        with reading(self._engine) as connection:
            return list(connection.execute(query).all())


def kept_charges(connection: Connection, domain: str, these: ColumnElement[bool], theirs: ColumnElement[bool]) -> None:
    """Keep what these decisions, with these outcomes, were charged, in the transaction that deletes them."""
    charged = func.instr(decisions.c.record, b'"budget":"') > 0
    found = connection.execute(select(decisions).where(these, charged)).all()
    if not found:
        return
    said: dict[str, list[Said]] = {}
    for row in connection.execute(select(outcomes).where(theirs)):
        said.setdefault(row.decision_id, []).append(Said(row.type, row.detail, row.action_id))
    charges = [
        {"domain": domain, **charge._asdict()}
        for row in found
        for charge in charges_of(row.record, said.get(row.decision_id, ()))
    ]
    if charges:
        connection.execute(insert(erased_charges), charges)


def _shown(row: Row[Any]) -> Found:
    """A row as JSON has it; `seq` is the ledger's own."""
    return {
        name: msgspec.Raw(value) if isinstance(value, bytes) else value
        for name, value in row._mapping.items()
        if name != "seq"
    }
