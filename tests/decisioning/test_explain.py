import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pytest

from decisioning.answer import answer
from decisioning.content import Budget, ContextWeight
from decisioning.content_types import NO_ACTION
from decisioning.experiment_content import Holdout
from decisioning.explain import Explanation, Loser, explain, formula
from decisioning.exploration import EpsilonGreedy, Greedy, SquareCB
from decisioning.profile import HotProfile
from decisioning.record import Candidate, DecisionRecord
from serving.engine import Engine
from tests.builders import CONSENTED, NOW, action, contact, placement, release, request, weekly_cap
from tests.fakes import FakeFeatures, FakeHotState, FakeLedger, FakeScorer
from tests.random_shops import KEY, random_decisions

CHANCES = {"card": 0.3, "loan": 0.2, "insurance": 0.1, NO_ACTION: 0.05}


def shop(*actions: Any, slots: int = 1, exploration: Any = Greedy(), **overrides: Any) -> Any:  # noqa: B008 (frozen)
    hero = placement(slots=slots, exploration=exploration)
    given = actions or (action("card"), action("loan"), action("insurance"), action(NO_ACTION, value=5.0))
    return release(*given, placements=(hero, placement("newsletter", channel="email", slots=1)), **overrides)


def decided(asked_of: Any, hot: FakeHotState | None = None, scorer: Any = "trained", **fields: Any) -> DecisionRecord:
    engine = Engine(
        release=asked_of,
        features=FakeFeatures(),
        hot_state=hot or FakeHotState(CONSENTED),
        ledger=FakeLedger(),
        scorer=FakeScorer(CHANCES) if scorer == "trained" else scorer,
        draw_key=KEY,
    )
    return asyncio.run(engine.decide(request(**{"decision_id": "d-1"} | fields), now=NOW))


def loser(explanation: Explanation, action_id: str) -> Loser:
    [found] = [each for each in explanation.losers if each.action_id == action_id]
    return found


def with_numbers(record: DecisionRecord, action_id: str, **numbers: float) -> Candidate:
    [found] = [candidate for candidate in record.candidates if candidate.action_id == action_id]
    return msgspec.structs.replace(found, **numbers)


def priority_of(candidate: Candidate, baseline: float | None = None) -> float:
    assert candidate.propensity is not None
    first = candidate.propensity if candidate.uplift is None else max(0.0, candidate.propensity - (baseline or 0.0))
    return first * candidate.context_weight * candidate.value * candidate.lever


def test_the_formula_has_the_numbers_put_in() -> None:
    found = explain(decided(shop(action("card", value=28.0, context_weights=(ContextWeight("true", 2.0),), lever=1.5))))
    [card] = found.shown
    assert card.formula == "0.3 x 2.0 x 28.0 x 1.5 = 25.2"
    assert card.terms == "propensity x context weight x value x lever"


def test_uplift_takes_the_place_of_propensity_and_is_taken_apart() -> None:
    [card] = explain(decided(shop(action("card", rank_by="uplift"), action(NO_ACTION)))).shown
    assert card.formula == "0.25 x 1.0 x 10.0 x 1.0 = 2.5"
    assert card.terms.startswith("uplift x")
    assert "propensity 0.3 above 0.05" in card.why


def test_an_uplift_that_the_model_learnt_is_said_to_be_so_and_no_propensity_would_change_it() -> None:
    asked_of = shop(action("card"), action("loan", rank_by="uplift"), action(NO_ACTION))
    record = decided(asked_of, scorer=FakeScorer(CHANCES, uplifts={"loan": 0.05}))
    found = explain(record)
    [loan] = [each for each in found.candidates if each.action_id == "loan"]
    assert loan.formula == "0.05 x 1.0 x 10.0 x 1.0 = 0.5"
    assert "uplift 0.05, learnt from customers who were shown nothing; propensity 0.2" in loan.why
    needed = loser(found, "loan")
    assert needed.propensity is None
    assert needed.value == pytest.approx(60.0)


