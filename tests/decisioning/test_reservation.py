from typing import Any

import msgspec

from decisioning.content import NO_ACTION
from decisioning.profile import BudgetLeft, Contact, HotProfile, Subject
from decisioning.reservation import Place, ReservationRequest, new_contacts, take
from tests.builders import NOW, weekly_cap

SHOWN_NOW = (Contact("card", "cards", "email", NOW), Contact("loan", "loans", "email", NOW))
NOTHING = Contact(NO_ACTION, "other", "email", NOW)
SEEN = HotProfile(version=1)
CHANGED = HotProfile(version=2)


def place(contact: Contact, *, repeats: str | None = None) -> Place:
    counted_by = {"any": "", "channel": contact.channel, "group": contact.group, "goal": contact.goal}
    return Place(contact, {**counted_by, "action": contact.action_id}, repeats)


def reservation(*places: Contact | Place, **overrides: Any) -> ReservationRequest:
    defaults: dict[str, Any] = {
        "decision_id": "d",
        "digest": "x",
        "subject": Subject("c-1"),
        "now": NOW,
        "at": NOW,
        "places": tuple(item if isinstance(item, Place) else place(item) for item in places),
        "order": tuple(range(len(places))),
        "slots": 2,
        "policies": (),
        "budgets": {},
        "confirmed": False,
        "seen": SEEN,
        "still": lambda profile: range(len(places)),
    }
    return ReservationRequest(**(defaults | overrides))


def taken(request: ReservationRequest, profile: HotProfile = SEEN) -> list[str]:
    return [request.places[slot.chosen].contact.action_id for slot in take(request, profile)]


def test_slots_are_filled_in_the_drawn_order() -> None:
    assert taken(reservation(*SHOWN_NOW, order=(1, 0))) == ["loan", "card"]


def test_nothing_is_judged_again_while_the_profile_stands() -> None:
    assert taken(reservation(*SHOWN_NOW, still=lambda profile: []), SEEN) == ["card", "loan"]


def test_a_change_since_it_was_read_is_obeyed() -> None:
    assert taken(reservation(*SHOWN_NOW, still=lambda profile: [1]), CHANGED) == ["loan"]
    assert taken(reservation(*SHOWN_NOW, still=lambda profile: []), CHANGED) == []


def test_showing_nothing_ends_the_answer_and_never_follows_an_offer() -> None:
    assert taken(reservation(*SHOWN_NOW, NOTHING, order=(2, 0, 1))) == [NO_ACTION]
    assert taken(reservation(SHOWN_NOW[0], NOTHING, order=(0, 1))) == ["card"]


def test_a_slot_counts_for_the_slots_after_it() -> None:
    assert taken(reservation(*SHOWN_NOW, policies=(weekly_cap(1),))) == ["card"]


def test_a_slot_that_spends_a_budget_closes_it_for_the_slots_after_it() -> None:
    costly = [msgspec.structs.replace(contact, budget="promo", cost=3.0) for contact in SHOWN_NOW]
    asked = reservation(*costly, seen=HotProfile(version=1, budgets=(BudgetLeft("promo", 5.0),)))
    assert taken(asked, asked.seen) == ["card"]
    richer = HotProfile(version=1, budgets=(BudgetLeft("promo", 6.0),))
    assert taken(asked, richer) == ["card", "loan"]


def test_a_budget_that_nothing_is_known_of_has_nothing_left() -> None:
    assert taken(reservation(msgspec.structs.replace(SHOWN_NOW[0], budget="promo", cost=3.0))) == []


def test_the_same_answer_again_is_no_new_contact_and_meets_no_cap() -> None:
    again = reservation(place(SHOWN_NOW[0], repeats="d-0"), SHOWN_NOW[1], policies=(weekly_cap(1),))
    assert taken(again) == ["card", "loan"]
    assert [contact.action_id for contact in new_contacts(again, take(again, SEEN))] == ["loan"]
