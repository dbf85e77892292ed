"""One variant beside the control: how much larger its mean or ratio is, and how far that may be off.

A metric's value is a ratio of two means (a plain mean divides by 1). What the units did before their first
exposure explains part of their differences and is taken out (CUPED). The formulae are those of tea-tasting, which
also gives the fixed-horizon intervals; here they broadcast, as anytime-valid intervals and simulations need.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from tea_tasting.aggr import Aggregates
from tea_tasting.metrics import RatioOfMeans

from training.experiments.moments import (
    COLUMNS,
    DENOMINATOR,
    DENOMINATOR_BEFORE,
    NUMERATOR,
    NUMERATOR_BEFORE,
    Floats,
    Moments,
)


class Adjusted(NamedTuple):
    """A variant's value and the variance of that value (not of one unit), `(...)` both."""

    value: Floats
    variance: Floats


@dataclass(frozen=True)
class Comparison:
    """A variant's value against the control's, `(...)` of whatever axes the moments have."""

    control: Adjusted
    variant: Adjusted

    @cached_property
    def difference(self) -> Floats:
        """The variant's value minus the control's."""
        return self.variant.value - self.control.value

    @cached_property
    def error(self) -> Floats:
        """The standard error of the difference."""
        return np.sqrt(self.control.variance + self.variant.variance)

    @cached_property
    def relative(self) -> Floats:
        """The difference as a share of the control's value; NaN where that is not above 0."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.control.value > 0.0, self.difference / self.control.value, np.nan)

    @cached_property
    def log_error(self) -> Floats:
        """The standard error of the logarithm of `1 + relative`; NaN where a value is not above 0.

        The delta method: Deng, Knoblich & Lu, *Applying the Delta Method in Metric Analytics*, KDD 2018, section 2.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = [each.variance / np.square(each.value) for each in (self.control, self.variant)]
            both = (self.control.value > 0.0) & (self.variant.value > 0.0)
            return np.where(both, np.sqrt(shares[0] + shares[1]), np.nan)


class Fixed(NamedTuple):
    """What may be said when one looks once: intervals, and the chance of so much without any effect.

    The relative interval is None where a value is 0.
    """

    low: float
    high: float
    relative_low: float | None
    relative_high: float | None
    p_value: float


def compare(control: Moments, variant: Moments) -> Comparison:
    """A variant against the control, with what explains part of both taken out.

    >>> from training.experiments.moments import moments_of
    >>> def sample(*values):
    ...     return moments_of(np.array([[value, 1.0, 0.0, 1.0] for value in values]))
    >>> found = compare(sample(0.0, 1.0), sample(1.0, 2.0))
    >>> float(found.difference), round(float(found.error), 3)
    (1.0, 0.707)
    """
    total = control + variant
    taken, centre = explained(total), before(total)
    return Comparison(*(adjusted(each, taken, centre) for each in (control, variant)))


def before(sample: Moments) -> Floats:
    """The metric's value of the time before; 0 where there is nothing to divide by."""
    over = sample.mean[..., DENOMINATOR_BEFORE]
    return sample.mean[..., NUMERATOR_BEFORE] / np.where(over == 0.0, 1.0, over)


def explained(total: Moments) -> Floats:
    """How much of what a unit did before is taken off its value, per unit of it: `cov(y, x) / var(x)`, `(...)`.

    0 where nothing was done before. Deng, Xu, Kohavi & Walker, *Improving the Sensitivity of Online Controlled
    Experiments by Utilizing Pre-Experiment Data*, WSDM 2013, formula 5; of ratios, with their first-order terms.
    """
    value, past = _gradient(total, NUMERATOR, DENOMINATOR), _gradient(total, NUMERATOR_BEFORE, DENOMINATOR_BEFORE)
    varies = _bilinear(past, total, past)
    return np.divide(_bilinear(value, total, past), varies, out=np.zeros_like(varies), where=varies > 0.0)


def adjusted(sample: Moments, taken: Floats | float, centre: Floats) -> Adjusted:
    """The sample's value, with so much (`explained`) of what its units did before `centre` taken off."""
    mean = sample.mean
    with np.errstate(invalid="ignore", divide="ignore"):
        value = mean[..., NUMERATOR] / mean[..., DENOMINATOR]
    off = np.asarray(taken, dtype=np.float64)
    slope = _gradient(sample, NUMERATOR, DENOMINATOR)
    slope = slope - off[..., None] * _gradient(sample, NUMERATOR_BEFORE, DENOMINATOR_BEFORE)
    return Adjusted(value - off * (before(sample) - centre), _bilinear(slope, sample, slope) / sample.count)


def reduction(control: Moments, variant: Moments) -> Floats:
    """The share of the difference's variance that is explained by what was done before, `(...)`."""
    plain = [adjusted(each, 0.0, np.zeros(())).variance for each in (control, variant)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1.0 - np.square(compare(control, variant).error) / (plain[0] + plain[1])


def fixed_horizon(control: Moments, variant: Moments, *, level: float = 0.95) -> Fixed:
    """tea-tasting's interval and p-value (Welch's t) of one comparison; valid if one looks once."""
    columns = COLUMNS if explained(control + variant) != 0.0 else COLUMNS[:2]
    found = RatioOfMeans(*columns, confidence_level=level).analyze_aggregates(aggregates(control), aggregates(variant))
    relative = [float(bound) for bound in (found.rel_effect_size_ci_lower, found.rel_effect_size_ci_upper)]
    low, high = relative if np.isfinite(relative).all() else (None, None)
    return Fixed(float(found.effect_size_ci_lower), float(found.effect_size_ci_upper), low, high, float(found.pvalue))


def aggregates(sample: Moments) -> Aggregates:
    """The moments as tea-tasting takes them."""
    covariance = sample.covariance
    return Aggregates(
        count_=int(sample.count),
        mean_={name: float(mean) for name, mean in zip(COLUMNS, sample.mean, strict=True)},
        var_={name: float(covariance[place, place]) for place, name in enumerate(COLUMNS)},
        cov_={
            (COLUMNS[one], COLUMNS[other]): float(covariance[one, other])
            for one in range(len(COLUMNS))
            for other in range(one)
        },
    )


def _gradient(sample: Moments, numerator: int, denominator: int) -> Floats:
    """How the ratio of two means moves with each of the columns' means, `(..., 4)`; not, where it is over nothing."""
    over = sample.mean[..., denominator]
    slope = np.zeros_like(sample.mean)
    inverse = np.divide(1.0, over, out=np.zeros_like(over), where=over != 0.0)
    slope[..., numerator] = inverse
    slope[..., denominator] = -sample.mean[..., numerator] * np.square(inverse)
    return slope


def _bilinear(one: Floats, sample: Moments, other: Floats) -> Floats:
    return np.einsum("...i,...ij,...j->...", one, sample.covariance, other)