def test_a_likelier_no_action_does_not_lower_an_uplift_that_was_learnt() -> None:
    asked_of = shop(action("card", rank_by="uplift"), action(NO_ACTION, value=5.0))
    record = decided(asked_of, scorer=FakeScorer(CHANCES, uplifts={"card": 0.25}))
    assert loser(explain(record), NO_ACTION).propensity == pytest.approx(2.5 / 5.0)


def test_candidates_are_ranked_and_every_drop_has_step_and_reason() -> None:
    asked_of = shop(action("card", eligibility="false"), action("loan"), action("insurance"), action(NO_ACTION))
    found = explain(decided(asked_of))
    assert [(each.action_id, each.slot, each.rank) for each in found.candidates] == [
        ("loan", 1, 1), ("insurance", None, 2), (NO_ACTION, None, 3),
    ]  # fmt: skip
    assert [(drop.action_id, drop.step, drop.reason) for drop in found.dropped] == [
        ("card", "engagement_policy", "ELIGIBILITY")
    ]


@pytest.mark.parametrize("number", ["propensity", "value", "lever"])
@pytest.mark.parametrize("action_id", ["loan", "insurance", NO_ACTION])
def test_with_the_needed_number_a_loser_would_rank_level(number: str, action_id: str) -> None:
    record = decided(shop())
    found = loser(explain(record), action_id)
    changed = with_numbers(record, action_id, **{number: getattr(found, number)})
    assert priority_of(changed) == pytest.approx(found.needed)
    assert found.over == "card"


def test_an_uplift_loser_needs_a_propensity_above_the_baseline() -> None:
    record = decided(shop(action("card"), action("loan", rank_by="uplift"), action(NO_ACTION)))
    found = loser(explain(record), "loan")
    changed = with_numbers(record, "loan", propensity=found.propensity or 0.0)
    assert found.propensity == pytest.approx(0.35)
    assert priority_of(changed, record.baseline) == pytest.approx(3.0)


def test_a_likelier_no_action_lowers_the_uplift_that_it_must_reach() -> None:
    record = decided(shop(action("card", rank_by="uplift"), action(NO_ACTION, value=5.0)))
    needed = loser(explain(record), NO_ACTION).propensity
    assert needed is not None
    nothing = with_numbers(record, NO_ACTION, propensity=needed)
    assert priority_of(nothing) == pytest.approx(priority_of(with_numbers(record, "card"), baseline=needed))


def test_no_propensity_above_one_is_asked_for() -> None:
    found = loser(explain(decided(shop(action("card"), action("loan", value=1.0)))), "loan")
    assert found.propensity is None
    assert found.why.endswith("value 15.0 instead of 1.0 or lever 15.0 instead of 1.0")


def test_where_two_numbers_are_zero_none_alone_would_do() -> None:
    found = loser(explain(decided(shop(action("card"), action("loan", value=0.0, lever=0.0)))), "loan")
    assert (found.propensity, found.value, found.lever) == (None, None, None)
    assert "no one number would do" in found.why


def test_a_loser_that_ranks_above_was_beaten_by_exploration() -> None:
    asked_of = shop(exploration=EpsilonGreedy(epsilon=1.0))
    records = (decided(asked_of, decision_id=f"d-{number}") for number in range(50))
    record = next(each for each in records if each.slots[0].action_id == "insurance")
    found = explain(record)
    card = loser(found, "card")
    assert (card.needed, card.propensity, card.chance) == (pytest.approx(1.0), None, 0.25)
    assert "ranks above insurance in slot 1: the policy drew that with probability 0.25" in card.why
    assert "exploration: it ranks 3. by priority" in found.shown[0].why


def test_ties_are_said_to_be_level() -> None:
    record = decided(shop(action("bond"), action("fund")))
    [tied] = explain(record).losers
    assert "ranks level with" in tied.why
    assert tied.chance == 0.5


