"""Conservative intervals hold at least as often as they say, the sequence at every size at once."""

import numpy as np
import pytest

from decisioning.conservative_intervals import confidence_sequence, empirical_bernstein

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
