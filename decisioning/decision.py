"""The funnel: `narrow -> score -> plan -> reserve -> finish`.

Pure functions over values. The engine calls them in this order, scores between `narrow` and
`plan`, and lets hot state reserve between `plan` and `finish`.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from decisioning import eligibility
from decisioning.arbitration import priority, scaled
from decisioning.assignment import assignments, is_held_out
from decisioning.budget import BudgetRoom, charge_of
from decisioning.catalog import Catalog, localised
from decisioning.contact_policy import ContactCounts, Suppression, cooling_down
from decisioning.content import ContactPolicy, CountedPer, Placement
from decisioning.continuity import Continuity, going_on
from decisioning.eligibility import Eligible
from decisioning.errors import RequestError, UnknownAction, UnknownPlacement
from decisioning.journey import stages_of
from decisioning.profile import Contact, Facts, HotProfile, Subject
from decisioning.quiet_hours import TIME_ZONE_FEATURE, applies_to, quiet_at, zone_of
from decisioning.reasons import Drop
from decisioning.record import Assignment, Candidate, DecisionRecord, ModelVersion, PolicyVersion, ShownSlot
from decisioning.request import PLAN_AHEAD, DecisionRequest, sane
from decisioning.reservation import Place, ReservationRequest
from decisioning.rules import RuleScope
from decisioning.slots import Distribution, FilledSlot, distribution, draw_order, slot_probability, uniforms

RANKED, NO_ELIGIBLE_ACTION, HOLDOUT = "RANKED", "NO_ELIGIBLE_ACTION", "HOLDOUT"
UNKNOWN_CUSTOMER = "FALLBACK_UNKNOWN_CUSTOMER"
FEATURES_UNAVAILABLE = "FALLBACK_FEATURES_UNAVAILABLE"
MODEL_UNAVAILABLE = "FALLBACK_MODEL_UNAVAILABLE"
HOT_STATE_UNAVAILABLE = "FALLBACK_HOT_STATE_UNAVAILABLE"
REASON_DETAILS = {
    RANKED: "",
    HOLDOUT: "the customer is in the universal control: the placement's fallback actions, if it has any",
    NO_ELIGIBLE_ACTION: "every action was dropped; dropped_by_step says where",
    UNKNOWN_CUSTOMER: "the customer is not known: ranked from the request's context alone",
    FEATURES_UNAVAILABLE: "stored features cannot be read: ranked from the request's context alone",
    MODEL_UNAVAILABLE: "no model is loaded: the placement's fallback actions, unranked, if it has any",
    HOT_STATE_UNAVAILABLE: "consent and contacts cannot be read: only fallback actions that need neither, if any",
}


# For these nothing is scored.
UNSCORED = frozenset({HOT_STATE_UNAVAILABLE, HOLDOUT, MODEL_UNAVAILABLE})


class Case(NamedTuple):
    """One request for one placement, and what it is decided with.

    Attributes:
        unit: The customer, or the anonymous visitor.
        draw_id: What the draw hangs on: the decision's id, but not in previews.
        contact_at: When the contact is: now, or the planned time of what is sent.
        elsewhere: What other placements of the same request show already.
    """

    request: DecisionRequest
    unit: str
    catalog: Catalog
    placement: Placement
    decision_id: str
    draw_id: str
    now: datetime
    contact_at: datetime
    elsewhere: tuple[str, ...] = ()


class Narrowed(NamedTuple):
    """Who is left before scoring, and everything that was dropped on the way."""

    assignments: tuple[Assignment, ...]
    eligible: tuple[Eligible, ...]
    dropped: tuple[Drop, ...]
    stages: tuple[str, ...]
    continuity: Continuity
    counts: ContactCounts | None = None

    @property
    def has_choice(self) -> bool:
        """Whether anything but showing nothing is left."""
        return any(not candidate.proposal.action.is_no_action for candidate in self.eligible)


class Plan(NamedTuple):
    """Ranked candidates, the policy's distribution over them, and the full order.

    `drawn` is whether the policy drew the order; else it is the catalogue's, and nothing has a
    probability. `baseline` is the propensity of showing nothing, where that was asked for. `counts`
    are the customer's contacts as they were counted on the way.
    """

    candidates: tuple[Candidate, ...]
    eligible: tuple[Eligible, ...]
    spread: Distribution
    order: tuple[int, ...]
    drawn: bool
    baseline: float | None = None
    counts: ContactCounts | None = None


NOTHING = Plan((), (), Distribution(np.empty(0), np.empty(0, dtype=np.int64)), (), drawn=False)


class Choice(NamedTuple):
    """Who was left, in which order, and why so."""

    narrowed: Narrowed
    planned: Plan
    reason: str


def case_of(
    catalog: Catalog,
    request: DecisionRequest,
    *,
    decision_id: str,
    draw_id: str,
    now: datetime,
    elsewhere: tuple[str, ...] = (),
) -> Case:
    """The case that a request for one placement makes, after checking every name in it.

    Raises:
        UnknownPlacement, UnknownAction, RequestError: A name that the catalogue does not have, or a
            time that cannot be.
    """
    placement = placement_of(catalog, request)
    contact_at = now
    if request.planned_at is not None:
        planned_at = sane(request.planned_at, where="planned_at")
        if not placement.is_push:
            raise RequestError(
                f"planned_at is given, but {placement.id} is not sent: it is asked for when it is shown; leave it out",
                where="planned_at",
            )
        if planned_at - now > PLAN_AHEAD:
            raise RequestError(
                f"planned_at is {planned_at.isoformat()}, must be at most {PLAN_AHEAD.days} days ahead",
                where="planned_at",
            )
        contact_at = max(now, planned_at)
    return Case(request, request.unit, catalog, placement, decision_id, draw_id, now, contact_at, elsewhere)


def placement_of(catalog: Catalog, request: DecisionRequest) -> Placement:
    """The placement that the request names, after checking the names of its actions.

    Raises:
        UnknownPlacement, UnknownAction: A name that the catalogue does not have.
    """
    placement = catalog.placements.get(request.placement or "")
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
    return placement


def is_control(case: Case) -> bool:
    """Whether the customer is in the universal control."""
    return is_held_out(case.catalog.content.holdout, case.unit)


def reason_of(case: Case, facts: Facts, *, has_model: bool) -> str:
    """Why the decision is made as it is, as far as is known before anything is narrowed."""
    if facts.hot is None:
        return HOT_STATE_UNAVAILABLE
    if is_control(case):
        return HOLDOUT
    if not has_model:
        return MODEL_UNAVAILABLE
    if facts.known:
        return RANKED
    return UNKNOWN_CUSTOMER if facts.readable else FEATURES_UNAVAILABLE


def narrow(case: Case, facts: Facts) -> Narrowed:
    """Phase 1: experiments, candidates, consent, engagement policy, contact policy, budget.

    `facts.hot` is None when hot state cannot be read. Then nothing is known to be consented, anyone
    may have unsubscribed, every cap counts as reached and every budget as spent: what needs any of
    these is dropped.
    """
    catalog, placement, request, now = case.catalog, case.placement, case.request, case.now
    content, hot = catalog.content, facts.hot
    assigned = assignments(content.experiments, case.unit, placement.id)
    offered = eligibility.candidates(
        catalog, placement, request, paused=facts.paused, elsewhere=case.elsewhere, now=case.contact_at
    )
    allowed = eligibility.consented(offered.proposals, catalog, placement, hot)
    scope = rule_scope(case, facts)
    at_once = catalog.offered(placement)
    if allowed.proposals is at_once.live:
        at_once.rules(*scope.values, scope.results)
    stages = stages_of(catalog, hot.events if hot else (), scope) if content.journeys else ()
    continuity = going_on(
        facts.contacts,
        catalog.actions,
        placement.id,
        now=case.contact_at,
        lasting=content.continuity,
        repeatable=not placement.is_push,
    )
    engaged, disengaged = eligibility.engaged(allowed.proposals, catalog, facts, scope, continuity, stages, now=now)
    dropped = [*offered.dropped, *allowed.dropped, *disengaged]
    if not engaged:
        return Narrowed(assigned, (), tuple(dropped), stages, continuity)
    profile = hot or HotProfile()
    counts = ContactCounts(
        catalog.caps, profile.contacts, now=case.contact_at, account_contacts=profile.account_contacts
    )
    kept = _in_time_and_budget(case, facts, engaged, counts, dropped)
    return Narrowed(assigned, tuple(kept), tuple(dropped), stages, continuity, counts)


def rule_scope(case: Case, facts: Facts) -> RuleScope:
    """What rules see in this decision."""
    catalog, known, known_of_account = case.catalog, facts.features, facts.account
    customer = {name: known.get(name) for name in catalog.named_of_customer}
    account = {name: known_of_account.get(name) for name in catalog.named_of_account}
    for root, name in catalog.named_lists:
        values = customer if root == "customer" else account
        if values[name] is None:
            values[name] = ()
    # A caller writes 120 for 120.0, and CEL does not calculate with both.
    context = {name: float(v) if type(v) is int else v for name, v in case.request.context.items()}
    return RuleScope(customer=customer, account=account, context=context, now=case.now)


def _in_time_and_budget(
    case: Case, facts: Facts, engaged: Sequence[Eligible], counts: ContactCounts, dropped: list[Drop]
) -> list[Eligible]:
    """Contact policies and budgets; the same answer asked for again meets neither caps nor budgets."""
    content, hot = case.catalog.content, facts.hot
    kept: list[Eligible] = []
    quiet = _quiet(case, facts)
    # What colleagues were shown, and what the account has spent, is not known of a customer whose account is not.
    of_account = [] if facts.account_known else [cap for cap in content.contact_policies if cap.of == "account"]
    profile = hot or HotProfile()
    capping = counts.suppresses_any
    silent = cooling_down(content.cool_downs, profile.contacts, now=case.contact_at) if content.cool_downs else {}
    room = BudgetRoom(case.catalog.budgets, profile, now=case.contact_at)
    for candidate in engaged:
        action = candidate.proposal.action
        if action.is_no_action:
            kept.append(candidate)
            continue
        repeated = candidate.repeats is not None
        refusal: tuple[str, str] | None = None
        if quiet is not None:
            refusal = "QUIET_HOURS", quiet
        elif hot is None and (_capped(content.contact_policies, candidate) or content.cool_downs):
            refusal = "CONTACTS_UNKNOWN", "hot state cannot be read"
        elif of_account and _capped(of_account, candidate):
            refusal = "CONTACTS_UNKNOWN", "the feature store, which knows the customer's account, cannot be read"
        elif capping and not repeated and (policy := counts.suppressing(candidate.proposal.counted_by)):
            refusal = "CAP_REACHED", case.catalog.caps.said[policy.id]
        elif silent and (suppression := _silenced(silent, candidate.proposal.counted_by)):
            until = suppression.until.isoformat(timespec="minutes")
            refusal = "COOL_DOWN", f"{suppression.cool_down.id}: after {suppression.cool_down.after}, until {until}"
        if refusal is not None:
            dropped.append(Drop(action.id, "contact_policy", *refusal))
        elif action.budget is None or repeated:
            kept.append(candidate)
        elif hot is None:
            dropped.append(Drop(action.id, "budget", "BUDGET_UNKNOWN", "hot state cannot be read"))
        elif not facts.account_known and case.catalog.budgets[action.budget].of == "account":
            detail = "the feature store, which knows the customer's account, cannot be read"
            dropped.append(Drop(action.id, "budget", "BUDGET_UNKNOWN", detail))
        elif room.fits(action.budget, charge_of(action, case.catalog.budgets)):
            kept.append(candidate)
        else:
            detail = f"{action.budget}: {room.left(action.budget):g} left of what is released by now"
            dropped.append(Drop(action.id, "budget", "BUDGET_SPENT", detail))
    return kept


def _quiet(case: Case, facts: Facts) -> str | None:
    """Why it is too late or too early for a contact; None where it is not."""
    quiet_hours = case.catalog.content.quiet_hours
    if not quiet_hours:
        return None
    if not facts.readable and TIME_ZONE_FEATURE in facts.features and TIME_ZONE_FEATURE not in facts.overridden:
        applying = [q for q in quiet_hours if applies_to(q, case.placement)]
        return f"{applying[0].id}: the customer's time zone cannot be read" if applying else None
    zone = zone_of(facts.features.get(TIME_ZONE_FEATURE), case.catalog.time_zone)
    quiet = quiet_at(quiet_hours, case.placement, case.contact_at, zone)
    return f"{quiet.id}: {quiet.begin} to {quiet.end} on the customer's clock" if quiet else None


def _capped(policies: Sequence[ContactPolicy], candidate: Eligible) -> bool:
    return any(policy.only in (None, candidate.proposal.counted_by[policy.per]) for policy in policies)


def _silenced(
    silent: Mapping[tuple[CountedPer, str], Suppression], counted_by: Mapping[CountedPer, str]
) -> Suppression | None:
    return next((silent[item] for item in counted_by.items() if item in silent), None)


def plan(
    case: Case, narrowed: Narrowed, propensities: NDArray[np.floating], *, baseline: float | None = None, key: bytes
) -> Plan:
    """Phase 3: rank, let the policy state probabilities, and draw the full order.

    Priority is propensity x context weight x value x lever; for actions that rank by uplift, the
    propensity above `baseline`, that of showing nothing, takes the propensity's place. What goes on
    from earlier decisions comes before everything else.

    `propensities` is `(n_eligible,)`, in the order of `narrowed.eligible`. The draw hangs on the
    case's `draw_id` and the secret `key` alone: so it can be replayed.

    Raises:
        ArithmeticError: A propensity, the baseline or a priority is not a finite number.
    """
    if not narrowed.eligible:
        return NOTHING
    chances: list[float] = propensities.tolist()
    if baseline is not None and not isfinite(baseline):
        raise ArithmeticError(f"the baseline propensity is {baseline}, must be a finite number")
    uplifts: list[float | None] = [None] * len(chances)
    if baseline is not None:
        for place, eligible in enumerate(narrowed.eligible):
            if eligible.proposal.action.rank_by == "uplift":
                uplifts[place] = max(0.0, chances[place] - baseline)
    priorities = [
        priority(chance if uplift is None else uplift, e.context_weight, e.value, e.proposal.action.lever)
        for chance, uplift, e in zip(chances, uplifts, narrowed.eligible, strict=True)
    ]
    if not (isfinite(sum(priorities)) and isfinite(sum(chances))):
        raise _not_finite(narrowed.eligible, chances, priorities)
    values = scaled(np.array(priorities), case.placement.priority_scale)
    spread = _continued(distribution(case.placement.exploration, values), narrowed)
    order = draw_order(spread, uniforms(key, case.draw_id, len(values)))
    candidates = _candidates(narrowed.eligible, chances, uplifts, priorities, spread)
    drawn = tuple(order.tolist())
    return Plan(candidates, narrowed.eligible, spread, drawn, True, baseline, narrowed.counts)


def _not_finite(eligible: Sequence[Eligible], chances: Sequence[float], priorities: Sequence[float]) -> ArithmeticError:
    wrong = [
        f"{e.proposal.action.id} (propensity {chance}, priority {ranked})"
        for e, chance, ranked in zip(eligible, chances, priorities, strict=True)
        if not (isfinite(chance) and isfinite(ranked))
    ]
    return ArithmeticError(f"not finite numbers: {', '.join(wrong) or 'the sum of all priorities'}")


def _continued(spread: Distribution, narrowed: Narrowed) -> Distribution:
    """With a tier of its own, below 0, for each candidate that goes on from earlier."""
    order = narrowed.continuity.order
    if not order:
        return spread
    place = {action_id: number - len(order) for number, action_id in enumerate(order)}
    ids = [eligible.proposal.action.id for eligible in narrowed.eligible]
    tiers = np.array([place.get(i, tier) for i, tier in zip(ids, spread.tiers.tolist(), strict=True)], dtype=np.int64)
    return Distribution(spread.weights, tiers)


def plan_fallback(narrowed: Narrowed) -> Plan:
    """Without scores: fallback actions alone, in the order of the catalogue, nothing drawn."""
    fallbacks = tuple(eligible for eligible in narrowed.eligible if eligible.proposal.action.fallback)
    count = len(fallbacks)
    spread = Distribution(np.ones(count), np.arange(count))
    nothing: list[float | None] = [None] * count
    candidates = _candidates(fallbacks, nothing, nothing, nothing, spread)
    return Plan(candidates, fallbacks, spread, tuple(range(count)), drawn=False, counts=narrowed.counts)


def _candidates(
    eligible: Sequence[Eligible],
    propensities: Sequence[float | None],
    uplifts: Sequence[float | None],
    priorities: Sequence[float | None],
    spread: Distribution,
) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            each.proposal.action.id,
            each.proposal.treatment.id if each.proposal.treatment else None,
            propensity,
            each.value,
            each.context_weight,
            each.proposal.action.lever,
            ranked,
            weight,
            tier,
            uplift,
        )
        for each, propensity, uplift, ranked, weight, tier in zip(
            eligible, propensities, uplifts, priorities, spread.weights.tolist(), spread.tiers.tolist(), strict=True
        )
    )


def reservation(case: Case, facts: Facts, planned: Plan, *, digest: str) -> ReservationRequest:
    """Phase 4, for hot state (or `reservation.take`): what is to be taken, and what may be."""
    placement = case.placement
    subject = Subject(case.unit, facts.account_id)

    def still(profile: HotProfile) -> Collection[int]:
        again = narrow(case, msgspec.structs.replace(facts, hot=profile))
        # What has become, or is no longer, the same contact as before would be counted wrongly.
        passing = {(eligible.proposal.action.id, eligible.repeats) for eligible in again.eligible}
        return [index for index, e in enumerate(planned.eligible) if (e.proposal.action.id, e.repeats) in passing]

    known = case.catalog.budgets
    budgets = {e.proposal.action.budget for e in planned.eligible if e.proposal.action.budget} if known else set()
    return ReservationRequest(
        decision_id=case.decision_id,
        digest=digest,
        subject=subject,
        now=case.now,
        at=case.contact_at,
        places=_places(case, planned.eligible),
        order=planned.order,
        slots=min(case.request.limit or placement.slots, placement.slots),
        policies=case.catalog.caps,
        budgets={name: known[name] for name in sorted(budgets)},
        confirmed=placement.shown_by == "decision",
        seen=facts.hot or HotProfile(),
        still=still,
        counts=planned.counts,
    )


def _places(case: Case, eligible: Sequence[Eligible]) -> tuple[Place, ...]:
    """What showing each action here counts as."""
    placement, at, decision_id, budgets = case.placement, case.contact_at, case.decision_id, case.catalog.budgets
    channel, placement_id, until = placement.channel, placement.id, at + placement.time_out
    places = []
    for one in eligible:
        proposal = one.proposal
        action = proposal.action
        cost = 0.0 if action.budget is None else charge_of(action, budgets)
        # By position, in the order of `Contact`: there may be hundreds of them.
        contact = Contact(
            action.id, action.group, channel, at, action.goal, placement_id, decision_id, until,
            None, None, None, action.budget, cost,
        )  # fmt: skip
        places.append(Place(contact, proposal.counted_by, one.repeats))
    return tuple(places)


def finish(case: Case, planned: Plan, filled: Sequence[FilledSlot]) -> tuple[ShownSlot, ...]:
    """Phase 5: slots with their exact probabilities and content; None where nothing was drawn."""
    asked = case.request.context.get("locale")
    locales = (*([asked] if isinstance(asked, str) else []), case.catalog.content.language)
    slots = []
    for number, slot in enumerate(filled, start=1):
        eligible = planned.eligible[slot.chosen]
        action, treatment = eligible.proposal.action, eligible.proposal.treatment
        slots.append(
            ShownSlot(
                slot=number,
                action_id=action.id,
                treatment_id=treatment.id if treatment else None,
                probability=slot_probability(planned.spread, slot) if planned.drawn else None,
                available=slot.available,
                content=localised(treatment, locales) if treatment else {},
                group=action.group,
                confirmed=case.placement.shown_by == "decision",
                goal=action.goal,
                content_ref=treatment.content_ref if treatment else None,
                repeats=eligible.repeats,
                products=action.promotes,
                budget=action.budget,
                cost=charge_of(action, case.catalog.budgets),
            )
        )
    return tuple(slots)


def lost(planned: Plan, filled: Sequence[FilledSlot]) -> tuple[Drop, ...]:
    """Candidates that were no longer available at the instant of the reservation."""
    available = frozenset(filled[0].available) if filled else frozenset()
    return tuple(
        Drop(
            candidate.action_id,
            "reservation",
            "TAKEN_MEANWHILE",
            "a cap was reached, a budget spent, or consent withdrawn, since they were read",
        )
        for index, candidate in enumerate(planned.candidates)
        if index not in available
    )


def _no_fallbacks(choice: Choice) -> tuple[Drop, ...]:
    """Where nothing is scored, what could be shown but is no fallback."""
    if choice.reason not in UNSCORED:
        return ()
    reason, detail = (
        ("HELD_OUT", "the control gets fallback actions alone")
        if choice.reason == HOLDOUT
        else ("NOT_A_FALLBACK", REASON_DETAILS[choice.reason])
    )
    actions = [eligible.proposal.action for eligible in choice.narrowed.eligible]
    return tuple(Drop(action.id, "fallback", reason, detail) for action in actions if not action.fallback)


def _expires_at(case: Case, contacts: Sequence[Contact], slots: Sequence[ShownSlot]) -> datetime:
    """Until when the answer may be shown: what it repeats is not reserved for longer than it was."""
    repeated = {(slot.repeats, slot.action_id) for slot in slots if slot.repeats is not None}
    ends = [c.until for c in contacts if c.until is not None and (c.decision_id, c.action_id) in repeated]
    return min([case.contact_at + case.placement.time_out, *ends])


def record_of(
    case: Case,
    facts: Facts,
    choice: Choice,
    filled: Sequence[FilledSlot],
    *,
    model: ModelVersion | None,
    key_id: str,
) -> DecisionRecord:
    """Everything that this decision used and gave."""
    placement, catalog, hot = case.placement, case.catalog, facts.hot or HotProfile()
    slots = finish(case, choice.planned, filled)
    nothing_left = not slots and choice.reason in (RANKED, UNKNOWN_CUSTOMER, FEATURES_UNAVAILABLE)
    reason = NO_ELIGIBLE_ACTION if nothing_left else choice.reason
    return DecisionRecord(
        decision_id=case.decision_id,
        decided_at=case.now,
        expires_at=_expires_at(case, hot.contacts, slots),
        domain=catalog.content.domain,
        market=catalog.content.market,
        customer_id=case.unit,
        placement=placement.id,
        channel=placement.channel,
        request=case.request,
        features=dict(facts.features),
        overridden=facts.overridden,
        features_as_of=facts.as_of,
        consents=hot.consents,
        suppressed=hot.suppressed,
        contacts=hot.contacts,
        assignments=choice.narrowed.assignments,
        dropped=(*choice.narrowed.dropped, *_no_fallbacks(choice), *lost(choice.planned, filled)),
        candidates=choice.planned.candidates,
        slots=slots,
        reason=reason,
        reason_detail=REASON_DETAILS[reason],
        policy=policy_version(placement),
        model=model,
        catalog_version=catalog.version,
        key_id=key_id,
        account_id=facts.account_id,
        account=dict(facts.account),
        account_contacts=hot.account_contacts,
        purchases=hot.purchases,
        events=hot.events,
        budgets=hot.budgets,
        paused=facts.paused,
        hot_known=facts.hot is not None,
        contact_at=case.contact_at,
        elsewhere=case.elsewhere,
        stages=choice.narrowed.stages,
        draw_id=case.draw_id,
        known=facts.known,
        readable=facts.readable,
        baseline=choice.planned.baseline,
    )


def policy_version(placement: Placement) -> PolicyVersion:
    """How the placement explores, in a form that the ledger can keep and replay can rebuild."""
    parameters = msgspec.to_builtins(placement.exploration)
    return PolicyVersion(policy=parameters["policy"], version="1", parameters=parameters)
