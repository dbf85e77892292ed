"""Doubly robust estimators that give up a little truth for steadier weights, and how far they should go.

Where a target does what the log rarely did, a few large weights decide a plain estimate. These bound their
part; what they lose by it is bias, which `least_error` weighs against what they win.
"""

from collections.abc import Sequence

import numpy as np

from decisioning.evaluation import (
    Floats,
    Log,
    Ratio,
    Terms,
    doubly_robust,
    expected_reward,
    importance_weights,
    mean_of,
)

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


def least_error(candidates: Sequence[Terms], unbiased: Terms) -> int:
    """The place of the candidate whose squared error is surely smallest: its variance, and all its bias may be.

    A candidate's bias is its difference to what is unbiased, row by row, and may be as large as the upper end of
    that difference's own interval: so nothing is given up that the log cannot show. All are means of independent
    rows. After Su et al., as above, section 5, and Thomas & Brunskill, *Data-Efficient Off-Policy Policy
    Evaluation*, ICML 2016.

    Raises:
        ValueError: There is none.
    """
    if not candidates:
        raise ValueError("there are no candidates, must be at least one")
    truth = _rows(unbiased)

    def error(terms: Terms) -> float:
        rows = _rows(terms)
        apart = rows - truth
        bias = abs(float(apart.mean())) + _NORMAL_95 * _standard_error(apart)
        return float(_standard_error(rows) ** 2 + bias**2)

    return int(np.argmin([error(each) for each in candidates]))


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
    plain = doubly_robust(log, target, q_hat)
    at_switch, at_shrinkage = least_error(switched, plain), least_error(shrunk, plain)
    return {
        "switch_dr": (bounds[at_switch], switched[at_switch]),
        "dros": (float(amounts[at_shrinkage]), shrunk[at_shrinkage]),
    }


def _error(log: Log, q_hat: Floats) -> Floats:
    return log.reward - q_hat[np.arange(len(log.action)), log.action]


def _rows(terms: Terms) -> Floats:
    [ratio] = terms.ratios
    return ratio.numerator


def _standard_error(rows: Floats) -> float:
    return float(rows.std(ddof=1) / np.sqrt(len(rows)))
