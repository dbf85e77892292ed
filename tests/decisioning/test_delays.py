from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from decisioning.delays import BINS, DEFAULT_WEIGHT, default_delays, edges, learn_delays

WEEK = timedelta(days=7)
DAY = 86_400.0
AGES = np.array([3_600.0, 6 * 3_600.0, DAY, 2 * DAY, 5 * DAY])


def seen_so_far(n: int, *, oldest: float, seed: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Delays, a day on average, of decisions made evenly since `oldest`: those that are over by now, and the ages."""
    rng = np.random.default_rng(seed)
    delays, ages = rng.exponential(DAY, n), rng.uniform(0.0, oldest, n)
    over = (delays <= ages) & (delays < WEEK.total_seconds())
    return delays[over], ages[over]


def truth(ages: NDArray[np.float64]) -> NDArray[np.float64]:
    """By the definition: of the successes within the week."""
    return np.array((1.0 - np.exp(-ages / DAY)) / (1.0 - np.exp(-7.0)))


def test_the_learnt_shares_are_those_of_the_world_though_the_present_cuts_long_delays_off() -> None:
    delays, ages = seen_so_far(40_000, oldest=8 * DAY)
    learnt = learn_delays(delays, ages, window=WEEK).arrived_by(AGES)
    # Per age, four standard errors of a share among those that are surely old enough.
    error = 4.0 * np.sqrt(truth(AGES) * (1.0 - truth(AGES)) / 5_000) + 0.003
    assert (np.abs(learnt - truth(AGES)) < error).all()


def test_taking_what_has_arrived_as_it_is_reads_delays_too_short() -> None:
    delays, ages = seen_so_far(40_000, oldest=3 * DAY)
    naive = np.array([(delays <= age).mean() for age in AGES])
    learnt = learn_delays(delays, ages, window=WEEK).arrived_by(AGES)
    within = AGES < 3 * DAY  # later, nobody is old enough to tell
    assert (naive[within] - truth(AGES)[within]).max() > 0.15
    # Relative to what comes within three days there is no bias; the rest is the default's.
    scale = learnt[3] / truth(AGES)[3]
    np.testing.assert_allclose(learnt[within] / scale, truth(AGES)[within], atol=0.02)


def test_shares_rise_from_nothing_before_the_contact_to_all_at_the_windows_end() -> None:
    delays, ages = seen_so_far(50, oldest=20 * DAY)
    for learnt in (learn_delays(delays, ages, window=WEEK), default_delays(WEEK)):
        shares = learnt.arrived_by(np.linspace(-DAY, 9 * DAY, 5_000))
        assert (np.diff(shares) >= 0.0).all()
        assert (shares[:400] == 0.0).all()
        assert learnt.arrived_by(np.array([7 * DAY, 100 * DAY])).tolist() == [1.0, 1.0]


def test_what_nobody_has_seen_yet_is_as_the_default_has_it() -> None:
    nothing = learn_delays(np.array([]), np.array([]), window=WEEK)
    np.testing.assert_allclose(nothing.shares, default_delays(WEEK).shares)
    assert nothing.seen == 0


def test_few_successes_move_it_little_and_many_decide() -> None:
    at_once = np.full(4, 2.0)
    few = learn_delays(at_once, np.full(4, 30 * DAY), window=WEEK).arrived_by(np.array([60.0]))[0]
    default = default_delays(WEEK).arrived_by(np.array([60.0]))[0]
    assert few == pytest.approx((4.0 + DEFAULT_WEIGHT * default) / (4.0 + DEFAULT_WEIGHT), abs=0.01)
    many = learn_delays(np.full(4_000, 2.0), np.full(4_000, 30 * DAY), window=WEEK)
    assert many.arrived_by(np.array([60.0]))[0] > 0.99


def test_what_comes_early_by_the_callers_clock_or_after_the_window_is_at_its_ends() -> None:
    learnt = learn_delays(np.array([-60.0, 30 * DAY]), np.full(2, 60 * DAY), window=WEEK)
    assert learnt.seen == 2
    assert learnt.arrived_by(np.array([7 * DAY]))[0] == 1.0


def test_bins_are_as_many_for_every_window_and_end_with_it() -> None:
    for window in (0.5, 60.0, DAY, 90 * DAY):
        ends = edges(window)
        assert len(ends) == BINS
        assert (np.diff(ends) > 0.0).all()
        assert ends[-1] == window
