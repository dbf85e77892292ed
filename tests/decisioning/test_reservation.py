from typing import Any

from decisioning.catalog import NO_ACTION
from decisioning.profile import Consent, Contact, HotProfile
from decisioning.reservation import ReservationRequest, take
from tests.builders import CONSENTED, NOW, contact, weekly_cap

SHOWN_NOW = (Contact("card", "cards", "email", NOW), Contact("loan", "loans", "email", NOW))
NOTHING = Contact(NO_ACTION, "other", "email", NOW)


def reservation(*candidates: Contact, **overrides: Any) -> ReservationRequest:
    defaults: dict[str, Any] = {
        "decision_id": "d",
        "digest": "x",
        "customer_id": "c-1",
        "now": NOW,
        "expires_at": NOW,
        "candidates": candidates,
        "order": tuple(range(len(candidates))),
        "slots": 2,
        "policies": (),
        "channel": "email",
        "purpose": "marketing",
        "confirmed": False,
    }
    return ReservationRequest(**(defaults | overrides))


def taken(request: ReservationRequest, profile: HotProfile = CONSENTED) -> list[str]:
    return [request.candidates[slot.chosen].action_id for slot in take(request, profile)]


def test_slots_are_filled_in_the_drawn_order() -> None:
    assert taken(reservation(*SHOWN_NOW, order=(1, 0))) == ["loan", "card"]


def test_a_consent_withdrawn_since_it_was_read_is_obeyed() -> None:
    assert taken(reservation(*SHOWN_NOW), HotProfile()) == []
    assert taken(reservation(*SHOWN_NOW, NOTHING), HotProfile()) == [NO_ACTION]


def test_a_suppression_beats_a_consent() -> None:
    unsubscribed = HotProfile(consents=(Consent("marketing", "email"),), suppressed=("email",))
    assert taken(reservation(*SHOWN_NOW), unsubscribed) == []
    assert taken(reservation(*SHOWN_NOW, purpose=None), unsubscribed) == []


def test_showing_nothing_ends_the_answer_and_never_follows_an_offer() -> None:
    assert taken(reservation(*SHOWN_NOW, NOTHING, order=(2, 0, 1))) == [NO_ACTION]
    assert taken(reservation(SHOWN_NOW[0], NOTHING, order=(0, 1))) == ["card"]


def test_a_contact_added_since_it_was_read_counts() -> None:
    capped = reservation(*SHOWN_NOW, policies=(weekly_cap(1, per="group"),))
    assert taken(capped, HotProfile(CONSENTED.consents, contacts=(contact("card"),))) == ["loan"]


def test_a_slot_counts_for_the_slots_after_it() -> None:
    assert taken(reservation(*SHOWN_NOW, policies=(weekly_cap(1),))) == ["card"]
