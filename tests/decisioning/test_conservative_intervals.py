"""Conservative intervals hold at least as often as they say, the sequence at every size at once."""

import numpy as np
import pytest

from decisioning.conservative_intervals import confidence_sequence, conservative_value, empirical_bernstein
from decisioning.evaluation import Log

FOUR_ERRORS = 4.0 * np.sqrt(0.05 * 0.95 / 400)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Mostly nothing and rarely 20, as weighed rewards are; the mean is 0.4."""
    return 20.0 * (rng.random(n) < 0.02)


def test_at_a_fixed_size_it_holds_at_least_as_often_as_it_says() -> None:
    held = []
    for seed in range(400):
        low, high = empirical_bernstein(skewed(np.random.default_rng(seed), 500), least=0.0, most=20.0)
        held.append(low <= 0.4 <= high)
    assert np.mean(held) >= 0.95 - FOUR_ERRORS


def test_the_sequence_holds_at_every_size_at_once() -> None:
    held = []
    for seed in range(400):
        low, high = confidence_sequence(skewed(np.random.default_rng(seed), 2_000), least=0.0, most=20.0)
        held.append(bool((low <= 0.4).all() and (high >= 0.4).all()))
    assert np.mean(held) >= 0.95 - FOUR_ERRORS


def test_both_close_in_on_the_mean_and_the_sequence_never_widens() -> None:
    rows = np.random.default_rng(1).random(20_000)
    fixed = empirical_bernstein(rows, least=0.0, most=1.0)
    low, high = confidence_sequence(rows, least=0.0, most=1.0)
    assert fixed.high - fixed.low < 0.02
    assert high[-1] - low[-1] < 0.03
    assert (np.diff(high - low) <= 0.0).all()
    assert low[-1] < 0.5 < high[-1]


def test_an_interval_that_ignores_skew_would_not_hold() -> None:
    held = []
    for seed in range(400):
        rows = skewed(np.random.default_rng(seed), 50)
        half = 1.96 * rows.std(ddof=1) / np.sqrt(50)
        held.append(rows.mean() - half <= 0.4 <= rows.mean() + half)
    assert np.mean(held) < 0.95 - FOUR_ERRORS


def test_rows_outside_their_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows lie between 0\.0 and 2\.0, must lie between 0\.0 and 1\.0"):
        empirical_bernstein(np.array([0.0, 2.0]), least=0.0, most=1.0)
    with pytest.raises(ValueError, match="there are 1 rows"):
        confidence_sequence(np.array([0.0]), least=0.0, most=1.0)


def two_actions(rng: np.random.Generator, n: int, *, times: int = 1, worth: float = 1.0) -> Log:
    """The second action is drawn once in ten; each row stands there so often, of the same customer."""
    rare = rng.random(n) < 0.1
    reward = worth * (rng.random(n) < np.where(rare, 0.3, 0.1))
    chance = np.where(rare, 0.1, 0.9)
    rows = np.repeat(np.arange(n), times)
    return Log(reward[rows], rare.astype(np.int64)[rows], chance[rows], rows, np.ones((n * times, 2), dtype=bool))


SECOND = np.array([[0.0, 1.0]])


def test_a_policys_value_is_held_as_often_as_they_say() -> None:
    held = []
    for seed in range(200):
        log = two_actions(np.random.default_rng(seed), 500)
        found = conservative_value(log, np.repeat(SECOND, 500, axis=0), least=0.0, most=1.0, rarest=0.1)
        held.append([bounds.low <= 0.3 <= bounds.high for bounds in found])
    assert (np.mean(held, axis=0) >= 0.95).all()


def test_rows_of_one_customer_say_no_more_than_one_of_them() -> None:
    once, often = (
        conservative_value(
            two_actions(np.random.default_rng(1), 500, times=times),
            np.repeat(SECOND, 500 * times, axis=0),
            least=0.0,
            most=1.0,
            rarest=0.1,
        )
        for times in (1, 7)
    )
    np.testing.assert_allclose(np.array(once), np.array(often))


def test_losses_are_held_as_gains_are() -> None:
    gains, losses = (
        conservative_value(
            two_actions(np.random.default_rng(1), 500, worth=worth),
            np.repeat(SECOND, 500, axis=0),
            least=min(0.0, worth),
            most=max(0.0, worth),
            rarest=0.1,
        )
        for worth in (1.0, -1.0)
    )
    assert gains.bernstein.low <= 0.3 <= gains.bernstein.high
    assert losses.bernstein.low <= -0.3 <= losses.bernstein.high
    assert losses.bernstein.low >= -1.0
