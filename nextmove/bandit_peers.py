"""Other libraries' contextual bandits at their defaults: Vowpal Wabbit and MABWiser, development dependencies.

Both get the features as they are. Vowpal Wabbit has no interactions unless it is told to, and
without any it cannot prefer one action for one customer and another for another: it gets those of
features with actions (`-q sa`), as its own tutorials do. What it states in float32 is brought to sum to 1.
Of MABWiser those are here that learn from contexts and do not keep every row.
"""

from typing import Any

import numpy as np

from decisioning.errors import SetupError
from nextmove.bandit_protocol import Floats, Learner, Problem, Shown

VW_OPTIONS = {
    "VW epsilon-greedy": "",
    "VW softmax": "--softmax",
    "VW SquareCB": "--squarecb",
    "VW RegCB": "--regcb",
    "VW RegCB optimistic": "--regcbopt",
    "VW bag of 5": "--bag 5",
}
MABWISER = ("LinGreedy", "LinUCB", "LinTS")
PEERS = (*VW_OPTIONS, *(f"MABWiser {name}" for name in MABWISER))


def peer(name: str, problem: Problem, *, seed: int) -> Learner:
    """A peer by its name in `PEERS`.

    Raises:
        SetupError: Its library is not installed.
    """
    try:
        if name in VW_OPTIONS:
            return VowpalWabbit(problem, VW_OPTIONS[name], seed=seed)
        return MabWiser(problem, name.removeprefix("MABWiser "), seed=seed)
    except ImportError as error:
        raise SetupError(f"{error.name} is not installed, and '{name}' is of it; run `make install`") from error


class VowpalWabbit:
    """`--cb_explore_adf`: every candidate is a line, the round's features are shared."""

    def __init__(self, problem: Problem, options: str, *, seed: int) -> None:
        from vowpalwabbit import Workspace

        self._problem = problem
        self._workspace = Workspace(f"--cb_explore_adf -q sa --quiet --random_seed {seed} {options}")

    def probabilities(self, rounds: slice) -> Floats:
        """See `Learner`."""
        candidates = self._problem.candidates[rounds]
        chances = np.zeros(candidates.shape)
        for place, allowed in enumerate(candidates):
            stated = np.array(self._workspace.predict(self._lines(rounds.start + place)))
            chances[place, np.flatnonzero(allowed)] = stated / stated.sum()
        return chances

    def learn(self, rounds: slice, shown: Shown) -> None:
        """See `Learner`."""
        for place, (action, chance, reward) in enumerate(zip(*shown, strict=True)):
            lines = self._lines(rounds.start + place, action=int(action), label=f"0:{-reward}:{chance} ")
            self._workspace.learn(lines)

    def _lines(self, number: int, *, action: int = -1, label: str = "") -> str:
        features = self._problem.features[number]
        shared = " ".join(f"{place}:{features[place]:.6g}" for place in np.flatnonzero(features))
        candidates = np.flatnonzero(self._problem.candidates[number])
        lines = [f"{label if each == action else ''}|a a{each}" for each in candidates]
        return "\n".join([f"shared |s {shared}", *lines])


class MabWiser:
    """A linear policy of MABWiser; it names the action with the largest of its expectations."""

    def __init__(self, problem: Problem, policy: str, *, seed: int) -> None:
        from mabwiser.mab import MAB, LearningPolicy

        self._problem = problem
        self._mab: Any = MAB(list(range(problem.expected.shape[1])), getattr(LearningPolicy, policy)(), seed=seed)
        self._is_fitted = False

    def probabilities(self, rounds: slice) -> Floats:
        """See `Learner`."""
        candidates = self._problem.candidates[rounds]
        if not self._is_fitted:
            return candidates / candidates.sum(axis=1, keepdims=True)
        said = self._mab.predict_expectations(self._problem.features[rounds])
        rows = said if isinstance(said, list) else [said]
        expectations = np.array([[row[action] for action in range(candidates.shape[1])] for row in rows])
        expectations[~candidates] = -np.inf
        best = expectations == expectations.max(axis=1, keepdims=True)
        return best / best.sum(axis=1, keepdims=True)

    def learn(self, rounds: slice, shown: Shown) -> None:
        """See `Learner`."""
        learn = self._mab.partial_fit if self._is_fitted else self._mab.fit
        learn(shown.actions, shown.rewards, self._problem.features[rounds])
        self._is_fitted = True
