from datetime import timedelta
from typing import Any

import msgspec

from decisioning.catalog import Eligible
from decisioning.content import Budget, ContactPolicy
from decisioning.content_types import NO_ACTION
from decisioning.identity import Person
from decisioning.profile import BudgetLeft, Contact, HotProfile, Subject
from decisioning.reservation import ReservationRequest, take
from tests.builders import NOW, eligible, placement, weekly_cap

CARD, LOAN, NOTHING = eligible("card"), eligible("loan", group="loans"), eligible(NO_ACTION, group="other")
SEEN = HotProfile(version=1)
CHANGED = HotProfile(version=2)


def reservation(*candidates: Eligible, **overrides: Any) -> ReservationRequest:
    defaults: dict[str, Any] = {
        "decision_id": "d",
        "digest": "x",
        "subject": Subject("c-1"),
        "now": NOW,
        "at": NOW,
        "placement": placement(),
        "eligible": candidates,
        "order": tuple(range(len(candidates))),
        "slots": 2,
        "policies": (),
        "budgets": {},
        "confirmed": False,
        "seen": SEEN,
        "still": lambda profile: range(len(candidates)),
    }
    return ReservationRequest(**(defaults | overrides))


def taken(request: ReservationRequest, profile: HotProfile = SEEN) -> list[str]:
    return [request.contact(slot.chosen).action_id for slot in take(request, profile)]


def test_slots_are_filled_in_the_drawn_order() -> None:
    assert taken(reservation(CARD, LOAN, order=(1, 0))) == ["loan", "card"]


def test_nothing_is_judged_again_while_the_profile_stands() -> None:
    assert taken(reservation(CARD, LOAN, still=lambda profile: []), SEEN) == ["card", "loan"]


def test_a_change_since_it_was_read_is_obeyed() -> None:
    assert taken(reservation(CARD, LOAN, still=lambda profile: [1]), CHANGED) == ["loan"]
    another = HotProfile(version=SEEN.version, person=Person("c-1", ("c-1", "c-2")))
    assert taken(reservation(CARD, LOAN, still=lambda profile: [1]), another) == ["loan"], "versions add up by chance"
    assert taken(reservation(CARD, LOAN, still=lambda profile: []), CHANGED) == []


def test_showing_nothing_ends_the_answer_and_never_follows_an_offer() -> None:
    assert taken(reservation(CARD, LOAN, NOTHING, order=(2, 0, 1))) == [NO_ACTION]
    assert taken(reservation(CARD, NOTHING, order=(0, 1))) == ["card"]


def test_a_slot_counts_for_the_slots_after_it() -> None:
    assert taken(reservation(CARD, LOAN, policies=(weekly_cap(1),))) == ["card"]


PROMO = {"promo": Budget(id="promo", amount=9.0, period=timedelta(days=7), starts=NOW)}


def test_a_slot_that_spends_a_budget_closes_it_for_the_slots_after_it() -> None:
    costly = [eligible(name, budget="promo", cost=3.0) for name in ("card", "loan")]
    asked = reservation(*costly, budgets=PROMO, seen=HotProfile(version=1, budgets=(BudgetLeft("promo", 5.0),)))
    assert taken(asked, asked.seen) == ["card"]
    richer = HotProfile(version=1, budgets=(BudgetLeft("promo", 6.0),))
    assert taken(asked, richer) == ["card", "loan"]


def test_a_budget_that_nothing_is_known_of_has_nothing_left() -> None:
    assert taken(reservation(eligible(budget="promo", cost=3.0), budgets=PROMO)) == []


def test_the_same_answer_again_is_no_new_contact_and_meets_no_cap() -> None:
    again = reservation(eligible("card", repeats="d-0"), LOAN, policies=(weekly_cap(1),))
    assert taken(again) == ["card", "loan"]
    assert [(slot, made.action_id) for slot, made in again.new_contacts(take(again, SEEN))] == [(2, "loan")]


def test_a_slot_closes_what_counts_like_it_for_the_slots_after_it() -> None:
    """Contacts of before and those of this answer count together, each policy by its own key."""
    gold, bonds = eligible("gold"), eligible("bonds", group="loans")
    twice = ContactPolicy("twice", limit=2, within=timedelta(days=7), per="group")
    seen = HotProfile(version=1, contacts=(Contact("old", "cards", "web", NOW - timedelta(days=1)),))
    asked = reservation(CARD, gold, LOAN, bonds, slots=4, policies=(twice,), seen=seen)
    assert taken(asked, seen) == ["card", "loan", "bonds"]
    only = msgspec.structs.replace(twice, only="loans")
    assert taken(reservation(CARD, LOAN, bonds, gold, slots=4, policies=(only,), seen=seen), seen) == [
        "card",
        "loan",
        "bonds",
        "gold",
    ]
    once = msgspec.structs.replace(only, limit=1)
    assert taken(reservation(CARD, LOAN, bonds, gold, slots=4, policies=(once,), seen=seen), seen) == [
        "card",
        "loan",
        "gold",
    ]
