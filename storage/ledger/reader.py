"""The ledger read back: for training, for rebuilding hot state, for reports.

Long reads go in chunks, each its own short transaction: one long one would keep the write-ahead
log from ever being emptied under a running service.
"""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec
import pyarrow as pa
from sqlalchemy import ColumnElement, Select, Table, and_, func, or_, select

from decisioning.events import EventRecord
from decisioning.preferences import PreferencesChange
from decisioning.profile import ConsentChange, Subject
from decisioning.record import AuditRecord, DecisionRecord, OutcomeRecord, ShownSlot, Told, told
from storage.instants import from_microseconds, to_microseconds
from storage.ledger.arrow import DECISIONS_SCHEMA, decision_columns
from storage.ledger.database import open_ledger, reading
from storage.ledger.rows import audit_of, consent_of, decoded, event_of, outcome_of, preferences_of
from storage.ledger.tables import (
    audit,
    consents,
    decisions,
    erased,
    erased_charges,
    events,
    outcomes,
    preferences,
)
from storage.settings import Settings

CHUNK = 2_000
Kind = TypeVar("Kind")

_ITS_DECISION = select(decisions.c.seq).where(decisions.c.decision_id == outcomes.c.decision_id).correlate(outcomes)


class LedgerCounts(NamedTuple):
    """How much the ledger holds; `unjoined_outcomes` name a decision that it does not hold."""

    decisions: int
    outcomes: int
    unjoined_outcomes: int
    consents: int
    events: int
    preferences: int


class ErasedCharge(NamedTuple):
    """What a budget was charged by a decision that is gone."""

    seq: int
    domain: str
    budget: str
    at: datetime
    cost: float


class LastWords(NamedTuple):
    """The places of the last rows of consents and of preferences; 0 where there is none."""

    consents: int
    preferences: int

    def before(self, rows: int) -> "LastWords":
        """So many rows earlier."""
        return LastWords(self.consents - rows, self.preferences - rows)


EVERY_WORD = LastWords(0, 0)


class AddressedOutcome(NamedTuple):
    """An outcome as hot state is told of it, and of which decision."""

    domain: str
    decided_at: datetime
    told: Told


class Report(NamedTuple):
    """An outcome as counting needs it; `at` is when it happened, in microseconds since 1970."""

    outcome_id: str
    decision_id: str
    type: str
    value: float | None
    at: int


class _Decided(msgspec.Struct):
    """What of a decision its outcomes need."""

    decision_id: str
    customer_id: str
    channel: str
    slots: tuple[ShownSlot, ...]
    account_id: str | None = None


_decided = msgspec.json.Decoder(_Decided)


