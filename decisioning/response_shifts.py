"""How far the response to each action has moved from its model's scores, fitted to counts.

Response to an action is as the model says, but for a shift of its log-odds that is constant until something
changes; then it is another one. Nobody tells when. So what is kept is a belief over shifts, a probability for
each point of a grid, which goes through the buckets of time in their order:

- between two buckets the shift has changed with the chance `1 - 2^(-elapsed / half_life)`. After a change the
  action is as a new one: the belief moves that much towards the prior of new actions.
- each bucket multiplies it by the likelihood of what happened in it.

This is the forward filter of a hidden Markov model, or change-point detection as in Adams & MacKay, *Bayesian
Online Changepoint Detection*, 2007, with the run length summed out. Plain decay must choose between forgetting
what stays and following what changes. Here the chance of a change is small, and only data that a constant shift
cannot explain overrule it: what stays is remembered, and a change shows after as many outcomes as it takes to
tell. Without data, belief fades by event time with the half-life.

A response may take days. An exposure of age `t` has been answered by now with the chance `propensity x F(t)`,
where `F` is the distribution of delays (`delays`): so early silence says little, and early response not too much.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from decisioning.content import Placement
from decisioning.delays import DelayDistribution, default_delays
from decisioning.feeds import Untold
from decisioning.posterior import Belief, Believed
from decisioning.response_counts import UNIT, Cell, Tally

Floats = NDArray[np.float64]

HALF_LIFE = timedelta(days=60)
# Shifts from -6 to 6, closer to each other where they are small: 0.03 apart at 0, 0.06 at 1, 0.3 at 6.
POINTS = 121
_WIDEST, _BEND = 6.0, 0.5
_GRID: Floats = _BEND * np.sinh(np.linspace(-np.arcsinh(_WIDEST / _BEND), np.arcsinh(_WIDEST / _BEND), POINTS))
_SPACING: Floats = np.gradient(_GRID)
_MINUTE = timedelta(minutes=1)
_BANDS = 1_000  # more than there are
# From here on all responses count as arrived.
_ALL_ARRIVED = 0.999


class Priors(NamedTuple):
    """Standard deviations of shifts before anything is seen: by action, of all others, and after a change."""

    by_action: Mapping[str, float]
    others: float
    changed: float

    def of(self, action_id: str) -> float:
        """An action's."""
        return self.by_action.get(action_id, self.others)


class _Cells(NamedTuple):
    """Cells as columns, sorted by group and time; a group is one action in one channel under the same variants."""

    group: NDArray[np.int64]
    begin: NDArray[np.int64]
    row: NDArray[np.int64]  # which mean log-odds: that of the group's band
    trials: Floats
    successes: Floats
    arrived: Floats


def fitted(
    counts: Mapping[Cell, Tally],
    *,
    priors: Priors,
    placements: Mapping[str, Placement],
    delays: Mapping[str, DelayDistribution],
    now: datetime,
    untold: Untold | None = None,
    half_life: timedelta = HALF_LIFE,
) -> tuple[Believed, ...]:
    """What is believed now of every action that was counted, in a fixed order.

    What happened while a feed that tells of it had stopped (`untold`) is left out until it is told: silence
    is no rejection. So are exposures at places that are no longer in the catalogue.

    >>> day, ten = 29_000 * 1_440, Tally(trials=500, successes=50, offsets=500 * -3072)  # the model said 0.047
    >>> cells = {Cell("", "card", "web", "home", day + 1_440 * n, 1_440, -6): ten for n in range(9)}
    >>> home = Placement(
    ...     id="home", channel="web", reward={"accept": 1.0}, priority_scale=1.0, attribution_window=timedelta(hours=1)
    ... )
    >>> now = datetime.fromtimestamp(60 * (day + 1_440 * 9), UTC) + timedelta(hours=1)
    >>> [card] = fitted(cells, priors=Priors({}, 1.0, 1.0), placements={"home": home}, delays={}, now=now)
    >>> card.action_id, round(card.belief.shift, 1), round(card.belief.sd, 1)
    ('card', 0.8, 0.1)
    """
    told = _told(counts, placements, untold or Untold())
    if not told:
        return ()
    named = sorted({(cell.variants, cell.channel, cell.action_id) for cell, _ in told})
    cells, offsets = _columns(told, {name: place for place, name in enumerate(named)}, placements, delays, now)
    likelihoods, group, begin = _likelihoods(cells, offsets)
    means, sds = _filtered(
        likelihoods,
        group,
        begin,
        starts=np.array([_prior(priors.of(action_id)) for _, _, action_id in named]),
        changed=_prior(priors.changed),
        minute=now.timestamp() / 60.0,
        half_life=half_life / _MINUTE,
    )
    return tuple(
        Believed(*name, Belief(mean, sd)) for name, mean, sd in zip(named, means.tolist(), sds.tolist(), strict=True)
    )


def _told(
    counts: Mapping[Cell, Tally], placements: Mapping[str, Placement], untold: Untold
) -> list[tuple[Cell, Tally]]:
    """The cells of known placements in whose windows nothing is missing; their order is fixed, for sums to the bit."""
    known = [
        (cell, tally) for cell, tally in sorted(counts.items()) if cell.placement in placements and tally.trials > 0
    ]
    buckets = {(cell.placement, cell.begin, cell.width) for cell, _ in known}
    missing = {
        (name, begin, width)
        for name, begin, width in buckets
        if untold.between(
            placements[name], at := _at(begin), at + width * _MINUTE + placements[name].attribution_window
        )
    }
    return (
        [each for each in known if (each[0].placement, each[0].begin, each[0].width) not in missing]
        if missing
        else known
    )


