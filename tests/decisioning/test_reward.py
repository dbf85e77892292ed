from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from decisioning.content import NO_ACTION
from decisioning.record import OutcomeRecord
from decisioning.reward import CLOCK_TOLERANCE, PROVES_SHOWN, counted, reward, was_shown
from tests.builders import NOW, placement

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
    assert counted([last, late], place, decided_at=NOW) == [last]


def test_an_outcome_before_its_decision_counts_only_within_what_clocks_differ() -> None:
    skewed, earlier = outcome(after=-CLOCK_TOLERANCE), outcome(after=-CLOCK_TOLERANCE - timedelta(microseconds=1))
    ancient = outcome(outcome_id="ancient", occurred_at=datetime.min.replace(tzinfo=UTC))
    assert counted([skewed, earlier, ancient], placement(), decided_at=NOW) == [skewed]


def test_what_a_machine_did_earns_nothing() -> None:
    assert counted([outcome("click", detail="machine")], placement(), decided_at=NOW) == []


def test_an_outcome_that_came_twice_counts_once() -> None:
    assert len(counted([outcome(), outcome()], placement(), decided_at=NOW)) == 1


def test_a_type_counts_once_and_amounts_add_up() -> None:
    clicks = [outcome("click"), outcome("click", after=timedelta(hours=2))]
    assert reward(clicks, placement(reward={"click": 0.5})) == 0.5
    purchases = [outcome("purchase", value=30.0), outcome("purchase", after=timedelta(hours=2), value=12.0)]
    assert reward(purchases, placement(reward={"purchase": "value"})) == 42.0


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
