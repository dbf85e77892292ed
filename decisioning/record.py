"""The record of a decision: all that it used, all that it gave. The ledger keeps it for good.

Whatever learns, explains or replays reads this and nothing else, so it holds values rather than
references: features as they were, consents, contacts, scores, availability, versions.
"""

from datetime import datetime
from typing import Any

import msgspec

from decisioning.content_types import NO_ACTION, Value
from decisioning.preferences import Preferences
from decisioning.profile import BudgetLeft, Consent, Contact, Event, HotProfile, Purchase, Subject
from decisioning.reasons import Drop
from decisioning.request import DecisionRequest

SPLIT, FORCED = "SPLIT", "FORCED"


class Assignment(msgspec.Struct, frozen=True):
    """The variant of an experiment that a unit is in, and the chance of that among those who take part.

    `reason` is `SPLIT`, or `FORCED` for a tester. `unit` is the customer, account or session that was assigned.
    """

    experiment: str
    variant: str
    probability: float
    reason: str = SPLIT
    payload: dict[str, Any] = {}
    version: int = 1
    unit: str | None = None


class Candidate(msgspec.Struct, frozen=True, array_like=True):
    """An action that reached arbitration, with the numbers that ranked it.

    `weight` and `tier` are the policy's distribution (`slots.Distribution`) before availability; a
    tier below 0 goes on from an earlier decision (`continuity`). `value` is in the catalogue's
    currency. `uplift` is what ranked it where the action says so. A fallback has neither propensity
    nor priority: nothing was scored. `score` is the model's propensity where the online posterior
    corrected it, by `shift` on the log-odds; `sd` is how far those may be off. `members` are the propensities
    that an ensemble's models gave, before any shift, where the policy goes by them.
    """

    action_id: str
    treatment_id: str | None
    propensity: float | None
    value: float
    context_weight: float
    lever: float
    priority: float | None
    weight: float
    tier: int
    uplift: float | None = None
    score: float | None = None
    shift: float = 0.0
    sd: float = 0.0
    members: tuple[float, ...] = ()


class ShownSlot(msgspec.Struct, frozen=True):
    """One filled slot.

    `probability` is the chance of this action in this slot given the slots before it, `available`
    (places in `candidates` that could have been taken at that instant) and the assigned variants.
    None where nothing was drawn: a fallback. What follows `content` lets hot state be rebuilt from
    records alone: `confirmed`, the decision itself counts as shown; `repeats`, the decision whose
    contact this still is, and `repeats_of`, whose that contact is, where it is another id's of the same
    person; `products`, what a purchase buys.
    """

    slot: int
    action_id: str
    treatment_id: str | None
    probability: float | None
    available: tuple[int, ...]
    content: dict[str, Any]
    group: str = ""
    confirmed: bool = False
    goal: str = ""
    content_ref: str | None = None
    repeats: str | None = None
    products: tuple[str, ...] = ()
    budget: str | None = None
    cost: float = 0.0
    repeats_of: str | None = None


class ModelVersion(msgspec.Struct, frozen=True):
    """Which model scored."""

    name: str
    version: str
    bundle_sha256: str


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    """What a challenger would have done: it scored the same candidates, and nothing was decided by it.

    Attributes:
        propensities: By place in `candidates`.
        probabilities: Likewise: the placement's policy by the challenger's scores, over what could have been in
            the first slot.
    """

    model: ModelVersion
    propensities: tuple[float, ...]
    probabilities: tuple[float, ...]


class PolicyVersion(msgspec.Struct, frozen=True):
    """Which exploration policy stated the probabilities; `parameters` include its name."""

    policy: str
    version: str
    parameters: dict[str, Any]


