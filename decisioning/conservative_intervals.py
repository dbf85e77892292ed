"""Intervals that hold for any bounded rows, however skewed: at a fixed size, or at every size at once.

They cost width, and want to know the smallest and the largest that a row can be: of IPS 0 and the largest
weight times the largest reward. Rows are independent: one a customer.
"""

import math
from typing import NamedTuple

import numpy as np

from decisioning.evaluation import Floats, Log, importance_weights


class Bounds(NamedTuple):
    """An interval of a mean."""

    low: float
    high: float


def empirical_bernstein(rows: Floats, *, least: float, most: float, level: float = 0.95) -> Bounds:
    """An interval for the mean of these rows, `(n,)`, that holds at this size with probability `level` or more.

    Maurer & Pontil, *Empirical Bernstein Bounds and Sample-Variance Penalization*, COLT 2009, theorem 4, for
    both sides.

    >>> bounds = empirical_bernstein(np.tile([0.0, 1.0], 500), least=0.0, most=1.0)
    >>> round(bounds.low, 2), round(bounds.high, 2)
    (0.44, 0.56)

    Raises:
        ValueError: There are fewer than 2 rows, or one outside the bounds.
    """
    scaled = _scaled(rows, least, most)
    n, log = len(scaled), math.log(4.0 / (1.0 - level))
    half = math.sqrt(2.0 * float(scaled.var(ddof=1)) * log / n) + 7.0 * log / (3.0 * (n - 1))
    return _unscaled(float(scaled.mean()) - half, float(scaled.mean()) + half, least, most)


def confidence_sequence(rows: Floats, *, least: float, most: float, level: float = 0.95) -> tuple[Floats, Floats]:
    """Lower and upper bounds after each row, `(n,)` both: all of them hold together with probability `level`.

    So one may look after every row and stop when one likes. Predictable plug-in empirical Bernstein:
    Waudby-Smith & Ramdas, *Estimating Means of Bounded Random Variables by Betting*, JRSS B 2024, theorem 2.

    Raises:
        ValueError: There are fewer than 2 rows, or one outside the bounds.
    """
    x = _scaled(rows, least, most)
    n, alpha = len(x), 1.0 - level
    t = np.arange(1, n + 1)
    # What is known before each row: the first is met with the middle.
    means = (0.5 + np.cumsum(x)) / (t + 1)
    before = np.concatenate([[0.5], means[:-1]])
    variances = (0.25 + np.cumsum(np.square(x - means))) / (t + 1)
    variance_before = np.concatenate([[0.25], variances[:-1]])
    bets = np.minimum(np.sqrt(2.0 * math.log(2.0 / alpha) / (variance_before * t * np.log(1.0 + t))), 0.5)
    cost = 4.0 * np.square(x - before) * (-np.log1p(-bets) - bets) / 4.0
    staked = np.cumsum(bets)
    centre = np.cumsum(bets * x) / staked
    half = (math.log(2.0 / alpha) + np.cumsum(cost)) / staked
    low = np.maximum.accumulate(np.clip(centre - half, 0.0, 1.0))
    high = np.minimum.accumulate(np.clip(centre + half, 0.0, 1.0))
    return least + (most - least) * low, least + (most - least) * high


class Conservative(NamedTuple):
    """Intervals of a policy's value: at this size of the log, and as one that may be looked at after every row."""

    bernstein: Bounds
    sequence: Bounds


def conservative_value(
    log: Log, target: Floats, *, least: float, most: float, rarest: float, level: float = 0.95
) -> Conservative:
    """What a policy may earn, by IPS, whatever the distribution of rewards between `least` and `most`.

    A customer's rows count together, since they are not independent; customers stand in the order of their first
    row. `rarest` is the smallest chance with which the log could choose anything: no weight can be above the target's
    largest chance over it.

    >>> only = np.ones((1000, 1))
    >>> log = Log(np.tile([0.0, 1.0], 500), np.zeros(1000, int), np.ones(1000), np.arange(1000), only > 0.0)
    >>> held = conservative_value(log, only, least=0.0, most=1.0, rarest=1.0)
    >>> round(held.bernstein.low, 2), round(held.bernstein.high, 2)
    (0.44, 0.56)

    Raises:
        DataError: A row of `target` is no distribution over what was available.
        ValueError: There are fewer than 2 customers, or a reward or chance outside the bounds.
    """
    weights = importance_weights(log, target)
    _, first, cluster = np.unique(log.customer, return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first))[cluster]
    n, n_clusters = len(weights), len(first)
    earned = np.asarray(weights * (log.reward - least), dtype=np.float64)
    rows = np.asarray(np.bincount(place, weights=earned), dtype=np.float64) * (n_clusters / n)
    largest = float(np.bincount(place).max()) * (n_clusters / n) * (most - least) * float(target.max()) / rarest
    fixed = empirical_bernstein(rows, least=0.0, most=largest, level=level)
    low, high = confidence_sequence(rows, least=0.0, most=largest, level=level)

    def shifted(bounds: Bounds) -> Bounds:
        return Bounds(least + bounds.low, min(most, least + bounds.high))  # no policy earns more than `most`

    return Conservative(shifted(fixed), shifted(Bounds(float(low[-1]), float(high[-1]))))


def _scaled(rows: Floats, least: float, most: float) -> Floats:
    if len(rows) < 2:
        raise ValueError(f"there are {len(rows)} rows, must be at least 2")
    if not most > least:
        raise ValueError(f"most is {most}, must be above least ({least})")
    if rows.min() < least or rows.max() > most:
        raise ValueError(f"rows lie between {rows.min()} and {rows.max()}, must lie between {least} and {most}")
    return (rows - least) / (most - least)


def _unscaled(low: float, high: float, least: float, most: float) -> Bounds:
    span = most - least
    return Bounds(least + span * max(low, 0.0), least + span * min(high, 1.0))
