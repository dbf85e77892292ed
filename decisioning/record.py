"""The record of a decision: all that it used, all that it gave. The ledger keeps it for good.

Whatever learns, explains or replays reads this and nothing else, so it holds values rather than
references: features as they were, consents, contacts, scores, availability, versions.
"""

from datetime import datetime
from typing import Any

import msgspec

from decisioning.catalog import Scalar
from decisioning.profile import Consent, Contact
from decisioning.request import DecisionRequest


class Drop(msgspec.Struct, frozen=True, array_like=True):
    """An action that a step took out, and why."""

    action_id: str
    step: str
    reason: str
    detail: str = ""


class Assignment(msgspec.Struct, frozen=True):
    """The variant of an experiment that this unit is in, and the chance of that."""

    experiment: str
    variant: str
    probability: float
    reason: str = "SPLIT"
    payload: dict[str, Any] = {}


class Candidate(msgspec.Struct, frozen=True, array_like=True):
    """An action that reached arbitration, with the numbers that ranked it.

    `weight` and `tier` are the policy's distribution (`slots.Distribution`) before availability.
    A fallback has neither propensity nor priority: nothing was scored.
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


class ShownSlot(msgspec.Struct, frozen=True):
    """One filled slot.

    `probability` is the chance of this action in this slot given the slots before it, `available`
    (places in `candidates` that could have been taken at that instant) and the assigned variants.
    None where nothing was drawn: a fallback. `group` and `confirmed` (the decision itself counts as
    shown) let hot state be rebuilt from records alone.
    """

    slot: int
    action_id: str
    treatment_id: str | None
    probability: float | None
    available: tuple[int, ...]
    content: dict[str, Any]
    group: str = ""
    confirmed: bool = False


class ModelVersion(msgspec.Struct, frozen=True):
    """Which model scored."""

    name: str
    version: str
    bundle_sha256: str


class PolicyVersion(msgspec.Struct, frozen=True):
    """Which exploration policy stated the probabilities; `parameters` include its name."""

    policy: str
    version: str
    parameters: dict[str, Any]


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One decision.

    Attributes:
        request: As it came, defaults left out.
        features: Values that rules and model saw: stored ones, overridden by the request's.
        overridden: Names of those that the request supplied.
        features_as_of: Age of the oldest stored value; None for a customer that is not known.
        contacts: Contacts that caps and history features were computed from.
        dropped: Every action that is not in a slot for want of a right to be, and why.
        candidates: In the order in which noise was drawn for them.
        key_id: Which server secret drew.
        reason: `RANKED`, `HOLDOUT`, `NO_ELIGIBLE_ACTION` or `FALLBACK_...`.
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
    features: dict[str, Scalar]
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

    @property
    def drawn(self) -> bool:
        """Whether the policy drew this answer, so that its probabilities can weigh it."""
        return bool(self.slots) and all(slot.probability is not None for slot in self.slots)


class OutcomeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One outcome, as the ledger keeps it."""

    outcome_id: str
    decision_id: str
    action_id: str | None
    type: str
    detail: str | None
    value: float | None
    occurred_at: datetime
    received_at: datetime
