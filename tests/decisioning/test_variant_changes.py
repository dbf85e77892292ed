"""What a variant may change is changed for its units, in its placements, and for nobody else."""

import asyncio
from typing import Any

import msgspec
import pytest

from decisioning.catalog import Catalog, Release
from decisioning.content import Treatment
from decisioning.content_types import NO_ACTION
from decisioning.experiment_content import Experiment, GroupHoldout, Holdout, Variant
from decisioning.exploration import EpsilonGreedy
from decisioning.profile import HotProfile
from decisioning.record import Assignment, DecisionRecord
from decisioning.replay import replay
from decisioning.trial import Trial
from serving.engine import Engine
from tests.builders import NOW, action, contact, experiment, placement, release, request, weekly_cap
from tests.fakes import FakeFeatures, FakeHotState, FakeLedger, FakeScorer
from tests.random_shops import KEY, back

CARD = action(
    "card",
    treatments=(Treatment("card_web", "web"), Treatment("card_hero", "web", placements=("home_hero",))),
)
PLACES = (placement(), placement("inbox"))
SEEN = HotProfile(contacts=(contact("card"),))  # the limit of card's group is reached
CHANGES: dict[str, dict[str, Any]] = {
    "exploration": {"exploration": EpsilonGreedy(epsilon=1.0)},
    "lever": {"levers": {"loan": 50.0}},
    "treatment": {"treatments": {"card": "card_web"}},
    "limit": {"limits": {"weekly": 5}},
}
changing = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


def half(**change: Any) -> Experiment:
    """Half of the units get the change, in one placement."""
    return experiment(placements=("home_hero",), variants=(Variant(id="a"), Variant(id="b", **change)))


def shop(*experiments: Experiment, **overrides: Any) -> Release:
    defaults: dict[str, Any] = {
        "placements": PLACES,
        "contact_policies": (weekly_cap(per="group"),),
        "experiments": experiments,
    }
    return release(CARD, action("loan", group="loans"), action(NO_ACTION, group="other"), **(defaults | overrides))


def member(variant: str, of: Experiment | None = None) -> str:
    """A customer who is in this variant."""
    trial = Trial(of or half())
    units = (f"c-{number}" for number in range(100))
    return next(unit for unit in units if (lot := trial.lot(unit)) is not None and lot.variant.id == variant)


def decided(asked_of: Release, customer_id: str, *, seen: HotProfile = HotProfile(), **fields: Any) -> DecisionRecord:  # noqa: B008
    engine = Engine(
        release=asked_of,
        features=FakeFeatures({customer_id: {"age": 41.0, "city": "ulm"}}),
        hot_state=FakeHotState(seen),
        ledger=FakeLedger(),
        scorer=FakeScorer({"card": 0.3, "loan": 0.2, NO_ACTION: 0.1}),
        draw_key=KEY,
    )
    asked = request(**{"customer_id": customer_id, "decision_id": "d-1"} | fields)
    return back(asyncio.run(engine.decide(asked, now=NOW)))


def what_is_decided(record: DecisionRecord) -> DecisionRecord:
    """The record without the variants."""
    return msgspec.structs.replace(record, assignments=())


def candidate(record: DecisionRecord, action_id: str) -> Any:
    return next(each for each in record.candidates if each.action_id == action_id)


def test_a_variant_s_exploration_policy_draws() -> None:
    asked_of = shop(half(**CHANGES["exploration"]))
    record = decided(asked_of, member("b"))
    assert (record.policy.policy, record.slots[0].probability) == ("epsilon_greedy", pytest.approx(1 / 3))
    assert decided(asked_of, member("a")).policy.policy == "squarecb"


def test_a_variant_s_lever_multiplies_the_priority() -> None:
    asked_of = shop(half(**CHANGES["lever"]))
    by_variant = {name: candidate(decided(asked_of, member(name)), "loan") for name in "ab"}
    assert [by_variant[name].lever for name in "ab"] == [1.0, 50.0]
    assert by_variant["b"].priority == pytest.approx(50.0 * by_variant["a"].priority)


def test_a_variant_s_treatment_is_what_is_shown() -> None:
    asked_of = shop(half(**CHANGES["treatment"]))
    by_variant = {name: candidate(decided(asked_of, member(name)), "card") for name in "ab"}
    assert [by_variant[name].treatment_id for name in "ab"] == ["card_hero", "card_web"]


def test_a_variant_s_limit_is_the_contact_policy_s() -> None:
    asked_of = shop(half(**CHANGES["limit"]))
    kept = decided(asked_of, member("a"), seen=SEEN)
    assert [(drop.action_id, drop.reason) for drop in kept.dropped] == [("card", "CAP_REACHED")]
    assert decided(asked_of, member("b"), seen=SEEN).dropped == ()


