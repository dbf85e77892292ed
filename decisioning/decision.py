"""The funnel: `narrow -> score -> plan -> reserve -> finish`.

Pure functions over values. The engine calls them in this order, with the case as its variants have it
(`case.assigned`), scores between `narrow` and `plan`, and lets hot state reserve between `plan` and `finish`.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from math import isfinite
from typing import NamedTuple

import msgspec
import numpy as np

from decisioning import eligibility
from decisioning.arbitration import priority, scaled
from decisioning.case import (
    APPRENTICE_DETAIL,
    HOLDOUT,
    NO_ELIGIBLE_ACTION,
    REASON_DETAILS,
    UNSCORED,
    WITH_SCORES,
    Case,
    groups_held_out,
    rule_scope,
    serves_the_caller,
)
from decisioning.catalog import Eligible, localised
from decisioning.contact_policy import ContactCounts
from decisioning.content import Placement
from decisioning.continuity import Continuity, going_on
from decisioning.exploration import Estimates, Floats
from decisioning.journey import stages_of
from decisioning.personalisation import may_personalise
from decisioning.profile import Contact, Facts, HotProfile, Subject
from decisioning.reasons import Drop
from decisioning.record import Candidate, DecisionRecord, ModelVersion, PolicyVersion, Shadow, ShownSlot
from decisioning.reservation import ReservationRequest
from decisioning.scores import Scores
from decisioning.slots import Distribution, FilledSlot, distribution, draw_order, slot_probabilities, uniforms
from decisioning.suppression import in_time_and_budget


class Narrowed(NamedTuple):
    """Who is left before scoring, and everything that was dropped on the way."""

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
    are the customer's contacts as they were counted on the way. `posterior` is the state of the online
    posterior that corrected the scores, if one did.
    """

    candidates: tuple[Candidate, ...]
    eligible: tuple[Eligible, ...]
    spread: Distribution
    order: tuple[int, ...]
    drawn: bool
    baseline: float | None = None
    counts: ContactCounts | None = None
    posterior: str | None = None


class Ranking(NamedTuple):
    """What scores make of the candidates: the chances and uplifts that rank them, priorities, the policy's word."""

    chances: list[float]
    uplifts: list[float | None]
    priorities: list[float]
    spread: Distribution


NOTHING = Plan((), (), Distribution(np.empty(0), np.empty(0, dtype=np.int64)), (), drawn=False)


class Choice(NamedTuple):
    """Who was left, in which order, and why so."""

    narrowed: Narrowed
    planned: Plan
    reason: str


def narrow(case: Case, facts: Facts) -> Narrowed:
    """Phase 1: candidates, consent, engagement policy, contact policy, budget.

    `facts.hot` is None when hot state cannot be read. Then nothing is known to be consented, anyone
    may have unsubscribed, every cap counts as reached and every budget as spent: what needs any of
    these is dropped.
    """
    catalog, placement, request, now = case.catalog, case.placement, case.request, case.now
    content, hot = catalog.content, facts.hot
    offered = eligibility.candidates(
        catalog,
        placement,
        request,
        paused=facts.paused,
        elsewhere=case.elsewhere,
        now=case.contact_at,
        held_out=groups_held_out(case, facts) if content.holdouts else (),
    )
    allowed = eligibility.consented(offered.proposals, catalog, placement, hot)
    scope = rule_scope(case, facts)
    at_once = catalog.offered(placement)
    screened: Sequence[Eligible | Drop | None] = [None] * len(allowed.proposals)
    if allowed.proposals is at_once.live:
        screened = at_once.screened(scope.customer, scope.account, scope.context)
    stages = stages_of(catalog, facts.events, scope) if content.journeys else ()
    continuity = going_on(
        facts.contacts,
        catalog.actions,
        placement.id,
        now=case.contact_at,
        # That a reload is no new contact is for the caps; what else goes on is history.
        lasting=content.continuity if facts.personal else timedelta(0),
        repeatable=not placement.is_push,
    )
    engaged, disengaged = eligibility.engaged(
        allowed.proposals, screened, catalog, facts, scope, continuity, stages, now=now
    )
    dropped = [*offered.dropped, *allowed.dropped, *disengaged]
    if not engaged:
        return Narrowed((), tuple(dropped), stages, continuity)
    profile = hot or HotProfile()
    counts = ContactCounts(
        catalog.caps, profile.contacts, now=case.contact_at, account_contacts=profile.account_contacts
    )
    kept = in_time_and_budget(case, facts, engaged, counts, dropped)
    return Narrowed(tuple(kept), tuple(dropped), stages, continuity, counts)