def test_what_differs_in_the_last_bits_of_a_score_is_level() -> None:
    record = decided(shop(action("bond"), action("fund")))
    shown = record.slots[0].action_id
    # A model's scores are float32: half a unit of their last place apart.
    candidates = tuple(
        with_numbers(record, c.action_id, priority=(c.priority or 0.0) * (1.0 if c.action_id == shown else 1.0 - 6e-8))
        for c in record.candidates
    )
    found = explain(msgspec.structs.replace(record, candidates=candidates))
    [tied] = found.losers
    assert "ranks level with" in tied.why
    assert (tied.propensity, tied.value, tied.lever) == (None, None, None)
    assert [each.rank for each in found.candidates] == [1, 1]
    higher = tuple(
        with_numbers(record, c.action_id, priority=(c.priority or 0.0) * (1.0 if c.action_id == shown else 1.0 + 6e-8))
        for c in record.candidates
    )
    assert "exploration" not in explain(msgspec.structs.replace(record, candidates=higher)).shown[0].why


def test_the_lowest_shown_slot_is_what_a_loser_must_reach() -> None:
    record = decided(shop(slots=2), exclude=[NO_ACTION])
    assert loser(explain(record), "insurance").over == "loan"


def test_no_action_competes_for_the_first_slot_alone() -> None:
    record = decided(shop(slots=3))
    assert [slot.action_id for slot in record.slots] == ["card", "loan", "insurance"]
    assert loser(explain(record), NO_ACTION).over == "card"


def test_only_the_three_best_losers_are_named() -> None:
    more = [action(f"a{n}", value=1.0 + n) for n in range(6)]
    assert [each.action_id for each in explain(decided(shop(action("card"), *more))).losers] == ["a5", "a4", "a3"]


def test_what_was_lost_at_the_reservation_is_no_loser() -> None:
    hot = FakeHotState(CONSENTED)
    hot.taken_by_others = (contact("card", ago=NOW - NOW),)
    record = decided(shop(contact_policies=(weekly_cap(per="action"),)), hot)
    found = explain(record)
    assert record.slots[0].action_id == "loan"
    assert "card" not in [each.action_id for each in found.losers]
    [card] = [each for each in found.candidates if each.action_id == "card"]
    assert card.why == "no longer available at the reservation"


def test_what_the_slot_before_closed_says_what_that_took() -> None:
    asked_of = shop(action("card"), action("gold", value=9.0), action("loan", group="loans", value=8.0), slots=2,
                    contact_policies=(weekly_cap(per="group"),))  # fmt: skip
    found = explain(decided(asked_of))
    assert [each.action_id for each in found.shown] == ["card", "loan"]
    [gold] = [each for each in found.candidates if each.action_id == "gold"]
    assert gold.why == "closed for slot 2 by what slot 1 took (group cards, goal sell)"
    assert loser(found, "gold").why.startswith(f"{gold.why}; level with card in slot 1")


def test_a_budget_that_the_slot_before_spent_is_named() -> None:
    once = Budget(id="mails", amount=1.0, counts="contacts", of="customer", period=timedelta(days=7),
                  starts=NOW - timedelta(days=1))  # fmt: skip
    charged = [action(name, value=value, budget="mails") for name, value in (("card", 9.0), ("gold", 7.0))]
    found = explain(
        decided(shop(action("first", value=900.0), *charged, action("loan", value=1.0), slots=3, budgets=(once,)))
    )
    assert [each.action_id for each in found.shown] == ["first", "card", "loan"]
    [gold] = [each for each in found.candidates if each.action_id == "gold"]
    assert gold.why == "closed for slot 3 by what slot 2 took (group cards, goal sell, budget mails)"


def test_what_every_slot_could_have_had_is_merely_not_shown() -> None:
    found = explain(decided(shop(slots=2)))
    assert [each.action_id for each in found.shown] == ["card", "loan"]
    why = {each.action_id: each.why for each in found.candidates}
    assert (why["insurance"], why[NO_ACTION]) == ("not shown", "to show nothing was possible in slot 1 alone")


def test_where_nothing_is_shown_that_is_what_ended_the_answer() -> None:
    asked_of = shop(action("card"), action(NO_ACTION, value=90.0), slots=2)
    card = loser(explain(decided(asked_of)), "card")
    assert card.why.startswith("slot 1 shows nothing, which ends the answer; level with no_action in slot 1")
    only_one = loser(explain(decided(asked_of, limit=1)), "card")
    assert only_one.why.startswith("level with")


