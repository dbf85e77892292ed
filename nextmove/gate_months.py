"""Months in which the gate is asked about a new challenger every hour, on decisions that grow in number.

What each customer adds to a difference grows with every visit. So its powers, summed by segment, action and hour,
give the value, the error and the degrees of freedom of any model at any hour at the cost of a look-up: the same
as `advantage` gives on the same visits, which a test holds together.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from decisioning.evaluation import SMALL_SAMPLE, Floats
from nextmove.gate_world import ACTIONS, SEGMENTS, Ints, Visits
from training.gate import FEWEST_AGREEING, FEWEST_DEGREES, SAFETY

# Powers of what a customer adds to the difference, and of how often they came, whose sums are needed.
_POWERS = ((1, 0), (2, 0), (1, 1), (4, 0), (3, 1), (2, 2), (1, 3))


class Evidence(NamedTuple):
    """On models over the champion, one at each hour, `(n_hours,)` each."""

    value: Floats
    error: Floats
    freedom: Floats
    effective: Floats
    agreeing: Floats

    def lets_in(self, errors: Floats) -> NDArray[np.bool_]:
        """Where the gate, allowed such an error, would find the model better than the champion, as `judge` does."""
        enough = (self.freedom >= FEWEST_DEGREES) & (self.agreeing >= FEWEST_AGREEING)
        enough &= (self.effective >= SMALL_SAMPLE) & (errors > 0.0)
        quantile = t.isf(np.where(enough, errors, 1.0) / SAFETY, np.where(enough, self.freedom, 1.0))
        return enough & (self.value - quantile * self.error > 0.0)


class Month:
    """The sums of one month's visits, to be looked up."""

    def __init__(self, logged: Visits, hour: Ints, hours: int, served: Ints) -> None:
        n = len(hour)
        self._served = served
        terms = logged.terms()
        above = terms - terms[np.arange(n), served[logged.segment]][:, None]
        order = np.lexsort((np.arange(n), logged.customer))
        begins = np.concatenate([[True], np.diff(logged.customer[order]) > 0])
        first = np.maximum.accumulate(np.where(begins, np.arange(n), 0))
        added = above[order]
        summed = added.cumsum(axis=0)
        after = summed - (summed[first] - added[first])
        came = np.arange(n) - first + 1
        cell = hour[order] * SEGMENTS + logged.segment[order]
        now, before = _powers(after), _powers(after - added)
        visits, earlier = (_powers(each.astype(np.float64)[:, None]) for each in (came, came - 1))
        # How much a visit adds to its customer's `sum ** i * visits ** j`.
        self._sums = {(i, j): _by_hour(cell, now[i] * visits[j] - before[i] * earlier[j], hours) for i, j in _POWERS}
        self._came = {
            power: np.bincount(hour[order], (visits[power] - earlier[power])[:, 0], hours).cumsum()
            for power in (1, 2, 4)
        }
        self._customers = np.bincount(hour[order], begins, hours).cumsum()
        weight = 1.0 / logged.probability
        chosen = (hour * SEGMENTS + logged.segment) * ACTIONS + logged.action
        self._weights = [
            np.bincount(chosen, weight**power, hours * SEGMENTS * ACTIONS)
            .reshape(hours, SEGMENTS, ACTIONS)
            .cumsum(axis=0)
            for power in (1, 2)
        ]

    def evidence(self, models: Ints) -> Evidence:
        """On a model at each hour, from all visits until then; `models` is `(n_hours, SEGMENTS)`."""
        place = np.arange(len(models))[:, None], np.arange(SEGMENTS)[None, :], models
        sums = {powers: each[place].sum(axis=1) for powers, each in self._sums.items()}
        visits, customers = self._came[1], self._customers
        mean = sums[1, 0] / visits
        squares = sums[2, 0] - 2.0 * mean * sums[1, 1] + mean**2 * self._came[2]
        fourth = (
            sums[4, 0] - 4.0 * mean * sums[3, 1] + 6.0 * mean**2 * sums[2, 2] - 4.0 * mean**3 * sums[1, 3]
            + mean**4 * self._came[4]
        )  # fmt: skip
        most = np.maximum(customers - 1.0, 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            kurtosis = customers * fourth / squares**2
            freedom = np.where(kurtosis > 1.0, np.minimum(most, 2.0 * customers / (kurtosis - 1.0)), most)
            differs, everywhere = models != self._served, np.ones(models.shape, dtype=bool)
            served = (*place[:2], np.broadcast_to(self._served, models.shape))
            agreeing = np.minimum(self._effective(place, differs), self._effective(served, differs))
            effective = self._effective(place, everywhere)
        return Evidence(mean, np.sqrt(squares * customers / most) / visits, freedom, effective, agreeing)

    def _effective(self, place: tuple[Ints, Ints, Ints], where: NDArray[np.bool_]) -> Floats:
        """Effective sample size of choices in these segments, `(n_hours,)`."""
        weights, squares = (np.where(where, each[place], 0.0).sum(axis=1) for each in self._weights)
        found: Floats = np.where(squares > 0.0, weights**2 / squares, 0.0)
        return found


def _powers(base: Floats) -> list[Floats]:
    """From the 0th to the 4th, by multiplication: NumPy's `**` takes several times as long."""
    square = base * base
    return [np.ones_like(base), base, square, square * base, square * square]


def _by_hour(cell: Ints, values: Floats, hours: int) -> Floats:
    """Summed by hour and segment, and over all hours before, `(n_hours, SEGMENTS, ACTIONS)`."""
    cells = hours * SEGMENTS
    by_cell = np.stack([np.bincount(cell, column, cells) for column in values.T], axis=1)
    summed: Floats = by_cell.reshape(hours, SEGMENTS, ACTIONS).cumsum(axis=0)
    return summed
