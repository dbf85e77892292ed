from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from decisioning.content_types import NO_ACTION
from decisioning.record import OutcomeRecord
from decisioning.reward import (
    CLOCK_TOLERANCE,
    PROVES_SHOWN,
    counted,
    credited,
    of_slot,
    reward,
    succeeded_at,
    was_shown,
)
from tests.builders import NOW, placement, record, slot

WEEK = timedelta(days=7)


def outcome(kind: str = "accept", *, after: timedelta = timedelta(hours=1), **overrides: Any) -> OutcomeRecord:
    defaults: dict[str, Any] = {
        "outcome_id": f"{kind}-{after}",
        "decision_id": "d",
        "action_id": "card",
        "type": kind,
        "detail": None,
        "value": None,
        "occurred_at": NOW + after,
        "received_at": NOW + after,
    }
    return OutcomeRecord(**(defaults | overrides))


def test_an_outcome_within_the_window_counts_and_at_its_end_no_longer() -> None:
    place = placement(attribution_window=WEEK)
    last, late = outcome(after=WEEK - timedelta(microseconds=1)), outcome(after=WEEK)
    assert counted([last, late], record(), place) == [last]


def test_an_outcome_that_arrives_after_the_window_counts_if_it_happened_within() -> None:
    late = outcome(received_at=NOW + 2 * WEEK)
    assert counted([late], record(), placement(attribution_window=WEEK)) == [late]


def test_an_outcome_before_its_decision_counts_only_within_what_clocks_differ() -> None:
    skewed, earlier = outcome(after=-CLOCK_TOLERANCE), outcome(after=-CLOCK_TOLERANCE - timedelta(microseconds=1))
    ancient = outcome(outcome_id="ancient", occurred_at=datetime.min.replace(tzinfo=UTC))
    assert counted([skewed, earlier, ancient], record(), placement()) == [skewed]


def test_what_a_machine_did_earns_nothing() -> None:
    assert counted([outcome("click", detail="machine")], record(), placement()) == []


def test_an_outcome_that_came_twice_counts_once() -> None:
    assert len(counted([outcome(), outcome()], record(), placement())) == 1


def test_a_type_counts_once_and_amounts_add_up() -> None:
    clicks = [outcome("click"), outcome("click", after=timedelta(hours=2))]
    assert reward(clicks, placement(reward={"click": 0.5})) == 0.5
    purchases = [outcome("purchase", value=30.0), outcome("purchase", after=timedelta(hours=2), value=12.0)]
    assert reward(purchases, placement(reward={"purchase": "value"})) == 42.0
    back = outcome("purchase", after=timedelta(hours=3), value=-42.0)
    assert reward([*purchases, back], placement(reward={"purchase": "value"})) == 0.0


def test_an_unsubscribe_can_cost() -> None:
    assert reward([outcome("unsubscribe")], placement(reward={"accept": 1.0, "unsubscribe": -5.0})) == -5.0


def test_an_action_without_an_impression_was_not_shown() -> None:
    assert not was_shown("card", [], placement())
    assert was_shown("card", [outcome("impression")], placement())
    assert was_shown("card", [], placement(shown_by="decision"))


@pytest.mark.parametrize("kind", sorted(PROVES_SHOWN))
def test_who_acted_on_it_has_seen_it_whatever_is_rewarded(kind: str) -> None:
    assert was_shown("card", [outcome(kind)], placement(reward={"accept": 1.0}))
    assert was_shown("card", [outcome(kind)], placement(shown_by="sent"))


def test_a_rewarded_open_proves_nothing() -> None:
    assert not was_shown("card", [outcome("open")], placement(shown_by="sent", reward={"open": 0.1}))


def test_an_e_mail_that_came_back_was_not_shown() -> None:
    mailed = placement(shown_by="sent")
    assert was_shown("card", [outcome("sent")], mailed)
    assert not was_shown("card", [outcome("sent"), outcome("bounce")], mailed)
    assert not was_shown("card", [outcome("click"), outcome("bounce")], mailed)
    assert not was_shown("card", [outcome("open")], mailed)


def test_showing_nothing_needs_no_proof() -> None:
    assert was_shown(NO_ACTION, [], placement())


def test_the_window_of_what_is_planned_opens_at_the_decision_and_closes_after_the_contact() -> None:
    planned = record(contact_at=NOW + timedelta(days=2))
    early, last = outcome(after=timedelta(0)), outcome(after=timedelta(days=9) - timedelta(microseconds=1))
    late = outcome(after=timedelta(days=9))
    assert counted([early, last, late], planned, placement(attribution_window=WEEK)) == [early, last]


def test_what_a_reload_earned_is_the_first_decisions_and_no_longer_its_own() -> None:
    first = record(decision_id="d", slots=(slot(), slot(2, "loan")))
    mixed = record(decision_id="e", slots=(slot(repeats="d"), slot(2, "fund"), slot(3, "loan", repeats="c")))
    seen = outcome("impression")
    card, fund = outcome("click", decision_id="e"), outcome("accept", decision_id="e", action_id="fund")
    bounced = outcome("bounce", decision_id="e", action_id=None)
    unclear = outcome("custom", decision_id="e", action_id=None)
    found = credited({"d": [seen], "e": [card, fund, bounced, unclear]}, [first, mixed])
    assert [(o.type, o.decision_id, o.action_id) for o in found["d"]] == [
        ("impression", "d", "card"), ("click", "d", "card"), ("bounce", "d", "card"),
    ]  # fmt: skip
    assert [(o.type, o.action_id) for o in found["c"]] == [("bounce", "loan")]
    assert found["e"] == [fund, bounced, unclear]


def test_what_is_said_of_a_whole_message_is_said_of_each_of_its_slots() -> None:
    both = record(slots=(slot(), slot(2, "loan")))
    of_all = [outcome(kind, action_id=None) for kind in ("sent", "delivered", "open", "bounce", "not_sent")]
    of_nobody_knows_which = [outcome(kind, action_id=None) for kind in ("click", "accept", "unsubscribe")]
    for each in both.slots:
        assert of_slot(both, each, [*of_all, *of_nobody_knows_which]) == of_all


def test_an_e_mail_that_came_back_came_back_for_every_slot_that_it_repeats() -> None:
    again = record(decision_id="e", slots=(slot(repeats="d"), slot(2, "loan", repeats="d")))
    bounced = outcome("bounce", decision_id="e", action_id=None)
    found = credited({"e": [bounced]}, [again])
    assert [o.action_id for o in counted(found["d"], record(decision_id="d"), placement())] == ["card", "loan"]
    assert found["e"] == []


def test_a_success_is_known_when_it_arrives_and_not_before_the_reward_is_above_nothing() -> None:
    place = placement(reward={"click": 0.5, "unsubscribe": -1.0})
    told_late = outcome("click", received_at=NOW + timedelta(days=2))
    assert succeeded_at([told_late, outcome("impression")], place) == NOW + timedelta(days=2)
    assert succeeded_at([told_late, outcome("unsubscribe")], place) is None
    assert succeeded_at([], place) is None