class LedgerReader:
    """Reads what writers committed; of a ledger that did not exist yet, nothing."""

    def __init__(self, settings: Settings) -> None:
        """Open the ledger, created or migrated first where needed.

        Raises:
            SetupError: The state directory or the file cannot be used, or is of a newer version.
        """
        self._engine = open_ledger(settings)

    def decisions(
        self, domain: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[DecisionRecord]:
        """The domain's decisions from `since` (included) to `until` (excluded), by time of decision.

        Raises:
            StoreError: The ledger cannot be read.
        """
        for rows in self._by_time(domain, since, until):
            for row in rows:
                yield decoded(row.record)

    def decisions_table(self, domain: str, *, since: datetime | None = None, until: datetime | None = None) -> pa.Table:
        """The same decisions with the columns of `arrow.DECISIONS_SCHEMA`.

        Raises:
            StoreError: The ledger cannot be read.
        """
        batches = [
            pa.RecordBatch.from_pydict(decision_columns([decoded(row.record) for row in rows]), DECISIONS_SCHEMA)
            for rows in self._by_time(domain, since, until)
        ]
        return pa.Table.from_batches(batches, DECISIONS_SCHEMA)

    def all_decisions(
        self,
        kind: type[Kind],
        *,
        domain: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        containing: bytes = b"",
    ) -> Iterator[Kind]:
        """Decisions of the domain, or of every one, from `since` (included) to `until` (excluded), as they were kept.

        `kind` is a structure with those fields of a `DecisionRecord` that are needed: the fewer,
        the faster. Records whose JSON does not contain these bytes are passed over.
        """
        decoder = msgspec.json.Decoder(kind)
        query = select(decisions.c.seq, decisions.c.record)
        window = _window(since, until)
        if window is not None:
            query = query.where(window)
        if domain is not None:  # not by its index: every chunk would then sort all that there is
            query = query.where(decisions.c.domain.concat("") == domain)
        for rows in self._in_order(query, decisions):
            for _, record in rows:
                if containing in record:
                    yield decoder.decode(record)

    def drawn(self, domain: str, *, since: datetime | None, until: datetime) -> int:
        """How many of a domain's decisions from `since` (included) to `until` (excluded) a policy drew."""
        its = (decisions.c.domain == domain) & decisions.c.drawn & _window(since, until)
        with reading(self._engine) as connection:
            return connection.execute(select(func.count()).select_from(decisions).where(its)).scalar_one()

    def contains(self, decision_id: str) -> bool:
        """Whether this decision is kept."""
        with reading(self._engine) as connection:
            found = connection.execute(select(decisions.c.seq).where(decisions.c.decision_id == decision_id))
            return found.first() is not None

    def find(self, decision_id: str) -> DecisionRecord | None:
        """The record of one decision, or None."""
        with reading(self._engine) as connection:
            found = connection.execute(select(decisions.c.record).where(decisions.c.decision_id == decision_id))
            record = found.scalar()
        return None if record is None else decoded(record)

    def met(self, domain: str, units: Collection[str]) -> dict[str, datetime]:
        """When decisions were first made for these customers and visitors, of those for whom any were."""
        theirs = select(func.min(decisions.c.seq)).where(
            decisions.c.domain == domain, decisions.c.customer_id.in_(units)
        )
        first = decisions.c.seq.in_(theirs.group_by(decisions.c.customer_id))
        found = self._fetch(select(decisions.c.customer_id, decisions.c.decided_at).where(first))
        return {row.customer_id: from_microseconds(row.decided_at) for row in found}

    def outcomes(
        self, *, since: datetime | None = None, until: datetime | None = None
    ) -> dict[str, list[OutcomeRecord]]:
        """Outcomes by decision id, in the order of arrival.

        With a window, only those of decisions made in it: from `since` (included) to `until`
        (excluded). Without, also those whose decision is not known.
        """
        window = _window(since, until)
        found: dict[str, list[OutcomeRecord]] = {}
        condition = None if window is None else _ITS_DECISION.where(window).exists()
        for rows in self._by_sequence(outcomes, condition):
            for row in rows:
                outcome = outcome_of(row[1:-1])
                found.setdefault(outcome.decision_id, []).append(outcome)
        return found

    def addressed_outcomes(
        self, types: Collection[str], *, domain: str | None = None, received_since: datetime | None = None
    ) -> Iterator[AddressedOutcome]:
        """Outcomes of these types whose decision is known, in the order of arrival."""
        query = (
            select(outcomes, decisions.c.domain, decisions.c.decided_at, decisions.c.record)
            .join(decisions, decisions.c.decision_id == outcomes.c.decision_id)
            .where(outcomes.c.type.in_(types))
        )
        if domain is not None:
            query = query.where(decisions.c.domain == domain)
        if received_since is not None:
            arrived = select(outcomes.c.seq).where(outcomes.c.received_at >= to_microseconds(received_since))
            query = query.where(outcomes.c.seq.in_(arrived))
        for rows in self._in_order(query, outcomes):
            for row in rows:
                *columns, _, owner, decided_at, record = row[1:]
                decided = _decided.decode(record)
                addressed = told(
                    outcome_of(columns),
                    subject=Subject(decided.customer_id, decided.account_id),
                    channel=decided.channel,
                    decision_id=decided.decision_id,
                    slots=decided.slots,
                )
                yield AddressedOutcome(owner, from_microseconds(decided_at), addressed)

    def reports(self, types: Collection[str]) -> Iterator[Report]:
        """Outcomes of these types, of every domain, in the order of arrival; not those of machines."""
        kept = outcomes.c
        query = select(kept.seq, kept.outcome_id, kept.decision_id, kept.type, kept.value, kept.occurred_at).where(
            kept.type.in_(types), or_(kept.detail.is_(None), kept.detail != "machine")
        )
        for rows in self._in_order(query, outcomes):
            for row in rows:
                yield Report(*row[1:])

    def last_arrival(self, domain: str) -> datetime | None:
        """When the newest of the domain's outcomes and events was received."""
        # Not a join: that would be made from the decisions, all of them, and sorted.
        its_domain = select(decisions.c.domain).where(decisions.c.decision_id == outcomes.c.decision_id)
        of_outcomes = (
            select(outcomes.c.received_at)
            .where(select(decisions.c.seq).where(decisions.c.domain == domain).exists())
            .where(its_domain.correlate(outcomes).scalar_subquery() == domain)
            .order_by(outcomes.c.received_at.desc())
            .limit(1)
        )
        of_events = (
            select(events.c.received_at).where(events.c.domain == domain).order_by(events.c.received_at.desc()).limit(1)
        )
        with reading(self._engine) as connection:
            found = [connection.execute(query).scalar() for query in (of_outcomes, of_events)]
        return max((from_microseconds(at) for at in found if at is not None), default=None)

    def outcomes_of(self, decision_id: str) -> list[OutcomeRecord]:
        """The outcomes of one decision, in the order of arrival."""
        query = select(outcomes).where(outcomes.c.decision_id == decision_id).order_by(outcomes.c.seq)
        with reading(self._engine) as connection:
            return [outcome_of(row[1:-1]) for row in connection.execute(query)]

    def consents(self, domain: str, *, after: int = 0) -> Iterator[ConsentChange]:
        """The domain's changes of consent behind this place (`last_words`), in the order in which they were kept."""
        for rows in self._by_sequence(consents, consents.c.domain == domain, after=after):
            for row in rows:
                yield consent_of(row[2:])

    def preferences(self, domain: str, *, after: int = 0) -> Iterator[PreferencesChange]:
        """What customers of the domain said they wish, likewise."""
        for rows in self._by_sequence(preferences, preferences.c.domain == domain, after=after):
            for row in rows:
                yield preferences_of(row[2:])

    def last_words(self) -> LastWords:
        """How far consents and preferences go now."""
        with reading(self._engine) as connection:
            ends = (connection.execute(select(func.max(table.c.seq))).scalar() for table in (consents, preferences))
            return LastWords(*(end or 0 for end in ends))

    def events(
        self,
        domain: str,
        *,
        types: Collection[str] | None = None,
        names: Collection[str] | None = None,
        received_since: datetime | None = None,
        newest: int | None = None,
    ) -> Iterator[EventRecord]:
        """The domain's events, of these types and names or of all, in the order of arrival.

        With `newest`, those among so many that every domain got last.

        Raises:
            StoreError: The ledger cannot be read.
        """
        # Neither domain nor arrival by its index: every chunk would then sort all that there is.
        conditions = [events.c.domain.concat("") == domain]
        if types is not None:
            conditions.append(events.c.type.in_(types))
        if names is not None:
            conditions.append(events.c.name.in_(names))
        if received_since is not None:
            since = to_microseconds(received_since)
            [(first,)] = self._fetch(select(func.min(events.c.seq)).where(events.c.received_at >= since))
            conditions += [events.c.seq >= (first or 0), events.c.received_at + 0 >= since]
        if newest is not None:
            before = self._fetch(select(events.c.seq).order_by(events.c.seq.desc()).offset(newest).limit(1))
            conditions += [events.c.seq > seq for (seq,) in before]
        for rows in self._by_sequence(events, and_(*conditions)):
            for row in rows:
                yield event_of(row.record)

    def events_behind(
        self, domain: str, *, after: int, names: Collection[str]
    ) -> Iterator[tuple[int, list[EventRecord]]]:
        """The domain's events of these names behind a place (`seq`), in parts, each with the place that it reaches.

        At the end an empty part with the end, as it was at the beginning.

        Raises:
            StoreError: The ledger cannot be read.
        """
        [(end,)] = self._fetch(select(func.max(events.c.seq)))
        wanted = and_(events.c.domain.concat("") == domain, events.c.name.in_(names))
        for rows in self._by_sequence(events, wanted, after=after):
            after = rows[-1].seq
            yield after, [event_of(row.record) for row in rows]
        yield max(after, end or 0), []

    def customers_behind(self, domain: str, *, after: int, names: Collection[str]) -> tuple[int, list[str]]:
        """How far events go now (`seq`), and the customers of the domain with any of these names behind a place."""
        [(end,)] = self._fetch(select(func.max(events.c.seq)))
        mine = and_(events.c.domain.concat("") == domain, events.c.name.in_(names), events.c.customer_id.is_not(None))
        since = and_(events.c.seq > after, events.c.seq <= (end or 0))
        found = self._fetch(select(events.c.customer_id).where(mine, since).distinct())
        return end or 0, sorted(customer for (customer,) in found)

    def events_of(self, domain: str, customers: Collection[str], *, names: Collection[str]) -> Iterator[EventRecord]:
        """The events of these names that these customers did, by customer and time."""
        for customer in customers:
            mine = and_(events.c.domain == domain, events.c.customer_id == customer, events.c.name.in_(names))
            for row in self._fetch(select(events.c.record).where(mine).order_by(events.c.occurred_at)):
                yield event_of(row.record)

    def erased(self, domain: str | None = None) -> list[tuple[str, str]]:
        """Domains and hashes of what is erased (`storage.id_digests`), in one domain or in all."""
        query = select(erased.c.domain, erased.c.digest)
        with reading(self._engine) as connection:
            found = connection.execute(query if domain is None else query.where(erased.c.domain == domain))
            return [(row.domain, row.digest) for row in found]

    def erased_charges(self) -> Iterator[ErasedCharge]:
        """What decisions that are gone were charged, of every domain."""
        for rows in self._by_sequence(erased_charges):
            for row in rows:
                yield ErasedCharge(row.seq, row.domain, row.budget, from_microseconds(row.at), row.cost)

    def domains_of_events(self) -> list[str]:
        """Domains in which anything happened."""
        with reading(self._engine) as connection:
            return list(connection.execute(select(events.c.domain).distinct().order_by(events.c.domain)).scalars())

    def audits(self, domain: str | None = None, *, what: Collection[str] | None = None) -> Iterator[AuditRecord]:
        """What was done, in the domain or in all, of these kinds or of all, in the order in which it was kept."""
        conditions = [] if domain is None else [audit.c.domain == domain]
        if what is not None:
            conditions.append(audit.c.what.in_(what))
        for rows in self._by_sequence(audit, and_(*conditions) if conditions else None):
            for row in rows:
                yield audit_of(row[1:])

    def domains_of_words(self) -> list[str]:
        """The domains in which consents were given or withdrawn, or preferences said."""
        with reading(self._engine) as connection:
            queries = (select(table.c.domain).distinct() for table in (consents, preferences))
            return sorted({domain for query in queries for domain in connection.execute(query).scalars()})

    def counts(self, domain: str | None = None) -> LedgerCounts:
        """How much there is; `domain` narrows all but outcomes."""
        unjoined = ~_ITS_DECISION.exists()
        with reading(self._engine) as connection:

            def count(table: Table, *conditions: ColumnElement[bool]) -> int:
                return connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one()

            def narrowed(table: Table) -> list[ColumnElement[bool]]:
                return [] if domain is None else [table.c.domain == domain]

            return LedgerCounts(
                decisions=count(decisions, *narrowed(decisions)),
                outcomes=count(outcomes),
                unjoined_outcomes=count(outcomes, unjoined),
                consents=count(consents, *narrowed(consents)),
                events=count(events, *narrowed(events)),
                preferences=count(preferences, *narrowed(preferences)),
            )

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def _by_time(self, domain: str, since: datetime | None, until: datetime | None) -> Iterator[Any]:
        window = _window(since, until)
        query = select(decisions.c.decided_at, decisions.c.seq, decisions.c.record).where(decisions.c.domain == domain)
        query = query.order_by(decisions.c.decided_at, decisions.c.seq).limit(CHUNK)
        if window is not None:
            query = query.where(window)
        after: ColumnElement[bool] | None = None
        while rows := self._fetch(query if after is None else query.where(after)):
            yield rows
            at, seq = rows[-1].decided_at, rows[-1].seq
            after = and_(decisions.c.decided_at >= at, or_(decisions.c.decided_at > at, decisions.c.seq > seq))

    def _by_sequence(
        self, table: Table, condition: ColumnElement[bool] | None = None, *, after: int = 0
    ) -> Iterator[Any]:
        query = select(table)
        return self._in_order(query if condition is None else query.where(condition), table, after=after)

    def _in_order(self, query: Select[Any], table: Table, *, after: int = 0) -> Iterator[Any]:
        query = query.order_by(table.c.seq).limit(CHUNK)
        last = after
        while rows := self._fetch(query.where(table.c.seq > last)):
            yield rows
            last = rows[-1].seq

    def _fetch(self, query: Select[Any]) -> Any:
        with reading(self._engine) as connection:
            return connection.execute(query).all()


def _window(since: datetime | None, until: datetime | None) -> ColumnElement[bool] | None:
    conditions = []
    if since is not None:
        conditions.append(decisions.c.decided_at >= to_microseconds(since))
    if until is not None:
        conditions.append(decisions.c.decided_at < to_microseconds(until))
    return and_(*conditions) if conditions else None
