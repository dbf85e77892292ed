"""Policies that a log of a bandit can be asked about, as chances for everything that could have been chosen."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from decisioning.bundle import ModelFeature
from decisioning.errors import DataError, RequestError
from decisioning.evaluation import Floats
from decisioning.exploration import BootstrapThompson, Estimates, ExplorationPolicy, Thompson, with_floor
from training.ensemble import MEMBERS, customer_draws
from training.logged_bandit import MOST_CELLS, LoggedBandit
from training.policy_spec import exploration_policy
from training.reward_model import predicted_by_others

LOGGED_COLUMN = "column:"


class ExpectedRewards:
    """What a cross-fitted reward model expects of every choice that a log could have made.

    No row is predicted by a model that met its customer: so a policy over these values is one learnt from other
    customers, and can be valued on the row without flattering it.
    """

    def __init__(self, bandit: LoggedBandit, *, seed: int) -> None:
        """Nothing is learnt yet."""
        self._bandit = bandit
        self._seed = seed

    @cached_property
    def values(self) -> Floats:
        """`(n, n_actions)`; 0 where not available."""
        return self.of(self._bandit.log.reward)

    def of(self, earned: Floats) -> Floats:
        """The same of something else than the reward, `(n,)`, that rows earned."""
        return self._fitted(earned, np.arange(len(earned)), self._seed)

    @cached_property
    def members(self) -> Floats:
        """The same of models that each learn from another draw of the customers, `(n_members, n, n_actions)`.

        Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, section 7.3.

        Raises:
            DataError: The log is too large for them.
        """
        if self._bandit.log.available.size * MEMBERS > MOST_CELLS:
            raise DataError(
                f"{self._bandit.name} is too large for policies that need to know how far values may be off;"
                " evaluate a part of it, or another policy"
            )
        log, seed = self._bandit.log, self._seed
        return np.stack(
            [
                self._fitted(log.reward, np.repeat(np.arange(len(times)), times), seed + member)
                for member, times in enumerate(customer_draws(log.customer, seed=seed))
            ]
        )

    def _fitted(self, earned: Floats, learnt_from: np.ndarray, seed: int) -> Floats:
        bandit = self._bandit
        log = bandit.log
        kinds = [ModelFeature("action", "action", "category")]
        kinds += [
            ModelFeature(name, "context", "category" if name in bandit.categories else "number")
            for name in bandit.feature_names
        ]
        features = bandit.features
        if bandit.slot is not None:
            kinds.append(ModelFeature("slot", "context", "number"))
            features = np.column_stack([features, bandit.slot.astype(np.float32)])
        shown = np.column_stack([log.action.astype(np.float32), features])
        rows, columns = np.nonzero(log.available)
        asked = np.column_stack([columns.astype(np.float32), features[rows]])
        metric = "success" if set(np.unique(earned)) <= {0.0, 1.0} else "reward"
        customers = pd.Series(log.customer)
        found = predicted_by_others(
            kinds,
            shown[learnt_from],
            {metric: earned[learnt_from]},
            customers.iloc[learnt_from],
            asked,
            log.available,
            customers,
            seed=seed,
        )[metric]
        return np.where(log.available, found, 0.0)


def logged_target(spec: str, bandit: LoggedBandit, expected: ExpectedRewards) -> Floats:
    """The chances of `uniform`, `always:ACTION`, `column:NAME` or an exploration policy, `(n, n_actions)`.

    An exploration policy sees what is expected of each choice, from 0 for the least reward of the log to 1 for the
    largest.

    Raises:
        RequestError: There is no such policy or action.
    """
    kind, _, parameter = spec.partition(":")
    available = bandit.log.available
    uniform = available / available.sum(axis=1, keepdims=True)
    if kind == "uniform" and not parameter:
        return uniform
    if kind == "always":
        if parameter not in bandit.actions:
            raise RequestError(
                f"--policy is '{spec}', but the log has no action '{parameter}'; it has {_some(bandit.actions)}",
                where="policy",
            )
        column = bandit.actions.index(parameter)
        could = available[:, column]
        uniform[could] = 0.0
        uniform[could, column] = 1.0
        return uniform
    if spec.startswith(LOGGED_COLUMN):
        return bandit.chosen[parameter]
    return _explored(exploration_policy(spec), bandit, expected)


def _explored(policy: ExplorationPolicy, bandit: LoggedBandit, expected: ExpectedRewards) -> Floats:
    log = bandit.log
    least, most = float(log.reward.min()), float(log.reward.max())
    span = max(most - least, 1e-12)
    values = np.clip((expected.values - least) / span, 0.0, 1.0)
    by_doubt = isinstance(policy, Thompson | BootstrapThompson)
    members = np.clip((expected.members - least) / span, 0.0, 1.0) if by_doubt else None
    target = np.zeros(log.available.shape)
    for row, could in enumerate(log.available):
        places = np.flatnonzero(could)
        estimates = Estimates.known(values[row, places])
        if members is not None:
            own = members[:, row, places]
            estimates = Estimates(values[row, places], own.std(axis=0, ddof=1), own)
        chances = with_floor(policy.probabilities(estimates), policy.minimum_probability)
        target[row, places] = chances / chances.sum()
    return target


def _some(actions: Sequence[str]) -> str:
    return ", ".join(actions[:10]) + (" and others" if len(actions) > 10 else "")
