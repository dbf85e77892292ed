"""How long after a contact its first success arrives: learnt, so that silence so far is not read as a failure.

A decision of an hour ago that has earned nothing is no failure yet. What share of the successes would
have arrived by now says how much of a failure it is (`DelayDistribution.arrived_by`).

Delays are seen only once they are over, so a look at what has arrived sees short ones too often: of
yesterday's decisions it knows nothing that takes a week. Whoever takes their empirical distribution
believes that all is soon over. Here each instant is judged by those decisions alone that are old enough.
"""

import math
from datetime import timedelta
from functools import cache

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 64
SHORTEST = 1.0  # seconds; what takes less is in the first bin
# The default counts as so many successes that were seen, and its delays are spread evenly over the
# logarithm of time from about this share of the window on: half of them within a tenth of the window.
DEFAULT_WEIGHT = 20.0
DEFAULT_SOONEST = 0.01


class DelayDistribution(msgspec.Struct, frozen=True):
    """Of the successes within an attribution window, how many have arrived by an age.

    Attributes:
        window: Seconds, of the placement's attribution window.
        shares: At the edges of the bins (`edges`), rising to 1.
        seen: How many successes it was learnt from; 0 is the default alone.
    """

    window: float
    shares: tuple[float, ...]
    seen: int = 0

    def arrived_by(self, ages_seconds: Floats) -> Floats:
        """The share at each age since the contact, any shape: 0 before it, 1 from the window's end on; it never falls.

        >>> default_delays(timedelta(days=7)).arrived_by(np.array([-1.0, 3_600.0, 86_400.0, 1e6])).round(2).tolist()
        [0.0, 0.1, 0.59, 1.0]
        """
        ages = np.asarray(ages_seconds, dtype=np.float64)
        return np.interp(ages, (0.0, *edges(self.window)), (0.0, *self.shares))


@cache
def edges(window: float) -> tuple[float, ...]:
    """Where the bins end, in seconds: evenly on the logarithm of time, the last at the window's end.

    >>> edges(100.0)[-1], len(edges(100.0))
    (100.0, 64)
    """
    inner = np.geomspace(min(SHORTEST, window / BINS), window, BINS)
    return (*inner[:-1].tolist(), float(window))


def default_delays(window: timedelta) -> DelayDistribution:
    """What is believed before anything was seen.

    >>> default_delays(timedelta(days=1)).seen
    0
    """
    seconds = window.total_seconds()
    soonest = DEFAULT_SOONEST * seconds
    shares = np.log1p(np.array(edges(seconds)) / soonest) / math.log1p(seconds / soonest)
    return DelayDistribution(seconds, (*shares[:-1].tolist(), 1.0))


def learn_delays(delays: Floats, observed: Floats, *, window: timedelta) -> DelayDistribution:
    """The distribution that delays of successes, seen so far, speak for; all in seconds, `(n,)`.

    The chance that a success falls into a bin, given that it comes no later than the bin's end, is
    estimated among those that were observed to that end, whom the present cuts off nothing. The product
    of these chances, from the window's end backwards, is the distribution: Kaplan and Meier's estimate
    with time reversed (Lagakos, Barraj and De Gruttola, Biometrika 75, 1988, section 2), here with a
    Dirichlet prior at `default_delays`. Where nobody is old enough yet, the default's shape is kept.

    Args:
        delays: From the contact to the first success; what comes after the window's end counts as at it.
        observed: How long each of these contacts has been observed: its age now.
        window: The placement's attribution window.

    >>> learn_delays(np.full(5000, 60.0), np.full(5000, 1e6), window=timedelta(days=7)).arrived_by(
    ...     np.array([3600.0])).round(2).tolist()
    [1.0]
    """
    prior = default_delays(window)
    ends = np.array(edges(prior.window))
    bins = np.minimum(np.searchsorted(ends, np.asarray(delays, dtype=np.float64)), BINS - 1)
    reach = np.searchsorted(ends, np.minimum(observed, prior.window), side="right")  # bins seen to their end
    usable = bins < reach
    bins, reach = bins[usable], reach[usable]
    here = np.bincount(bins, minlength=BINS).astype(np.float64)
    at_risk = np.cumsum(here) - np.cumsum(np.bincount(reach, minlength=BINS + 1)[:BINS])
    believed = DEFAULT_WEIGHT * np.array(prior.shares)
    chance = (here + np.diff(believed, prepend=0.0)) / (at_risk + believed)
    # The share by a bin's end is the chance to fall into none of the later ones.
    later = np.concatenate(([1.0], np.cumprod((1.0 - chance)[:0:-1])))[::-1]
    return DelayDistribution(prior.window, tuple(np.minimum(later, 1.0).tolist()), len(delays))
