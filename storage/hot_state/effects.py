"""What an outcome changes in hot state, whichever store keeps it.

Every change can be made twice, and in any order, with the same result. So it does not matter that
an outcome comes again, or that the ledger kept outcomes in another order than they were applied.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from decisioning.content_types import MARKETING
from decisioning.outcome_types import EVENT_TYPES, REPEATED
from decisioning.profile import Subject
from decisioning.record import Told
from decisioning.reward import NEVER_SEEN, PROVES_SHOWN

# Of a message, going out and arriving count as well: it weighs on the customer whether read or not.
CONFIRMS = PROVES_SHOWN | {"sent", "delivered"}
RELEASES = NEVER_SEEN
SUPPRESSES = frozenset({"unsubscribe", "complaint"})  # and a bounce that is hard, or repeated
# Consent to this, given after the channel was suppressed, opens it again.
LIFTS = MARKETING
# Outcome types that change anything.
CHANGES = CONFIRMS | RELEASES | frozenset(EVENT_TYPES)

Answered = Literal["clicked_at", "accepted_at", "rejected_at"]
_ANSWERS: dict[str, Answered] = {
    "click": "clicked_at",
    "accept": "accepted_at",
    "purchase": "accepted_at",
    "reject": "rejected_at",
}


class Effect(NamedTuple):
    """What becomes of the contacts that the outcome speaks of, and of the customer.

    Attributes:
        state: `confirmed` only takes what is reserved; `released` is final.
        answered: The time of a contact that becomes the outcome's, unless a later one stands.
        suppresses: The customer, or their mailbox, does not want to be written to on this channel.
        events: Their latest time counts, for good.
        products: Bought; the latest time counts, for good.
    """

    state: Literal["confirmed", "released"] | None
    answered: Answered | None
    suppresses: bool
    events: tuple[str, ...]
    products: tuple[str, ...]

    @property
    def lasts(self) -> bool:
        """Whether it says something of the customer that outlives the contact."""
        return self.suppresses or bool(self.events or self.products)


def effect_of(told: Told) -> Effect:
    """What this outcome changes; what a machine did proves nothing of the customer."""
    outcome = told.outcome
    by_customer = outcome.detail != "machine"
    state: Literal["confirmed", "released"] | None = None
    if outcome.type in RELEASES:
        state = "released"
    elif outcome.type in CONFIRMS and by_customer:
        state = "confirmed"
    events: tuple[str, ...] = ()
    if outcome.type in EVENT_TYPES and by_customer:
        events = (outcome.type,)
        if outcome.action_id is not None:
            events = (outcome.type, f"{outcome.type}:{outcome.action_id}")
    return Effect(
        state=state,
        answered=_ANSWERS.get(outcome.type) if by_customer else None,
        suppresses=outcome.type in SUPPRESSES or (outcome.type == "bounce" and outcome.detail in ("hard", REPEATED)),
        events=events,
        products=told.products if outcome.type == "purchase" and by_customer else (),
    )


def effects_of(told: Told) -> Iterator[tuple[Told, Effect]]:
    """What this outcome changes, by customer: contacts that were made with another id of the person stay there."""
    effect = effect_of(told)
    yield told, effect
    for whose in dict.fromkeys(whose for whose, _, _ in told.others):
        contacts = tuple((decision_id, action_id) for one, decision_id, action_id in told.others if one == whose)
        theirs = msgspec.structs.replace(told, subject=Subject(whose), contacts=contacts, others=())
        yield theirs, effect._replace(suppresses=False, events=(), products=())
