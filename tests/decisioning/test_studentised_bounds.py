"""Bounds of a paired difference hold the truth as often as they say, and far out in the tail too."""

import numpy as np
import pytest

from decisioning.evaluation import Bootstrap, Ratio, Terms, mean_of
from decisioning.studentised_bounds import Advantage, advantage, of_customers


def earned(*rows: float) -> Terms:
    return mean_of(np.array(rows), np.ones(len(rows)))


def test_it_is_the_bootstraps_difference_with_nearly_its_error() -> None:
    rng = np.random.default_rng(1)
    customer = rng.integers(0, 400, 2000)
    shared = rng.normal(size=400)[customer]
    first, second = (mean_of(shared + rng.normal(size=2000), np.ones(2000)) for _ in range(2))
    found = advantage(first, second, customer)
    drawn = Bootstrap({"a": first, "b": second}, customer, rng=rng)
    assert found.value == pytest.approx(drawn.difference("a", "b").value)
    assert found.error == pytest.approx(float((drawn.values["a"] - drawn.values["b"]).std()), rel=0.1)


def test_rows_of_one_customer_count_as_one() -> None:
    rows = np.array([1.0, 0.0, 1.0, 0.0, 2.0])
    once = advantage(earned(*rows), earned(*np.zeros(5)), np.arange(5))
    five_times = advantage(earned(*np.repeat(rows, 5)), earned(*np.zeros(25)), np.repeat(np.arange(5), 5))
    assert five_times == pytest.approx(once)


def test_a_ratio_is_as_sure_as_its_bootstrap_says() -> None:
    rng = np.random.default_rng(2)
    weights, customer = rng.exponential(size=3000), rng.integers(0, 900, 3000)
    ratio = Terms((Ratio(weights * (rng.random(3000) < 0.3), weights),), weights)
    nothing = mean_of(np.zeros(3000), np.ones(3000))
    drawn = Bootstrap({"r": ratio}, customer, rng=rng)
    assert advantage(ratio, nothing, customer).error == pytest.approx(float(drawn.values["r"].std()), rel=0.1)


def test_where_few_customers_pay_everything_there_are_few_degrees_of_freedom() -> None:
    rows = np.zeros(1000)
    rows[:5] = 100.0
    few = of_customers(0.5, rows - rows.mean())
    many = of_customers(0.5, np.random.default_rng(0).normal(size=1000))
    assert few.freedom == pytest.approx(10.0, rel=0.02)  # twice the customers who paid
    assert many.freedom > 800
    assert few.bounds(1e-4).low < few.value - 5.0 * few.error
    assert many.bounds(1e-4).low > many.value - 4.0 * many.error


def test_policies_that_choose_alike_differ_by_nothing() -> None:
    found = advantage(earned(1.0, 5.0), earned(1.0, 5.0), np.arange(2))
    assert found.bounds(0.01) == (0.0, 0.0)


def test_choices_that_agree_with_one_alone_are_counted() -> None:
    ones = np.ones(6)
    policy = mean_of(ones, np.array([2.0, 2.0, 2.0, 0.0, 1.0, 1.0]))
    other = mean_of(ones, np.array([0.0, 0.0, 0.0, 2.0, 1.0, 1.0]))
    assert advantage(policy, other, np.arange(6)).agreeing == pytest.approx(1.0)
    assert advantage(policy, mean_of(ones, np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])), np.arange(6)).agreeing == 0.0


@pytest.mark.parametrize("alpha", [0.025, 0.001])
def test_lower_bounds_of_skewed_rewards_are_too_high_as_seldom_as_they_say(alpha: float) -> None:
    rng, logs, customers = np.random.default_rng(3), 20_000, 400
    paid = (rng.random((logs, customers)) < 0.2) * rng.lognormal(sigma=1.0, size=(logs, customers))
    other = (rng.random((logs, customers)) < 0.2) * rng.lognormal(sigma=1.0, size=(logs, customers))
    rows = (paid - other) / customers
    wrong = [of_customers(row.sum(), row - row.mean()).bounds(alpha).low > 0.0 for row in rows]
    assert np.mean(wrong) < alpha + 4.0 * np.sqrt(alpha / logs)


@pytest.mark.parametrize("alpha", [0.0, 0.6, float("nan")])
def test_an_error_that_cannot_be_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"must be above 0 and at most 0\.5"):
        Advantage(1.0, 1.0, 10.0).bounds(alpha)


def test_one_customer_is_no_evidence() -> None:
    with pytest.raises(ValueError, match="there are 1 customers, must be at least 2"):
        advantage(earned(1.0, 2.0), earned(0.0, 0.0), np.zeros(2, dtype=np.int64))
