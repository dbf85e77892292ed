"""An experiment as it stands: the split, the metric, the guardrails, audiences, factors, days, and what to do."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta

import msgspec
import numpy as np
from numpy.typing import NDArray

from decisioning.catalog import Catalog
from decisioning.errors import RequestError
from decisioning.experiment_content import Experiment, Metric
from storage.instants import from_microseconds
from training.experiments.comparison import adjusted, before, explained
from training.experiments.factors import Effect, effects
from training.experiments.measurements import DAY, ExperimentLog, metrics_of, read_before, read_experiment
from training.experiments.moments import Floats, Moments, moments_of
from training.experiments.power import ALPHA, planned_units, variant_shares
from training.experiments.reading import FEWEST, Reading, holm, read
from training.experiments.sequences import ConfidenceSequence, mismatch_evidence
from training.experiments.units import ExperimentReader, Integers
from training.experiments.verdict import Mismatch, Plan, Verdict, verdict

# Days after the first exposure that are looked at for novelty.
LONGEST = 14


class OfAudience(msgspec.Struct, frozen=True, kw_only=True):
    """The metric among an audience's units; `corrected` is its p-value for the number of audiences (Holm)."""

    audience: str
    reading: Reading
    corrected: float


class OfDay(msgspec.Struct, frozen=True, kw_only=True):
    """The metric as it was known when a day (UTC) was over."""

    day: date
    readings: tuple[Reading, ...]


class OfAge(msgspec.Struct, frozen=True, kw_only=True):
    """What units did in one day after their first exposure, 0 for the first: an effect of novelty fades away."""

    day: int
    readings: tuple[Reading, ...]


class ExperimentReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an experiment `at` an instant.

    Attributes:
        level: Of the intervals of `primary`; all of them hold together, at every look, with this probability.
        planned: Units of two variants that the intervals are tuned to.
        crossed: Units that met two variants and are left out.
        factors: By one look, of the metric's values; empty without factors.
    """

    experiment: str
    version: int
    at: datetime
    begins: datetime | None
    level: float
    planned: float
    crossed: int
    mismatch: Mismatch
    primary: tuple[Reading, ...]
    guardrails: tuple[Reading, ...]
    audiences: tuple[OfAudience, ...]
    factors: tuple[Effect, ...]
    days: tuple[OfDay, ...]
    novelty: tuple[OfAge, ...]
    verdict: Verdict


def experiment_of(catalog: Catalog, experiment_id: str) -> Experiment:
    """The experiment of this id.

    Raises:
        RequestError: There is none, or it has one variant.
    """
    known = {each.id: each for each in catalog.content.experiments}
    found = known.get(experiment_id)
    if found is None:
        raise RequestError(
            f"there is no experiment '{experiment_id}', must be one of {', '.join(known) or '(none)'}",
            where="experiment",
        )
    if len(found.variants) < 2:
        raise RequestError(f"experiment '{found.id}' has one variant; there is nothing to compare", where="experiment")
    return found


def experiment_report(
    reader: ExperimentReader,
    catalog: Catalog,
    experiment: Experiment,
    *,
    now: datetime,
    audiences: Sequence[str] = (),
) -> ExperimentReport:
    """Everything that the ledger says of an experiment until now.

    Raises:
        RequestError: It has no metric.
        DataError: A metric counts what cannot be told of its units.
        StoreError: The ledger cannot be read.
    """
    metric, guards = metrics_of(catalog.content, experiment)
    log = read_experiment(reader, catalog, experiment, (metric, *guards), now=now, audiences=audiences)
    begins = experiment.starts or (from_microseconds(int(log.exposures.first.min())) if len(log.exposures) else None)
    planned = planned_units(read_before(reader, catalog, experiment, (), before=begins or now))
    look = _Look(log, planned)
    primary = look.readings(metric, alpha=look.alpha)
    guardrails = tuple(reading for guard in guards for reading in look.readings(guard, alpha=look.alpha / len(guards)))
    mismatch = _mismatch(log)
    plan = Plan(
        control=experiment.variants[0].id,
        variants=tuple(variant.id for variant in experiment.variants[1:]),
        minimum_effect=experiment.minimum_effect,
        ends=None if begins is None or experiment.length is None else begins + experiment.length,
    )
    return ExperimentReport(
        experiment=experiment.id,
        version=experiment.version,
        at=now,
        begins=begins,
        level=1.0 - ALPHA,
        planned=planned,
        crossed=log.exposures.crossed,
        mismatch=mismatch,
        primary=primary,
        guardrails=guardrails,
        audiences=look.audiences(metric),
        factors=tuple(look.factors(metric)) if experiment.factors else (),
        days=tuple(look.days(metric)),
        novelty=tuple(look.novelty(metric)),
        verdict=verdict(plan, primary, guardrails, mismatch, now=now),
    )


class _Look:
    """An experiment's log, read metric by metric."""

    def __init__(self, log: ExperimentLog, planned: float) -> None:
        self.log = log
        self.variants = log.experiment.variants
        self.planned = planned
        self.alpha = ALPHA / (len(self.variants) - 1)

    def readings(
        self, metric: Metric, *, alpha: float, at: int | None = None, among: NDArray[np.bool_] | None = None
    ) -> tuple[Reading, ...]:
        """Of each variant of which enough is known; `among`, of these units only, `(n,)`."""
        return self._read(metric, self._samples(*self.log.rows(metric, at=at), among=among), alpha=alpha)

    def days(self, metric: Metric) -> Iterator[OfDay]:
        """As was known at the end of each day that is over."""
        for end in day_ends(self.log).tolist():
            found = self.readings(metric, alpha=self.alpha, at=end)
            if found:
                yield OfDay(day=(from_microseconds(end) - timedelta(days=1)).date(), readings=found)

    def novelty(self, metric: Metric) -> Iterator[OfAge]:
        """Day by day after the first exposure, as long as the metric looks and enough is known."""
        longest = LONGEST if metric.within is None else min(LONGEST, metric.within.days)
        for day in range(longest):
            samples = self._samples(*self.log.rows_of_day(metric, day))
            found = self._read(metric, samples, alpha=self.alpha)
            if found:
                yield OfAge(day=day, readings=found)

    def audiences(self, metric: Metric) -> tuple[OfAudience, ...]:
        """Of each audience that was asked for."""
        found = [
            (name, reading)
            for name, among in self.log.exposures.members.items()
            for reading in self.readings(metric, alpha=self.alpha, among=among)
        ]
        corrected = holm([reading.p_value for _, reading in found])
        return tuple(
            OfAudience(audience=name, reading=reading, corrected=p)
            for (name, reading), p in zip(found, corrected, strict=True)
        )

    def factors(self, metric: Metric) -> list[Effect]:
        """Of the levels of its factors; none while a variant has too few units."""
        samples = [each for each in self._samples(*self.log.rows(metric)) if each is not None]
        if len(samples) < len(self.variants):
            return []
        total = sum(samples[1:], samples[0])
        taken, centre = explained(total), before(total)
        values = [adjusted(sample, taken, centre) for sample in samples]
        return effects(self.log.experiment, values, [float(sample.count) for sample in samples])

    def _read(self, metric: Metric, samples: Sequence[Moments | None], *, alpha: float) -> tuple[Reading, ...]:
        control, sequence = samples[0], ConfidenceSequence(self.planned, alpha)
        found = (
            read(metric, variant.id, control, sample, sequence)
            for variant, sample in zip(self.variants[1:], samples[1:], strict=True)
            if control is not None and sample is not None
        )
        return tuple(reading for reading in found if reading is not None)

    def _samples(
        self, known: Integers, rows: Floats, *, among: NDArray[np.bool_] | None = None
    ) -> list[Moments | None]:
        """The variants' moments; None of one with too few units."""
        variant = self.log.exposures.variant[known]
        if among is not None:
            variant = np.where(among[known], variant, -1)
        of_each = [rows[variant == place] for place in range(len(self.variants))]
        return [moments_of(each) if len(each) >= FEWEST else None for each in of_each]


def day_ends(log: ExperimentLog) -> Integers:
    """The ends of the days (UTC) since the first exposure that are over, in microseconds since 1970."""
    first = log.exposures.first
    if not len(first):
        return np.empty(0, dtype=np.int64)
    return np.arange(int(first.min()) // DAY + 1, log.until // DAY + 1, dtype=np.int64) * DAY


def _mismatch(log: ExperimentLog) -> Mismatch:
    """Whether units are split as planned, by the worst that any day's end, or now, has shown."""
    exposures, experiment = log.exposures, log.experiment
    shares = variant_shares(experiment)
    looks = np.array([*day_ends(log), log.until])
    counts = np.stack(
        [np.searchsorted(np.sort(exposures.first[exposures.variant == place]), looks) for place in range(len(shares))],
        axis=1,
    )
    evidence = float(mismatch_evidence(counts.astype(np.float64), shares).max())
    names = [variant.id for variant in experiment.variants]
    return Mismatch(
        counts=dict(zip(names, counts[-1].tolist(), strict=True)),
        shares=dict(zip(names, shares.tolist(), strict=True)),
        p_value=float(np.exp(-max(evidence, 0.0))),
    )