def was_drawn(
    slots: tuple[ShownSlot, ...], candidates: tuple[Candidate, ...], assignments: tuple[Assignment, ...]
) -> bool:
    """Whether the policy drew the first slot for a customer, so that its probabilities can weigh it.

    What went on from an earlier decision was not drawn. A tester was put where they are by hand.

    >>> was_drawn((), (), ())
    False
    """
    return (
        bool(slots)
        and all(slot.probability is not None for slot in slots)
        and not any(each.tier < 0 and each.action_id == slots[0].action_id for each in candidates)
        and not any(each.reason == FORCED for each in assignments)
    )


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One decision.

    Attributes:
        customer_id: `Case.unit`: of several ids that are one person, what the person is called; the
            request has the id that was named.
        request: As it came, defaults left out.
        features: Values that rules and model saw: stored ones, overridden by the request's.
        overridden: Names of those that the request supplied.
        features_as_of: Age of the oldest stored value; None for a customer that is not known.
        contacts: Contacts that caps and history features were computed from. What follows them is
            what else hot state said (`HotProfile`). `hot_known` is whether it said anything.
        contact_at: When the contact is: `decided_at`, or the planned time.
        elsewhere: Actions that other placements of the same request showed already.
        stages: Journey stages that the customer was in.
        dropped: Every action that is not in a slot for want of a right to be, and why.
        candidates: In the order in which noise was drawn for them.
        key_id: Which server secret drew.
        reason: `RANKED`, `HOLDOUT`, `NO_ELIGIBLE_ACTION` or `FALLBACK_...`.
        known: Whether the feature store knew the customer; `readable`: whether it could be asked.
        withdrawn, preferences, met_first: As in `HotProfile`. `personal` is whether stored features and history were
            used; else `features` holds what the request supplied, and the other values are None.
        erased: Whether whoever was asked about is erased; then the record names nobody.
        baseline: The propensity of showing nothing, where a candidate could rank by uplift over it.
        posterior: Which state of the online posterior corrected the scores; None: none did.
        shadow: What a challenger in its shadow said of the same candidates.
        apprentice: Whether the caller's own order was served, and the candidates only say what would have been.
    """

    decision_id: str
    decided_at: datetime
    expires_at: datetime
    domain: str
    market: str
    customer_id: str
    placement: str
    channel: str
    request: DecisionRequest
    features: dict[str, Value]
    overridden: tuple[str, ...]
    features_as_of: datetime | None
    consents: tuple[Consent, ...]
    suppressed: tuple[str, ...]
    contacts: tuple[Contact, ...]
    assignments: tuple[Assignment, ...]
    dropped: tuple[Drop, ...]
    candidates: tuple[Candidate, ...]
    slots: tuple[ShownSlot, ...]
    reason: str
    reason_detail: str
    policy: PolicyVersion
    model: ModelVersion | None
    catalog_version: str
    key_id: str
    account_id: str | None = None
    account: dict[str, Value] = {}
    account_contacts: tuple[Contact, ...] = ()
    purchases: tuple[Purchase, ...] = ()
    events: tuple[Event, ...] = ()
    budgets: tuple[BudgetLeft, ...] = ()
    paused: tuple[str, ...] = ()
    hot_known: bool = True
    contact_at: datetime | None = None
    elsewhere: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    draw_id: str = ""
    known: bool = True
    readable: bool = True
    baseline: float | None = None
    withdrawn: tuple[Consent, ...] = ()
    preferences: Preferences | None = None
    personal: bool = True
    erased: bool = False
    posterior: str | None = None
    shadow: Shadow | None = None
    apprentice: bool = False
    met_first: str | None = None

    @property
    def drawn(self) -> bool:
        """Whether the policy drew the first slot; see `was_drawn`."""
        return was_drawn(self.slots, self.candidates, self.assignments)

    @property
    def hot(self) -> HotProfile | None:
        """What hot state said; None where it could not be read."""
        if not self.hot_known:
            return None
        return HotProfile(
            consents=self.consents,
            contacts=self.contacts,
            suppressed=self.suppressed,
            account_contacts=self.account_contacts,
            purchases=self.purchases,
            events=self.events,
            budgets=self.budgets,
            paused=self.paused,
            withdrawn=self.withdrawn,
            preferences=self.preferences,
            erased=self.erased,
            met_first=self.met_first,
        )

    @property
    def subject(self) -> Subject:
        """Whom hot state knows this customer as."""
        return Subject(self.customer_id, self.account_id)


class OutcomeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One outcome, as the ledger keeps it; `source` is the name of the key, or of the hook, that told it."""

    outcome_id: str
    decision_id: str
    action_id: str | None
    type: str
    detail: str | None
    value: float | None
    occurred_at: datetime
    received_at: datetime
    source: str | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome, with all that hot state needs to know of its decision.

    `contacts` are those that it speaks of: the decision that made each, and its action. `others` are those
    that another id of the same person has: whose, decision and action.
    """

    outcome: OutcomeRecord
    subject: Subject
    channel: str
    contacts: tuple[tuple[str, str], ...]
    products: tuple[str, ...]
    others: tuple[tuple[str, str, str], ...] = ()


def told(
    outcome: OutcomeRecord, *, subject: Subject, channel: str, decision_id: str, slots: tuple[ShownSlot, ...]
) -> Told:
    """The outcome of a decision with these slots; one that names no action speaks of all of them."""
    meant = [slot for slot in slots if outcome.action_id in (None, slot.action_id) and slot.action_id != NO_ACTION]
    return Told(
        outcome=outcome,
        subject=subject,
        channel=channel,
        contacts=tuple((slot.repeats or decision_id, slot.action_id) for slot in meant if slot.repeats_of is None),
        products=tuple(product for slot in meant for product in slot.products) if outcome.action_id else (),
        others=tuple(
            (slot.repeats_of, slot.repeats, slot.action_id) for slot in meant if slot.repeats_of and slot.repeats
        ),
    )


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person did: who, what (`action.pause`), to what, and why."""

    at: datetime
    domain: str
    actor: str
    what: str
    subject: str
    reason: str


def lifts(resumed: str, paused: str) -> bool:
    """Whether resuming the one (`id`, or `market/id`) ends the pause of the other: without a market, in every one.

    >>> lifts("card", "de/card"), lifts("de/card", "card"), lifts("card", "gift_card")
    (True, False, False)
    """
    return resumed in (paused, paused.rpartition("/")[2])
