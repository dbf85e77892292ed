"""Intervals and tests that hold at every look at once: look as often as you like, and stop when you like.

They cost width: about half as much again as an interval for one look. How the width is shared out over time is
tuned to a planned number of units, which must be set before there is anything to see.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, lambertw

from training.experiments.moments import Floats

# Prior units of the mismatch test: it is sharpest at about ten times as many.
CONCENTRATION = 1_000.0


@dataclass(frozen=True, slots=True)
class ConfidenceSequence:
    """Asymptotic confidence sequence of a mean: `estimate ± radius(n) * standard error`.

    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, *Time-uniform central limit theory and asymptotic confidence
    sequences*, Annals of Statistics 52, 2024, theorem 2.2 (normal mixture), with `n rho^2` written as
    `information * n / planned`. An experiment's difference is such a mean, of one term for each unit (section 3).

    Attributes:
        planned: Units, of both variants together, at which it is narrowest.
        alpha: The chance that it ever leaves out the truth.
    """

    planned: float
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not self.planned > 0.0:
            raise ValueError(f"planned is {self.planned}, must be above 0")
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(f"alpha is {self.alpha}, must be between 0 and 1")

    @property
    def information(self) -> float:
        """`planned * rho^2` at which the radius is smallest there: `-W(-alpha^2 / e) - 1`.

        Waudby-Smith et al., appendix B.2; W is the lower branch of Lambert's function.
        """
        return float(-lambertw(-(self.alpha**2) / math.e, k=-1).real - 1.0)

    def radius(self, n: Floats | float) -> Floats:
        """How many standard errors wide it is on each side after `n` units, `(...)`.

        >>> round(float(ConfidenceSequence(planned=1_000).radius(1_000)), 2)
        3.04
        """
        r = self.information * np.asarray(n, dtype=np.float64) / self.planned
        return np.sqrt((1.0 + r) / r * (np.log1p(r) - 2.0 * math.log(self.alpha)))

    def p_value(self, z: Floats | float, n: Floats | float) -> Floats:
        """The smallest error at which the interval after `n` units would leave out 0; `z` is estimate over error.

        It is below `alpha` just when the interval does. Two-sided, and valid at whatever look one stops.

        >>> sequence = ConfidenceSequence(planned=1_000)
        >>> round(float(sequence.p_value(sequence.radius(500), 500)), 12)
        0.05
        """
        r = self.information * np.asarray(n, dtype=np.float64) / self.planned
        evidence = 0.5 * (r / (1.0 + r) * np.square(z) - np.log1p(r))
        return np.exp(-np.maximum(evidence, 0.0))


def mismatch_evidence(counts: Floats, shares: Floats) -> Floats:
    """The logarithm of how much likelier these counts, `(..., k)`, are under other shares than under `shares`, `(k,)`.

    A Dirichlet mixture over all shares, around those that are meant. `exp(-largest so far)` is an anytime-valid
    p-value. Lindon & Malek, *Anytime-Valid Inference For Multinomial Count Data*, NeurIPS 2022, formula 6.

    >>> meant = np.array([0.5, 0.5])
    >>> found = mismatch_evidence(np.array([[5_000.0, 5_000.0], [5_400.0, 4_600.0]]), meant)
    >>> bool(found[0] < 0.0), bool(np.exp(-found[1]) < 0.001)
    (True, True)
    """
    prior = CONCENTRATION * shares
    posterior = prior + counts
    mixture = _log_beta(posterior) - _log_beta(prior)
    return mixture - (counts * np.log(shares)).sum(axis=-1)


def _log_beta(parts: Floats) -> Floats:
    return gammaln(parts).sum(axis=-1) - gammaln(parts.sum(axis=-1))