def test_a_variant_s_limit_holds_at_the_reservation_too() -> None:
    asked_of = shop(half(limits={"weekly": 0}))
    record = decided(asked_of, member("b"))
    assert {drop.reason for drop in record.dropped} == {"CAP_REACHED"}
    assert [slot.action_id for slot in record.slots] == []


@changing
def test_nothing_changes_for_the_other_variant_nor_in_another_placement(change: dict[str, Any]) -> None:
    asked_of, plain = shop(half(**change)), shop()
    seen = SEEN if "limits" in change else HotProfile()
    for unit, place, variant in (
        (member("a"), "home_hero", ["a"]),
        (member("a"), "inbox", []),
        (member("b"), "inbox", []),
    ):
        record = decided(asked_of, unit, seen=seen, placement=place)
        assert [each.variant for each in record.assignments] == variant
        assert what_is_decided(record) == decided(plain, unit, seen=seen, placement=place)
    changed = decided(asked_of, member("b"), seen=seen)
    assert what_is_decided(changed) != decided(plain, member("b"), seen=seen)


@changing
@pytest.mark.parametrize("variant", ["a", "b"])
def test_a_decision_under_a_variant_comes_out_again(change: dict[str, Any], variant: str) -> None:
    asked_of = shop(half(**change))
    record = decided(asked_of, member(variant), seen=SEEN)
    assert replay(record, asked_of.blueprint, key=KEY.secret).verdict == "identical"
    [first] = record.assignments
    other = msgspec.structs.replace(record, assignments=(msgspec.structs.replace(first, variant="c"),))
    assert not replay(other, asked_of.blueprint, key=KEY.secret).identical


def test_variants_of_several_experiments_change_one_decision_together() -> None:
    exploring = half(**CHANGES["exploration"])
    pricing = experiment(id="prices", variants=(Variant(id="b", **CHANGES["lever"]),))
    record = decided(shop(exploring, pricing), member("b"))
    assert (record.policy.policy, candidate(record, "loan").lever) == ("epsilon_greedy", 50.0)
    assert candidate(decided(shop(exploring, pricing), member("a")), "loan").lever == 50.0


def test_the_same_combination_is_made_once_and_none_where_nothing_changes() -> None:
    made: Catalog = shop(half(**CHANGES["lever"])).blueprint
    of_a, of_b = (Assignment("hero_copy", variant, 0.5) for variant in "ab")
    assert made.under([of_b]) is made.under([of_b])
    assert made.under([of_b]) is not made
    assert made.under([of_a]) is made
    assert made.under([]) is made
    assert made.under([Assignment("gone", "b", 0.5), of_b]) is made.under([of_b])
    assert made.under([of_b]).version == made.version


def test_a_tester_meets_the_change_and_is_marked() -> None:
    asked_of = shop(msgspec.structs.replace(half(**CHANGES["lever"]), testers={member("a"): "b"}, traffic=0.0))
    record = decided(asked_of, member("a"))
    [first] = record.assignments
    assert (first.variant, first.reason, first.probability) == ("b", "FORCED", 1.0)
    assert candidate(record, "loan").lever == 50.0


def test_a_group_s_control_gets_none_of_its_actions_whatever_the_variant() -> None:
    nobody = GroupHoldout(id="no_loans", groups=("loans",), share=1.0)
    asked_of = shop(half(**CHANGES["lever"]), holdouts=(nobody,))
    for variant in "ab":
        record = decided(asked_of, member(variant))
        assert [each.variant for each in record.assignments] == [variant]
        assert [(drop.action_id, drop.step, drop.reason) for drop in record.dropped] == [
            ("loan", "candidates", "HELD_OUT")
        ]
        assert record.reason == "RANKED"
        assert replay(record, asked_of.blueprint, key=KEY.secret).verdict == "identical"


def test_a_group_s_control_is_its_share_of_units_and_the_others_see_the_group() -> None:
    asked_of = shop(holdouts=(GroupHoldout(id="no_loans", groups=("loans",), share=0.5),))
    held = [bool(decided(asked_of, f"c-{number}").dropped) for number in range(100)]
    assert 30 <= sum(held) <= 70  # four standard errors


def test_the_universal_control_is_in_no_experiment() -> None:
    asked_of = shop(half(**CHANGES["lever"]), holdout=Holdout(share=1.0))
    record = decided(asked_of, member("b"))
    assert (record.reason, record.assignments) == ("HOLDOUT", ())
    assert replay(record, asked_of.blueprint, key=KEY.secret).verdict == "identical"