def plan(case: Case, narrowed: Narrowed, scores: Scores, *, key: bytes) -> Plan:
    """Phase 3: rank, let the policy state probabilities, and draw the full order.

    `scores` are in the order of `narrowed.eligible`. The draw hangs on the case's `draw_id` and the
    secret `key` alone: so it can be replayed. Where the model is an apprentice nothing is drawn: the
    order is the caller's, and the candidates say what the policy would have done.

    Raises:
        ArithmeticError: A propensity, the baseline or a priority is not a finite number.
    """
    if not narrowed.eligible:
        return NOTHING
    chances, uplifts, priorities, spread = ranked(case, narrowed, scores)
    candidates = _candidates(narrowed.eligible, chances, uplifts, priorities, spread, scores)
    if case.placement.apprentice:
        order = callers_order(case, narrowed.eligible)
    else:
        order = tuple(draw_order(spread, uniforms(key, case.draw_id, len(chances))).tolist())
    drawn = not case.placement.apprentice
    return Plan(candidates, narrowed.eligible, spread, order, drawn, scores.baseline, narrowed.counts, scores.posterior)


def ranked(case: Case, narrowed: Narrowed, scores: Scores) -> Ranking:
    """What these scores of `narrowed.eligible` make of them, before anything is drawn.

    Priority is propensity x context weight x value x lever; for actions that rank by uplift, what the
    model learnt of it, or else the propensity above that of showing nothing, takes the propensity's
    place. What goes on from earlier decisions comes before everything else.

    Raises:
        ArithmeticError: A propensity, the baseline or a priority is not a finite number.
    """
    corrected = scores.corrected
    chances: list[float] = corrected.tolist()
    baseline = scores.baseline
    if baseline is not None and not isfinite(baseline):
        raise ArithmeticError(f"the baseline propensity is {baseline}, must be a finite number")
    uplifts = _uplifts(narrowed, chances, scores)
    ranked_by = [chance if uplift is None else uplift for chance, uplift in zip(chances, uplifts, strict=True)]
    priorities = [
        priority(chance, each.context_weight, each.value, each.proposal.action.lever)
        for chance, each in zip(ranked_by, narrowed.eligible, strict=True)
    ]
    if not (isfinite(sum(priorities)) and isfinite(sum(chances))):
        raise _not_finite(narrowed.eligible, chances, priorities)
    values = scaled(np.array(priorities), case.placement.priority_scale)
    estimates = _estimates(case, narrowed, scores, values, corrected, uplifts)
    spread = _continued(distribution(case.placement.exploration, estimates), narrowed)
    return Ranking(chances, uplifts, priorities, spread)


def _estimates(
    case: Case, narrowed: Narrowed, scores: Scores, values: Floats, corrected: Floats, uplifts: Sequence[float | None]
) -> Estimates:
    """What the policy believes of these values, `(n,)`: an uplift is as far off as the propensity that it is of."""
    if scores.sds is None and scores.members is None:
        return Estimates.known(values)
    scale = case.placement.priority_scale
    worth = np.array([priority(1.0, e.context_weight, e.value, e.proposal.action.lever) for e in narrowed.eligible])
    sds, members = np.zeros(len(values)), scores.corrected_members
    if scores.sds is not None:
        # By how much a value moves with the log-odds of its propensity.
        sds = np.abs(worth) / scale * corrected * (1.0 - corrected) * scores.sds
    if members is not None:
        over = np.array(uplifts, dtype=np.float64)  # NaN: it ranks by response
        ranked_by = np.where(np.isnan(over), members, np.maximum(0.0, over + members - corrected))
        members = scaled(ranked_by * worth, scale)
    return Estimates(values, sds, members)


def callers_order(case: Case, eligible: Sequence[Eligible]) -> tuple[int, ...]:
    """Places in the order in which the caller named the actions; else the catalogue's, with showing nothing last."""
    named = case.request.actions
    if named is None:
        return tuple(sorted(range(len(eligible)), key=lambda place: eligible[place].proposal.action.is_no_action))
    at = {action_id: number for number, action_id in reversed(list(enumerate(named)))}
    return tuple(sorted(range(len(eligible)), key=lambda place: at[eligible[place].proposal.action.id]))


def _uplifts(narrowed: Narrowed, chances: Sequence[float], scores: Scores) -> list[float | None]:
    """What ranks the actions that rank by uplift; None for the others."""
    learnt = scores.uplifts.tolist() if scores.uplifts is not None else None
    found: list[float | None] = []
    for place, eligible in enumerate(narrowed.eligible):
        if eligible.proposal.action.rank_by != "uplift" or (learnt is None and scores.baseline is None):
            found.append(None)
        else:
            over = learnt[place] if learnt is not None else chances[place] - (scores.baseline or 0.0)
            found.append(max(0.0, over))
    return found


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


