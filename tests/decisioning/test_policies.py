"""The contract of exploration policies; a new one needs a line in `POLICIES` and no test of its own for this."""

from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisioning.exploration import (
    BootstrapThompson,
    EpsilonGreedy,
    Estimates,
    ExplorationPolicy,
    Greedy,
    Policy,
    Softmax,
    SquareCB,
    Thompson,
    with_floor,
)
from decisioning.slots import distribution, draw_order, fill_slots, slot_probabilities

POLICIES = [Greedy(), EpsilonGreedy(epsilon=0.2), EpsilonGreedy(epsilon=0.0), SquareCB(gamma=25.0), SquareCB(gamma=0.0),
    Softmax(temperature=0.2), Softmax(temperature=1e-300), Thompson(), Thompson(scale=0.0), Thompson(scale=10.0),
    BootstrapThompson(), Greedy(minimum_probability=0.01), Thompson(minimum_probability=0.01)]  # fmt: skip
in_unit = st.floats(0, 1)
# Among any floats, those that meet each other and that hardly do anything.
doubts = st.one_of(st.just(0.0), st.sampled_from([1e-300, 1e-16, 1e-9, 0.1]), st.floats(0, 10))


@st.composite
def estimates(draw: st.DrawFn, *, of: int = 30) -> Estimates:
    n = draw(st.integers(1, of))
    values = draw(st.lists(in_unit, min_size=n, max_size=n))
    sds = draw(st.lists(doubts, min_size=n, max_size=n))
    members = draw(st.none() | st.lists(st.lists(in_unit, min_size=n, max_size=n), min_size=1, max_size=5))
    return Estimates(np.array(values), np.array(sds), None if members is None else np.array(members))


def random_estimates(n: int, *, seed: int = 1) -> Estimates:
    rng = np.random.default_rng(seed)
    return Estimates(rng.random(n), 10.0 ** rng.uniform(-6, 0, n), rng.random((10, n)))


every_policy = pytest.mark.parametrize("policy", POLICIES, ids=str)


def test_every_policy_that_a_catalogue_can_name_is_held_to_the_contract() -> None:
    assert {type(policy) for policy in POLICIES} == set(get_args(ExplorationPolicy))


@every_policy
@given(believed=estimates())
def test_every_policy_states_a_distribution(policy: Policy, believed: Estimates) -> None:
    probabilities = policy.probabilities(believed)
    assert (probabilities >= 0).all()
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)


@every_policy
@pytest.mark.parametrize("n", [1, 2_000])
def test_of_one_or_of_two_thousand_candidates_it_is_a_distribution(policy: Policy, n: int) -> None:
    probabilities = policy.probabilities(random_estimates(n))
    assert probabilities.shape == (n,)
    assert (probabilities >= 0).all()
    assert probabilities.sum() == pytest.approx(1, abs=1e-9)


@every_policy
@given(believed=estimates(), seed=st.integers(0, 2**32 - 1))
def test_the_order_of_candidates_decides_nothing(policy: Policy, believed: Estimates, seed: int) -> None:
    other = np.random.default_rng(seed).permutation(len(believed.values))
    members = None if believed.members is None else believed.members[:, other]
    moved = policy.probabilities(Estimates(believed.values[other], believed.sds[other], members))
    np.testing.assert_allclose(moved, policy.probabilities(believed)[other], rtol=1e-9, atol=1e-12)


@every_policy
@given(values=st.lists(in_unit, min_size=1, max_size=30).map(np.array), doubt=doubts)
def test_of_equally_doubtful_candidates_the_better_is_never_rarer(
    policy: Policy, values: np.ndarray, doubt: float
) -> None:
    probabilities = policy.probabilities(Estimates(values, np.full(len(values), doubt)))
    by_value = probabilities[np.argsort(values, kind="stable")]
    assert (np.diff(by_value) >= -1e-9).all()


@every_policy
@given(believed=estimates())
def test_none_is_rarer_than_its_floor(policy: Policy, believed: Estimates) -> None:
    n = len(believed.values)
    floored = with_floor(policy.probabilities(believed), policy.minimum_probability)
    assert (floored >= min(policy.minimum_probability, 1 / n) - 1e-12).all()
    spread = distribution(policy, believed)
    if policy.minimum_probability:
        assert not spread.tiers.any()


@every_policy
@given(believed=estimates(), slots=st.integers(1, 4), noise=st.integers(0, 2**32 - 1))
def test_every_slot_has_a_probability_between_0_and_1(
    policy: Policy, believed: Estimates, slots: int, noise: int
) -> None:
    n = len(believed.values)
    spread = distribution(policy, believed)
    order = draw_order(spread, np.random.default_rng(noise).random(n))
    filled = fill_slots(order.tolist(), slots, lambda shown: [i for i in range(n) if i not in shown])
    assert len(filled) == min(slots, n)
    assert all(0 < probability <= 1 for probability in slot_probabilities(spread, filled))


@every_policy
@pytest.mark.parametrize("form", [msgspec.json, msgspec.yaml], ids=["json", "yaml"])
def test_it_comes_back_from_the_catalogue_as_it_was(policy: Policy, form: object) -> None:
    written = form.encode(policy)  # type: ignore[attr-defined]
    assert form.decode(written, type=ExplorationPolicy) == policy  # type: ignore[attr-defined]


def test_thompson_explores_what_is_in_doubt_and_only_that() -> None:
    values, sds = np.array([0.5, 0.4, 0.4]), np.array([0.01, 0.2, 0.01])
    sure, doubtful, hopeless = Thompson().probabilities(Estimates(values, sds))
    assert sure > doubtful > 0.2
    assert hopeless < 1e-9
    less = Thompson(scale=0.3).probabilities(Estimates(values, sds))
    assert less[1] < doubtful


def test_bootstrap_thompson_goes_by_the_members_and_not_by_their_mean() -> None:
    members = np.array([[0.9, 0.1], [0.1, 0.2], [0.1, 0.2]])
    shares = BootstrapThompson().probabilities(Estimates(members.mean(axis=0), np.zeros(2), members))
    np.testing.assert_allclose(shares, [1 / 3, 2 / 3])
