"""When a feed has stopped: healthy feeds raise no alarm, stops are found soon, and what docs/feeds.md says holds."""

import numpy as np
import pytest
from numpy.typing import NDArray

from decisioning.rhythm import LEAST, Stop, rhythm_of

WEEK = 168
Counts = NDArray[np.int64]


def shape(kind: str, hours: int) -> NDArray[np.float64]:
    """How an hour compares with the mean hour: a shop with quiet nights and weekends, an office, or neither."""
    hour, day = np.arange(hours) % 24, np.arange(hours) // 24 % 7
    week = {
        "shop": np.where((hour >= 7) & (hour < 22), 1.5, 0.1) * np.where(day >= 5, 0.5, 1.2),
        "office": ((hour >= 8) & (hour < 18) & (day < 5)) * 1.0,
        "flat": np.ones(hours),
    }[kind]
    return week / week[:WEEK].mean()


def fed(rng: np.random.Generator, rate: float, hours: int, *, kind: str = "shop", days_differ: float = 0.3) -> Counts:
    """Counts of a healthy feed of so many events an hour, whose days differ (coefficient of variation)."""
    days = rng.gamma(days_differ**-2, days_differ**2, hours // 24 + 1) if days_differ else np.ones(hours // 24 + 1)
    return rng.poisson(rate * shape(kind, hours) * np.repeat(days, 24)[:hours])


def stops(counts: Counts) -> tuple[Stop, ...]:
    return rhythm_of(counts, np.arange(len(counts)) % WEEK).stops


def noticed_after(counts: Counts, at: int) -> int:
    """Hours until a feed that brings what it does from `at` on counts as stopped."""
    low, high = at, len(counts)
    while low < high:
        middle = (low + high) // 2
        if any(stop.end is None for stop in stops(counts[:middle])):
            high = middle
        else:
            low = middle + 1
    return low - at


@pytest.mark.parametrize(
    ("rate", "kind"),
    [(5.0, "shop"), (5.0, "office"), (1.0, "shop"), (50.0, "shop"), (3 / 24, "shop"), (3 / 24, "flat")],
)
def test_a_healthy_feed_raises_less_than_one_alarm_in_two_years(rate: float, kind: str) -> None:
    found = stops(fed(np.random.default_rng(1), rate, 8 * 365 * 24, kind=kind))
    assert len(found) < 4, "expected: one in ten years"


@pytest.mark.parametrize(
    ("rate", "at", "soon"),
    [(3 / 24, 11, 7 * 24), (1.0, 11, 48), (5.0, 11, 10), (5.0, 22, 24), (50.0, 11, 8), (50.0, 22, 14)],
)
def test_a_full_stop_is_noticed_within_the_time_that_the_table_says(rate: float, at: int, soon: int) -> None:
    rng, begin = np.random.default_rng(2), 5 * WEEK + 24 + at
    delays = []
    for _ in range(10):
        counts = fed(rng, rate, begin + 30 * 24)
        counts[begin:] = 0
        delays.append(noticed_after(counts, begin))
    assert sorted(delays)[7] <= soon, "in three of four cases"


def test_a_tenth_of_what_is_usual_is_a_stop_and_half_is_none() -> None:
    rng = np.random.default_rng(3)
    counts = fed(rng, 20.0, 8 * WEEK)
    begin = 6 * WEEK
    low, half = counts.copy(), counts.copy()
    low[begin:] = rng.binomial(counts[begin:], 0.1)
    half[begin:] = rng.binomial(counts[begin:], 0.6)
    assert [stop.end for stop in stops(low)] == [None]
    assert stops(half) == ()


def test_a_new_feed_raises_no_alarm_in_its_first_week() -> None:
    counts = fed(np.random.default_rng(4), 50.0, LEAST)
    counts[60:] = 0
    assert stops(counts) == ()


def test_the_first_weekend_is_no_alarm() -> None:
    assert stops(fed(np.random.default_rng(5), 30.0, 9 * 24, kind="office", days_differ=0.1)) == ()


def test_young_feeds_whose_rhythm_is_hardly_known_raise_no_alarm() -> None:
    rng = np.random.default_rng(13)
    assert sum(len(stops(fed(rng, rate, 3 * WEEK))) for rate in (0.5, 2.0, 5.0, 20.0) for _ in range(40)) <= 1


def test_a_weekend_after_the_first_one_is_no_alarm() -> None:
    assert stops(fed(np.random.default_rng(5), 30.0, 3 * WEEK, kind="office", days_differ=0.1)) == ()


def test_a_stop_begins_and_ends_when_it_did() -> None:
    counts = fed(np.random.default_rng(6), 20.0, 7 * WEEK, days_differ=0.1)
    begin = 5 * WEEK + 24 + 10
    counts[begin : begin + 50] = 0
    [stop] = stops(counts)
    assert abs(stop.begin - begin) <= 1
    assert stop.end is not None
    assert abs(stop.end - (begin + 50)) <= 1


def test_what_comes_late_fills_the_gap() -> None:
    counts = fed(np.random.default_rng(6), 20.0, 7 * WEEK, days_differ=0.1)
    assert stops(counts) == ()


def test_a_spike_makes_nobody_miss_it_the_week_after() -> None:
    counts = fed(np.random.default_rng(7), 5.0, 9 * WEEK)
    counts[4 * WEEK + 36] = 500_000
    assert stops(counts) == ()


def test_a_stop_of_weeks_is_no_new_rhythm_and_does_not_spoil_the_old() -> None:
    counts = fed(np.random.default_rng(8), 5.0, 16 * WEEK)
    counts[5 * WEEK : 11 * WEEK] = 0
    [stop] = stops(counts)
    assert abs(stop.begin - 5 * WEEK) <= 12
    assert stop.end is not None
    assert abs(stop.end - 11 * WEEK) <= 24
    expected = rhythm_of(counts, np.arange(len(counts)) % WEEK).expected
    assert expected[12 * WEEK : 13 * WEEK].sum() == pytest.approx(5.0 * WEEK, rel=0.25)


def test_little_that_goes_on_for_four_weeks_is_the_new_rhythm() -> None:
    rng = np.random.default_rng(9)
    counts = fed(rng, 50.0, 16 * WEEK)
    counts[6 * WEEK :] = rng.binomial(counts[6 * WEEK :], 0.05)
    [stop] = stops(counts)
    assert stop.end is not None
    assert stop.end <= 10 * WEEK + 48


@pytest.mark.parametrize(("late", "soon"), [(0.0, 2 * 24), (0.3, 10 * 24), (0.5, 10 * 24)])
@pytest.mark.parametrize("seed", [5, 10])
def test_what_comes_once_a_night_is_healthy_and_missed_in_time(late: float, soon: int, seed: int) -> None:
    rng, hours = np.random.default_rng(seed), 12 * WEEK
    counts = np.zeros(hours, dtype=np.int64)
    for night in range(2, hours - 1, 24):
        counts[night + int(rng.random() < late)] = rng.poisson(500)
    assert stops(counts) == ()
    begin = 6 * WEEK + 12
    counts[begin:] = 0
    assert noticed_after(counts, begin) <= soon


def test_one_night_an_hour_late_is_no_stop() -> None:
    counts = np.zeros(8 * WEEK, dtype=np.int64)
    counts[2::24] = 500
    counts[6 * WEEK + 2], counts[6 * WEEK + 3] = 0, 500
    assert stops(counts) == ()


def test_two_days_on_which_the_shop_is_closed_look_like_a_stop_and_spoil_nothing() -> None:
    counts = fed(np.random.default_rng(11), 20.0, 12 * WEEK)
    counts[6 * WEEK + 72 : 6 * WEEK + 120] = 0
    assert [(stop.begin // 24, (stop.end or 0) // 24) for stop in stops(counts)] == [(6 * 7 + 3, 6 * 7 + 5)]


def test_nothing_is_expected_of_nothing() -> None:
    assert stops(np.zeros(5 * WEEK, dtype=np.int64)) == ()
    assert stops(np.zeros(0, dtype=np.int64)) == ()
