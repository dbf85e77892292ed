"""How far the log-odds of an action's propensity may be off, before the online posterior has seen anything.

How much actions differ from each other is learnt from those that were met: each action's shift of the
log-odds from what all have in common is estimated from its rows, and the spread behind the estimates, which
their own errors widen, by maximum likelihood of the normal-normal model (empirical Bayes: Efron & Morris,
*Data Analysis Using Stein's Estimator*, JASA 70, 1975, section 3). With that spread a new action begins; one
that was met begins with what its rows leave of it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logit

Floats = NDArray[np.float64]

# With few actions their spread is hardly known: it is believed to be about this, as sure as so many actions make it.
USUAL_SPREAD = 1.0
USUAL_WEIGHT = 2.0
_LEAST, _MOST = 0.05, 3.0


class ActionPriors(NamedTuple):
    """Standard deviations of log-odds, by action that was met, and of any other."""

    by_action: dict[str, float]
    new: float


def action_priors(action_ids: NDArray[np.object_], success: NDArray[np.int64]) -> ActionPriors:
    """Learnt from the rows that a model was trained on: the action of each and whether it succeeded, `(n,)`.

    >>> rng = np.random.default_rng(1)
    >>> truth = {f"a{n}": 0.05 * np.exp(0.5 * rng.standard_normal()) for n in range(40)}
    >>> met = np.array([name for name in truth for _ in range(4_000)], dtype=object)
    >>> priors = action_priors(met, (rng.random(len(met)) < [truth[name] for name in met]).astype(np.int64))
    >>> round(priors.new, 1), round(priors.by_action["a0"], 1)
    (0.5, 0.1)
    """
    names, place = np.unique(action_ids.astype(str), return_inverse=True)
    trials = np.bincount(place).astype(np.float64)
    successes = np.bincount(place, weights=success.astype(np.float64))
    common = (success.sum() + 0.5) / (len(success) + 1.0)
    # Half a success and half a failure more: an action without any has a finite shift and a large error.
    chance = (successes + 0.5) / (trials + 1.0)
    shifts = logit(chance) - logit(common)
    errors = 1.0 / ((trials + 1.0) * chance * (1.0 - chance))
    new = _spread(shifts, errors)
    left = 1.0 / np.sqrt(1.0 / new**2 + 1.0 / errors)
    return ActionPriors(dict(zip(names.tolist(), left.tolist(), strict=True)), new)


def _spread(shifts: Floats, errors: Floats) -> float:
    """The standard deviation behind estimates with these variances; their common mean is a nuisance, and not 0."""

    def surprise(log_spread: float) -> float:
        variances = np.exp(2.0 * log_spread) + errors
        mean = np.average(shifts, weights=1.0 / variances)
        fit = 0.5 * float(np.sum(np.log(variances) + (shifts - mean) ** 2 / variances))
        return fit + 0.5 * USUAL_WEIGHT * (log_spread - np.log(USUAL_SPREAD)) ** 2

    found = minimize_scalar(surprise, bounds=(np.log(_LEAST), np.log(_MOST)), method="bounded")
    return float(np.exp(found.x))
