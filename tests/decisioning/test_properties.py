"""What must hold of the funnel for any catalogue, customer and request."""

import math
import re
from collections import Counter
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning import decision as funnel
from decisioning import reasons
from decisioning.case import RANKED, Case
from decisioning.catalog import Catalog
from decisioning.content import Content
from decisioning.decision import Narrowed, Plan
from decisioning.exploration import ExplorationPolicy
from decisioning.profile import Facts, HotProfile
from decisioning.request import DecisionRequest
from decisioning.reservation import take
from decisioning.scores import Scores
from decisioning.slots import Distribution, FilledSlot, slot_probabilities
from tests.builders import action, case, catalog, placement
from tests.decisioning import strategies as some

bounded = settings(derandomize=True, deadline=None, max_examples=80)
WORDS = {
    step: frozenset(re.findall(r"`([A-Z_]+)`", words))
    for step, words in re.findall(r"^\| `(\w+)` \| (.+) \|$", reasons.__doc__ or "", flags=re.MULTILINE)
}


def planned_for(asked: Case, narrowed: Narrowed, chance: float = 0.1) -> Plan:
    """With scores that differ from action to action; the fallback where there is nothing to choose."""
    if not narrowed.has_choice:
        return funnel.plan_fallback(asked, narrowed, RANKED)
    scores = np.array([chance / (place + 1) for place in range(len(narrowed.eligible))])
    return funnel.plan(asked, narrowed, Scores(scores, 0.01), key=b"key")


def ids(narrowed: Narrowed) -> set[str]:
    return {eligible.proposal.action.id for eligible in narrowed.eligible}


def chances_of(spread: Distribution, available: tuple[int, ...]) -> list[float]:
    """The chance of each available candidate; 0 for those that others of an earlier tier are ahead of."""
    first = min(int(spread.tiers[index]) for index in available)
    return [
        slot_probabilities(spread, [FilledSlot(index, available)])[0] if spread.tiers[index] == first else 0.0
        for index in available
    ]


@bounded
@given(shop=some.catalogs(), facts=some.facts(), asking=some.requests(), chance=some.chances)
def test_the_chances_of_all_that_could_be_in_a_slot_sum_to_1(
    shop: Catalog, facts: Facts, asking: DecisionRequest, chance: float
) -> None:
    asked = case(shop, asking=asking)
    narrowed = funnel.narrow(asked, facts)
    planned = planned_for(asked, narrowed, chance)
    reservation = funnel.reservation(asked, facts, planned, digest="")
    for slot in take(reservation, reservation.seen):
        chances = chances_of(planned.spread, slot.available)
        assert all(0.0 <= chance <= 1.0 for chance in chances)
        assert math.isclose(sum(chances), 1.0, abs_tol=1e-9)
        assert slot_probabilities(planned.spread, [slot])[0] > 0.0


@bounded
@given(
    shop=some.catalogs(),
    facts=some.facts(),
    asking=some.requests(),
    later=st.one_of(st.none(), some.profiles(version=2)),
)
def test_what_one_slot_could_not_get_no_later_slot_of_the_answer_gets(
    shop: Catalog, facts: Facts, asking: DecisionRequest, later: HotProfile | None
) -> None:
    asked = case(shop, asking=asking)
    reservation = funnel.reservation(asked, facts, planned_for(asked, funnel.narrow(asked, facts)), digest="")
    filled = take(reservation, later or reservation.seen)
    for earlier, slot in pairwise(filled):
        assert set(slot.available) <= set(earlier.available) - {earlier.chosen}


@bounded
@given(
    shop=some.catalogs(),
    facts=some.facts(),
    asking=some.requests(),
    later=st.one_of(st.none(), some.profiles(version=2)),
)
def test_nothing_that_was_dropped_is_ever_shown_though_the_customer_changes_meanwhile(
    shop: Catalog, facts: Facts, asking: DecisionRequest, later: HotProfile | None
) -> None:
    asked = case(shop, asking=asking)
    narrowed = funnel.narrow(asked, facts)
    planned = planned_for(asked, narrowed)
    reservation = funnel.reservation(asked, facts, planned, digest="")
    filled = take(reservation, later or reservation.seen)
    choice = funnel.Choice(narrowed, planned, RANKED)
    record = funnel.record_of(asked, facts, choice, filled, model=None, key_id="k")
    shown = [slot.action_id for slot in record.slots]
    assert not set(shown) & {drop.action_id for drop in record.dropped}
    assert len(shown) == len(set(shown)) <= asked.placement.slots
    assert set(shown) <= ids(narrowed)
    if later is not None:
        assert set(shown) <= ids(funnel.narrow(asked, msgspec.structs.replace(facts, hot=later)))


@bounded
@given(shop=some.catalogs(), facts=some.facts(st.one_of(st.none(), some.profiles())), asking=some.requests())
def test_every_action_is_once_either_a_candidate_or_dropped_for_one_declared_reason(
    shop: Catalog, facts: Facts, asking: DecisionRequest
) -> None:
    narrowed = funnel.narrow(case(shop, asking=asking), facts)
    kept = [eligible.proposal.action.id for eligible in narrowed.eligible]
    assert Counter([*kept, *(drop.action_id for drop in narrowed.dropped)]) == Counter(list(shop.actions))
    for drop in narrowed.dropped:
        assert drop.reason in WORDS[drop.step]


def test_the_declared_reasons_cover_every_step() -> None:
    assert tuple(WORDS) == reasons.STEPS
    assert all(WORDS.values())


@bounded
@given(shop=some.contents(), more=some.actions("extra"), facts=some.facts(), asking=some.requests())
def test_one_more_action_changes_nothing_for_the_others(
    shop: Content, more: some.Action, facts: Facts, asking: DecisionRequest
) -> None:
    before = funnel.narrow(case(Catalog(shop, version="sha256:test"), asking=asking), facts)
    after = funnel.narrow(case(some.widened(shop, more), asking=asking), facts)
    assert ids(after) - {"extra"} == ids(before)
    assert [drop for drop in after.dropped if drop.action_id != "extra"] == list(before.dropped)


@pytest.mark.parametrize("policy", [*some.POLICIES], ids=str)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("value", [0.0, 10.0])
def test_a_propensity_that_is_no_number_is_an_error(policy: ExplorationPolicy, broken: float, value: float) -> None:
    shop = catalog(
        *(action(name, value=value) for name in ("card", "loan", "fund")), placements=(placement(exploration=policy),)
    )
    narrowed = funnel.narrow(case(shop), Facts())
    with pytest.raises(ArithmeticError, match="loan"):
        funnel.plan(case(shop), narrowed, Scores(np.array([0.1, broken, 0.2])), key=b"key")


def test_a_baseline_that_is_no_number_is_an_error() -> None:
    shop = catalog(action("card", rank_by="uplift"), action("no_action"))
    narrowed = funnel.narrow(case(shop), Facts())
    with pytest.raises(ArithmeticError, match="baseline"):
        funnel.plan(case(shop), narrowed, Scores(np.array([0.1, 0.2]), math.nan), key=b"key")
