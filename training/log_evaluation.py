"""What policies would have earned on a log of anybody's bandit, and how far that can be trusted."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import pandas as pd

from decisioning.errors import DataError, RequestError
from decisioning.evaluation import (
    Bootstrap,
    Estimate,
    Floats,
    Log,
    Terms,
    effective_sample_size,
    importance_weights,
    mean_of,
    overlap_warnings,
)
from training.estimators import SHOWN, earns_than, estimated, estimators_of, to_trust
from training.evaluation_report import Cautious, PolicyValue, cautious_intervals
from training.logged_bandit import LoggedBandit, slates
from training.logged_policies import ExpectedRewards, logged_target
from training.slate_log import estimated_slates, slate_rewards, slate_weights

AS_LOGGED = "as logged"
METRIC = "reward"
FEWEST_CUSTOMERS = 2
PREFERRED = ("dr", "dros", "sndr", "switch_dr", "snips", "ips", "cascade_dr", "snrips", "rips")


class Verdict(msgspec.Struct, frozen=True):
    """What the log says of a policy, in a sentence.

    Attributes:
        estimator: To believe, and `why`; None for none of them.
        effective_sample_size: How many rows say something of the policy.
    """

    policy: str
    estimator: str | None
    why: str
    effective_sample_size: float
    says: str


class LogEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison.

    Attributes:
        rewards: The least and the largest that a reward can be, None where nobody says it.
        values: Each policy and estimator; the log's own under `as logged`, which is its mean.
        differences: Each policy over the log's own, and over the first, paired.
        verdicts: What it comes to for each policy.
    """

    log: str
    n_decisions: int
    n_customers: int
    n_actions: int
    rewards: tuple[float, float] | None
    values: tuple[PolicyValue, ...]
    differences: tuple[PolicyValue, ...]
    cautious: tuple[Cautious, ...]
    verdicts: tuple[Verdict, ...]
    warnings: tuple[str, ...]

    def table(self) -> pd.DataFrame:
        """Values, then differences, one row each."""
        return pd.DataFrame([each.row() for each in (*self.values, *self.differences)])

    def value(self, policy: str, estimator: str) -> Estimate:
        """One estimate.

        Raises:
            KeyError: There is none.
        """
        for found in self.values:
            if (found.policy, found.estimator) == (policy, estimator):
                return found.estimate
        raise KeyError((policy, estimator))


class Evaluated(NamedTuple):
    """A report with what its figures are drawn from: the weights of each policy's decisions, `(n,)`, and its terms."""

    report: LogEvaluation
    weights: dict[str, Floats]
    terms: dict[tuple[str, str], Terms]


def evaluate_log(
    bandit: LoggedBandit,
    policies: Sequence[str],
    *,
    estimators: str = "few",
    rewards: tuple[float, float] | None = None,
    seed: int = 1,
) -> Evaluated:
    """What each policy would have earned a decision.

    `estimators` are `few`, `all` or names with commas between; of slates, those that value slates. `rewards` are the
    least and the largest that one can be; where they are absent and all are 0 or 1, those.

    Raises:
        RequestError: A policy is not known, or a reward outside its bounds.
        DataError: There are fewer than 2 customers.
    """
    log = bandit.log
    n_customers = len(np.unique(log.customer))
    if n_customers < FEWEST_CUSTOMERS:
        raise DataError(f"{bandit.name} has one customer; intervals need at least {FEWEST_CUSTOMERS}")
    rewards = _bounds(log, rewards)
    expected = ExpectedRewards(bandit, seed=seed)
    targets = {policy: logged_target(policy, bandit, expected) for policy in dict.fromkeys(policies)}
    terms: dict[tuple[str, str], Terms] = {}
    weights: dict[str, Floats] = {}
    is_of_slates = bandit.slot is not None
    names = estimators_of(estimators, slates=is_of_slates)
    customer, earned = log.customer, log.reward
    if is_of_slates:
        customer, earned = slates(bandit, log.customer)[:, 0], slate_rewards(bandit).sum(axis=1)
    for policy, target in targets.items():
        if is_of_slates:
            found = estimated_slates(bandit, target, expected, names)
            weights[policy] = slate_weights(bandit, target)[:, -1]
        else:
            found = estimated(log, target, expected.values, names)
            weights[policy] = importance_weights(log, target)
        terms |= {(policy, name): each for name, each in found.items()}
    own = mean_of(earned, np.ones(len(earned)))
    bootstrap = Bootstrap(
        {AS_LOGGED: own, **{_key(*key): each for key, each in terms.items()}}, customer, rng=np.random.default_rng(seed)
    )
    values = [PolicyValue(policy, METRIC, name, bootstrap.estimate(_key(policy, name))) for policy, name in terms]
    differences = [
        PolicyValue(policy, METRIC, name, bootstrap.difference(_key(policy, name), AS_LOGGED), over=AS_LOGGED)
        for policy, name in terms
    ]
    first = next(iter(targets))
    differences += [
        PolicyValue(policy, METRIC, name, bootstrap.difference(_key(policy, name), _key(first, name)), over=first)
        for policy, name in terms
        if policy != first and (first, name) in terms
    ]
    report = LogEvaluation(
        log=bandit.name,
        n_decisions=len(earned),
        n_customers=n_customers,
        n_actions=len(bandit.actions),
        rewards=rewards,
        values=(PolicyValue(AS_LOGGED, METRIC, "mean", bootstrap.estimate(AS_LOGGED)), *values),
        differences=tuple(differences),
        cautious=()
        if rewards is None or is_of_slates
        else cautious_intervals(log, targets, least=rewards[0], most=rewards[1]),
        verdicts=tuple(_verdict(policy, each, differences, slates=is_of_slates) for policy, each in weights.items()),
        warnings=tuple(_warnings(bandit, targets)),
    )
    return Evaluated(report, weights, terms)