def plan_fallback(case: Case, narrowed: Narrowed, reason: str) -> Plan:
    """Without scores: fallback actions alone, in the order of the catalogue, nothing drawn.

    Where the model is an apprentice the caller's own order is the status quo, and needs no scores.
    """
    if serves_the_caller(case, reason):
        fallbacks = tuple(narrowed.eligible[place] for place in callers_order(case, narrowed.eligible))
    else:
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
    scores: Scores | None = None,
) -> tuple[Candidate, ...]:
    proposals = [each.proposal for each in eligible]
    nothing: list[float | None] = [None] * len(eligible)
    zeros = [0.0] * len(eligible)
    shifted = scores is not None and scores.shifts is not None
    return tuple(
        map(
            Candidate,
            [proposal.action.id for proposal in proposals],
            [proposal.treatment_id for proposal in proposals],
            propensities,
            [each.value for each in eligible],
            [each.context_weight for each in eligible],
            [proposal.action.lever for proposal in proposals],
            priorities,
            spread.weights.tolist(),
            spread.tiers.tolist(),
            uplifts,
            scores.propensities.tolist() if scores and shifted else nothing,
            scores.shifts.tolist() if scores and scores.shifts is not None else zeros,
            scores.sds.tolist() if scores and scores.sds is not None else zeros,
            map(tuple, scores.members.tolist()) if scores and scores.members is not None else [()] * len(eligible),
        )
    )


def reservation(case: Case, facts: Facts, planned: Plan, *, digest: str) -> ReservationRequest:
    """Phase 4, for hot state (or `reservation.take`): what is to be taken, and what may be."""
    placement = case.placement
    subject = Subject(case.unit, facts.account_id)

    def still(profile: HotProfile) -> Collection[int]:
        if facts.personal and not may_personalise(case, profile):
            return ()  # what ranked them may be used no more
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
        placement=placement,
        eligible=planned.eligible,
        order=planned.order,
        slots=min(case.request.limit or placement.slots, placement.slots),
        policies=case.catalog.caps,
        budgets={name: known[name] for name in sorted(budgets)},
        confirmed=placement.shown_by == "decision",
        seen=facts.hot or HotProfile(),
        still=still,
        counts=planned.counts,
    )


def finish(case: Case, planned: Plan, filled: Sequence[FilledSlot]) -> tuple[ShownSlot, ...]:
    """Phase 5: slots with their exact probabilities and content; None where nothing was drawn."""
    asked = case.request.context.get("locale")
    locales = (*([asked] if isinstance(asked, str) else []), case.catalog.content.language)
    slots = []
    probabilities = slot_probabilities(planned.spread, filled) if planned.drawn else [None] * len(filled)
    for number, (slot, probability) in enumerate(zip(filled, probabilities, strict=True), start=1):
        eligible = planned.eligible[slot.chosen]
        action, treatment = eligible.proposal.action, eligible.proposal.treatment
        slots.append(
            ShownSlot(
                slot=number,
                action_id=action.id,
                treatment_id=eligible.proposal.treatment_id,
                probability=probability,
                available=slot.available,
                content=localised(treatment, locales) if treatment else {},
                group=action.group,
                confirmed=case.placement.shown_by == "decision",
                goal=action.goal,
                content_ref=treatment.content_ref if treatment else None,
                repeats=eligible.repeats,
                products=action.promotes,
                budget=action.budget,
                cost=eligible.proposal.cost,
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


def _no_fallbacks(case: Case, choice: Choice) -> tuple[Drop, ...]:
    """Where nothing is scored, what could be shown but is no fallback."""
    if choice.reason not in UNSCORED or serves_the_caller(case, choice.reason):
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
    shadow: Shadow | None = None,
) -> DecisionRecord:
    """Everything that this decision used and gave."""
    placement, catalog, hot = case.placement, case.catalog, facts.hot or HotProfile()
    slots = finish(case, choice.planned, filled)
    made_with = {(c.decision_id, c.action_id): c.customer_id for c in hot.contacts if c.customer_id is not None}
    if made_with:
        slots = tuple(
            msgspec.structs.replace(slot, repeats_of=made_with.get((slot.repeats or "", slot.action_id)))
            for slot in slots
        )
    nothing_left = not slots and choice.reason in WITH_SCORES
    reason = NO_ELIGIBLE_ACTION if nothing_left else choice.reason
    apprentice = bool(slots) and serves_the_caller(case, reason)
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
        assignments=case.assignments,
        dropped=(*choice.narrowed.dropped, *_no_fallbacks(case, choice), *lost(choice.planned, filled)),
        candidates=choice.planned.candidates,
        slots=slots,
        reason=reason,
        reason_detail=APPRENTICE_DETAIL if apprentice else REASON_DETAILS[reason],
        policy=policy_version(placement),
        model=model,
        catalog_version=catalog.version,
        key_id=key_id,
        account_id=facts.account_id,
        account=dict(facts.account),
        account_contacts=hot.account_contacts,
        purchases=hot.purchases,
        events=facts.events,
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
        withdrawn=hot.withdrawn,
        preferences=hot.preferences,
        personal=facts.personal,
        erased=hot.erased,
        shadow=shadow,
        apprentice=apprentice,
        posterior=choice.planned.posterior,
        met_first=hot.met_first,
    )


def policy_version(placement: Placement) -> PolicyVersion:
    """How the placement explores, in a form that the ledger can keep and replay can rebuild."""
    parameters = msgspec.to_builtins(placement.exploration)
    return PolicyVersion(policy=parameters["policy"], version="1", parameters=parameters)
