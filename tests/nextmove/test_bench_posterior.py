"""In short what `nextmove bench posterior` shows at length."""

import numpy as np
import pytest

from decisioning.exploration import Policy, SquareCB, Thompson
from nextmove.bench_posterior import DECISIONS, WITHIN
from nextmove.bench_posterior_cost import measured_cost
from nextmove.moving_responses import POSTERIOR, follow, introduce, outcomes_until_right


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_change_of_sign_is_followed_within_500_outcomes_of_the_action(sign: float) -> None:
    truth = [-sign] * 1_000 + [sign] * 700
    followed = follow(np.random.default_rng(1), truth, per_day=500.0, looks_from=1_000)
    assert outcomes_until_right(followed, POSTERIOR, change=1_000, sign=sign) <= WITHIN
    soonest = outcomes_until_right(followed, POSTERIOR, change=1_000, sign=sign)
    assert outcomes_until_right(followed, "no decay", change=1_000, sign=sign) > 2.0 * soonest


@pytest.mark.parametrize("policy", [Thompson(), SquareCB(gamma=50.0)])
def test_a_new_action_has_half_of_what_it_deserves_only_with_the_posterior(policy: Policy) -> None:
    for learns in (True, False):
        rng = np.random.default_rng(2)
        share = introduce(rng, policy, decisions=DECISIONS // 2, per_day=500.0, scale=0.2, learns=learns)
        assert (share.chosen[-100:].mean() >= share.deserved / 2.0) == learns


def test_what_is_rebuilt_is_what_was_live() -> None:
    assert measured_cost(200).rebuilt_equals_live
