"""The funnel: `narrow -> score -> plan -> reserve -> finish`.

Pure functions over values. The engine calls them in this order, scores between `narrow` and
`plan`, and lets hot state reserve between `plan` and `finish`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from decisioning import eligibility
from decisioning.arbitration import priority, scaled
from decisioning.assignment import assignments
from decisioning.catalog import Action, Catalog, Placement, Scalar
from decisioning.contact_policy import ContactCounts
from decisioning.eligibility import Eligible
from decisioning.errors import RequestError, UnknownAction, UnknownPlacement
from decisioning.profile import Contact, HotProfile
from decisioning.record import Assignment, Candidate, Drop, PolicyVersion, ShownSlot
from decisioning.request import DecisionRequest
from decisioning.rules import RuleScope
from decisioning.slots import Distribution, FilledSlot, distribution, draw_order, slot_probability, uniforms

NO_HOT_PROFILE = HotProfile()


class Narrowed(NamedTuple):
    """Who is left before scoring, and everything that was dropped on the way."""

    assignments: tuple[Assignment, ...]
    eligible: tuple[Eligible, ...]
    dropped: tuple[Drop, ...]

    @property
    def has_choice(self) -> bool:
        """Whether anything but showing nothing is left."""
        return any(not candidate.action.is_no_action for candidate in self.eligible)


class Plan(NamedTuple):
    """Ranked candidates, the policy's distribution over them, and the full order.

    `drawn` is whether the policy drew the order; else it is the catalogue's, and nothing has a
    probability.
    """

    candidates: tuple[Candidate, ...]
    spread: Distribution
    order: tuple[int, ...]
    drawn: bool


NOTHING = Plan((), Distribution(np.empty(0), np.empty(0, dtype=np.int64)), (), drawn=False)


def placement_of(catalog: Catalog, request: DecisionRequest) -> Placement:
    """The placement that the request names, after checking every name in the request.

    Raises:
        UnknownPlacement, UnknownAction, RequestError: A name that the catalogue does not have.
    """
    placement = catalog.placements.get(request.placement)
    if placement is None:
        allowed = ", ".join(sorted(catalog.placements))
        raise UnknownPlacement(
            f"placement is '{request.placement}', must be one of {allowed}",
            where="placement",
        )
    for field in ("actions", "exclude"):
        for index, action_id in enumerate(getattr(request, field) or ()):
            if action_id not in catalog.actions:
                raise UnknownAction(
                    f"{field}[{index}] is '{action_id}', which catalogue {catalog.content.domain} does not have;"
                    " GET /v1/catalog lists its actions",
                    where=f"{field}[{index}]",
                )
    if request.market is not None and request.market != catalog.content.market:
        raise RequestError(
            f"market is '{request.market}', must be '{catalog.content.market}' or left out", where="market"
        )
    return placement


def narrow(
    catalog: Catalog,
    placement: Placement,
    request: DecisionRequest,
    features: dict[str, Scalar],
    hot: HotProfile | None,
    *,
    now: datetime,
) -> Narrowed:
    """Phase 1: experiments, candidates, consent, engagement policy, contact policy.

    `hot` is None when hot state cannot be read. Then nothing is known to be consented, anyone may
    have unsubscribed, and every cap counts as reached: what needs any of these is dropped.
    """
    assigned = assignments(catalog.content.experiments, request.unit, placement.id)
    live = eligibility.candidates(catalog, placement, request, now=now)
    allowed = eligibility.consented(live.actions, catalog, placement, hot)
    scope = RuleScope(customer=features, context=request.context, now=now)
    engaged, disengaged = eligibility.engaged(allowed.actions, catalog, placement, scope)
    kept: list[Eligible] = []
    dropped = [*live.dropped, *allowed.dropped, *disengaged]
    policies = catalog.content.contact_policies
    if hot is None:
        policies = tuple(msgspec.structs.replace(policy, limit=0) for policy in policies)
    counts = ContactCounts(policies, hot.contacts if hot else (), now=now)
    for candidate in engaged:
        policy = counts.suppressing(contact_of(candidate.action, placement, now))
        if policy is None:
            kept.append(candidate)
        elif hot is None:
            dropped.append(Drop(candidate.action.id, "contact_policy", "CONTACTS_UNKNOWN", "hot state cannot be read"))
        else:
            detail = f"{policy.id}: {policy.limit} within {policy.within}"
            dropped.append(Drop(candidate.action.id, "contact_policy", "CAP_REACHED", detail))
    return Narrowed(assigned, tuple(kept), tuple(dropped))


def contact_of(action: Action, placement: Placement, now: datetime) -> Contact:
    """What showing this action here would count as."""
    return Contact(action.id, action.group, placement.channel, now)


def plan(
    narrowed: Narrowed,
    propensities: NDArray[np.floating],
    placement: Placement,
    *,
    draw_id: str,
    key: bytes,
) -> Plan:
    """Phase 3: priority = propensity x context weight x value x lever, then the full drawn order.

    `propensities` is `(n_eligible,)`, in the order of `narrowed.eligible`. The draw hangs on
    `draw_id` and the secret `key` alone: the decision's id, so that it can be replayed.
    """
    chances: list[float] = propensities.tolist()
    priorities = [
        priority(chance, eligible.context_weight, eligible.action.value, eligible.action.lever)
        for chance, eligible in zip(chances, narrowed.eligible, strict=True)
    ]
    values = scaled(np.array(priorities), placement.priority_scale)
    spread = distribution(placement.exploration, values)
    order = draw_order(spread, uniforms(key, draw_id, len(values)))
    return Plan(_candidates(narrowed, chances, priorities, spread), spread, tuple(order.tolist()), drawn=True)


def plan_fallback(narrowed: Narrowed) -> Plan:
    """Without scores: fallback actions alone, in the order of the catalogue, nothing drawn."""
    fallbacks = [index for index, eligible in enumerate(narrowed.eligible) if eligible.action.fallback]
    reduced = narrowed._replace(eligible=tuple(narrowed.eligible[index] for index in fallbacks))
    count = len(fallbacks)
    spread = Distribution(np.ones(count), np.arange(count))
    return Plan(_candidates(reduced, [None] * count, [None] * count, spread), spread, tuple(range(count)), drawn=False)


def _candidates(
    narrowed: Narrowed,
    propensities: Sequence[float | None],
    priorities: Sequence[float | None],
    spread: Distribution,
) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            action_id=eligible.action.id,
            treatment_id=eligible.treatment_id,
            propensity=propensities[index],
            value=eligible.action.value,
            context_weight=eligible.context_weight,
            lever=eligible.action.lever,
            priority=priorities[index],
            weight=float(spread.weights[index]),
            tier=int(spread.tiers[index]),
        )
        for index, eligible in enumerate(narrowed.eligible)
    )


def finish(
    planned: Plan, filled: Sequence[FilledSlot], catalog: Catalog, placement: Placement
) -> tuple[ShownSlot, ...]:
    """Phase 5: slots with their exact probabilities and content; None where nothing was drawn."""
    slots = []
    for number, slot in enumerate(filled, start=1):
        chosen = planned.candidates[slot.chosen]
        action = catalog.actions[chosen.action_id]
        treatment = catalog.treatment(action, placement)
        slots.append(
            ShownSlot(
                slot=number,
                action_id=chosen.action_id,
                treatment_id=chosen.treatment_id,
                probability=slot_probability(planned.spread, slot) if planned.drawn else None,
                available=slot.available,
                content=treatment.content if treatment else {},
                group=action.group,
                confirmed=placement.shown_by == "decision",
            )
        )
    return tuple(slots)


def lost(planned: Plan, filled: Sequence[FilledSlot]) -> tuple[Drop, ...]:
    """Candidates that were no longer available at the instant of the reservation."""
    available = filled[0].available if filled else ()
    return tuple(
        Drop(
            candidate.action_id,
            "reservation",
            "TAKEN_MEANWHILE",
            "a cap was reached, or consent withdrawn, since they were read",
        )
        for index, candidate in enumerate(planned.candidates)
        if index not in available
    )


def policy_version(placement: Placement) -> PolicyVersion:
    """How the placement explores, in a form that the ledger can keep and replay can rebuild."""
    parameters = msgspec.to_builtins(placement.exploration)
    return PolicyVersion(policy=parameters["policy"], version="1", parameters=parameters)
