"""What is far smaller than usual is told, and chance and the rhythm of a week are not."""

from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from decisioning.content import Audience
from decisioning.running_dry import PAST, Kind, Size, runs_dry, warnings
from tests.builders import NOW, content


def size(count: float, *, ago: float = 0, kind: Kind = "audience", name: str = "loyal", market: str = "global") -> Size:
    return Size(market, kind, name, NOW - timedelta(days=ago), int(count), 20_000)


def past(*counts: float) -> list[Size]:
    """One a day, the last one yesterday."""
    return [size(count, ago=len(counts) - place) for place, count in enumerate(counts)]


def alarms(days: NDArray[np.int64]) -> int:
    """Of so many days in a row, on how many something was said."""
    sizes = [size(count, ago=len(days) - 1 - place) for place, count in enumerate(days)]
    return sum(runs_dry(each.size, sizes[:place], now=each.at) is not None for place, each in enumerate(sizes))


def test_less_than_half_of_what_is_usual_is_far_less() -> None:
    assert runs_dry(501, past(*[1_000] * 10), now=NOW) is None
    assert runs_dry(499, past(*[1_000] * 10), now=NOW) == 1_000


def test_six_days_are_no_past_and_neither_is_what_is_long_gone() -> None:
    assert runs_dry(0, past(*[1_000] * 6), now=NOW) is None
    assert runs_dry(0, past(*[1_000] * 7), now=NOW) == 1_000
    assert runs_dry(0, [size(1_000, ago=PAST.days + 1 + n) for n in range(30)], now=NOW) is None


def test_of_a_day_the_last_size_counts_and_of_today_none() -> None:
    twice = [size(10, ago=n + 0.1) for n in range(1, 9)]
    assert runs_dry(100, [*past(*[1_000] * 8), *twice], now=NOW) == 1_000
    assert runs_dry(100, [*past(*[1_000] * 6), size(1_000, ago=0.1), size(1_000, ago=0.2)], now=NOW) is None


def test_what_stays_small_is_told_for_weeks_not_once() -> None:
    assert alarms(np.array([1_000] * 56 + [100] * 21)) == 21


def test_what_fell_to_a_new_level_is_usual_after_a_while() -> None:
    assert alarms(np.array([1_000] * 56 + [100] * 60)) < 30


def test_a_quiet_day_of_every_week_is_usual() -> None:
    week = [1_000, 1_000, 1_000, 1_000, 1_000, 300, 200]
    assert alarms(np.array(week * 12)) == 0
    assert runs_dry(90, past(*([1_000] * 6 + [200]) * 4, *[1_000] * 6), now=NOW) == 200


@pytest.mark.parametrize("mean", [3, 10, 20, 60, 300, 20_000])
def test_chance_alone_says_nothing(mean: int) -> None:
    days = np.random.default_rng(mean).poisson(mean, 8_000)
    assert alarms_of_long_series(days) <= 1  # in 22 years


@pytest.mark.parametrize("mean", [60, 300, 20_000])
def test_what_varies_by_a_sixth_from_day_to_day_says_nothing_either(mean: int) -> None:
    rng = np.random.default_rng(mean)
    days = rng.poisson(mean * rng.lognormal(0.0, 1 / 6, 8_000))
    assert alarms_of_long_series(days) <= 1


@pytest.mark.parametrize("mean", [60, 300, 20_000])
def test_an_audience_that_is_gone_is_told_on_the_first_day(mean: int) -> None:
    rng = np.random.default_rng(mean)
    assert all(runs_dry(0, past(*rng.poisson(mean, 30)), now=NOW) for _ in range(200))


def test_a_slow_decline_is_no_running_dry() -> None:
    assert alarms((10_000 * 0.99 ** np.arange(120)).astype(np.int64)) == 0


def alarms_of_long_series(days: NDArray[np.int64]) -> int:
    """As `alarms`, in pieces: nothing older than the past that counts is looked at anyway."""
    return sum(alarms(piece) for piece in np.array_split(days, len(days) // 100))


def test_warnings_name_what_runs_dry_and_what_is_below_its_minimum() -> None:
    shop = content(audiences=(Audience(id="loyal", rule="true", minimum_size={"email": 500, "web": 5}),))
    before = [
        each._replace(kind=kind, id=name)
        for each in past(*[1_000] * 10)
        for kind, name in (("audience", "loyal"), ("reach", "loyal/email"), ("action", "card"))
    ]
    now = [
        size(900), size(400, kind="reach", name="loyal/email"), size(9, kind="reach", name="loyal/web"),
        size(30, kind="action", name="card"), size(30, kind="action", name="new"),
    ]  # fmt: skip
    assert warnings(now, before, shop) == [
        "audience loyal on email runs dry: 400 customers, about 1,000 are usual",
        "audience loyal on email is too small: 400 customers, at least 500 are asked for",
        "action card runs dry: 30 customers, about 1,000 are usual",
    ]


def test_a_market_is_judged_by_its_own_past() -> None:
    before = [each._replace(market="ch") for each in past(*[1_000] * 10)]
    assert warnings([size(10)], before, content()) == []
    assert warnings([size(10, market="ch")], before, content()) == [
        "audience loyal in market ch runs dry: 10 customers, about 1,000 are usual"
    ]
