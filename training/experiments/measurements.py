"""What units did after their first exposure, and before: a metric's columns (`moments.COLUMNS`) at any instant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from decisioning.catalog import Catalog
from decisioning.content import Content
from decisioning.errors import DataError, RequestError
from decisioning.events import PURCHASE, EventRecord
from decisioning.experiment_content import UNSUBSCRIBES, Experiment, Metric
from decisioning.orders import order_of
from decisioning.outcome_types import OUTCOME_TYPES
from storage.instants import to_microseconds
from training.experiments.moments import Floats
from training.experiments.units import (
    VIEWED,
    Decided,
    ExperimentReader,
    Exposures,
    Integers,
    UnitsRead,
    WouldBe,
    person_of_reader,
)

BEFORE = timedelta(days=28)  # of a metric and an experiment that name no time
_MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1) // _MICROSECOND


# By name, everything that units did: the unit's number, when, how much it was worth.
_Found = dict[str, list[tuple[int, int, float]]]


class Occurrences(NamedTuple):
    """Everything of one name that units did: whose (row of `Exposures`), when, how much it was worth; `(m,)` each."""

    row: Integers
    at: Integers
    amount: Floats


@dataclass(frozen=True, slots=True)
class ExperimentLog:
    """All that the ledger has of an experiment until `until`, in microseconds since 1970."""

    experiment: Experiment
    exposures: Exposures
    occurrences: Mapping[str, Occurrences]
    until: int

    def rows(self, metric: Metric, *, at: int | None = None) -> tuple[Integers, Floats]:
        """The units whose value is known at `at` (the end, when absent), `(n,)`, and their columns, `(n, 4)`.

        Of a metric with `within` that are those whose time is over: a value that is told does not change any more,
        as anytime-valid intervals need. Of another it is everyone who was met, with what they did so far.
        """
        now = self.until if at is None else at
        first = self.exposures.first
        if metric.within is None:
            return self._columns(metric, first, np.full(len(first), now), known=first < now)
        ends = first + metric.within // _MICROSECOND
        return self._columns(metric, first, ends, known=ends <= now)

    def rows_of_day(self, metric: Metric, day: int) -> tuple[Integers, Floats]:
        """Likewise of what they did in one day after their first exposure, 0 for the first 24 hours."""
        begins = self.exposures.first + day * DAY
        return self._columns(metric, begins, begins + DAY, known=begins + DAY <= self.until)

    def _columns(
        self, metric: Metric, begins: Integers, ends: Integers, *, known: NDArray[np.bool_]
    ) -> tuple[Integers, Floats]:
        first = self.exposures.first
        before = first - _span(metric, self.experiment)
        columns = [
            self._amount(metric, metric.of, begins, ends),
            self._over(metric, begins, ends),
            self._amount(metric, metric.of, before, first),
            self._over(metric, before, first),
        ]
        return np.flatnonzero(known), np.stack(columns, axis=1)[known]

    def _over(self, metric: Metric, begins: Integers, ends: Integers) -> Floats:
        if metric.per is None:
            return np.ones(len(begins))
        return self._sum(metric.per, begins, ends, weighed=False)

    def _amount(self, metric: Metric, name: str, begins: Integers, ends: Integers) -> Floats:
        found = self._sum(name, begins, ends, weighed=metric.measure == "sum")
        if metric.measure == "rate":
            return np.minimum(found, 1.0)
        return found if metric.cap is None else np.minimum(found, metric.cap)

    def _sum(self, name: str, begins: Integers, ends: Integers, *, weighed: bool) -> Floats:
        row, at, amount = self.occurrences[name]
        within = (at >= begins[row]) & (at < ends[row])
        weights = amount[within] if weighed else None
        return np.bincount(row[within], weights=weights, minlength=len(begins)).astype(np.float64)


def metrics_of(content: Content, experiment: Experiment) -> tuple[Metric, tuple[Metric, ...]]:
    """The metric that decides an experiment, and its guardrails.

    Raises:
        RequestError: It has no metric.
    """
    known = {UNSUBSCRIBES: Metric(id=UNSUBSCRIBES, of="unsubscribe", better="lower")}
    known |= {metric.id: metric for metric in content.metrics}
    if experiment.metric is None:
        raise RequestError(
            f"experiment '{experiment.id}' has no metric, so nothing can be said of it; name one of"
            f" {', '.join(known)} as its `metric` in the catalogue",
            where=f"experiments[{experiment.id}].metric",
        )
    return known[experiment.metric], tuple(known[name] for name in experiment.guardrails)


def read_experiment(
    reader: ExperimentReader,
    catalog: Catalog,
    experiment: Experiment,
    metrics: Sequence[Metric],
    *,
    now: datetime,
    audiences: Sequence[str] = (),
) -> ExperimentLog:
    """An experiment's units until `now`, and what they did of what these metrics count.

    Raises:
        DataError: A metric counts what cannot be told of the experiment's units.
        StoreError: The ledger cannot be read.
    """
    person = person_of_reader(reader, catalog.content.domain)
    units = UnitsRead(experiment, catalog, person=person, audiences=audiences)
    since = None if experiment.starts is None else experiment.starts - longest_span(metrics, experiment)
    return _read(reader, experiment, catalog.content.domain, units, metrics, since=since, until=now)


def read_before(
    reader: ExperimentReader,
    catalog: Catalog,
    experiment: Experiment,
    metrics: Sequence[Metric],
    *,
    before: datetime,
) -> ExperimentLog:
    """The units that would have taken part, had the experiment run for its length until `before`.

    Raises:
        DataError, StoreError: As `read_experiment`.
    """
    begin = before - (experiment.length or BEFORE)
    units = WouldBe(experiment, catalog, person=person_of_reader(reader, catalog.content.domain), begin=begin)
    since = begin - longest_span(metrics, experiment)
    return _read(reader, experiment, catalog.content.domain, units, metrics, since=since, until=before)


def longest_span(metrics: Sequence[Metric], experiment: Experiment) -> timedelta:
    """How long before and after the first exposure any of these metrics looks."""
    return max((_span(metric, experiment) for metric in metrics), default=0) * _MICROSECOND


def _read(
    reader: ExperimentReader,
    experiment: Experiment,
    domain: str,
    units: UnitsRead,
    metrics: Sequence[Metric],
    *,
    since: datetime | None,
    until: datetime,
) -> ExperimentLog:
    found: _Found = {name: [] for name in _counted(experiment, metrics)}
    for decided in reader.all_decisions(Decided, domain=domain, since=since, until=until):
        units.decided(decided)
    told = _add_outcomes(found, reader, units)
    for event in reader.events(domain, types=("track",), names=(VIEWED,)):
        units.viewed(event)
    _add_events(found, reader, units, domain, told=told)
    exposures, rows = units.exposures(until=to_microseconds(until))
    occurrences = {name: _of_rows(each, rows) for name, each in found.items()}
    return ExperimentLog(experiment, exposures, occurrences, to_microseconds(until))


def _counted(experiment: Experiment, metrics: Sequence[Metric]) -> set[str]:
    """The outcomes and events that the metrics count."""
    names = {name for metric in metrics for name in (metric.of, metric.per) if name is not None}
    if experiment.unit == "session" and (others := names.difference(OUTCOME_TYPES)):
        raise DataError(
            f"experiment '{experiment.id}' is over sessions, and events ({', '.join(sorted(others))}) name none;"
            " count outcomes, or make the experiment's unit customer"
        )
    return names


def _add_outcomes(found: _Found, reader: ExperimentReader, units: UnitsRead) -> set[str]:
    """Add what outcomes tell, exposures included; the ids of what was counted."""
    told = set()
    for report in reader.reports({*found.keys() & set(OUTCOME_TYPES), *units.shown_by}):
        units.reported(report)
        number = units.of_decision.get(report.decision_id)
        if number is not None and report.type in found:
            found[report.type].append((number, report.at, report.value or 0.0))
            told.add(report.outcome_id)
    return told


def _add_events(found: _Found, reader: ExperimentReader, units: UnitsRead, domain: str, *, told: set[str]) -> None:
    """Add what sources tell: each order once, and none that was told as an outcome of the same id."""
    names = found.keys() - set(OUTCOME_TYPES) | found.keys() & {PURCHASE}
    met: set[tuple[str, str]] = set()
    for event in reader.events(domain, types=("track",), names=names) if names else ():
        number = units.of_event(event)
        order = str(event.properties.get("order_id") or "") if event.name == PURCHASE else ""
        key = event.source, order or event.event_id
        if number is None or key in met or told.intersection((order, event.event_id)):
            continue
        met.add(key)
        found[event.name].append((number, to_microseconds(event.occurred_at), _worth(event)))


def _worth(event: EventRecord) -> float:
    """The event's `value`, in the catalogue's currency; else what its lines add up to."""
    said = event.properties.get("value")
    if isinstance(said, int | float) and not isinstance(said, bool):
        return float(said)
    order = order_of(event)
    return 0.0 if order is None else sum(order.amounts.values())


def _of_rows(found: list[tuple[int, int, float]], rows: Integers) -> Occurrences:
    numbers = np.array([each[0] for each in found], dtype=np.int64)
    row = rows[numbers] if len(found) else numbers
    met = row >= 0
    at = np.array([each[1] for each in found], dtype=np.int64)
    amount: NDArray[np.float64] = np.array([each[2] for each in found], dtype=np.float64)
    return Occurrences(row[met], at[met], amount[met])


def _span(metric: Metric, experiment: Experiment) -> int:
    """How long before the first exposure is looked at, in microseconds: as long as after it."""
    return (metric.within or experiment.length or BEFORE) // _MICROSECOND
