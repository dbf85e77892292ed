"""What a caller gets: a pure function of the record, so that a repeated id gets the same answer."""

from collections import Counter
from datetime import datetime
from typing import Any

import msgspec

from decisioning.explain import ExplainedAction, Loser, explain
from decisioning.record import DecisionRecord
from decisioning.request import DecisionRequest


class AnsweredAction(msgspec.Struct, frozen=True):
    """One ranked action; numbers are absent where nothing was scored or drawn (a fallback)."""

    action_id: str
    treatment_id: str | None
    slot: int
    priority: float | None
    propensity: float | None
    value: float
    context_weight: float
    lever: float
    probability: float | None
    content: dict[str, Any]
    content_ref: str | None


class AnsweredAssignment(msgspec.Struct, frozen=True):
    """One A/B assignment."""

    experiment: str
    variant: str
    reason: str
    payload: dict[str, Any]


class DroppedAction(msgspec.Struct, frozen=True):
    """An action that was dropped, by which step and why."""

    action_id: str
    step: str
    reason: str
    detail: str


class AnsweredPolicy(msgspec.Struct, frozen=True):
    """Which exploration policy drew."""

    policy: str
    version: str


class AnsweredModel(msgspec.Struct, frozen=True):
    """Which model scored."""

    name: str
    version: str


class AnsweredExplanation(msgspec.Struct, frozen=True):
    """How the answer came to be: each shown action's formula, and what the three best losers lacked."""

    how: str
    shown: tuple[ExplainedAction, ...]
    losers: tuple[Loser, ...]


class DecisionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `POST /v1/decisions`.

    `dropped` and `explanation` are there when the request asks to explain; `dropped_by_step` when
    there are no actions. `unsubscribe` is the path of a link for the message's header (RFC 8058), where
    the answer is to be sent.
    """

    decision_id: str
    decided_at: datetime
    customer_id: str | None
    anonymous_id: str | None
    placement: str
    actions: list[AnsweredAction]
    experiments: list[AnsweredAssignment]
    reason: str
    reason_detail: str
    exploration: AnsweredPolicy
    model: AnsweredModel | None
    catalog_version: str
    features_as_of: datetime | None
    expires_at: datetime
    unsubscribe: str | msgspec.UnsetType = msgspec.UNSET
    dropped_by_step: dict[str, int] | msgspec.UnsetType = msgspec.UNSET
    dropped: list[DroppedAction] | msgspec.UnsetType = msgspec.UNSET
    explanation: AnsweredExplanation | msgspec.UnsetType = msgspec.UNSET


class DecisionAnswers(msgspec.Struct, frozen=True):
    """The answer to a request with `placements`: one a placement, in their order."""

    decisions: list[DecisionAnswer]


def answer(
    record: DecisionRecord, *, asked: DecisionRequest | None = None, unsubscribe: str | None = None
) -> DecisionAnswer:
    """What the caller of this decision gets, now and whenever the same id is sent again.

    With `asked` it names the customer as the caller does, where the record has a pseudonym.
    """
    named = asked or record.request
    scored = {candidate.action_id: candidate for candidate in record.candidates}
    actions = [
        AnsweredAction(
            action_id=slot.action_id,
            treatment_id=slot.treatment_id,
            slot=slot.slot,
            priority=scored[slot.action_id].priority,
            propensity=scored[slot.action_id].propensity,
            value=scored[slot.action_id].value,
            context_weight=scored[slot.action_id].context_weight,
            lever=scored[slot.action_id].lever,
            probability=slot.probability,
            content=slot.content,
            content_ref=slot.content_ref,
        )
        for slot in record.slots
    ]
    dropped: list[DroppedAction] | msgspec.UnsetType = msgspec.UNSET
    explanation: AnsweredExplanation | msgspec.UnsetType = msgspec.UNSET
    if record.request.explain:
        explained = explain(record)
        dropped = [DroppedAction(d.action_id, d.step, d.reason, d.detail) for d in record.dropped]
        explanation = AnsweredExplanation(explained.how, explained.shown, explained.losers)
    return DecisionAnswer(
        decision_id=record.decision_id,
        decided_at=record.decided_at,
        customer_id=named.customer_id,
        anonymous_id=named.anonymous_id,
        placement=record.placement,
        actions=actions,
        experiments=[AnsweredAssignment(a.experiment, a.variant, a.reason, a.payload) for a in record.assignments],
        reason=record.reason,
        reason_detail=record.reason_detail,
        exploration=AnsweredPolicy(record.policy.policy, record.policy.version),
        model=AnsweredModel(record.model.name, record.model.version) if record.model else None,
        catalog_version=record.catalog_version,
        features_as_of=record.features_as_of,
        expires_at=record.expires_at,
        unsubscribe=msgspec.UNSET if unsubscribe is None else unsubscribe,
        dropped_by_step=msgspec.UNSET if actions else dict(Counter(drop.step for drop in record.dropped)),
        dropped=dropped,
        explanation=explanation,
    )
