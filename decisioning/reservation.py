"""What hot state is asked to do atomically before an answer leaves.

Others may be adding contacts or withdrawing consent at the same instant. So availability is judged
inside hot state's transaction, by `take`, and the answer says what was available.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple

import msgspec

from decisioning.budget import BudgetRoom
from decisioning.catalog import Eligible, Proposal
from decisioning.contact_policy import ContactCounts
from decisioning.content import Budget, ContactPolicy, Placement
from decisioning.content_types import NO_ACTION
from decisioning.profile import BudgetLeft, Contact, HotProfile, Subject
from decisioning.slots import FilledSlot, fill_slots


class ReservationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Fill these slots for this customer, now.

    Attributes:
        digest: Hash of the request's body: the same decision id with another one is a conflict.
        placement: Where; its channel and time-out are the contact's.
        eligible: The candidates. One that repeats an earlier decision is no new contact, and neither
            caps nor budgets are asked again.
        order: The drawn order, indexes of `eligible`.
        at: When the contact is: now, or the planned time of what is sent; policies are judged then.
        confirmed: The decision itself counts as shown; otherwise a place is held until its
            contact's `until` and an impression confirms it.
        seen: The profile that the candidates were narrowed with.
        still: Which of `eligible` pass with another profile; asked when it has changed since.
        budgets: Those that candidates are charged to.
        counts: Of `seen`'s contacts at `at`, where somebody has counted them already.
    """

    decision_id: str
    digest: str
    subject: Subject
    now: datetime
    at: datetime
    placement: Placement
    eligible: Sequence[Eligible]
    order: tuple[int, ...]
    slots: int
    policies: tuple[ContactPolicy, ...]
    budgets: Mapping[str, Budget]
    confirmed: bool
    seen: HotProfile
    still: Callable[[HotProfile], Collection[int]]
    counts: ContactCounts | None = None

    def contact(self, index: int) -> Contact:
        """What a candidate is as a contact."""
        proposal = self.eligible[index].proposal
        action, placement = proposal.action, self.placement
        return Contact(
            action_id=action.id,
            group=action.group,
            channel=placement.channel,
            at=self.at,
            goal=action.goal,
            placement=placement.id,
            decision_id=self.decision_id,
            until=self.at + placement.time_out,
            budget=action.budget,
            cost=proposal.cost,
        )

    def new_contacts(self, filled: Sequence[FilledSlot]) -> list[tuple[int, Contact]]:
        """The contacts that these slots make, with their slots; what repeats an earlier answer makes none."""
        return [
            (slot, self.contact(taken.chosen))
            for slot, taken in enumerate(filled, start=1)
            if self.eligible[taken.chosen].repeats is None
        ]


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
    eligible = request.eligible
    stands = (profile.version, profile.person) == (request.seen.version, request.seen.person)
    passing: Sequence[int] = range(len(eligible)) if stands else sorted(request.still(profile))
    room = BudgetRoom(request.budgets, profile, now=request.at)
    counts = request.counts if stands else None
    taken: list[Proposal] = []

    def affordable(indexes: Sequence[int]) -> Sequence[int]:
        if not request.budgets:
            return indexes
        return [
            index
            for index in indexes
            if (one := eligible[index]).repeats is not None or room.fits(one.proposal.action.budget, one.proposal.cost)
        ]

    def available_after(shown: Sequence[int]) -> Sequence[int]:
        nonlocal counts, passing
        if not shown:
            return affordable(passing)
        last = eligible[shown[-1]]
        if last.proposal.action.is_no_action:
            return ()
        # What a slot could not get, later ones cannot either: there is only ever less left.
        passing = [i for i in passing if i != shown[-1]]
        if len(shown) == 1:
            passing = [i for i in passing if eligible[i].proposal.action.id != NO_ACTION]
        if last.repeats is None:
            if counts is None:
                counts = ContactCounts(
                    request.policies, profile.contacts, now=request.at, account_contacts=profile.account_contacts
                )
            room.take(last.proposal.action.budget, last.proposal.cost)
            taken.append(last.proposal)
            for per, key in counts.closed_by([proposal.counted_by for proposal in taken]):
                passing = [
                    i
                    for i in passing
                    if (one := eligible[i]).proposal.counted_by[per] != key or one.repeats is not None
                ]
        return affordable(passing)

    return fill_slots(request.order, request.slots, available_after)


def with_contacts(profile: HotProfile, made: Sequence[Contact], *, version: int) -> HotProfile:
    """The profile with contacts that were just made, oldest first, and what they leave of budgets."""
    charged: dict[str, float] = {}
    for contact in made:
        if contact.budget is not None:
            charged[contact.budget] = charged.get(contact.budget, 0.0) + contact.cost
    return msgspec.structs.replace(
        profile,
        contacts=_oldest_first(profile.contacts, made),
        budgets=tuple(
            BudgetLeft(entry.budget, max(0.0, entry.left - charged[entry.budget])) if entry.budget in charged else entry
            for entry in profile.budgets
        ),
        version=version,
    )


def _oldest_first(known: tuple[Contact, ...], made: Sequence[Contact]) -> tuple[Contact, ...]:
    """Those that were just made are the newest, unless others are planned for later."""
    together = (*known, *made)
    in_order = not (known and made) or known[-1].at <= made[0].at
    return together if in_order else tuple(sorted(together, key=attrgetter("at")))
