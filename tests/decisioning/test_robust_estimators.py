"""Bounded weights: what the bounds do at their ends, and that the data say how far to go."""

import numpy as np
import pytest

from decisioning.errors import DataError
from decisioning.evaluation import Bootstrap, Floats, Log, direct_method, doubly_robust, mean_of
from decisioning.robust_estimators import (
    least_error,
    self_normalised_doubly_robust,
    shrunk_doubly_robust,
    switch_doubly_robust,
    tuned,
)
from decisioning.slate_evaluation import SlateLog, cascade_doubly_robust, slate_self_normalised


def log_of(n: int, *, seed: int, rare: float = 0.2) -> tuple[Log, Floats, Floats, Floats]:
    """A log that rarely did what the target does; the target, a rough reward model, and the truth, `(n, 3)` each."""
    rng = np.random.default_rng(seed)
    truth = np.tile([0.1, 0.3, 0.6], (n, 1)) + rng.uniform(-0.05, 0.05, (n, 3))
    chances = np.tile([0.5, 0.5 - rare, rare], (n, 1))
    action = np.array([rng.choice(3, p=row) for row in chances])
    rows = np.arange(n)
    log = Log(
        reward=(rng.random(n) < truth[rows, action]).astype(float),
        action=action,
        probability=chances[rows, action],
        customer=rows,
        available=np.ones((n, 3), dtype=bool),
    )
    target = np.tile([0.05, 0.05, 0.9], (n, 1))
    return log, target, np.tile([0.2, 0.2, 0.45], (n, 1)), truth


def test_without_bounds_they_are_doubly_robust_and_bounded_to_nothing_the_reward_model() -> None:
    log, target, q_hat, _ = log_of(500, seed=1)
    plain, model = doubly_robust(log, target, q_hat).value, direct_method(log, target, q_hat).value
    assert plain != pytest.approx(model)
    assert switch_doubly_robust(log, target, q_hat, most=np.inf).value == pytest.approx(plain)
    assert shrunk_doubly_robust(log, target, q_hat, shrinkage=np.inf).value == pytest.approx(plain)
    assert switch_doubly_robust(log, target, q_hat, most=0.0).value == pytest.approx(model)
    assert shrunk_doubly_robust(log, target, q_hat, shrinkage=0.0).value == pytest.approx(model)


def test_a_target_that_is_the_log_itself_needs_no_normalising() -> None:
    log, _, q_hat, _ = log_of(500, seed=2)
    same = np.tile([0.5, 0.3, 0.2], (500, 1))
    assert self_normalised_doubly_robust(log, same, q_hat).value == pytest.approx(doubly_robust(log, same, q_hat).value)


def test_the_bootstrap_draws_an_estimate_of_two_ratios_as_a_whole() -> None:
    log, target, q_hat, truth = log_of(3000, seed=3)
    terms = {"sndr": self_normalised_doubly_robust(log, target, q_hat), "dr": doubly_robust(log, target, q_hat)}
    drawn = Bootstrap(terms, log.customer, rng=np.random.default_rng(0), replications=400)
    estimate = drawn.estimate("sndr")
    assert estimate.low < float((target * truth).sum(axis=1).mean()) < estimate.high
    # Of the same draws, and nearly the same estimator: their difference is far narrower than either.
    apart = drawn.difference("sndr", "dr")
    assert apart.high - apart.low < 0.5 * (estimate.high - estimate.low)


def test_a_steadier_candidate_is_taken_unless_it_may_be_biased_by_more_than_it_is_steadier() -> None:
    rng = np.random.default_rng(4)
    ones, correction = np.ones(4000), rng.normal(0.0, 1.0, 4000)
    plain = mean_of(1.0 + correction, ones)
    assert least_error([plain, mean_of(1.0 + 0.75 * correction, ones)], plain) == 1
    assert least_error([plain, mean_of(np.full(4000, 1.2), ones)], plain) == 0
    with pytest.raises(ValueError, match="no candidates"):
        least_error([], plain)


def test_bounds_that_the_data_say_cost_less_than_plain_weights_where_the_log_is_poor() -> None:
    errors: dict[str, list[float]] = {"plain": [], "switch_dr": [], "dros": []}
    for seed in range(60):
        log, target, q_hat, truth = log_of(300, seed=seed, rare=0.01)
        true = float((target * truth).sum(axis=1).mean())
        errors["plain"].append(doubly_robust(log, target, q_hat).value - true)
        for name, (_, terms) in tuned(log, target, q_hat).items():
            errors[name].append(terms.value - true)
    squared = {name: float(np.square(each).mean()) for name, each in errors.items()}
    assert squared["dros"] < squared["plain"]
    # Dropping whole weights costs a bias that so few rows cannot rule out: it is not risked.
    assert squared["switch_dr"] <= squared["plain"]


def test_slates_that_cannot_be_are_refused_by_name() -> None:
    half = np.full((2, 2), 0.5)
    with pytest.raises(DataError, match=r"probability\[1, 0\] is 0.0, must be above 0 and at most 1"):
        SlateLog(half, np.array([[0.5, 0.5], [0.0, 0.5]]), half)
    with pytest.raises(DataError, match=r"target has shape \(2, 1\), must be \(2, 2\)"):
        SlateLog(half, half, half[:, :1])
    with pytest.raises(DataError, match="in slot 2 the target never agrees"):
        slate_self_normalised(SlateLog(half, half, np.array([[0.5, 0.0], [0.5, 0.0]])))
    log = SlateLog(half, half, half)
    with pytest.raises(DataError, match=r"q_hat has shape \(2, 2, 3\), must be \(2, 2, 4\) like target_choice"):
        cascade_doubly_robust(
            log, action=np.zeros((2, 2), dtype=np.int64), q_hat=np.zeros((2, 2, 3)), target_choice=np.zeros((2, 2, 4))
        )
