"""Doubly robust estimators that give up a little truth for steadier weights, and how far they should go.

Where a target does what the log rarely did, a few large weights decide a plain estimate. These bound their
part; what they lose by it is bias, which `least_biased` weighs against what they win.
"""

from collections.abc import Sequence

import numpy as np

from decisioning.evaluation import (
    Floats,
    Log,
    Ratio,
    Terms,
    expected_reward,
    importance_weights,
    mean_of,
)

# Of the less biased one's half-width, so much counts (theorem 3 of Su et al.).
_AGREES = np.sqrt(6.0) - 1.0
_NORMAL_95 = 1.959963984540054


def self_normalised_doubly_robust(log: Log, target: Floats, q_hat: Floats) -> Terms:
    """SNDR: DR whose correction is divided by the mean weight, as SNIPS is.

    Robins, Sued, Lei-Gomez & Rotnitzky, *Comment: Performance of Double-Robust Estimators When "Inverse
    Probability" Weights Are Highly Variable*, Statistical Science 2007.
    """
    weights = importance_weights(log, target)
    expected = expected_reward(log, target, q_hat)
    error = weights * _error(log, q_hat)
    return Terms((Ratio(expected, np.ones(len(weights))), Ratio(error, weights)), weights)


def switch_doubly_robust(log: Log, target: Floats, q_hat: Floats, *, most: float) -> Terms:
    """Switch-DR: the correction where the weight is at most `most`, elsewhere the reward model alone.

    Wang, Agarwal & Dudik, *Optimal and Adaptive Off-policy Evaluation in Contextual Bandits*, ICML 2017.
    """
    weights = importance_weights(log, target)
    kept = np.where(weights <= most, weights, 0.0)
    return mean_of(expected_reward(log, target, q_hat) + kept * _error(log, q_hat), kept)


def shrunk_doubly_robust(log: Log, target: Floats, q_hat: Floats, *, shrinkage: float) -> Terms:
    """DRos: every weight w becomes `l w / (w^2 + l)`; infinite `shrinkage` (l) is DR, 0 is DM.

    Su, Dimakopoulou, Krishnamurthy & Dudik, *Doubly Robust Off-policy Evaluation with Shrinkage*, ICML 2020.
    """
    weights = importance_weights(log, target)
    shrunk = weights if np.isinf(shrinkage) else shrinkage * weights / (np.square(weights) + shrinkage)
    return mean_of(expected_reward(log, target, q_hat) + shrunk * _error(log, q_hat), shrunk)


def least_biased(candidates: Sequence[Terms]) -> int:
    """The place of the steadiest candidate that agrees with all less biased ones, which come before it.

    SLOPE: while their intervals still meet, a steadier estimate has cost no bias that could be seen.
    Candidates are means of independent rows. Su, Srinath & Krishnamurthy, *Adaptive Estimator Selection for
    Off-Policy Evaluation*, ICML 2020.

    Raises:
        ValueError: There is none.
    """
    if not candidates:
        raise ValueError("there are no candidates, must be at least one")
    values = [each.value for each in candidates]
    widths = [_half_width(each) for each in candidates]
    # A later one must not be wider, or it would be chosen for agreeing with everything.
    widths = list(np.minimum.accumulate(widths))
    for place in range(1, len(candidates)):
        agrees = all(
            abs(values[place] - values[before]) <= widths[place] + _AGREES * widths[before] for before in range(place)
        )
        if not agrees:
            return place - 1
    return len(candidates) - 1


def tuned(log: Log, target: Floats, q_hat: Floats, *, steps: int = 10) -> dict[str, tuple[float, Terms]]:
    """Switch-DR and DRos, each with the bound that the data say; by name, the bound and the terms.

    Bounds are spread over the weights that the log has, from none to the mean weight.
    """
    weights = importance_weights(log, target)
    positive = weights[weights > 0.0]
    largest = float(positive.max()) if len(positive) else 1.0
    bounds = np.geomspace(largest, max(min(largest, float(weights.mean())), 1e-3), steps).tolist()
    switched = [switch_doubly_robust(log, target, q_hat, most=bound) for bound in bounds]
    # A weight w loses w^2 / (w^2 + l) of itself: at l = w^2 a half.
    amounts = [np.inf, *(100.0 * bound**2 for bound in bounds), *(bound**2 for bound in bounds)]
    amounts = sorted(set(amounts), reverse=True)
    shrunk = [shrunk_doubly_robust(log, target, q_hat, shrinkage=amount) for amount in amounts]
    at_switch, at_shrinkage = least_biased(switched), least_biased(shrunk)
    return {
        "switch_dr": (bounds[at_switch], switched[at_switch]),
        "dros": (float(amounts[at_shrinkage]), shrunk[at_shrinkage]),
    }


def _error(log: Log, q_hat: Floats) -> Floats:
    return log.reward - q_hat[np.arange(len(log.action)), log.action]


def _half_width(terms: Terms) -> float:
    [ratio] = terms.ratios
    return float(_NORMAL_95 * ratio.numerator.std(ddof=1) / np.sqrt(len(ratio.numerator)))