def test_nothing_beats_what_goes_on_from_earlier() -> None:
    seen = HotProfile(contacts=(contact("insurance"),), consents=CONSENTED.consents)
    found = explain(decided(shop(continuity=3 * (NOW - NOW.replace(day=1))), FakeHotState(seen)))
    [insurance] = found.shown
    assert insurance.goes_on
    assert "goes on from an earlier decision" in insurance.why
    card = loser(found, "card")
    assert (card.needed, card.value, card.chance) == (None, None, 0.0)
    assert "comes first whatever the numbers are" in card.why


@pytest.mark.parametrize("kind", ["holdout", "no_model", "no_hot_state"])
def test_a_fallback_has_no_formula_and_no_losers(kind: str) -> None:
    asked_of = shop(action("card", fallback=True), action("loan", fallback=True),
                    holdout=Holdout(share=1.0 if kind == "holdout" else 0.0))  # fmt: skip
    hot = FakeHotState(CONSENTED)
    hot.down = kind == "no_hot_state"
    found = explain(decided(asked_of, hot, None if kind == "no_model" else "trained"))
    [shown] = found.shown
    assert (shown.formula, shown.rank, shown.probability, shown.why) == (None, None, None, "a fallback action")
    assert found.losers == ()
    assert "nothing was scored or drawn" in found.how


def test_where_nothing_is_eligible_the_drops_are_the_explanation() -> None:
    found = explain(decided(shop(action("card", eligibility="false"))))
    assert (found.candidates, found.losers) == ((), ())
    assert found.how.startswith("nothing is shown: every action was dropped")


def test_the_policy_is_named_with_its_parameters() -> None:
    assert "squarecb (gamma 7.0)" in explain(decided(shop(exploration=SquareCB(gamma=7.0)))).how


def test_an_answer_that_is_to_explain_carries_formulas_losers_and_drops() -> None:
    told = answer(decided(shop(), explain=True))
    assert told.explanation is not msgspec.UNSET
    assert [each.slot for each in told.explanation.shown] == [1]
    assert len(told.explanation.losers) == 3
    assert told.dropped == []
    silent = msgspec.json.decode(msgspec.json.encode(answer(decided(shop()))))
    assert not {"explanation", "dropped"} & set(silent)


def test_every_random_decision_can_be_explained_and_its_needed_numbers_hold() -> None:
    losers = closed = 0
    for seed in range(24):
        for _, record in random_decisions(np.random.default_rng([seed, 1]), 10):
            found = explain(record)
            assert [each.slot for each in found.shown] == [slot.slot for slot in record.slots]
            assert {each.action_id for each in found.candidates} == {c.action_id for c in record.candidates}
            for each in found.losers:
                losers += 1
                for number in ("value", "lever"):
                    if getattr(each, number) is not None:
                        changed = with_numbers(record, each.action_id, **{number: getattr(each, number)})
                        assert priority_of(changed, record.baseline) == pytest.approx(each.needed)
            ids = [candidate.action_id for candidate in record.candidates]
            for each in found.candidates:
                absent = [s.slot for s in record.slots if ids.index(each.action_id) not in s.available]
                if each.slot is None and each.action_id != NO_ACTION and absent and absent[0] > 1:
                    closed += 1
                    assert f"closed for slot {absent[0]} by what slot {absent[0] - 1} took (group " in each.why
                else:
                    assert "closed" not in each.why
            for candidate in record.candidates:
                assert (formula(candidate) is None) == (candidate.priority is None)
    assert losers > 50
    assert closed >= 5


def test_it_says_what_responses_since_training_made_of_the_models_word() -> None:
    record = decided(shop())
    moved = with_numbers(record, "card", score=0.3, propensity=0.36, shift=0.28)
    record = msgspec.structs.replace(record, candidates=(moved, *record.candidates[1:]))
    [card] = explain(record).shown
    assert "propensity 0.36: the model said 0.3, and responses since its training speak for more" in card.why
