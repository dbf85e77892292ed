"""What hot state is asked to do atomically before an answer leaves.

Hot state holds contacts that others may be adding to at the same instant. So availability is
judged inside its transaction, by `take`, and the answer says what was available.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from decisioning.catalog import ContactPolicy
from decisioning.contact_policy import ContactCounts
from decisioning.profile import Contact
from decisioning.slots import FilledSlot, fill_slots


class ReservationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Fill these slots for this customer, now.

    Attributes:
        digest: Hash of the request's body: the same decision id with another one is a conflict.
        candidates: What each candidate would be as a contact, `at` being now.
        order: The drawn order, places in `candidates`.
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
    confirmed: bool


class AlreadyClaimed(msgspec.Struct, frozen=True):
    """This decision id was used before, with a body of this digest."""

    digest: str
    claimed_at: datetime


def take(request: ReservationRequest, contacts: Sequence[Contact]) -> tuple[FilledSlot, ...]:
    """Fill the slots, given the customer's contacts at this instant.

    A slot that is taken is a contact for the slots after it.
    """
    counts = ContactCounts(request.policies, contacts, now=request.now)
    counted = 0

    def available_after(shown: tuple[int, ...]) -> list[int]:
        nonlocal counted
        for index in shown[counted:]:
            counts.add(request.candidates[index])
        counted = len(shown)
        return [
            index
            for index, candidate in enumerate(request.candidates)
            if index not in shown and counts.suppressing(candidate) is None
        ]

    return fill_slots(request.order, request.slots, available_after)
