"""Drift that is there is found; chance alone is not called drift, however many features are looked at."""

import numpy as np
import pytest

from decisioning.drift import Drift, alarms, calibration_drift, drift
from decisioning.reference import binned, effective_rows

LOOKS = 20


def looked_at(
    rng: np.random.Generator, *, customers: int, each: int = 5, shift: float = 0.0, category: bool = False
) -> Drift:
    """A feature of customers who are each decided for several times, against one of 2,000 others."""
    levels = np.array(["a", "b", "c", "d"])

    def values(count: int, moved: float) -> np.ndarray:
        own = rng.integers(0, 4, count).astype(float) if category else rng.normal(moved, 1.0, count)
        if category:
            own = np.where(rng.random(count) < moved, 0.0, own)
        own[rng.random(count) < 0.1] = np.nan
        return np.repeat(own, each)

    reference = binned("x", values(2_000, 0.0), categories=tuple(levels) if category else None)
    live = values(customers, shift)
    return drift(
        reference,
        reference.counts(live),
        effective=effective_rows(np.repeat(np.arange(customers), each)),
        reference_effective=2_000.0,
        looks=LOOKS,
    )


@pytest.mark.parametrize("category", [False, True])
@pytest.mark.parametrize("customers", [200, 1_000])
def test_chance_alone_raises_an_alarm_in_one_look_of_a_hundred_at_most(customers: int, category: bool) -> None:
    rng, trials = np.random.default_rng(1), 100
    alarmed = 0
    for _ in range(trials):
        found = [looked_at(rng, customers=customers, category=category) for _ in range(LOOKS)]
        alarmed += any(each.level in ("moderate", "major") for each in found)
    assert alarmed / trials <= 0.01 + 4 * np.sqrt(0.01 * 0.99 / trials)


def test_the_index_without_drift_is_distributed_as_stated() -> None:
    rng = np.random.default_rng(2)
    p_values = np.array([looked_at(rng, customers=1_000, each=1).p_value for _ in range(400)])
    for level in (0.05, 0.5):
        share = float((p_values < level).mean())
        assert abs(share - level) < 4 * np.sqrt(level * (1 - level) / len(p_values))


def test_counting_decisions_of_one_customer_as_independent_would_cry_wolf() -> None:
    rng = np.random.default_rng(3)
    reference = binned("x", rng.normal(size=2_000))
    naive = []
    for _ in range(100):
        live = np.repeat(rng.normal(size=200), 50)
        counts = reference.counts(live)
        naive.append(drift(reference, counts, effective=float(len(live)), reference_effective=2_000.0, looks=1).p_value)
    assert np.mean(np.array(naive) < 0.01) > 0.9


@pytest.mark.parametrize(("shift", "level"), [(0.45, "moderate"), (1.0, "major")])
def test_a_shift_of_a_number_is_found_and_named(shift: float, level: str) -> None:
    found = looked_at(np.random.default_rng(4), customers=2_000, shift=shift)
    assert found.level == level
    assert found.ks is not None
    assert found.ks > 0.1
    assert found.moved.startswith("above")


def test_a_category_that_takes_over_is_found_and_named() -> None:
    found = looked_at(np.random.default_rng(5), customers=2_000, shift=0.4, category=True)
    assert (found.level, found.ks) == ("major", None)
    assert found.moved.startswith("a: ")


def test_values_that_go_missing_are_drift() -> None:
    rng = np.random.default_rng(6)
    reference = binned("x", rng.normal(size=2_000))
    live = np.where(rng.random(1_000) < 0.5, np.nan, rng.normal(size=1_000))
    found = drift(reference, reference.counts(live), effective=1_000.0, reference_effective=2_000.0, looks=1)
    assert (found.level, found.moved.partition(":")[0]) == ("major", "missing")


def test_with_too_few_customers_nothing_is_judged() -> None:
    assert looked_at(np.random.default_rng(7), customers=199, shift=3.0).level == "too few"


def test_what_is_far_and_may_be_chance_is_not_called_drift() -> None:
    reference = binned("x", np.random.default_rng(8).normal(size=2_000))
    counts = reference.counts(np.random.default_rng(9).normal(0.4, 1.0, 300))
    found = drift(reference, counts, effective=300.0, reference_effective=50.0, looks=100)
    assert (found.psi > 0.1, found.level) == (True, "none")


def promised(rng: np.random.Generator, *, factor: float, customers: int = 1_500, each: int = 4) -> object:
    said = np.repeat(rng.uniform(0.02, 0.3, customers), each)
    eager = np.repeat(rng.gamma(4.0, 0.25, customers), each)  # whom it knows nothing of
    success = (rng.random(len(said)) < np.minimum(1.0, said * factor * eager)).astype(np.int64)
    return calibration_drift(said, success, np.repeat(np.arange(customers), each))


def test_kept_promises_are_rarely_called_broken_and_their_interval_holds() -> None:
    rng, trials = np.random.default_rng(10), 300
    found = [promised(rng, factor=1.0) for _ in range(trials)]
    assert sum(each.drifted for each in found) == 0
    held = np.mean([each.low <= 1.0 <= each.high for each in found])
    assert abs(held - 0.99) < 4 * np.sqrt(0.99 * 0.01 / trials)


@pytest.mark.parametrize("factor", [0.6, 1.6])
def test_broken_promises_are_found_either_way(factor: float) -> None:
    found = promised(np.random.default_rng(11), factor=factor)
    assert found.drifted
    assert "were promised" in alarms([], None, found)[0]
    assert len(found.bins) == 10


def test_too_few_successes_or_customers_say_nothing() -> None:
    assert promised(np.random.default_rng(12), factor=1.0, customers=20) is None
    assert calibration_drift(np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)) is None


def test_alarms_name_the_furthest_first() -> None:
    rng = np.random.default_rng(13)
    small, large = (looked_at(rng, customers=2_000, shift=shift) for shift in (0.5, 1.5))
    quiet = looked_at(rng, customers=2_000)
    said = alarms([small, quiet, large], large, None)
    assert [each.partition(" (")[0] for each in said] == ["x drifted", "x drifted", "scores drifted"]
    assert "major" in said[0]
