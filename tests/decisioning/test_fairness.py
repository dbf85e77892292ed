import numpy as np
import pytest

from decisioning.errors import DataError
from decisioning.fairness import GroupRatio, Measured, group_ratios, judge_fairness


def shares(rates: dict[str, float], *, customers: int, rng: np.random.Generator) -> tuple[GroupRatio, ...]:
    """Groups of so many customers (the first has twice as many), each asked five times and much alike each time."""
    names, values, whose, begin = [], [], [], 0
    for place, (name, rate) in enumerate(rates.items()):
        count = customers * (2 if place == 0 else 1)
        own = rng.beta(2.0 * rate, 2.0 * (1.0 - rate), count) if 0.0 < rate < 1.0 else np.full(count, rate)
        values.append((rng.random((count, 5)) < own[:, None]).ravel())
        whose.append(np.repeat(np.arange(begin, begin + count), 5))
        names += [name] * (5 * count)
        begin += count
    shown = np.concatenate(values).astype(np.float64)
    return group_ratios({"region": names}, {"exposure": Measured(shown, np.ones(len(shown)))}, np.concatenate(whose))


def only(found: tuple[GroupRatio, ...], group: str) -> GroupRatio:
    [each] = [each for each in found if each.group == group]
    return each


def test_intervals_hold_the_true_ratio_though_a_customers_decisions_are_alike() -> None:
    rng, held, trials = np.random.default_rng(1), 0, 600
    for _ in range(trials):
        each = only(shares({"north": 0.5, "south": 0.3}, customers=200, rng=rng), "south")
        held += each.low <= 0.6 <= each.high
    assert abs(held / trials - 0.95) < 4 * np.sqrt(0.95 * 0.05 / trials)


def test_equal_groups_are_rarely_called_unequal_however_many_are_looked_at() -> None:
    rng, trials = np.random.default_rng(2), 300
    groups = dict.fromkeys("abcdefgh", 0.4)
    covered = sum(
        all(each.low <= 1.0 <= each.high for each in shares(groups, customers=100, rng=rng) if each.ratio is not None)
        for _ in range(trials)
    )
    assert covered / trials > 0.95 - 4 * np.sqrt(0.95 * 0.05 / trials)


def test_a_group_that_gets_half_as_much_is_below_four_fifths() -> None:
    found = shares({"north": 0.6, "south": 0.3}, customers=300, rng=np.random.default_rng(3))
    assert only(found, "south").lies_below(0.8)
    [reason] = judge_fairness(found, floor=0.8)
    assert reason.startswith("exposure of region 'south' is 0.5")
    assert "must be between 0.8 and 1.25" in reason


def test_it_counts_too_when_the_largest_group_gets_less() -> None:
    found = shares({"north": 0.3, "south": 0.6}, customers=300, rng=np.random.default_rng(4))
    assert only(found, "south").lies_above(0.8)
    assert len(judge_fairness(found, floor=0.8)) == 1


def test_a_ratio_beyond_the_floor_that_may_be_chance_does_not_count() -> None:
    each = GroupRatio(
        attribute="region", measure="exposure", group="south", reference="north", decisions=10, customers=100,
        value=0.3, judged=True, level=0.95, ratio=0.7, low=0.4, high=1.1,
    )  # fmt: skip
    assert judge_fairness([each], floor=0.8) == ()


def test_a_group_that_is_shown_nothing_at_all_counts() -> None:
    found = shares({"north": 0.5, "south": 0.0}, customers=200, rng=np.random.default_rng(5))
    each = only(found, "south")
    assert (each.ratio, each.low) == (0.0, 0.0)
    assert 0.0 < each.high < 0.1
    assert len(judge_fairness(found, floor=0.8)) == 1


def test_a_small_group_is_not_judged() -> None:
    found = shares({"north": 0.6, "south": 0.1}, customers=99, rng=np.random.default_rng(6))
    assert not only(found, "south").judged
    assert judge_fairness(found, floor=0.8) == ()


def test_the_largest_group_by_customers_is_what_others_are_compared_with() -> None:
    names = ["often"] * 1000 + ["many"] * 400
    whose = np.concatenate([np.repeat(np.arange(100), 10), np.arange(100, 500)])
    found = group_ratios({"x": names}, {"exposure": Measured(np.ones(1400), np.ones(1400))}, whose)
    assert {each.reference for each in found} == {"many"}


def test_where_nobody_could_answer_nothing_is_said() -> None:
    names, answered = ["a"] * 300 + ["b"] * 200, np.repeat([1.0, 0.0], [300, 200])
    found = group_ratios({"x": names}, {"response": Measured(answered * 0.5, answered)}, np.arange(500))
    assert only(found, "b").ratio is None
    assert np.isnan(only(found, "b").value)


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(DataError, match="has 1 rows, must have 2"):
        group_ratios({"x": ["a"]}, {"exposure": Measured(np.ones(2), np.ones(2))}, np.arange(2))
