"""Learners beside each other: the same rounds, the same candidates, the same chance, one table.

A learner states a distribution, one function draws from it, and the reward of what was drawn comes
back: of nothing else. What it earned is measured by the world's expectation, not by its luck.
"""

import time
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SUM = 1e-3  # so far may a learner's probabilities be off 1: some compute in float32


class Problem(NamedTuple):
    """All that happens in a run, for any choice.

    Attributes:
        features: What is known in a round, as numbers, `(n_rounds, n_features)`.
        candidates: What may be chosen, `(n_rounds, n_actions)`.
        expected: What each choice is worth on average, `(n_rounds, n_actions)`.
        rewards: What it would earn: the same luck for all learners, `(n_rounds, n_actions)`.
        tick: So many rounds are decided before the first of them is learnt from.
    """

    features: Floats
    candidates: NDArray[np.bool_]
    expected: Floats
    rewards: Floats
    tick: int

    @property
    def uniform(self) -> Floats:
        """What choosing any candidate is worth, `(n_rounds,)`."""
        return np.where(self.candidates, self.expected, 0.0).sum(axis=1) / self.candidates.sum(axis=1)

    @property
    def oracle(self) -> Floats:
        """What the best candidate is worth, `(n_rounds,)`."""
        return np.where(self.candidates, self.expected, -np.inf).max(axis=1)


class Shown(NamedTuple):
    """What was chosen in some rounds, with which chance, and what it earned; `(n,)` each."""

    actions: NDArray[np.int64]
    probabilities: Floats
    rewards: Floats


class Learner(Protocol):
    """Chooses and learns; made for one problem, whose features and candidates it may read."""

    def probabilities(self, rounds: slice) -> Floats:
        """The chance of each action in each of these rounds, `(n, n_actions)`; 0 where it is no candidate."""
        ...

    def learn(self, rounds: slice, shown: Shown) -> None:
        """What came of these rounds."""
        ...


class Played(NamedTuple):
    """What a learner earned, by expectation, `(n_rounds,)`; and the CPU seconds that it took."""

    earned: Floats
    seconds: float


def play(problem: Problem, learner: Learner, *, seed: int) -> Played:
    """One run; `seed` draws from the learner's distributions, alike for all learners.

    Raises:
        ArithmeticError: What the learner states is no distribution over the candidates.
    """
    n_rounds = len(problem.features)
    lots = np.random.default_rng([seed, 17]).random(n_rounds)
    earned = np.empty(n_rounds)
    began = time.process_time()
    for begin in range(0, n_rounds, problem.tick):
        rounds = slice(begin, min(begin + problem.tick, n_rounds))
        chances = learner.probabilities(rounds)
        _check(learner, chances, problem.candidates[rounds])
        bounds = chances.cumsum(axis=1)
        actions = (bounds > lots[rounds, None] * bounds[:, -1:]).argmax(axis=1)
        place = np.arange(len(actions))
        earned[rounds] = problem.expected[rounds][place, actions]
        learner.learn(rounds, Shown(actions, chances[place, actions], problem.rewards[rounds][place, actions]))
    return Played(earned, time.process_time() - began)


def _check(learner: Learner, chances: Floats, candidates: NDArray[np.bool_]) -> None:
    if (chances < 0.0).any() or (chances[~candidates] > 0.0).any() or (abs(chances.sum(axis=1) - 1.0) > _SUM).any():
        sums = chances.sum(axis=1)
        raise ArithmeticError(
            f"{type(learner).__name__} stated probabilities that sum to {sums.min():.3f} to {sums.max():.3f}; each row"
            " must be a distribution over its candidates"
        )
