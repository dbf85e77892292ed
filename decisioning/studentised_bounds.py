"""How much more one policy earns than another, with bounds at any level, also far out in the tail.

A bootstrap of 1,000 replications knows nothing beyond one in a thousand, and who asks every hour must
be surer than that. Here the error comes from what each customer adds, and Student's quantile with as many
degrees of freedom as customers really speak: where few of them decide, the bounds are wide.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from decisioning.conservative_intervals import Bounds
from decisioning.evaluation import Floats, Terms, effective_sample_size


class Advantage(NamedTuple):
    """What one policy earns a decision above another.

    Attributes:
        value: The paired difference.
        error: Its standard error over customers.
        freedom: Degrees of freedom of `error`: about twice the customers on whom the difference rests.
        agreeing: How many logged choices agree with the one policy and not with the other, as an effective
            sample size, of whichever there are fewer. Without any the difference is what a reward model
            believes, however small its error looks.
    """

    value: float
    error: float
    freedom: float
    agreeing: float = math.inf

    def bounds(self, alpha: float) -> Bounds:
        """The lower and the upper bound, each of which is wrong with probability `alpha`.

        >>> low, high = Advantage(value=1.0, error=0.5, freedom=1e6).bounds(0.025)
        >>> round(low, 2), round(high, 2)
        (0.02, 1.98)

        Raises:
            ValueError: `alpha` is not between 0 and 1/2.
        """
        if not 0.0 < alpha <= 0.5:
            raise ValueError(f"alpha is {alpha}, must be above 0 and at most 0.5")
        half = float(t.isf(alpha, self.freedom)) * self.error if self.error > 0.0 else 0.0
        return Bounds(self.value - half, self.value + half)


def advantage(policy: Terms, other: Terms, customer: NDArray[np.int64]) -> Advantage:
    """How much more `policy` earns than `other`; rows of one customer, `(n,)` codes, count as one.

    The error is that of the estimates' first-order terms, summed by customer: Cameron & Miller, *A
    Practitioner's Guide to Cluster-Robust Inference*, JHR 2015, section II. Its own scatter gives the degrees
    of freedom, `2 G / (kurtosis - 1)` of `G` customers, at most `G - 1`: Box, *Non-Normality and Tests on
    Variances*, Biometrika 1953, section 2.

    >>> from decisioning.evaluation import Ratio
    >>> ones = np.ones(4)
    >>> def earned(*rows):
    ...     return Terms((Ratio(np.array(rows), ones),), ones)
    >>> found = advantage(earned(1.0, 3.0, 1.0, 3.0), earned(1.0, 1.0, 1.0, 1.0), np.arange(4))
    >>> found.value, round(found.error, 3), found.freedom
    (1.0, 0.577, 3.0)

    Raises:
        ValueError: There are fewer than 2 customers.
    """
    rows = _first_order(policy) - _first_order(other)
    _, code = np.unique(customer, return_inverse=True)
    added: Floats = np.bincount(code, weights=rows).astype(np.float64)
    apart = policy.weights - other.weights
    agreeing = min(effective_sample_size(np.maximum(side, 0.0)) for side in (apart, -apart))
    return of_customers(policy.value - other.value, added)._replace(agreeing=agreeing)


def of_customers(value: float, added: Floats) -> Advantage:
    """An advantage, given what each customer adds to its difference from the truth, `(n_customers,)`, sum 0.

    Raises:
        ValueError: There are fewer than 2 customers.
    """
    n = len(added)
    if n < 2:
        raise ValueError(f"there are {n} customers, must be at least 2")
    squares = np.square(added)
    total = float(squares.sum())
    if total == 0.0:  # the two choose alike
        return Advantage(value, 0.0, n - 1.0)
    kurtosis = n * float(np.square(squares).sum()) / total**2
    freedom = min(n - 1.0, 2.0 * n / (kurtosis - 1.0)) if kurtosis > 1.0 else n - 1.0
    return Advantage(value, float(np.sqrt(total * n / (n - 1.0))), freedom)


def _first_order(terms: Terms) -> Floats:
    """What each row adds to the estimate's difference from the truth, `(n,)`."""
    return np.sum(
        [
            (numerator - denominator * (numerator.sum() / denominator.sum())) / denominator.sum()
            for numerator, denominator in terms.ratios
        ],
        axis=0,
    )
