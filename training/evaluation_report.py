"""What acting on a model would have earned, beside simpler policies, on decisions that it never saw."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.bundle import Bundle
from decisioning.catalog import Catalog
from decisioning.conservative_intervals import conservative_value
from decisioning.errors import DataError
from decisioning.evaluation import (
    Bootstrap,
    Estimate,
    Floats,
    Log,
    Terms,
    overlap_warnings,
)
from decisioning.studentised_bounds import Advantage, advantage
from training.estimators import estimated
from training.examples import LEFT_OUT
from training.graph_scorer import verified_scorer
from training.reward_model import cross_fitted
from training.target_policies import (
    Decisions,
    always,
    best_constant,
    candidate_rows,
    constant_ranking,
    drawn_decisions,
    greedy,
    priorities,
    uniform,
)

SUCCESS = "success"
METRICS = (SUCCESS, "reward")
ESTIMATORS = ("ips", "snips", "dr", "sndr", "dros")
MODEL, CHAMPION_POLICY, BEST_CONSTANT, UNIFORM = "greedy", "champion", "best_constant", "uniform"
MOST_CONSTANTS = 10  # with more actions, only the best constant is reported
FEWEST_DECISIONS = 200
NOTHING_DRAWN = (
    "no decision says with which probability its action was chosen, so what another choice would have earned cannot"
    " be told: write `probability` into the mapping, or let the service decide, which logs it"
)


class PolicyValue(msgspec.Struct, frozen=True):
    """What a policy would have earned a decision, met or not; with `over`, how much more than that one, paired."""

    policy: str
    metric: str
    estimator: str
    estimate: Estimate
    over: str | None = None

    def row(self) -> dict[str, str | float]:
        """For a table."""
        return {
            "policy": self.policy,
            "over": self.over or "",
            "metric": self.metric,
            "estimator": self.estimator,
            "value": self.estimate.value,
            "low": self.estimate.low,
            "high": self.estimate.high,
            "n": self.estimate.n,
            "effective_sample_size": self.estimate.effective_sample_size,
        }


class Cautious(msgspec.Struct, frozen=True):
    """An interval that holds for any rewards within bounds: `bernstein` at this size, `sequence` at every one.

    By IPS, in which no weight is above the policy's likeliest choice over the rarest that the log made.
    """

    policy: str
    kind: str
    low: float
    high: float


class EvaluationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of a model's greedy policy with others.

    Attributes:
        since: Every decision is later than this, and so than every slice that either model used.
        best_constant: By placement, the action that earned most before `since`.
        logged: What the decisions earned as they were made, by metric.
        values: Each policy, metric and estimator.
        differences: The model's policy over each other one, paired.
        cautious: Of success, which is 0 or 1, each policy's interval that holds whatever the log is like.
        advantages: The same of reward, by DR, with bounds at any level: what the gate goes by.
        left_out: Lines that say how many decisions could not be judged, since their outcomes were not told.
    """

    domain: str
    version: str
    run_id: str
    bundle_sha256: str
    champion_version: str | None
    champion_sha256: str | None
    since: datetime
    n_decisions: int
    n_customers: int
    best_constant: dict[str, str]
    logged: dict[str, float]
    values: tuple[PolicyValue, ...]
    differences: tuple[PolicyValue, ...]
    warnings: tuple[str, ...]
    cautious: tuple[Cautious, ...] = ()
    left_out: tuple[str, ...] = ()
    advantages: dict[str, Advantage] = {}

    def difference(self, over: str, *, metric: str = "reward", estimator: str = "dr") -> Estimate | None:
        """The model's policy minus `over`, or None where that was not compared."""
        for found in self.differences:
            if (found.over, found.metric, found.estimator) == (over, metric, estimator):
                return found.estimate
        return None

    def table(self) -> pd.DataFrame:
        """Values, then differences, one row each."""
        return pd.DataFrame([found.row() for found in (*self.values, *self.differences)])


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Target policies over the same decisions, `(n, n_actions)` each; `encoded` as the model sees them."""

    decisions: Decisions
    encoded: NDArray[np.float32]
    targets: dict[str, NDArray[np.float64]]
    best_constant: dict[str, str]


def evaluate(
    bundle: Bundle, examples: pd.DataFrame, catalog: Catalog, *, champion: Bundle | None = None, seed: int = 1
) -> EvaluationReport:
    """Compare the model's greedy policy with uniform, constants, and the champion's greedy policy.

    A value is what a policy would have earned a decision, whether or not the customer met it: what
    was not met counts with what it earned, usually 0. Over met decisions alone every estimate would
    be biased, since what is met depends on the action. Only drawn decisions count that are later
    than every slice that either model used, calibration included. The best constant is chosen on
    what came before. DR's reward model is cross-fitted over customers and the same for all
    policies, so no policy is judged by its own predictions.

    Raises:
        BundleError: A bundle does not score as it was built.
        DataError: Fewer than 200 decisions are left.
    """
    if champion is not None and champion.sha256 == bundle.sha256:
        champion = None
    since = max(each.manifest.trained_until for each in (bundle, champion) if each is not None)
    later = (examples["decided_at"] > pd.Timestamp(since)).to_numpy()
    comparison = _targets(bundle, champion, examples, later, catalog, since)
    decisions, targets = comparison.decisions, comparison.targets
    q_hat = cross_fitted(bundle.manifest.features, comparison.encoded, examples, decisions, catalog, METRICS, seed=seed)
    logs = {metric: decisions.log(metric) for metric in METRICS}
    terms: dict[str, Terms] = {}
    for policy, target in targets.items():
        for metric, log in logs.items():
            for name, found in estimated(log, target, q_hat[metric], ESTIMATORS).items():
                terms[_key(policy, metric, name)] = found
    customer = logs[METRICS[0]].customer
    bootstrap = Bootstrap(terms, customer, rng=np.random.default_rng(seed))
    each = [(m, policy, e) for m in METRICS for policy in targets for e in ESTIMATORS if _key(policy, m, e) in terms]
    paired = [(m, policy, e) for m, policy, e in each if policy != MODEL and _key(MODEL, m, e) in terms]
    return EvaluationReport(
        domain=catalog.content.domain,
        version=bundle.manifest.version,
        run_id=bundle.manifest.run_id,
        bundle_sha256=bundle.sha256,
        champion_version=champion.manifest.version if champion else None,
        champion_sha256=champion.sha256 if champion else None,
        since=since,
        n_decisions=len(customer),
        n_customers=len(np.unique(customer)),
        best_constant=comparison.best_constant,
        logged={metric: float(log.reward.mean()) for metric, log in logs.items()},
        values=tuple(PolicyValue(policy, m, e, bootstrap.estimate(_key(policy, m, e))) for m, policy, e in each),
        differences=tuple(
            PolicyValue(MODEL, m, e, bootstrap.difference(_key(MODEL, m, e), _key(policy, m, e)), over=policy)
            for m, policy, e in paired
        ),
        warnings=tuple(
            f"{policy}: {warning}"
            for policy, target in targets.items()
            for warning in overlap_warnings(logs[METRICS[0]], target)
        ),
        cautious=cautious_intervals(logs[SUCCESS], targets, least=0.0, most=1.0),
        left_out=examples.attrs.get(LEFT_OUT, ()),
        advantages={
            policy: advantage(terms[_key(MODEL, "reward", "dr")], terms[_key(policy, "reward", "dr")], customer)
            for policy in targets
            if policy != MODEL
        },
    )


def cautious_intervals(log: Log, targets: Mapping[str, Floats], *, least: float, most: float) -> tuple[Cautious, ...]:
    """Both of each target, `(n, n_actions)`, where rewards are between `least` and `most`; none of one customer."""
    if len(np.unique(log.customer)) < 2:
        return ()
    found = []
    for policy, target in targets.items():
        held = conservative_value(log, target, least=least, most=most, rarest=float(log.probability.min()))
        found += [Cautious(policy, kind, *bounds) for kind, bounds in zip(held._fields, held, strict=True)]
    return tuple(found)


def _targets(
    bundle: Bundle,
    champion: Bundle | None,
    examples: pd.DataFrame,
    later: NDArray[np.bool_],
    catalog: Catalog,
    since: datetime,
) -> _Comparison:
    if not examples["drawn"].any():
        raise DataError(NOTHING_DRAWN)
    decisions = drawn_decisions(examples[later], catalog)
    if len(decisions.examples) < FEWEST_DECISIONS:
        raise DataError(
            f"{len(decisions.examples)} drawn decisions are later than {since.isoformat()}, until when the models"
            f" learnt; at least {FEWEST_DECISIONS} are needed to compare them: let the service decide longer"
        )
    past = drawn_decisions(examples[~later], catalog)
    ranking = constant_ranking(past, "reward") if len(past.examples) else {}
    encoded = candidate_rows(bundle.manifest.features, decisions, catalog)
    targets = {
        MODEL: greedy(priorities(verified_scorer(bundle), bundle.manifest.features, encoded, decisions, catalog))
    }
    if champion is not None:
        features = champion.manifest.features
        its_own = candidate_rows(features, decisions, catalog)
        targets[CHAMPION_POLICY] = greedy(priorities(verified_scorer(champion), features, its_own, decisions, catalog))
    targets[BEST_CONSTANT] = best_constant(decisions, ranking)
    if len(decisions.actions) <= MOST_CONSTANTS:
        for action_id in decisions.actions:
            targets[f"always-{action_id}"] = always(decisions, action_id, targets[BEST_CONSTANT])
    targets[UNIFORM] = uniform(decisions)
    return _Comparison(decisions, encoded, targets, {placement: order[0] for placement, order in ranking.items()})


def _key(policy: str, metric: str, estimator: str) -> str:
    return f"{policy}/{metric}/{estimator}"
