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
    """

    propensities: Floats
    baseline: float | None = None
    uplifts: Floats | None = None
    shifts: Floats | None = None
    sds: Floats | None = None
    posterior: str | None = None

    @property
    def corrected(self) -> NDArray[np.float64]:
        """Propensities with the shifts in, `(n,)`; to the bit what the model said where there is none.

        >>> Scores(np.array([0.5, 0.5]), shifts=np.array([0.0, np.log(3.0)])).corrected.round(3).tolist()
        [0.5, 0.75]
        """
        chances = np.asarray(self.propensities, dtype=np.float64)
        if self.shifts is None:
            return chances
        odds = np.exp(np.asarray(self.shifts, dtype=np.float64))
        return np.where(self.shifts == 0.0, chances, chances * odds / (1.0 - chances + chances * odds))


def scores_of(scored: Scored, *, with_baseline: bool) -> Scores:
    """A graph's answer on the candidates; `with_baseline`, its last row is that of showing nothing."""
    if not with_baseline:
        return Scores(scored.propensity, uplifts=scored.uplift, sds=scored.sd)
    each = [None if values is None else values[:-1] for values in scored]
    propensities, sds, uplifts = each
    assert propensities is not None
    return Scores(propensities, float(scored.propensity[-1]), uplifts, sds=sds)
