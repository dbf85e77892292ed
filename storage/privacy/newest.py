"""The newest that the ledger has of a person: for one view of them."""

from collections.abc import Collection

from sqlalchemy import Engine, and_, or_, select

from decisioning.erased import visitor_ids
from decisioning.events import EventRecord
from decisioning.profile import ConsentChange
from decisioning.record import DecisionRecord, OutcomeRecord
from storage.ledger.database import reading
from storage.ledger.rows import consent_of, decoded, event_of, outcome_of
from storage.ledger.tables import consents, decisions, events, outcomes

NEWEST = 20


class Newest:
    """Reads a domain's ledger."""

    def __init__(self, engine: Engine, domain: str) -> None:
        self._engine = engine
        self._domain = domain

    def of(
        self, units: Collection[str]
    ) -> tuple[list[ConsentChange], list[EventRecord], list[tuple[DecisionRecord, list[OutcomeRecord]]]]:
        """The last word on each purpose and channel; the newest events; the newest decisions with their outcomes.

        Raises:
            StoreError: The ledger cannot be read.
        """
        ids = sorted(units)
        said = select(consents).where(consents.c.domain == self._domain, consents.c.customer_id.in_(ids))
        alone = and_(events.c.anonymous_id.in_(visitor_ids(ids)), events.c.customer_id.is_(None))
        happened = (
            select(events.c.record)
            .where(events.c.domain == self._domain, or_(events.c.customer_id.in_(ids), alone))
            .order_by(events.c.occurred_at.desc(), events.c.seq.desc())
            .limit(NEWEST)
        )
        decided = (
            select(decisions.c.decision_id, decisions.c.record)
            .where(decisions.c.domain == self._domain, decisions.c.customer_id.in_(ids))
            .order_by(decisions.c.decided_at.desc(), decisions.c.seq.desc())
            .limit(NEWEST)
        )
        with reading(self._engine) as connection:
            words = {}
            # Of two at the same instant the one that withdraws, as everywhere.
            for row in connection.execute(said.order_by(consents.c.at, consents.c.granted.desc(), consents.c.seq)):
                words[row.purpose, row.channel] = consent_of(row[2:])
            found = connection.execute(decided).all()
            of_decision: dict[str, list[OutcomeRecord]] = {row.decision_id: [] for row in found}
            theirs = select(outcomes).where(outcomes.c.decision_id.in_(list(of_decision))).order_by(outcomes.c.seq)
            for row in connection.execute(theirs):
                of_decision[row.decision_id].append(outcome_of(row[1:-1]))
            return (
                [words[key] for key in sorted(words)],
                [event_of(row.record) for row in connection.execute(happened)],
                [(decoded(row.record), of_decision[row.decision_id]) for row in found],
            )

    def elsewhere(self, decision_ids: Collection[str], market: str | None) -> set[str]:
        """Which of these decisions were made for another market; of None, none.

        Raises:
            StoreError: The ledger cannot be read.
        """
        if market is None or not decision_ids:
            return set()
        these = decisions.c.decision_id.in_(list(decision_ids))
        query = select(decisions.c.decision_id).where(these, decisions.c.market == market)
        with reading(self._engine) as connection:
            return set(decision_ids) - set(connection.execute(query).scalars())