def _verdict(policy: str, weights: Floats, differences: Sequence[PolicyValue], *, slates: bool) -> Verdict:
    """Whether it measurably earns more, or less, than the log did, by the estimator to trust."""
    estimator, why = to_trust(weights, slates=slates)
    effective = effective_sample_size(weights)
    over_log = {
        each.estimator: each.estimate for each in differences if (each.policy, each.over) == (policy, AS_LOGGED)
    }
    if estimator is None or not over_log:
        return Verdict(policy, None, why, effective, "what it would earn cannot be told on this log")
    if estimator not in over_log:
        asked = next((name for name in PREFERRED if name in over_log), next(iter(over_log)))
        why = f"{why} (not asked for; this is {SHOWN[asked]})"
        estimator = asked
    found = over_log[estimator]
    says = f"{earns_than(found, 'what was logged')} by {SHOWN[estimator]}"
    return Verdict(policy, estimator, why, effective, says)


def _key(policy: str, estimator: str) -> str:
    return f"{policy}/{estimator}"


def _bounds(log: Log, rewards: tuple[float, float] | None) -> tuple[float, float] | None:
    if rewards is None:
        return (0.0, 1.0) if set(np.unique(log.reward)) <= {0.0, 1.0} else None
    least, most = rewards
    found = float(log.reward.min()), float(log.reward.max())
    if not least < most or found[0] < least or found[1] > most:
        raise RequestError(
            f"--reward-range is {least:g},{most:g}, but rewards lie between {found[0]:g} and {found[1]:g}; name the"
            " least and the largest that one can ever be",
            where="reward_range",
        )
    return rewards


def _warnings(bandit: LoggedBandit, targets: Mapping[str, Floats]) -> list[str]:
    found = [f"{policy}: {said}" for policy, target in targets.items() for said in overlap_warnings(bandit.log, target)]
    doubt = probability_doubt(bandit.log)
    return [*([doubt] if doubt else []), *found]


def probability_doubt(log: Log) -> str | None:
    """Whether the logged probabilities can be what they say: over everything available, weights of 1 on average.

    With right probabilities the mean of `1 / (n_available p)` is 1, the weight of the uniform policy; it is not where
    they are of other choices, or were renormalised, or candidates are missing.
    """
    choices = log.available.sum(axis=1)
    weights = 1.0 / (choices * log.probability)
    _, cluster = np.unique(log.customer, return_inverse=True)
    error = float(np.sqrt(np.square(np.bincount(cluster, weights=weights - 1.0)).sum())) / len(weights)
    found = float(weights.mean())
    if abs(found - 1.0) <= 4.0 * error + 1e-9:
        return None
    return (
        f"the logged probabilities do not fit what was available: a uniform choice would weigh {found:.2f} a row"
        " instead of 1, and every weighed estimate is off by about as much; map the candidates of each row, and look"
        " at which choice the probabilities are of"
    )
