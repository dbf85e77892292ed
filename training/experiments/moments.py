"""What a comparison needs of a variant's units: how many, and the means and covariances of their columns.

Whatever compares takes these and no rows. Leading axes may stand for anything (looks, simulated experiments):
they broadcast, so that one call compares thousands of samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A unit's columns: what a metric's value is, over what; then the same of the time before its first exposure.
COLUMNS = ("numerator", "denominator", "numerator_before", "denominator_before")
NUMERATOR, DENOMINATOR, NUMERATOR_BEFORE, DENOMINATOR_BEFORE = range(len(COLUMNS))


@dataclass(frozen=True, slots=True)
class Moments:
    """Of a sample of units.

    Attributes:
        count: How many, `(...)`.
        mean: Of each of `COLUMNS`, `(..., 4)`.
        covariance: Of each two, `(..., 4, 4)`; unbiased (over `count - 1`).
    """

    count: Floats
    mean: Floats
    covariance: Floats

    def __add__(self, other: "Moments") -> "Moments":
        """Of both samples together. Chan, Golub & LeVeque, *The American Statistician* 37, 1983, formula 2.1."""
        count = self.count + other.count
        apart = self.mean - other.mean
        mean = (self.count[..., None] * self.mean + other.count[..., None] * other.mean) / count[..., None]
        own, others = ((each.count - 1.0)[..., None, None] * each.covariance for each in (self, other))
        between = (self.count * other.count / count)[..., None, None] * apart[..., :, None] * apart[..., None, :]
        return Moments(count, mean, (own + others + between) / (count - 1.0)[..., None, None])


def moments_of(rows: Floats) -> Moments:
    """The moments of units' columns, `(n, 4)`.

    >>> moments_of(np.array([[1.0, 1.0, 0.0, 1.0], [3.0, 1.0, 0.0, 1.0]])).mean.tolist()
    [2.0, 1.0, 0.0, 1.0]

    Raises:
        ValueError: There are fewer than 2 units.
    """
    if len(rows) < 2:
        raise ValueError(f"there are {len(rows)} units, must be at least 2")
    mean = rows.mean(axis=0)
    apart = rows - mean
    return Moments(np.asarray(float(len(rows))), mean, apart.T @ apart / (len(rows) - 1.0))


def moments_of_sums(count: Floats, sums: Floats, products: Floats) -> Moments:
    """The moments of samples of which only sums are kept: `(...)`, `(..., 4)` and `(..., 4, 4)`."""
    mean = sums / count[..., None]
    covariance = (products - count[..., None, None] * mean[..., :, None] * mean[..., None, :]) / (count - 1.0)[
        ..., None, None
    ]
    return Moments(count, mean, covariance)
