"""Which live decisions are told of to the end, and what their first slots earned."""

from datetime import timedelta
from typing import Any

import pytest

from decisioning.record import DecisionRecord, OutcomeRecord
from tests.builders import NOW, catalog, placement, slot
from tests.training.test_examples import DECIDED, FakeLedger, record
from training.closed_decisions import Closed, closed_decisions

SHOP = catalog(placements=(placement(shown_by="impression", reward={"click": 0.5, "purchase": "value"}),))


def outcome(kind: str, *, of: str = "d-1", after: timedelta = timedelta(hours=1), **overrides: Any) -> OutcomeRecord:
    at = DECIDED + after
    defaults: dict[str, Any] = {
        "outcome_id": f"{of}-{kind}", "decision_id": of, "action_id": "card", "type": kind, "detail": None,
        "value": None, "occurred_at": at, "received_at": at,
    }  # fmt: skip
    return OutcomeRecord(**(defaults | overrides))


def closed(*records: DecisionRecord, outcomes: tuple[OutcomeRecord, ...] = (), **options: Any) -> list[Closed]:
    ledger = FakeLedger(*records, outcomes=outcomes)
    return list(closed_decisions(ledger, SHOP, **({"since": NOW - timedelta(days=30), "now": NOW} | options)))


def test_what_the_first_slot_earned_and_whether_it_was_met() -> None:
    told = (outcome("impression"), outcome("click"), outcome("purchase", value=20.0))
    [met] = closed(record(), outcomes=told)
    assert (met.met, met.earned) == (True, 20.5)
    [unmet] = closed(record())
    assert (unmet.met, unmet.earned) == (False, 0.0)


def test_a_second_slots_outcomes_are_not_the_firsts() -> None:
    both = record(slots=(slot(1, "card"), slot(2, "loan")))
    [found] = closed(both, outcomes=(outcome("click", action_id="loan"),))
    assert (found.met, found.earned) == (False, 0.0)


@pytest.mark.parametrize(
    "changed",
    [
        {"decided_at": NOW - timedelta(days=6)},
        {"placement": "gone"},
        {"slots": ()},
        {"slots": (slot(repeats="before"),)},
        {"reason": "FALLBACK_FEATURES_UNAVAILABLE"},
        {"domain": "bank"},
        {"decided_at": NOW - timedelta(days=31)},
    ],
    ids=["open", "placement", "nothing", "repeat", "unread", "domain", "earlier"],
)
def test_what_is_not_told_to_the_end_or_not_its_own_is_left_out(changed: dict[str, Any]) -> None:
    assert closed(record(**changed)) == []


def test_a_click_on_a_reload_is_the_first_decisions() -> None:
    again = record(decision_id="d-2", decided_at=DECIDED + timedelta(minutes=5), slots=(slot(repeats="d-1"),))
    [found] = closed(record(), again, outcomes=(outcome("click", of="d-2"),))
    assert (found.record.decision_id, found.earned) == ("d-1", 0.5)
