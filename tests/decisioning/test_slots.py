from collections import Counter

import numpy as np
import pytest

from decisioning.exploration import Estimates, Greedy, SquareCB
from decisioning.slots import (
    Distribution,
    FilledSlot,
    distribution,
    draw_order,
    fill_slots,
    slot_probabilities,
    uniforms,
)


def test_draws_come_out_as_often_as_their_stated_probability() -> None:
    spread = distribution(SquareCB(gamma=8.0), Estimates.known(np.array([0.9, 0.5, 0.1])))
    draws = 20_000
    first = Counter(int(draw_order(spread, uniforms(b"key", f"d-{i}", 3))[0]) for i in range(draws))
    for candidate, probability in enumerate(spread.weights):
        error = np.sqrt(probability * (1 - probability) / draws)
        assert abs(first[candidate] / draws - probability) < 4 * error


def test_the_second_slot_is_distributed_as_the_rest_renormalised() -> None:
    spread = Distribution(np.array([0.5, 0.3, 0.2]), np.zeros(3, dtype=np.int64))
    seconds: Counter[int] = Counter()
    for i in range(20_000):
        order = draw_order(spread, uniforms(b"key", f"d-{i}", 3)).tolist()
        if order[0] == 0:
            seconds[order[1]] += 1
    total = sum(seconds.values())
    assert abs(seconds[1] / total - 0.6) < 4 * np.sqrt(0.24 / total)


def test_under_a_greedy_policy_later_slots_follow_by_value() -> None:
    spread = distribution(Greedy(), Estimates.known(np.array([0.2, 0.9, 0.4])))
    order = draw_order(spread, np.array([0.5, 0.5, 0.5])).tolist()
    filled = fill_slots(order, 3, lambda shown: [i for i in range(3) if i not in shown])
    assert [slot.chosen for slot in filled] == [1, 2, 0]
    assert slot_probabilities(spread, filled) == [1.0, 1.0, 1.0]


def test_a_tie_under_a_greedy_policy_is_an_even_chance() -> None:
    spread = distribution(Greedy(), Estimates.known(np.array([0.9, 0.9, 0.4])))
    assert slot_probabilities(spread, [FilledSlot(chosen=0, available=(0, 1, 2))]) == [0.5]


def test_draws_depend_on_the_secret_and_not_on_the_id_alone() -> None:
    assert not np.array_equal(uniforms(b"one", "d-1", 8), uniforms(b"two", "d-1", 8))


def test_a_policy_that_does_not_sum_to_one_is_caught() -> None:
    class Broken:
        minimum_probability = 0.0

        def probabilities(self, estimates: Estimates) -> np.ndarray:
            return np.full(len(estimates.values), 1.0)

    with pytest.raises(ArithmeticError, match="sum to 1"):
        distribution(Broken(), Estimates.known(np.array([0.1, 0.2])))
