"""How likely each of several normal values is to be the largest: Thompson sampling without a sample.

Thompson sampling draws a value of each action from what is believed of it, and takes the largest.
What it takes how often is a one-dimensional integral over the winner's value `x`,

    P(a wins) = integral of f_a(x) * product over j != a of F_j(x) dx,

which Gauss-Legendre nodes give to far more digits than any count of draws. Thompson, *On the
Likelihood that One Unknown Probability Exceeds Another*, 1933, has it for two.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Floats = NDArray[np.float64]

_REACH = 7.0  # standard deviations: what lies beyond has a chance of 1e-12
_KNOWN = 1e-12  # doubt so small beside the largest, or beside the values' own digits, is none
_LEAST = 1e-200  # smaller numbers have too few digits
_PROBES = np.arange(8) / 8.0  # where a better lower end than that of a single action is looked for
_NEVER = 1e-13
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_NODES = (_NODES + 1.0) / 2.0
_WEIGHTS = _WEIGHTS / (2.0 * np.sqrt(2.0 * np.pi))
_PANEL, _GROWTH = 28.0, 3.0  # the first ends after so many deviations, each other at so many times its beginning


def chances_of_largest(means: Floats, sds: Floats) -> Floats:
    """The chance of each of some independent normal values to be the largest; all arrays `(n,)`.

    A standard deviation of 0 is a value that is known; of those at the top, equal ones share.
    Off by less than 1e-6, in practice by about 1e-11; chances below 1e-12 may come out as 0.

    >>> chances_of_largest(np.array([0.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0])).round(6).tolist()
    [0.375, 0.375, 0.25]
    """
    largest = max(float(np.maximum.reduce(sds)), float(np.maximum.reduce(np.abs(means))), _LEAST)
    doubtful = sds > _KNOWN * largest
    tops = means + _REACH * sds
    lowest = float(np.maximum.reduce(means - _REACH * sds))  # the winner is above this
    chances = np.zeros(len(means))
    known = float(np.maximum.reduce(means[~doubtful], initial=-np.inf))
    lowest = max(lowest, known)
    rivals = np.flatnonzero(doubtful & (tops > lowest))
    if len(rivals):
        chances[rivals] = _chances_above(lowest, means[rivals], sds[rivals])
    if lowest == known:
        at_top = ~doubtful & (means == known)
        chances[at_top] = np.multiply.reduce(ndtr((known - means[rivals]) / sds[rivals])) / np.count_nonzero(at_top)
    return chances / np.add.reduce(chances)


def shares_of_largest(members: Floats) -> Floats:
    """How often each action is the best of an ensemble's members, `(n_members, n_actions)`; `(n_actions,)`.

    Ties share a member's vote.

    >>> shares_of_largest(np.array([[1.0, 2.0], [3.0, 2.0], [0.0, 0.0], [0.0, 5.0]])).tolist()
    [0.375, 0.625]
    """
    best = members == members.max(axis=1, keepdims=True)
    return (best / best.sum(axis=1, keepdims=True)).mean(axis=0)


def _chances_above(lowest: float, means: Floats, sds: Floats) -> Floats:
    """The chance of each to be the largest and above `lowest`, which none of their reaches ends below.

    From the least that the largest may be on, panels grow with the distance. Whoever may still win at a
    distance has a standard deviation of at least a 14th of it, so there each is as smooth as its
    panel is long, whatever their scales; those that can no longer win are 1 there, and left out.
    """
    inverse = 1.0 / sds
    end = float(np.maximum.reduce(means + _REACH * sds)) - lowest
    standard = (lowest - means) * inverse
    probed = np.multiply.reduce(ndtr(standard[:, None] + inverse[:, None] * (end * _PROBES)), axis=0)
    skipped = float(np.max(_PROBES, where=probed < _NEVER, initial=0.0)) * end
    standard += skipped * inverse
    end -= skipped
    first = min(_PANEL * float(np.minimum.reduce(sds)), end)
    chances = np.zeros(len(means))
    begin, until = 0.0, first
    while begin < end:
        live = standard + begin * inverse < _REACH
        width = until - begin
        z = standard[live, None] + inverse[live, None] * (begin + width * _NODES)
        below = ndtr(z)
        everyone = np.multiply.reduce(below, axis=0) * _WEIGHTS
        # Reaches end above `lowest`, so `below` is at least 1e-12 and may be divided by.
        chances[live] += width * inverse[live] * ((np.exp(-0.5 * z * z) / below) @ everyone)
        begin, until = until, min(_GROWTH * until, end)
    return chances
