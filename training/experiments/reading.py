"""What is known of one metric under one variant, beside the control: values, intervals, and what a choice may cost."""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from scipy.stats import norm

from decisioning.experiment_content import Metric
from training.experiments.comparison import Comparison, Fixed, compare, fixed_horizon, reduction
from training.experiments.moments import Moments
from training.experiments.sequences import ConfidenceSequence

# Fewer units than these, and an interval that trusts in averages is not to be trusted.
FEWEST = 100


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A metric under a variant, against the control.

    Intervals are at the level that the report states, and hold at every look together; `fixed` is for one look.

    Attributes:
        units, control_units: That the value rests on.
        relative, relative_low, relative_high: As a share of the control's value; None where that is not above 0.
        p_value: Anytime-valid.
        explained: Share of the variance that was taken out by what units did before.
        chance_better: That the variant is better, by a normal posterior without prior knowledge.
        expected_loss: What choosing the variant costs on average, where it is worse after all; as `difference`.
            `expected_loss_of_control`: what staying costs. Stucchio, *Bayesian A/B Testing at VWO*, 2015.
    """

    metric: str
    variant: str
    better: Literal["higher", "lower"]
    units: int
    control_units: int
    value: float
    control: float
    difference: float
    low: float
    high: float
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    p_value: float
    fixed: Fixed
    explained: float
    chance_better: float
    expected_loss: float
    expected_loss_of_control: float

    @property
    def is_better(self) -> bool:
        """Whether it is surely better than the control."""
        return self.low > 0.0 if self.better == "higher" else self.high < 0.0

    @property
    def is_worse(self) -> bool:
        """Whether it is surely worse."""
        return self.high < 0.0 if self.better == "higher" else self.low > 0.0

    def does_no_harm(self, margin: float) -> bool:
        """Whether it is surely not worse by this share of the control's value."""
        if self.relative_low is None or self.relative_high is None:
            return False
        return self.relative_low > -margin if self.better == "higher" else self.relative_high < margin


def read(
    metric: Metric, variant: str, control: Moments, sample: Moments, sequence: ConfidenceSequence
) -> Reading | None:
    """The metric under a variant; None while there are too few units, or nothing varies."""
    if min(control.count, sample.count) < FEWEST:
        return None
    compared = compare(control, sample)
    error = float(compared.error)
    if not error > 0.0:
        return None
    n = float(control.count + sample.count)
    radius, difference = float(sequence.radius(n)), float(compared.difference)
    relative = relative_bounds(compared, radius)
    gain = difference if metric.better == "higher" else -difference
    return Reading(
        metric=metric.id,
        variant=variant,
        better=metric.better,
        units=int(sample.count),
        control_units=int(control.count),
        value=float(compared.variant.value),
        control=float(compared.control.value),
        difference=difference,
        low=difference - radius * error,
        high=difference + radius * error,
        relative=None if relative is None else float(compared.relative),
        relative_low=None if relative is None else relative[0],
        relative_high=None if relative is None else relative[1],
        p_value=float(sequence.p_value(difference / error, n)),
        fixed=fixed_horizon(control, sample),
        explained=float(reduction(control, sample)),
        chance_better=float(norm.cdf(gain / error)),
        expected_loss=expected_loss(gain, error),
        expected_loss_of_control=expected_loss(-gain, error),
    )


def relative_bounds(compared: Comparison, radius: float) -> tuple[float, float] | None:
    """The interval of `Comparison.relative`, made on the logarithm; None where a value is not above 0."""
    half = radius * float(compared.log_error)
    if not np.isfinite(half):
        return None
    ratio = 1.0 + float(compared.relative)
    return ratio * float(np.exp(-half)) - 1.0, ratio * float(np.exp(half)) - 1.0


def expected_loss(gain: float, error: float) -> float:
    """`E[max(-effect, 0)]` of an effect that is normal around `gain`.

    >>> round(expected_loss(0.0, 1.0), 4), expected_loss(9.0, 1.0) < 1e-18
    (0.3989, True)
    """
    z = gain / error
    return error * float(norm.pdf(z)) - gain * float(norm.cdf(-z))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of which any may be acted on when it is small: the chance of a single false one stays as it is said.

    Whatever the tests have to do with each other, as overlapping audiences do; so not Benjamini & Hochberg, which
    bounds the share of false ones among those that are reported, while each is acted on by somebody. Holm, *A Simple
    Sequentially Rejective Multiple Test Procedure*, Scandinavian Journal of Statistics 6, 1979.

    >>> [round(p, 4) for p in holm([0.04, 0.01, 0.03])]
    [0.06, 0.03, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    sorted_p = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    found = np.empty(len(p_values))
    found[order] = np.minimum(np.maximum.accumulate(sorted_p), 1.0)
    return found.tolist()
