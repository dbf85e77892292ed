"""What live data are compared with: how features and scores were distributed when a model learnt, in a few bins.

Shares alone, of values as the model sees them (`encoding`): no row, and of numbers nothing but inner quantiles.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

BINS = 10
FEWEST = 0.01  # share of a category that has a bin of its own
SCORES = "propensity"


class Binned(msgspec.Struct, frozen=True):
    """A distribution.

    Attributes:
        edges: Of a number: where a bin ends, itself included. Empty for a category.
        codes: Of a category: those that have bins of their own, in their order; the others share the next one.
        shares: Of each bin; the last is of missing values.
        labels: What the codes mean, in their order.
    """

    name: str
    edges: tuple[float, ...]
    codes: tuple[int, ...]
    shares: tuple[float, ...]
    labels: tuple[str, ...] = ()

    def counts(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """How many of these values are in each bin, `(n_bins,)`.

        >>> ages = Binned("age", (30.0, 50.0), (), (0.5, 0.25, 0.25, 0.0))
        >>> ages.counts(np.array([20.0, 30.0, 99.0, np.nan])).tolist()
        [2.0, 0.0, 1.0, 1.0]
        """
        missing = np.isnan(values)
        known = values[~missing]
        if self.codes:
            places = np.searchsorted(self.codes, known)
            inside = np.minimum(places, len(self.codes) - 1)
            places = np.where(np.asarray(self.codes)[inside] == known, inside, len(self.codes))
        else:
            places = np.searchsorted(self.edges, known, side="left")
        found = np.bincount(places, minlength=len(self.shares)).astype(np.float64)
        found[-1] += missing.sum()
        return found


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """Of one model.

    Attributes:
        features: Those of customers and requests, instants left out: they move on by themselves.
        scores: Its propensities of all candidates, on decisions that it did not learn from; None where none were left.
        effective: How many independent customers' rows say as much (`effective_rows`).
    """

    features: tuple[Binned, ...]
    scores: Binned | None
    effective: float
    scores_effective: float = 0.0


def binned(name: str, values: NDArray[np.floating], *, categories: Sequence[str] | None = None) -> Binned:
    """The distribution of these values, `(n,)`: tenths of numbers, or of codes each of `categories` that is not rare.

    A code of none of them is of what was not known by name (`bundle.ModelFeature`).

    >>> binned("colour", np.array([0.0, 0.0, 1.0, np.nan]), categories=("blue", "red")).shares
    (0.5, 0.25, 0.0, 0.25)
    """
    known = values[~np.isnan(values)]
    if categories is not None:
        kinds, numbers = np.unique(known, return_counts=True)
        codes = tuple(int(kind) for kind in kinds[numbers >= FEWEST * max(len(values), 1)].tolist()) or (0,)
        labels = tuple(categories[code] if code < len(categories) else "any other" for code in codes)
        empty = Binned(name, (), codes, (0.0,) * (len(codes) + 2), labels)
    else:
        finite = known[np.isfinite(known)]
        edges = np.unique(np.quantile(finite, np.arange(1, BINS) / BINS)) if len(finite) else np.zeros(1)
        empty = Binned(name, tuple(edges.tolist()), (), (0.0,) * (len(edges) + 2))
    shares = empty.counts(values) / max(len(values), 1)
    return msgspec.structs.replace(empty, shares=tuple(shares.tolist()))


def effective_rows(customer: NDArray[np.int64]) -> float:
    """How many rows of different customers tell as much as these: rows of one customer may all be alike.

    `(sum n)^2 / sum n^2` over customers' numbers of rows. Kish, *Survey Sampling*, 1965, section 8.2.

    >>> effective_rows(np.array([1, 1, 2, 2]))
    2.0
    """
    _, numbers = np.unique(customer, return_counts=True)
    return float(numbers.sum()) ** 2 / float(np.square(numbers).sum()) if len(numbers) else 0.0
