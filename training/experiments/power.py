"""How many units and days an experiment takes, from who came and what they did before it."""

import math
from functools import partial

import msgspec
import numpy as np
from scipy.stats import norm
from tea_tasting.metrics import RatioOfMeans

from decisioning.errors import DataError
from decisioning.experiment_content import Experiment, Metric, variant_ends
from training.experiments.comparison import aggregates, reduction
from training.experiments.measurements import BEFORE, DAY, ExperimentLog
from training.experiments.moments import COLUMNS, DENOMINATOR, NUMERATOR, Floats, Moments, moments_of
from training.experiments.reading import FEWEST
from training.experiments.sequences import ConfidenceSequence

ALPHA, POWER = 0.05, 0.8
# Of an experiment whose traffic is not known beforehand.
PLANNED = 8_192.0


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """How many units of all variants together, and days until so many are met."""

    units: int
    days: int


class PowerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to find the minimum effect in 4 of 5 cases, with 1 false alarm in 20.

    Attributes:
        baseline: The metric's value of who would have taken part.
        explained: The share of the metric's variance that units' earlier doings explain.
        units_met: Who would have taken part in `days`, the planned length.
        detectable: The smallest relative effect that so many find, if one looks once at the end.
        fixed: Needed by who looks once, at the end; `anytime`: at most needed by who looks whenever they like.
            None without a minimum effect.
    """

    experiment: str
    metric: str
    baseline: float
    explained: float
    minimum_effect: float | None
    days: int
    units_met: int
    detectable: float
    fixed: Need | None
    anytime: Need | None


def power(log: ExperimentLog, metric: Metric) -> PowerReport:
    """What the experiment takes, by its last weeks as they would have been (`measurements.read_before`).

    Raises:
        DataError: Fewer than `FEWEST` units are known, or the metric is the same of all.
    """
    experiment, sample = log.experiment, _sample(log, metric)
    shares = variant_shares(experiment)
    control, smallest = float(shares[0]), float(shares[1:].min())
    pair, met = control + smallest, len(log.exposures)
    test = _Test(sample, ratio=smallest / control, alpha=ALPHA / (len(shares) - 1))
    fixed = anytime = None
    if experiment.minimum_effect is not None:
        units = test.units(experiment.minimum_effect)
        radius = float(ConfidenceSequence(planned_units(log), test.alpha).radius(units))
        beta, once = norm.isf(1.0 - POWER), norm.isf(test.alpha / 2.0)
        wider = float(np.square((radius + beta) / (once + beta)))
        fixed, anytime = _need(units / pair, log), _need(units / pair * wider, log)
    return PowerReport(
        experiment=experiment.id,
        metric=metric.id,
        baseline=float(sample.mean[NUMERATOR] / sample.mean[DENOMINATOR]),
        explained=test.explained,
        minimum_effect=experiment.minimum_effect,
        days=(experiment.length or BEFORE).days,
        units_met=met,
        detectable=test.effect(round(met * pair)),
        fixed=fixed,
        anytime=anytime,
    )


def _sample(log: ExperimentLog, metric: Metric) -> Moments:
    _, rows = log.rows(metric)
    if len(rows) < FEWEST:
        raise DataError(
            f"only {len(rows)} units that '{log.experiment.id}' would take are known long enough to measure"
            f" '{metric.id}', must be at least {FEWEST}; let decisions be made first, or shorten the metric's `within`"
        )
    sample = moments_of(rows)
    if not (
        sample.mean[NUMERATOR] > 0.0
        and sample.mean[DENOMINATOR] > 0.0
        and sample.covariance[NUMERATOR, NUMERATOR] > 0.0
    ):
        raise DataError(
            f"'{metric.id}' is nothing, or the same, of all {len(rows)} units that '{log.experiment.id}' would take, so"
            " nothing can be planned; is what it counts told?"
        )
    return sample


def variant_shares(experiment: Experiment) -> Floats:
    """The share of the units that each variant gets, `(k,)`."""
    ends = np.array((0, *variant_ends(experiment)), dtype=np.float64)
    return np.diff(ends) / ends[-1]


def planned_units(log: ExperimentLog) -> float:
    """Units of two variants that the planned length brings: what anytime-valid intervals are tuned to.

    To a power of two, so that a late arrival does not move it: it must be the same at every look.
    """
    pairs = 2.0 * len(log.exposures) / max(2, len(log.experiment.variants))
    return float(2.0 ** np.round(np.log2(pairs))) if pairs >= FEWEST else PLANNED


class _Test:
    """A comparison of two variants, `ratio` times as many units in the second; by tea-tasting."""

    def __init__(self, sample: Moments, *, ratio: float, alpha: float) -> None:
        self.alpha = alpha
        self.explained = float(reduction(sample, sample))
        self._sample = aggregates(sample)
        columns = COLUMNS if self.explained > 0.0 else COLUMNS[:2]
        # By the normal distribution: of 1 unit in the smaller variant, where the search begins, Student's t is not.
        self._metric = partial(RatioOfMeans, *columns, ratio=ratio, alpha=alpha, power=POWER, use_t=False)

    def units(self, effect: float) -> float:
        """How many units find this relative effect."""
        [found] = self._metric(rel_effect_size=effect).solve_power_from_aggregates(self._sample, "n_obs")
        return float(found.n_obs)

    def effect(self, units: int) -> float:
        """The relative effect that so many units find."""
        [found] = self._metric(n_obs=max(units, 4)).solve_power_from_aggregates(self._sample, "rel_effect_size")
        return float(found.rel_effect_size)


def _need(units: float, log: ExperimentLog) -> Need:
    """So many units, and the days until they are met: as they were met then, and after that at the same pace."""
    wanted = math.ceil(units)
    arrivals = np.sort(log.exposures.first)
    if wanted <= len(arrivals):
        return Need(units=wanted, days=math.ceil((arrivals[wanted - 1] - arrivals[0] + 1) / DAY))
    lasted = (log.until - arrivals[0]) / DAY
    return Need(units=wanted, days=math.ceil(lasted * wanted / len(arrivals)))