def _at(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)


def _columns(
    told: Sequence[tuple[Cell, Tally]],
    groups: Mapping[tuple[str, str, str], int],
    placements: Mapping[str, Placement],
    delays: Mapping[str, DelayDistribution],
    now: datetime,
) -> tuple[_Cells, Floats]:
    """The cells, and the mean log-odds of each of their rows, `(n_rows,)`."""
    cells, tallies = zip(*told, strict=True)
    variants, actions, channels, at, *times = zip(*cells, strict=True)
    begin, width, band = (np.fromiter(each, np.int64) for each in times)
    trials, successes, sums = np.fromiter(chain.from_iterable(tallies), np.int64).reshape(-1, 3).T
    group = np.fromiter(map(groups.__getitem__, zip(variants, channels, actions, strict=True)), np.int64)
    _, row = np.unique(group * _BANDS + band, return_inverse=True)
    ages = now.timestamp() - 60.0 * (begin + 0.5 * width)
    codes = {name: number for number, name in enumerate(dict.fromkeys(at))}
    place = np.fromiter(map(codes.__getitem__, at), np.int64)
    arrived = np.empty(len(ages))
    for name, number in codes.items():
        mine = place == number
        known = delays.get(name) or default_delays(placements[name].attribution_window)
        arrived[mine] = known.arrived_by(ages[mine])
    offsets = UNIT * np.bincount(row, weights=sums) / np.bincount(row, weights=trials)
    order = np.lexsort((begin, group))
    group, begin, row, trials, successes = (each[order] for each in (group, begin, row, trials, successes))
    return _Cells(group, begin, row, trials.astype(float), successes.astype(float), arrived[order]), offsets


def _likelihoods(cells: _Cells, offsets: Floats) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Of each group's buckets in their order, `(n_buckets, POINTS)`, the largest of each 1; their groups and begins."""
    log_odds = offsets[:, None] + _GRID
    log_chance = -np.logaddexp(0.0, -log_odds)  # (n_rows, POINTS)
    log_failure = -np.logaddexp(0.0, log_odds)
    starts = np.flatnonzero(np.diff(cells.group, prepend=-1) | np.diff(cells.begin, prepend=-1))
    bucket = np.cumsum(np.isin(np.arange(len(cells.row)), starts)) - 1
    failures = np.maximum(cells.trials - cells.successes, 0.0)
    over = cells.arrived >= _ALL_ARRIVED
    shape = len(starts), len(offsets)
    summed = coo_array((cells.successes, (bucket, cells.row)), shape) @ log_chance
    summed += coo_array((failures[over], (bucket[over], cells.row[over])), shape) @ log_failure
    young = np.flatnonzero(~over & (failures > 0.0))
    unanswered = np.log1p(-np.exp(log_chance)[cells.row[young]] * cells.arrived[young, None])
    summed += (
        coo_array((failures[young], (bucket[young], np.arange(len(young)))), (len(starts), len(young))) @ unanswered
    )
    summed -= summed.max(axis=1, keepdims=True)
    return np.exp(summed), cells.group[starts], cells.begin[starts]


def _filtered(
    likelihoods: Floats,
    group: NDArray[np.int64],
    begin: NDArray[np.int64],
    *,
    starts: Floats,
    changed: Floats,
    minute: float,
    half_life: float,
) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each group's shift at the end, `(n_groups,)` each; all groups step by step."""
    first = np.searchsorted(group, np.arange(len(starts)))
    length = np.diff(first, append=len(group))
    longest = np.argsort(-length, kind="stable")  # so that those with a bucket left are the first
    first, length, belief = first[longest], length[longest], starts[longest]
    for step in range(int(length[0])):
        going = int(np.searchsorted(-length, -step))
        at = first[:going] + step
        if step:
            _fade(belief[:going], changed, begin[at] - begin[at - 1], half_life)
        belief[:going] *= likelihoods[at]
        belief[:going] /= belief[:going].sum(axis=1, keepdims=True)
    last = begin[first + length - 1]
    _fade(belief, changed, np.maximum(minute - last, 0.0), half_life)
    means = belief @ _GRID
    sds = np.sqrt(np.maximum(belief @ _GRID**2 - means**2, 0.0))
    back = np.argsort(longest)
    return means[back], sds[back]


def _fade(belief: Floats, changed: Floats, elapsed: NDArray[np.floating] | NDArray[np.int64], half_life: float) -> None:
    """Towards what is believed after a change, in place, by the chance that there was one."""
    stays = 2.0 ** (-elapsed / half_life)[:, None]
    belief *= stays
    belief += (1.0 - stays) * changed


def _prior(sd: float) -> Floats:
    """A normal distribution around 0 on the grid; one that is narrower than the grid is 0."""
    weights = np.exp(-0.5 * (_GRID / max(sd, 0.25 * float(_SPACING[POINTS // 2]))) ** 2) * _SPACING
    total: Floats = weights / weights.sum()
    return total
