"""Our linear bandit as a learner: Bayesian regression per action, exact Thompson probabilities, all at defaults."""

import numpy as np

from decisioning.exploration import Estimates, Thompson
from decisioning.linear_gaussian import Evidence, LearntPrior, Prior
from nextmove.bandit_protocol import Floats, Problem, Shown

# The prior is learnt again once so many times the rows were seen.
_DOUBLED = 2.0
# An action's belief is fitted again once it was seen so much more often: a hundredth moves no belief by much.
_GROWTH = 1.01


class LinearThompson:
    """`linear_gaussian` and `thompson`."""

    def __init__(self, problem: Problem) -> None:
        n_actions, n_features = problem.expected.shape[1], problem.features.shape[1]
        self._problem = problem
        self._prior = Prior.vague(n_features)
        self._policy = Thompson()
        self._evidence = [Evidence.none(n_features)] * n_actions
        self._beliefs = [self._prior.after(each) for each in self._evidence]
        self._fitted = np.zeros(n_actions)  # rows behind each belief
        self._rows, self._prior_from = 0, float(n_features)  # a prior learnt from less than that says little

    def probabilities(self, rounds: slice) -> Floats:
        """See `Learner`."""
        features, candidates = self._problem.features[rounds], self._problem.candidates[rounds]
        values, sds = np.empty(candidates.shape), np.empty(candidates.shape)
        for action in np.flatnonzero(candidates.any(axis=0)):
            values[:, action], sds[:, action] = self._beliefs[action].value(features)
        chances = np.zeros(candidates.shape)
        for place, allowed in enumerate(candidates):
            chances[place, allowed] = self._policy.probabilities(Estimates(values[place, allowed], sds[place, allowed]))
        return chances

    def learn(self, rounds: slice, shown: Shown) -> None:
        """See `Learner`."""
        features = self._problem.features[rounds]
        for action in np.unique(shown.actions):
            rows = shown.actions == action
            self._evidence[action] += Evidence.of(features[rows], shown.rewards[rows])
            if self._evidence[action].rows > _GROWTH * self._fitted[action]:
                self._beliefs[action] = self._prior.after(self._evidence[action])
                self._fitted[action] = self._evidence[action].rows
        self._rows += len(shown.actions)
        if self._rows >= self._prior_from:
            self._prior_from = _DOUBLED * self._rows
            self._prior = LearntPrior.of(self._evidence, np.ones((len(self._evidence), 1))).prior(np.ones(1))
            self._beliefs = [self._prior.after(each) for each in self._evidence]
