"""The worlds that the gate is asked in: models are worth what they are said to be, and short cuts change nothing."""

import numpy as np
import pytest

from decisioning.evaluation import doubly_robust, effective_sample_size, mean_of
from decisioning.studentised_bounds import advantage
from nextmove.bench_gate import (
    EVERY_DAY,
    EVERY_HOUR,
    KINDS,
    UNGUARDED,
    Share,
    months_of,
    passes_once,
    spending_errors,
)
from nextmove.gate_months import Month
from nextmove.gate_world import (
    ACTIONS,
    CHAMPION_ERRS,
    SEGMENTS,
    WORTH,
    WORTHLESS,
    Kind,
    champion,
    good_actions,
    improved,
    models,
    value_of,
    visits,
)
from training.alpha_spending import BUDGET
from training.gate import ERROR


def true_value(chosen: np.ndarray) -> float:
    worth = np.where(good_actions(), WORTH, WORTHLESS)
    return float(worth[np.arange(SEGMENTS), chosen].mean())


@pytest.mark.parametrize("kind", KINDS)
def test_null_challengers_are_worth_what_the_champion_is(kind: Kind) -> None:
    rng = np.random.default_rng(1)
    served = champion(kind, rng)
    others = models(kind, rng, 50, errs=CHAMPION_ERRS)
    assert {round(true_value(each), 12) for each in (served, *others)} == {value_of(CHAMPION_ERRS)}
    assert (others != served).any(axis=1).all()


def test_better_challengers_are_worth_what_they_are_said_to_be() -> None:
    rng = np.random.default_rng(1)
    served = champion("alike", rng)
    for errs in (0, 3):
        found = improved(served, rng, 20, errs=errs)
        assert [true_value(each) for each in found] == pytest.approx([value_of(errs)] * 20)


@pytest.mark.parametrize("kind", KINDS)
def test_logged_rewards_are_what_actions_are_worth(kind: Kind) -> None:
    rng = np.random.default_rng(2)
    served = champion(kind, rng)
    logged = visits(kind, rng, 200_000, served)
    target = np.eye(ACTIONS)[served[logged.segment]]
    found = doubly_robust(logged.log(), target, logged.q_hat)
    nothing = mean_of(np.zeros(len(logged.reward)), np.ones(len(logged.reward)))
    error = advantage(found, nothing, logged.customer).error
    assert 0.0 < error < 0.05
    assert abs(found.value - value_of(CHAMPION_ERRS)) < 4.0 * error


@pytest.mark.parametrize("kind", KINDS)
def test_the_look_up_gives_what_the_estimator_gives(kind: Kind) -> None:
    rng = np.random.default_rng(3)
    served, hour = champion(kind, rng), np.repeat(np.arange(10), 200)
    logged = visits(kind, rng, 2_000, served)
    chosen = models(kind, rng, 10, errs=2)
    found = Month(logged, hour, 10, served).evidence(chosen)
    for now in (3, 9):
        seen = type(logged)(*(each[: (now + 1) * 200] for each in logged))
        model, other = (np.eye(ACTIONS)[each[seen.segment]] for each in (chosen[now], served))
        terms = [doubly_robust(seen.log(), each, seen.q_hat) for each in (model, other)]
        expected = advantage(terms[0], terms[1], seen.customer)
        assert (found.value[now], found.error[now], found.freedom[now], found.agreeing[now]) == pytest.approx(expected)
        assert found.effective[now] == pytest.approx(effective_sample_size(terms[0].weights))


def test_a_months_rhythms_spend_no_more_than_their_budget() -> None:
    for errors in spending_errors().values():
        assert 0.9 * BUDGET < errors.sum() < BUDGET + 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_no_better_is_seldom_let_in(kind: Kind) -> None:
    # In short: four standard errors of 100. The command takes 1,000.
    assert Share("once", kind, 100, sum(passes_once(kind, 1, number) for number in range(100)), ERROR).holds


def test_asked_every_hour_for_a_month_it_holds_and_without_spending_it_would_not() -> None:
    shares = {each.what.removesuffix(", for a month"): each for each in months_of("alike", 20, seed=1, progress=print)}
    assert shares[EVERY_HOUR].holds
    assert shares[EVERY_DAY].holds
    assert shares[UNGUARDED].let_in / 20 > 2 * BUDGET


def test_a_share_is_held_to_what_is_stated() -> None:
    assert Share("w", "alike", 1000, 70, 0.05).holds
    assert not Share("w", "alike", 1000, 80, 0.05).holds
    assert Share("w", "alike", 1000, 900, None).holds
    low, high = Share("w", "alike", 1000, 50, 0.05).interval
    assert low < 0.05 < high
