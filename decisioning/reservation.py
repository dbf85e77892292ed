"""What hot state is asked to do atomically before an answer leaves.

Others may be adding contacts or withdrawing consent at the same instant. So availability is judged
inside hot state's transaction, by `take`, and the answer says what was available.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import msgspec

from decisioning.budget import BudgetRoom
from decisioning.contact_policy import ContactCounts
from decisioning.content import NO_ACTION, Budget, ContactPolicy, CountedPer
from decisioning.profile import BudgetLeft, Contact, HotProfile, Subject
from decisioning.slots import FilledSlot, fill_slots


class Place(NamedTuple):
    """What a candidate would be as a contact.

    `repeats` is the decision whose contact it still is: then it is no new one, and neither caps
    nor budgets are asked again.
    """

    contact: Contact
    counted_by: Mapping[CountedPer, str]
    repeats: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationRequest:
    """Fill these slots for this customer, now.

    Attributes:
        digest: Hash of the request's body: the same decision id with another one is a conflict.
        places: What each candidate would be as a contact.
        order: The drawn order, indexes of `places`.
        at: When the contact is: now, or the planned time of what is sent; policies are judged then.
        confirmed: The decision itself counts as shown; otherwise a place is held until its
            contact's `until` and an impression confirms it.
        seen: The profile that the candidates were narrowed with.
        still: Which of `places` pass with another profile; asked when it has changed since.
        budgets: Those that candidates are charged to.
        counts: Of `seen`'s contacts at `at`, where somebody has counted them already.
    """

    decision_id: str
    digest: str
    subject: Subject
    now: datetime
    at: datetime
    places: tuple[Place, ...]
    order: tuple[int, ...]
    slots: int
    policies: tuple[ContactPolicy, ...]
    budgets: Mapping[str, Budget]
    confirmed: bool
    seen: HotProfile
    still: Callable[[HotProfile], Collection[int]]
    counts: ContactCounts | None = None


class AlreadyClaimed(msgspec.Struct, frozen=True):
    """This decision id was used before, with a body of this digest."""

    digest: str
    claimed_at: datetime


class Reserved(NamedTuple):
    """The filled slots, and the profile as it is with them."""

    filled: tuple[FilledSlot, ...]
    profile: HotProfile


def take(request: ReservationRequest, profile: HotProfile) -> tuple[FilledSlot, ...]:
    """Fill the slots, given what is true of the customer at this instant.

    A slot that is taken is a contact for the slots after it. Showing nothing is drawn for the
    first slot only, and ends the answer.
    """
    places = request.places
    stands = profile.version == request.seen.version
    passing: Sequence[int] = range(len(places)) if stands else sorted(request.still(profile))
    room = BudgetRoom(request.budgets, profile, now=request.at)
    counts: ContactCounts | None = None
    is_charged = any(place.contact.budget is not None for place in places)

    def affordable(indexes: Iterable[int]) -> tuple[int, ...]:
        if not is_charged:
            return tuple(indexes)
        return tuple(
            index
            for index in indexes
            if (place := places[index]).repeats is not None or room.fits(place.contact.budget, place.contact.cost)
        )

    def available_after(shown: tuple[int, ...]) -> tuple[int, ...]:
        nonlocal counts, passing
        if not shown:
            return affordable(passing)
        last = places[shown[-1]]
        if not last.contact.is_counted:
            return ()
        if counts is None and stands and request.counts is not None:
            counts = request.counts.copy()
        elif counts is None:
            counts = ContactCounts(
                request.policies, profile.contacts, now=request.at, account_contacts=profile.account_contacts
            )
        if last.repeats is None:
            counts.add(last.counted_by)
            room.take(last.contact.budget, last.contact.cost)
        # What a slot could not get, later ones cannot either: there is only ever less left.
        suppressing = counts.suppressing if counts.suppresses_any else None
        rest = []
        for index in passing:
            place = places[index]
            if index == shown[-1] or place.contact.action_id == NO_ACTION:
                continue
            if suppressing is None or place.repeats is not None or suppressing(place.counted_by) is None:
                rest.append(index)
        passing = rest
        return affordable(passing)

    return fill_slots(request.order, request.slots, available_after)


def with_contacts(profile: HotProfile, request: ReservationRequest, filled: Collection[FilledSlot]) -> HotProfile:
    """The profile as it would be with these slots taken: for what is decided without reserving anything."""
    made = new_contacts(request, filled)
    charged: dict[str, float] = {}
    for contact in made:
        if contact.budget is not None:
            charged[contact.budget] = charged.get(contact.budget, 0.0) + contact.cost
    return msgspec.structs.replace(
        profile,
        contacts=(*profile.contacts, *made),
        budgets=tuple(BudgetLeft(b.budget, max(0.0, b.left - charged.get(b.budget, 0.0))) for b in profile.budgets),
    )


def new_contacts(request: ReservationRequest, filled: Collection[FilledSlot]) -> list[Contact]:
    """The contacts that these slots make; what repeats an earlier answer makes none."""
    taken = (request.places[slot.chosen] for slot in filled)
    return [place.contact for place in taken if place.repeats is None]
