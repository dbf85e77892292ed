"""The logged probability is right: importance weights with it give the truth, with others they do not."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from decisioning import decision as funnel
from decisioning.exploration import EpsilonGreedy, Estimates, Greedy, Policy, Softmax, SquareCB
from decisioning.profile import Facts, HotProfile
from decisioning.reservation import take
from decisioning.scores import Scores
from decisioning.slots import (
    Distribution,
    FilledSlot,
    distribution,
    draw_order,
    fill_slots,
    slot_probabilities,
    uniforms,
)
from tests.builders import action, case, catalog, placement, weekly_cap

Kind = Literal["over availability", "raw", "only after a loss"]
DRAWS = 20_000
SLOTS = 3
# Ties at the top, so that a greedy policy chooses too.
VALUES = np.array([0.8, 0.2, 0.8, 0.4, 0.6])
REWARDS = np.array([0.2, 0.9, 0.5, 0.1, 0.7])
TARGET = np.array([0.1, 0.3, 0.2, 0.3, 0.1])
EXPLORING = [EpsilonGreedy(epsilon=0.2), EpsilonGreedy(epsilon=1.0), SquareCB(gamma=6.0), SquareCB(gamma=0.0),
    Softmax(temperature=0.3)]  # fmt: skip
POLICIES: list[Policy] = [Greedy(), EpsilonGreedy(epsilon=0.0), *EXPLORING]


class Difference(NamedTuple):
    """By how much a slot's estimate misses the truth, and the standard error of that."""

    mean: float
    error: float


def wanted(spread: Distribution, available: Sequence[int]) -> NDArray[np.float64]:
    """The target policy where it is given a choice: as `TARGET`, among those that the policy could choose."""
    could = np.array(available)
    allowed = spread.tiers[could] == spread.tiers[could].min()
    weights: NDArray[np.float64] = TARGET[could] * allowed
    return weights / weights.sum()


def logged_probability(
    kind: Kind, spread: Distribution, order: Sequence[int], earlier: Sequence[int], slot: FilledSlot
) -> float:
    if kind == "over availability":
        return slot_probabilities(spread, [slot])[0]
    left = [candidate for candidate in order if candidate not in earlier]
    if kind == "raw":
        return float(spread.weights[slot.chosen])
    lost = left[0] != slot.chosen
    return slot_probabilities(spread, [slot if lost else slot._replace(available=tuple(left))])[0]


def differences(policy: Policy, kind: Kind, *, seed: int) -> list[Difference]:
    """Per slot: the importance-weighted reward of the target policy, less its truth, over seeded draws.

    Each candidate is available to the first slot with an even chance, and stays so for the next with
    four chances in five. What was taken from one slot never comes back for a later one: see `fill_slots`.
    """
    rng = np.random.default_rng(seed)
    spread = distribution(policy, Estimates.known(VALUES))
    missed: list[list[float]] = [[] for _ in range(SLOTS)]
    for number in range(DRAWS):
        order = draw_order(spread, uniforms(b"key", f"d-{number}", len(VALUES))).tolist()
        closes_at = np.where(rng.random(len(VALUES)) < 0.5, 0, rng.geometric(0.2, len(VALUES)))

        def available_after(shown: tuple[int, ...], closes_at: NDArray[np.int64] = closes_at) -> list[int]:
            return [index for index in range(len(VALUES)) if index not in shown and closes_at[index] > len(shown)]

        earlier: list[int] = []
        for place, slot in enumerate(fill_slots(order, SLOTS, available_after)):
            target = wanted(spread, slot.available)
            probability = logged_probability(kind, spread, order, earlier, slot)
            weight = target[slot.available.index(slot.chosen)] / probability
            missed[place].append(weight * REWARDS[slot.chosen] - target @ REWARDS[list(slot.available)])
            earlier.append(slot.chosen)
    return [Difference(float(np.mean(slot)), float(np.std(slot) / np.sqrt(len(slot)))) for slot in missed]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_the_logged_probability_gives_the_truth_in_every_slot(policy: Policy) -> None:
    for slot in differences(policy, "over availability", seed=1):
        assert abs(slot.mean) <= 4 * slot.error + 1e-12


@pytest.mark.parametrize("policy", EXPLORING, ids=str)
@pytest.mark.parametrize("kind", ["raw", "only after a loss"])
def test_the_two_obvious_definitions_miss_the_truth_by_far_in_every_slot(policy: Policy, kind: Kind) -> None:
    for slot in differences(policy, kind, seed=1):
        assert abs(slot.mean) > 10 * slot.error


def test_a_greedy_policys_raw_probability_calls_impossible_what_was_shown() -> None:
    probabilities = Greedy().probabilities(Estimates.known(VALUES))
    spread = distribution(Greedy(), Estimates.known(VALUES))
    order = draw_order(spread, uniforms(b"key", "d", len(VALUES))).tolist()
    [slot] = fill_slots(order, 1, lambda shown: [1, 3])
    assert probabilities[slot.chosen] == 0.0
    assert slot_probabilities(spread, [slot]) == [1.0]


def test_the_funnel_logs_the_truth_when_others_take_away_candidates_meanwhile() -> None:
    """Through `plan`, `reservation`, `take` and `finish`, with a cap that the first slot closes for some."""
    names = ("card", "gold", "loan", "credit", "visit")
    groups = ("cards", "cards", "loans", "loans", "other")
    shop = catalog(
        *(action(name, group=group) for name, group in zip(names, groups, strict=True)),
        placements=(placement(slots=2, exploration=SquareCB(gamma=6.0)),),
        contact_policies=(weekly_cap(1, per="group"),),
    )
    rng = np.random.default_rng(3)
    facts = Facts(hot=HotProfile(version=1))
    narrowed = funnel.narrow(case(shop), facts)
    missed: list[list[float]] = [[], []]
    for number in range(DRAWS):
        asked = case(shop, decision_id=f"d-{number}")
        planned = funnel.plan(asked, narrowed, Scores(VALUES), key=b"key")
        left = np.flatnonzero(rng.random(5) < 0.6).tolist() or [0]
        reservation = msgspec.structs.replace(
            funnel.reservation(asked, facts, planned, digest=""), still=lambda profile, left=left: left
        )
        filled = take(reservation, HotProfile(version=2))
        for place, shown in enumerate(funnel.finish(asked, planned, filled)):
            available = list(shown.available)
            target = TARGET[available] / TARGET[available].sum()
            chosen = names.index(shown.action_id)
            assert shown.probability is not None
            weight = target[available.index(chosen)] / shown.probability
            missed[place].append(weight * REWARDS[chosen] - target @ REWARDS[available])
    for slot in missed:
        assert len(slot) > DRAWS / 2
        assert abs(np.mean(slot)) < 4 * np.std(slot) / np.sqrt(len(slot))
