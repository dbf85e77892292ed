"""A ledger in memory, and what a test writes into it: who was assigned what, what they saw and did."""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from decisioning.catalog import Catalog
from decisioning.content import Content
from decisioning.events import EventRecord
from decisioning.experiment_content import Experiment, Metric
from decisioning.record import Assignment, DecisionRecord
from storage.instants import to_microseconds
from storage.ledger.reader import Report
from tests.builders import NOW, content, experiment, record

Kind = TypeVar("Kind")
DAY = timedelta(days=1)
BUYS = Metric(id="buys", of="purchase")


class FakeLedger:
    """Implements `training.experiments.units.ExperimentReader`."""

    def __init__(self) -> None:
        self.records: list[DecisionRecord] = []
        self.told: list[Report] = []
        self.events_told: list[EventRecord] = []

    def assigned(self, customer_id: str, variant: str = "a", *, at: datetime = NOW, **overrides: Any) -> DecisionRecord:
        """A decision for a customer in this variant."""
        reason = overrides.pop("assigned_by", "SPLIT")
        version = overrides.pop("version", 1)
        given = Assignment("hero_copy", variant, 0.5, reason, version=version, unit=customer_id)
        fields = {"customer_id": customer_id, "decided_at": at, "assignments": (given,), **overrides}
        made = record(decision_id=f"d-{len(self.records)}", domain="shop", **fields)
        self.records.append(made)
        return made

    def met(self, customer_id: str, variant: str = "a", *, at: datetime = NOW, **overrides: Any) -> DecisionRecord:
        """The same, and the customer saw it."""
        made = self.assigned(customer_id, variant, at=at, **overrides)
        self.tell(made, "impression", at=at)
        return made

    def tell(
        self, decision: DecisionRecord, what: str, *, at: datetime, value: float | None = None, named: str | None = None
    ) -> None:
        """An outcome of a decision."""
        outcome_id = named or f"o-{len(self.told)}"
        self.told.append(Report(outcome_id, decision.decision_id, what, value, to_microseconds(at)))

    def event(self, customer_id: str, name: str, *, at: datetime, type: str = "track", **said: Any) -> None:  # noqa: A002
        """An event of a source."""
        anonymous_id = said.pop("anonymous_id", None)
        fields = {"type": type, "name": name, "customer_id": customer_id, "anonymous_id": anonymous_id}
        event_id = f"shop/{len(self.events_told)}"
        times = {"occurred_at": at, "received_at": at}
        self.events_told.append(EventRecord(event_id=event_id, source="shop", properties=said, **fields, **times))

    def all_decisions(
        self, kind: type[Kind], *, domain: str | None = None, since: datetime | None = None, until: datetime | None
    ) -> Iterator[Kind]:
        for each in self.records:
            if (since is None or each.decided_at >= since) and (until is None or each.decided_at < until):
                yield msgspec.json.decode(msgspec.json.encode(each), type=kind)

    def reports(self, types: Collection[str]) -> Iterator[Report]:
        return (report for report in self.told if report.type in types)

    def events(
        self, domain: str, *, types: Collection[str] | None = None, names: Collection[str] | None = None
    ) -> Iterator[EventRecord]:
        for event in self.events_told:
            if (types is None or event.type in types) and (names is None or event.name in names):
                yield event


def running(**overrides: Any) -> Experiment:
    return experiment(**({"metric": "buys", "starts": NOW, "length": 14 * DAY} | overrides))


def catalog_with(tested: Experiment, *metrics: Metric, **overrides: Any) -> Catalog:
    known = {metric.id: metric for metric in (BUYS, *metrics)}
    made: Content = content(experiments=(tested,), metrics=tuple(known.values()), **overrides)
    return Catalog(made, version="sha256:test")
