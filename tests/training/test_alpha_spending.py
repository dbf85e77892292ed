"""Whatever the rhythm, no thirty days spend more than their budget."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from training.alpha_spending import BUDGET, PERIOD, Spent, spend

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def asked(gaps: list[timedelta]) -> list[Spent]:
    """Attempts so far apart, each of which spends what it may."""
    at, spent = NOON, []
    for gap in gaps:
        at += gap
        spent.append(Spent(at, spend(spent, now=at)))
    return spent


@pytest.mark.parametrize(("every", "share"), [(timedelta(hours=1), 720), (timedelta(days=1), 30), (PERIOD / 3, 3)])
def test_each_attempt_of_a_steady_rhythm_gets_its_share(every: timedelta, share: int) -> None:
    [*_, last] = asked([every] * 20)
    assert last.alpha == pytest.approx(BUDGET / share)


@pytest.mark.parametrize("seed", range(5))
def test_no_thirty_days_spend_more_than_the_budget(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spent = asked([timedelta(hours=float(hours)) for hours in rng.lognormal(2.0, 2.0, 400)])
    assert all(each.alpha >= 0.0 for each in spent)
    for end in spent:
        within = sum(each.alpha for each in spent if end.at - PERIOD < each.at <= end.at)
        assert within <= BUDGET + 1e-12


def test_waiting_loses_nothing() -> None:
    hourly, daily = asked([timedelta(hours=1)] * 24 * 20), asked([timedelta(days=1)] * 20)
    assert sum(each.alpha for each in hourly[24:]) == pytest.approx(sum(each.alpha for each in daily[1:]), rel=0.01)


def test_asking_twice_at_once_gets_nothing_the_second_time() -> None:
    assert spend([Spent(NOON, 0.001)], now=NOON) == 0.0


def test_a_gate_that_was_long_silent_begins_with_a_days_share() -> None:
    assert spend([Spent(NOON - 2 * PERIOD, BUDGET)], now=NOON) == pytest.approx(BUDGET / 30)


def test_a_budget_that_is_used_up_leaves_nothing() -> None:
    assert spend([Spent(NOON - timedelta(days=2), BUDGET)], now=NOON) == 0.0
