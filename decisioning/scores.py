"""What is believed of the candidates of a decision: the model's word, and what was learnt since it was trained."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from decisioning.bundle import Scored

Floats = NDArray[np.floating]


class Scores(NamedTuple):
    """Of each remaining candidate, `(n,)` each, in their order.

    Attributes:
        propensities: The model's, calibrated.
        baseline: Its propensity of showing nothing, where a candidate ranks by uplift and the model has
            not learnt uplift itself.
        uplifts: Of a model that has.
        shifts: What the online posterior adds to the log-odds of each; None: nothing is known.
        sds: How far the log-odds may be off, as a standard deviation; None: they are taken as known.
        posterior: Which state of the online posterior gave the shifts.
        members: The propensities by each model of an ensemble, `(n, n_members)`; None without one.
    """

    propensities: Floats
    baseline: float | None = None
    uplifts: Floats | None = None
    shifts: Floats | None = None
    sds: Floats | None = None
    posterior: str | None = None
    members: Floats | None = None

    @property
    def corrected(self) -> NDArray[np.float64]:
        """Propensities with the shifts in, `(n,)`; to the bit what the model said where there is none.

        >>> Scores(np.array([0.5, 0.5]), shifts=np.array([0.0, np.log(3.0)])).corrected.round(3).tolist()
        [0.5, 0.75]
        """
        return moved(self.propensities, self.shifts)

    @property
    def corrected_members(self) -> NDArray[np.float64] | None:
        """The members' likewise, each by the shift of its candidate, `(n_members, n)`."""
        return None if self.members is None else moved(self.members.T, self.shifts)


def scores_of(scored: Scored, *, with_baseline: bool) -> Scores:
    """A graph's answer on the candidates; `with_baseline`, its last row is that of showing nothing."""
    if not with_baseline:
        return Scores(scored.propensity, uplifts=scored.uplift, sds=scored.sd, members=scored.members)
    each = [None if values is None else values[:-1] for values in scored]
    propensities, sds, uplifts, members = each
    assert propensities is not None
    return Scores(propensities, float(scored.propensity[-1]), uplifts, sds=sds, members=members)


def moved(propensities: Floats, shifts: Floats | None) -> NDArray[np.float64]:
    """Propensities, `(..., n)`, with `shifts`, `(n,)`, added to their log-odds; to the bit the same without a shift."""
    chances = np.asarray(propensities, dtype=np.float64)
    if shifts is None:
        return chances
    odds = np.exp(np.asarray(shifts, dtype=np.float64))
    return np.where(shifts == 0.0, chances, chances * odds / (1.0 - chances + chances * odds))
