"""Calibration: so that "18 %" means that 18 of 100 such customers respond."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

Floats = NDArray[np.float64]
# A propensity outside says more than any calibration slice can; it also keeps the logit finite.
FLOOR = 1e-6
BINS = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """`sigmoid(slope * logit(p) + intercept)`: smooth, so that float32 can follow it.

    (Isotonic regression turns a difference of 3e-7 before one of its steps into 1.6e-4 after it.)
    Platt, *Probabilistic Outputs for Support Vector Machines*, 1999, on the logit scale.

    >>> Calibration(slope=1.0, intercept=0.0).apply(np.array([0.25])).round(6).tolist()
    [0.25]
    """

    slope: float
    intercept: float

    def apply(self, scores: Floats) -> Floats:
        """Calibrated propensities of these uncalibrated ones, `(n,)` both."""
        return expit(self.slope * logit(np.clip(scores, FLOOR, 1.0 - FLOOR)) + self.intercept)


def fit_calibration(scores: Floats, success: NDArray[np.int64]) -> Calibration:
    """The calibration under which these outcomes are likeliest; `scores` and `success` are `(n,)`.

    Targets are Platt's: slightly inside 0 and 1, which keeps a small slice from claiming certainty.
    A slope below 0 would say that the model ranks backwards; then it is worth nothing and all get
    the same propensity.

    >>> rng = np.random.default_rng(0)
    >>> true = rng.uniform(0.05, 0.3, 20_000)
    >>> too_sure = true**2 / (true**2 + (1 - true) ** 2)
    >>> learnt = fit_calibration(too_sure, rng.binomial(1, true))
    >>> round(learnt.slope, 1)
    0.5
    """
    x = logit(np.clip(scores, FLOOR, 1.0 - FLOOR))
    positives = float(success.sum())
    negatives = len(success) - positives
    target = np.where(success > 0, (positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0))

    def loss(parameters: Floats) -> tuple[float, Floats]:
        z = parameters[0] * x + parameters[1]
        error = expit(z) - target
        return float((np.logaddexp(0.0, z) - target * z).mean()), np.array([(error * x).mean(), error.mean()])

    slope, intercept = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    if slope <= 0.0:
        slope, intercept = 0.0, logit(target.mean())
    return Calibration(float(slope), float(intercept))


def reliability(scores: Floats, success: NDArray[np.int64], *, bins: int = BINS) -> NDArray[np.float64]:
    """Rows in order of their score, cut into bins of equal mass: `(bins, 3)` of score, rate, rows."""
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return np.array([[scores[part].mean(), success[part].mean(), len(part)] for part in parts])


def calibration_error(scores: Floats, success: NDArray[np.int64], *, bins: int = BINS) -> float:
    """Expected calibration error: the mean gap between score and rate over bins of equal mass.

    Equal mass, because most propensities are small and equal widths would put nearly all of them
    into one bin. Naeini, Cooper & Hauskrecht, AAAI 2015; Nixon et al., CVPR workshops 2019.

    >>> calibration_error(np.array([0.2, 0.2, 0.8, 0.8]), np.array([0, 0, 1, 1]), bins=2)
    0.2
    """
    score, rate, rows = reliability(scores, success, bins=bins).T
    return round(float((np.abs(score - rate) * rows).sum() / rows.sum()), 12)
