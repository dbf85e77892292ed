"""When a feed that has a rhythm of its own has stopped, or brings far too little.

What an hour should bring is the mean of the same hour of the week over the four weeks before. Two
hypotheses are weighed against each other as time goes on: that the feed is as ever, and that it
brings a tenth. Page, *Continuous inspection schemes*, Biometrika 41 (1954), finds where that begins
and ends. How strongly the hours since then speak for the tenth is the likelihood ratio of negative
binomials, since real feeds are never Poisson: events come in bunches, good days follow bad ones,
and a mean of four weeks is itself uncertain.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HOURS_OF_WEEK = 168
MEMORY = 4 * HOURS_OF_WEEK
# A weekend cannot be told from a stop before there was one.
LEAST = HOURS_OF_WEEK
FAR_BELOW = 0.1
# Once in so many hours a healthy feed looks as if it had stopped, at most: in ten years.
ALARM = math.log(10 * 365 * 24)
# So much less speaks for a stop than at its height: events come again.
RECOVERED = 5.0
# A day is so much better or worse than others (squared coefficient of variation), for want of data;
# it counts as much as so many days that were seen.
DAYS_DIFFER, AS_DAYS = 0.1, 7.0
# What is so many times larger than the largest usual hours was no hour of the rhythm.
SPIKE = 10.0


class Stop(NamedTuple):
    """Hours, by their place, in which a feed brought nothing or far too little; `end` (excluded) is None: still."""

    begin: int
    end: int | None


class Rhythm(NamedTuple):
    """What a feed should bring: `expected` each hour, `(n,)`, 0 while it is too new; and where it stopped."""

    expected: NDArray[np.float64]
    stops: tuple[Stop, ...]


class _Level(NamedTuple):
    """What was learnt of a feed's last weeks.

    `by_slot` is what an hour of the week brings, `(168,)`; `bunch` how many events come together,
    `differ` how much days differ (squared coefficient of variation), `weeks` of how many each mean is.
    """

    by_slot: NDArray[np.float64]
    bunch: float
    differ: float
    weeks: float


def rhythm_of(counts: Sequence[int] | NDArray[np.int64], slots: Sequence[int] | NDArray[np.int64]) -> Rhythm:
    """Where a feed stopped.

    Args:
        counts: Events in each hour, from the feed's first to the last whole one.
        slots: Which hour of the week each of them is, 0 to 167, by the clocks of the people whose rhythm it is.

    >>> hours = range(21 * 24)
    >>> rhythm_of([6 if hour < 20 * 24 else 0 for hour in hours], [hour % 168 for hour in hours]).stops
    (Stop(begin=480, end=None),)
    """
    told = np.asarray(counts, dtype=np.float64)
    where = np.asarray(slots, dtype=np.int64)
    expected = np.zeros(len(told))
    usual = np.ones(len(told), dtype=bool)  # hours of a stop say nothing of the rhythm
    spell = _Spell(LEAST)
    stops: list[Stop] = []
    for start in range(LEAST, len(told), 24):
        if spell.stopped and _is_lasting(told, spell.begin, start):
            stops.append(Stop(spell.begin, start))
            spell = _Spell(start)  # what lasts is the new rhythm
        # By what was before the hours that are in doubt, however long they last.
        before = np.flatnonzero(usual[: min(start, spell.begin)])[-MEMORY:]
        level = _level(told[before], where[before])
        end = min(start + 24, len(told))
        expected[start:end] = level.by_slot[where[start:end]]
        for place in range(start, end):
            spell.add(place, float(told[place]), float(expected[place]), level)
            if not spell.is_over:
                continue
            if spell.stopped:
                stops.append(Stop(spell.begin, spell.end))
                usual[spell.begin : spell.end] = False
            spell = _Spell(place + 1)
    if spell.stopped:
        stops.append(Stop(spell.begin, None))
    return Rhythm(expected, tuple(stops))


@dataclass(slots=True)
class _Spell:
    """Hours from `begin` on in which a feed may have stopped: what was due in them, and what it brought, in bunches.

    `score` is how much likelier they are at a tenth, were events independent; it was `highest` before
    the hour `end`. `lacking` counts the hours that made it so: one alone may be what comes an hour later.
    """

    begin: int
    stopped: bool = False
    due: float = 0.0
    brought: float = 0.0
    score: float = 0.0
    highest: float = 0.0
    end: int = 0
    lacking: int = 0

    def add(self, place: int, count: float, expected: float, level: "_Level") -> None:
        """One more hour."""
        due, brought = expected / level.bunch, count / level.bunch
        self.due += due
        self.brought += brought
        self.score += brought * math.log(FAR_BELOW) + due * (1.0 - FAR_BELOW)
        if self.score > self.highest:
            self.highest, self.end = self.score, place + 1
            self.lacking += 1
            self.stopped = self.stopped or (self.lacking > 1 and self._evidence(place, level) > ALARM)

    @property
    def is_over(self) -> bool:
        """Whether the feed is as ever, or is so again."""
        return self.score < self.highest - RECOVERED if self.stopped else self.score <= 0.0

    def _evidence(self, place: int, level: "_Level") -> float:
        """The logarithm of how much likelier these hours are at a tenth than as ever."""
        days = max(1.0, (place + 1 - self.begin) / 24.0)
        size = 1.0 / (level.differ / days + 1.0 / (level.weeks * self.due))
        likelier = math.log((size + self.due) / (size + FAR_BELOW * self.due))
        return self.brought * math.log(FAR_BELOW) + (self.brought + size) * likelier


def _is_lasting(told: NDArray[np.float64], begin: int, now: int) -> bool:
    """Whether events have come in each of four weeks since, few as they are."""
    if now - begin < MEMORY:
        return False
    return bool(told[now - MEMORY : now].reshape(-1, HOURS_OF_WEEK).any(axis=1).all())


def _level(told: NDArray[np.float64], slots: NDArray[np.int64]) -> _Level:
    some = told[told > 0.0]
    told = np.minimum(told, SPIKE * np.quantile(some, 0.9)) if len(some) else told
    each = np.bincount(slots, minlength=HOURS_OF_WEEK)
    by_slot = np.bincount(slots, weights=told, minlength=HOURS_OF_WEEK) / np.maximum(each, 1)
    mean, weeks = by_slot[slots], max(float(each.mean()), 1.0)
    freedom = int((each[by_slot > 0.0] - 1).clip(0).sum())
    bunch = _by_weeks(told, mean, freedom) if weeks >= 2.0 and freedom else _by_neighbours(told)
    return _Level(by_slot, bunch, _differ(told / bunch, mean / bunch, weeks), weeks)


def _by_weeks(told: NDArray[np.float64], mean: NDArray[np.float64], freedom: int) -> float:
    """How many times the variance of an hour's count is its mean, by how the same hours of the week differ."""
    known = mean > 0.0
    return max(1.0, float(((told - mean)[known] ** 2 / mean[known]).sum()) / freedom)


def _by_neighbours(told: NDArray[np.float64]) -> float:
    """The same by how far one hour is from the next: at most too much, where there is a rhythm."""
    pairs = told[:-1] + told[1:]
    known = pairs > 0.0
    return max(1.0, float(((told[:-1] - told[1:])[known] ** 2 / pairs[known]).mean())) if known.any() else 1.0


def _differ(told: NDArray[np.float64], mean: NDArray[np.float64], weeks: float) -> float:
    """How much whole days differ, beyond chance: their squared coefficient of variation."""
    days = len(told) // 24
    had, due = told[: days * 24].reshape(days, 24).sum(axis=1), mean[: days * 24].reshape(days, 24).sum(axis=1)
    free = 1.0 - 1.0 / weeks
    found = 0.0
    if free > 0.0 and due.any():
        found = max(0.0, float(((had - due) ** 2 - due * free).sum() / ((due**2).sum() * free)))
    return (AS_DAYS * DAYS_DIFFER + days * free * found) / (AS_DAYS + days * free)
