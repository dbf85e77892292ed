"""What hot state is asked to do atomically before an answer leaves.

Hot state holds contacts that others may be adding to at the same instant. So availability is
judged inside its transaction, by `take`, and the answer says what was available.
"""

from datetime import datetime

import msgspec

from decisioning.catalog import NO_ACTION, ContactPolicy, Purpose
from decisioning.contact_policy import ContactCounts
from decisioning.profile import Contact, HotProfile
from decisioning.slots import FilledSlot, fill_slots


class ReservationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Fill these slots for this customer, now.

    Attributes:
        digest: Hash of the request's body: the same decision id with another one is a conflict.
        candidates: What each candidate would be as a contact, `at` being now.
        order: The drawn order, places in `candidates`.
        channel: Where the candidates would be shown, and `purpose`, what must be consented there.
        confirmed: The decision itself counts as shown; otherwise the place is held until
            `expires_at` and an impression confirms it.
    """

    decision_id: str
    digest: str
    customer_id: str
    now: datetime
    expires_at: datetime
    candidates: tuple[Contact, ...]
    order: tuple[int, ...]
    slots: int
    policies: tuple[ContactPolicy, ...]
    channel: str
    purpose: Purpose | None
    confirmed: bool


class AlreadyClaimed(msgspec.Struct, frozen=True):
    """This decision id was used before, with a body of this digest."""

    digest: str
    claimed_at: datetime


def take(request: ReservationRequest, profile: HotProfile) -> tuple[FilledSlot, ...]:
    """Fill the slots, given what is true of the customer at this instant.

    A slot that is taken is a contact for the slots after it. Showing nothing needs no consent, is
    drawn for the first slot only, and ends the answer.
    """
    counts = ContactCounts(request.policies, profile.contacts, now=request.now)
    permitted = profile.permits(request.purpose, request.channel)
    counted = 0

    def available_after(shown: tuple[int, ...]) -> list[int]:
        nonlocal counted
        if any(request.candidates[index].action_id == NO_ACTION for index in shown):
            return []
        for index in shown[counted:]:
            counts.add(request.candidates[index])
        counted = len(shown)
        return [
            index
            for index, candidate in enumerate(request.candidates)
            if index not in shown
            and (permitted if candidate.action_id != NO_ACTION else not shown)
            and counts.suppressing(candidate) is None
        ]

    return fill_slots(request.order, request.slots, available_after)
