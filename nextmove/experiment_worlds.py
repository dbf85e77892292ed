"""Simulated experiments by the thousand, as the moments of their variants after every look."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.experiments.moments import COLUMNS, Floats, Moments, moments_of_sums

LOOKS = 20
BLOCK = 100  # experiments at a time: about 40 MB of units
UNITS = 500  # of both variants together, between two looks
APPEAL = np.array([0.1, 0.12, 0.2])  # of the actions that a bandit tries
Draw = Callable[[np.random.Generator, tuple[int, ...], Floats], tuple[Floats, ...]]


class Looks(NamedTuple):
    """Of `n` experiments, the control and the variant after each look: moments of shape `(n, LOOKS)`."""

    control: Moments
    variant: Moments

    def last(self) -> "Looks":
        """After the last look alone, `(n,)`."""
        return Looks(*(Moments(each.count[:, -1], each.mean[:, -1], each.covariance[:, -1]) for each in self))


def visits(rng: np.random.Generator, shape: tuple[int, ...], lift: Floats) -> tuple[Floats, ...]:
    """A rate of 10 %, of people whose past says something of it."""
    chance = np.where(rng.random(shape) < 0.2, 0.42, 0.02)
    before = rng.random(shape) < chance
    return (rng.random(shape) < chance * (1.0 + lift)).astype(float), np.ones(shape), before.astype(float)


def spend(rng: np.random.Generator, shape: tuple[int, ...], lift: Floats) -> tuple[Floats, ...]:
    """Money: nothing of most, much of a few, and of people who spend much before it, too."""
    taste = rng.standard_normal(shape, dtype=np.float32) * 0.5
    chance = np.where(rng.random(shape, dtype=np.float32) < 0.15, 0.8, 0.03)

    def spent() -> Floats:
        buys = rng.random(shape, dtype=np.float32) < chance
        return buys * np.exp(3.0 + taste + 0.4 * rng.standard_normal(shape, dtype=np.float32)).astype(float)

    return spent() * (1.0 + lift), np.ones(shape), spent()


def clicks_a_visit(rng: np.random.Generator, shape: tuple[int, ...], lift: Floats) -> tuple[Floats, ...]:
    """A ratio of two sums, of which some people come often and click little."""
    visited: Floats = 1.0 + rng.poisson(2.0, shape).astype(float)
    clicks = rng.binomial(visited.astype(np.int64), np.minimum(1.0, 0.6 / visited * (1.0 + lift))).astype(float)
    return clicks, visited


def unsubscribes(rng: np.random.Generator, shape: tuple[int, ...], lift: Floats) -> tuple[Floats, ...]:
    """A rate of 0.2 %, as guardrails are: 10 in a variant's 5,000 units."""
    return ((rng.random(shape) < 0.002 * (1.0 + lift)).astype(float),)


WORLDS: dict[str, Draw] = {
    "visits": visits,
    "spend": spend,
    "clicks a visit": clicks_a_visit,
    "unsubscribes": unsubscribes,
}


def simulated(draw: Draw, experiments: int, *, lift: float, rng: np.random.Generator) -> Looks:
    """Experiments whose units fall to either variant by a coin, `UNITS` between two looks."""
    blocks = []
    for start in range(0, experiments, BLOCK):
        n = min(BLOCK, experiments - start)
        of_block = np.empty((n, LOOKS, 2, 21))
        for look in range(LOOKS):
            second = rng.random((n, UNITS)) < 0.5
            columns = draw(rng, (n, UNITS), np.where(second, lift, 0.0))
            of_block[:, look] = _sums(columns, second)
        blocks.append(np.cumsum(of_block, axis=1))
    return _looks(np.concatenate(blocks))


def growing(experiments: int, *, rng: np.random.Generator) -> Looks:
    """Units whose value goes on growing after they were counted, of a metric without `within`; no effect."""
    blocks, each = [], UNITS // 5
    for start in range(0, experiments, BLOCK):
        n = min(BLOCK, experiments - start)
        second = rng.random((n, each * LOOKS)) < 0.5
        pace = rng.gamma(0.5, 0.4, second.shape)
        value = np.zeros(second.shape)
        of_block = np.empty((n, LOOKS, 2, 21))
        for look in range(LOOKS):
            met = each * (look + 1)
            value[:, :met] += rng.poisson(pace[:, :met])
            of_block[:, look] = _sums((value[:, :met],), second[:, :met])
        blocks.append(of_block)
    return _looks(np.concatenate(blocks))


def learning(experiments: int, *, own: bool, rng: np.random.Generator) -> Looks:
    """A bandit (Thompson sampling over three actions) that learns at every look; the variants do not differ.

    It is one for both variants, or, where each has its `own`, each learns from its own units alone.
    """
    blocks = []
    for start in range(0, experiments, BLOCK):
        n = min(BLOCK, experiments - start)
        learners = np.arange(n)[:, None]
        tried = np.ones((2, n, 2, len(APPEAL)))  # of either learner: successes and failures of each action, plus 1
        of_block = np.empty((n, LOOKS, 2, 21))
        for look in range(LOOKS):
            second = rng.random((n, UNITS)) < 0.5
            learner = second.astype(np.int64) if own else np.zeros_like(second, dtype=np.int64)
            action = rng.beta(tried[learner, learners, 0], tried[learner, learners, 1]).argmax(axis=-1)
            success = rng.random(action.shape) < APPEAL[action]
            np.add.at(tried, (learner, learners, 1 - success.astype(np.int64), action), 1.0)
            of_block[:, look] = _sums((success.astype(float),), second)
        blocks.append(np.cumsum(of_block, axis=1))
    return _looks(np.concatenate(blocks))


def _sums(columns: tuple[Floats, ...], second: NDArray[np.bool_]) -> Floats:
    """Of either variant how many, the columns' sums and their products', `(n, 2, 21)`; absent columns are constant."""
    n, units = second.shape
    rows = np.zeros((n, units, len(COLUMNS)))
    rows[..., 1] = rows[..., 3] = 1.0
    for place, column in enumerate(columns):
        rows[..., place] = column
    found = np.empty((n, 2, 21))
    for arm, chosen in enumerate((~second, second)):
        own = rows * chosen[..., None]
        found[:, arm, 0] = chosen.sum(axis=1)
        found[:, arm, 1:5] = own.sum(axis=1)
        found[:, arm, 5:] = (own.transpose(0, 2, 1) @ own).reshape(n, 16)
    return found


def _looks(sums: Floats) -> Looks:
    return Looks(
        *(
            moments_of_sums(
                sums[:, :, arm, 0], sums[:, :, arm, 1:5], sums[:, :, arm, 5:].reshape(*sums.shape[:2], 4, 4)
            )
            for arm in (0, 1)
        )
    )
