"""How far actions' log-odds may be off, learnt from simulated actions whose spread is known."""

import numpy as np
import pytest

from training.action_priors import ActionPriors, action_priors


def learnt(*, spread: float, actions: int, rows: int, seed: int, base: float = -3.0) -> ActionPriors:
    rng = np.random.default_rng(seed)
    log_odds = base + spread * rng.standard_normal(actions)
    success = (rng.random((actions, rows)) < 1.0 / (1.0 + np.exp(-log_odds))[:, None]).astype(np.int64)
    names = np.repeat([f"a{n}" for n in range(actions)], rows).astype(object)
    return action_priors(names, success.ravel())


@pytest.mark.parametrize("spread", [0.3, 0.8, 1.5])
def test_the_spread_of_actions_is_found(spread: float) -> None:
    found = [learnt(spread=spread, actions=60, rows=2_000, seed=seed).new for seed in range(10)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - spread) < 4.0 * error + 0.05  # the usual spread pulls a little


def test_the_noise_of_small_counts_is_not_taken_for_spread() -> None:
    found = learnt(spread=0.2, actions=200, rows=60, seed=1)
    assert found.new < 0.5  # what counts alone show is 0.7


def test_the_more_often_met_the_surer() -> None:
    rng = np.random.default_rng(2)
    sizes = {"new": 5, "known": 500, "old": 50_000}
    names = np.repeat(list(sizes), list(sizes.values())).astype(object)
    found = action_priors(names, (rng.random(len(names)) < 0.05).astype(np.int64))
    assert found.by_action["old"] < 0.1 < found.by_action["known"] < found.by_action["new"] < found.new


def test_with_one_action_the_usual_spread_is_believed() -> None:
    assert 0.5 < learnt(spread=0.0, actions=1, rows=500, seed=3).new < 1.2


def test_an_action_that_never_succeeded_has_a_prior() -> None:
    found = action_priors(np.array(["a", "a", "b"], dtype=object), np.zeros(3, dtype=np.int64))
    assert all(np.isfinite([*found.by_action.values(), found.new]))
