"""Estimators against Open Bandit Pipeline's numbers, and against a world whose truth is known."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from decisioning.errors import DataError
from decisioning.evaluation import (
    Bootstrap,
    Estimate,
    Log,
    direct_method,
    doubly_robust,
    effective_sample_size,
    importance_weights,
    inverse_propensity,
    mean_of,
    overlap_warnings,
    self_normalised,
)

DATA = Path(os.environ.get("NEXTMOVE_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_golden = pytest.mark.skipif(
    not (DATA / "ope_golden").is_dir(), reason=f"no golden vectors in {DATA}/ope_golden; set NEXTMOVE_DATA"
)


def log(**changes: Any) -> Log:
    fields: dict[str, Any] = {
        "reward": np.array([1.0, 0.0, 1.0, 0.0]),
        "action": np.array([0, 1, 1, 0]),
        "probability": np.full(4, 0.5),
        "customer": np.arange(4),
        "available": np.ones((4, 2), dtype=bool),
    }
    return Log(**{**fields, **changes})


def golden(name: str) -> tuple[Log, NDArray[np.float64], NDArray[np.float64], dict[str, float], float]:
    arrays = np.load(DATA / "ope_golden" / f"{name}.npz")
    n = len(arrays["reward"])
    if name == "synthetic":
        target, q_hat, tolerance = arrays["action_dist"][:, :, 0], arrays["q_hat"][:, :, 0], 1e-9
    else:  # the same distribution in every round, taken at the logged position
        target, q_hat, tolerance = arrays["action_dist"][:, arrays["position"]].T, arrays["q_hat"], 1e-6
    logged = Log(
        reward=arrays["reward"].astype(float),
        action=arrays["action"].astype(np.int64),
        probability=arrays["pscore"].astype(float),
        customer=np.arange(n),
        available=np.ones(target.shape, dtype=bool),
    )
    expected = json.loads((DATA / "ope_golden" / "expected.json").read_text())[name]
    return logged, target.astype(float), q_hat.astype(float), expected, tolerance


@needs_golden
@pytest.mark.parametrize("name", ["synthetic", "obd_random_all"])
def test_estimators_agree_with_the_reference_implementation(name: str) -> None:
    logged, target, q_hat, expected, tolerance = golden(name)
    ours = {
        "DM": direct_method(logged, target, q_hat),
        "IPS": inverse_propensity(logged, target),
        "SNIPS": self_normalised(logged, target),
        "DR": doubly_robust(logged, target, q_hat),
    }
    for estimator, terms in ours.items():
        assert terms.value == pytest.approx(expected[estimator], rel=tolerance), estimator


class World:
    """Two contexts, three actions, skewed logging; customers come back and have their own level."""

    rates = np.array([[0.2, 0.5, 0.35], [0.6, 0.3, 0.4]])
    logging = np.array([[0.6, 0.1, 0.3], [0.2, 0.5, 0.3]])
    target = np.array([[0.0, 1.0, 0.0], [0.8, 0.0, 0.2]])
    truth = float((target * rates).sum(axis=1).mean())

    def log(self, rng: np.random.Generator, customers: int = 300, visits: int = 3) -> tuple[Log, NDArray[np.int64]]:
        n = customers * visits
        customer = np.repeat(np.arange(customers), visits)
        level = rng.normal(0.0, 0.1, customers)[customer]
        context = rng.integers(0, 2, n)
        action = (rng.random(n)[:, None] > self.logging[context].cumsum(axis=1)).sum(axis=1)
        reward = rng.binomial(1, np.clip(self.rates[context, action] + level, 0.0, 1.0)).astype(float)
        return Log(reward, action, self.logging[context, action], customer, np.ones((n, 3), dtype=bool)), context


def test_estimators_find_the_truth_and_their_intervals_cover_it() -> None:
    world, rng = World(), np.random.default_rng(5)
    wrong_model = np.full((2, 3), 0.4)
    estimates: dict[str, list[float]] = {"ips": [], "snips": [], "dr": []}
    covered = 0
    replications = 150
    for _ in range(replications):
        logged, context = world.log(rng)
        target = world.target[context]
        terms = {
            "ips": inverse_propensity(logged, target),
            "snips": self_normalised(logged, target),
            "dr": doubly_robust(logged, target, wrong_model[context]),
        }
        for name, term in terms.items():
            estimates[name].append(term.value)
        found = Bootstrap(terms, logged.customer, rng=rng, replications=200).estimate("dr")
        covered += found.low <= world.truth <= found.high
    for name, values in estimates.items():
        error = np.std(values) / np.sqrt(replications)
        assert abs(np.mean(values) - world.truth) < 4 * error + (0.002 if name == "snips" else 0.0), name
    rate = covered / replications
    assert abs(rate - 0.95) < 4 * np.sqrt(0.95 * 0.05 / replications) + 0.01


def test_clusters_widen_the_interval_when_a_customers_rows_move_together() -> None:
    rng = np.random.default_rng(1)
    reward = np.repeat(rng.normal(size=200), 10)
    terms = {"mean": mean_of(reward, np.ones(2000))}
    clustered = Bootstrap(terms, np.repeat(np.arange(200), 10), rng=rng).estimate("mean")
    as_if_independent = Bootstrap(terms, np.arange(2000), rng=rng).estimate("mean")
    ratio = (clustered.high - clustered.low) / (as_if_independent.high - as_if_independent.low)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.15)


def test_a_paired_difference_of_a_policy_with_itself_is_exactly_nothing() -> None:
    terms = inverse_propensity(log(), np.full((4, 2), 0.5))
    bootstrap = Bootstrap({"a": terms, "b": terms}, np.arange(4), rng=np.random.default_rng(0))
    assert bootstrap.difference("a", "b") == Estimate(0.0, 0.0, 0.0, n=4, effective_sample_size=4.0)


def test_the_same_seed_gives_the_same_interval() -> None:
    terms = {"a": inverse_propensity(log(), np.full((4, 2), 0.5))}
    first, second = (
        Bootstrap(terms, np.arange(4), rng=np.random.default_rng(3), replications=50).estimate("a") for _ in range(2)
    )
    assert first == second


def test_what_was_not_available_may_have_no_reward_model_but_no_mass_either() -> None:
    available = np.array([[True, False]] * 4)
    logged = log(action=np.zeros(4, dtype=int), available=available, probability=np.ones(4))
    only_first = np.array([[1.0, 0.0]] * 4)
    q_hat = np.array([[0.4, np.nan]] * 4)
    assert doubly_robust(logged, only_first, q_hat).value == pytest.approx(0.5)
    with pytest.raises(DataError, match="were not available"):
        importance_weights(logged, np.full((4, 2), 0.5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probability": np.array([0.5, 0.0, 0.5, 0.5])}, r"probability\[1\] is 0.0"),
        ({"probability": np.array([0.5, np.nan, 0.5, 0.5])}, r"probability\[1\] is nan"),
        ({"probability": np.array([0.5, 0.5, 0.5, 1.5])}, r"probability\[3\] is 1.5"),
        ({"reward": np.array([0.5, 0.5, np.inf, 1.5])}, r"reward\[2\] is not a number"),
        ({"action": np.array([0])}, "action has 1 rows, must have 4"),
        ({"available": np.array([[False, True]] * 4)}, "not among those"),
    ],
)
def test_a_log_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        log(**changes)


def test_a_target_that_is_no_distribution_is_refused() -> None:
    with pytest.raises(DataError, match="sum to 1"):
        importance_weights(log(), np.full((4, 2), 0.4))


def test_a_target_that_never_agrees_with_the_log_has_no_snips() -> None:
    with pytest.raises(DataError, match="never agrees"):
        self_normalised(log(action=np.zeros(4, dtype=int)), np.array([[0.0, 1.0]] * 4))


def test_warnings_name_small_overlap_unlogged_actions_and_few_customers() -> None:
    logged = log(action=np.zeros(4, dtype=int))
    warnings = overlap_warnings(logged, np.full((4, 2), 0.5))
    assert [any(word in warning for warning in warnings) for word in ("effective", "50.0%", "customers")] == [True] * 3


def test_good_overlap_warns_of_nothing() -> None:
    logged, context = World().log(np.random.default_rng(2), customers=400)
    assert overlap_warnings(logged, World.logging[context]) == []


def test_equal_weights_count_every_row() -> None:
    assert effective_sample_size(np.full(50, 2.0)) == pytest.approx(50.0)
    assert effective_sample_size(np.zeros(3)) == 0.0
