"""What is asked, and why it is answered as it is: a request for one placement, and the answer's reason."""

from datetime import datetime
from typing import NamedTuple

from decisioning.assignment import Units, assignments
from decisioning.catalog import Catalog
from decisioning.content import Placement
from decisioning.errors import RequestError, UnknownAction, UnknownPlacement
from decisioning.profile import Facts
from decisioning.record import Assignment
from decisioning.request import PLAN_AHEAD, DecisionRequest, sane
from decisioning.rules import RuleScope
from decisioning.trial import is_held_out

RANKED, NO_ELIGIBLE_ACTION, HOLDOUT = "RANKED", "NO_ELIGIBLE_ACTION", "HOLDOUT"
UNKNOWN_CUSTOMER = "FALLBACK_UNKNOWN_CUSTOMER"
NOT_PERSONALISED = "FALLBACK_NOT_PERSONALISED"
ERASED = "FALLBACK_ERASED"
FEATURES_UNAVAILABLE = "FALLBACK_FEATURES_UNAVAILABLE"
MODEL_UNAVAILABLE = "FALLBACK_MODEL_UNAVAILABLE"
HOT_STATE_UNAVAILABLE = "FALLBACK_HOT_STATE_UNAVAILABLE"
REASON_DETAILS = {
    RANKED: "",
    HOLDOUT: "the customer is in the universal control: the placement's fallback actions, if it has any",
    NO_ELIGIBLE_ACTION: "every action was dropped; dropped_by_step says where",
    UNKNOWN_CUSTOMER: "the customer is not known: ranked from the request's context alone",
    NOT_PERSONALISED: "no consent to personalisation here, or Sec-GPC: ranked from the request's context alone",
    ERASED: "the customer was erased: what the request's context alone ranks, nothing is sent, nobody is named",
    FEATURES_UNAVAILABLE: "stored features cannot be read: ranked from the context alone, without what needs them",
    MODEL_UNAVAILABLE: "no model is loaded: the placement's fallback actions, unranked, if it has any",
    HOT_STATE_UNAVAILABLE: "consent and contacts cannot be read: only fallback actions that need neither, if any",
}
# For these nothing is scored.
UNSCORED = frozenset({HOT_STATE_UNAVAILABLE, HOLDOUT, MODEL_UNAVAILABLE})

APPRENTICE_DETAIL = "the caller's own order, as far as it may be shown: the placement's model is an apprentice"

WITH_SCORES = frozenset({RANKED, UNKNOWN_CUSTOMER, NOT_PERSONALISED, FEATURES_UNAVAILABLE})


class Case(NamedTuple):
    """One request for one placement, and what it is decided with.

    Attributes:
        unit: The customer, or the anonymous visitor, as the request names them; of several ids that are
            one person (`identity`), what that person is called.
        draw_id: What the draw hangs on: the decision's id, but not in previews.
        contact_at: When the contact is: now, or the planned time of what is sent.
        elsewhere: What other placements of the same request show already.
        assignments: The variants of whoever is asked about (`assigned`); catalogue and placement are as they have it.
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
    assignments: tuple[Assignment, ...] = ()


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


SESSION = "session_id"  # in the context: what an experiment over sessions assigns


def assigned(case: Case, facts: Facts) -> Case:
    """The same with the variants of whoever is asked about, and with the catalogue as these have it."""
    found = assignments_here(case, facts)
    return under(case, found) if found else case


def assignments_here(case: Case, facts: Facts) -> tuple[Assignment, ...]:
    """The variants of whoever is asked about in the experiments of this placement.

    The universal control is in no experiment, and nobody can say of an erased person in which.
    """
    trials = case.catalog.trials(case.placement.id, now=case.now)
    if not trials or is_control(case, facts) or (facts.hot is not None and facts.hot.erased):
        return ()
    return assignments(trials, units_of(case, facts), rule_scope(case, facts))


def under(case: Case, found: tuple[Assignment, ...]) -> Case:
    """The case with these variants, and with the catalogue as they have it."""
    catalog = case.catalog.under(found)
    return case._replace(assignments=found, catalog=catalog, placement=catalog.placements[case.placement.id])


def units_of(case: Case, facts: Facts) -> Units:
    """What experiments assign: of a person, the id that was decided for first, so that a merge moves nobody."""
    first = facts.hot.met_first if facts.hot is not None else None
    session = case.request.context.get(SESSION)
    return Units(first or case.unit, facts.account_id, session if isinstance(session, str) and session else None)


def rule_scope(case: Case, facts: Facts) -> RuleScope:
    """What rules see in this decision."""
    return case.catalog.scope(
        now=case.now, customer=facts.features, account=facts.account, context=case.request.context
    )


def is_control(case: Case, facts: Facts) -> bool:
    """Whether the customer is in the universal control."""
    return is_held_out(case.catalog.content.holdout, units_of(case, facts).customer)


def groups_held_out(case: Case, facts: Facts) -> frozenset[str]:
    """Groups of actions whose control the customer is in."""
    unit = units_of(case, facts).customer
    return frozenset(
        group for holdout in case.catalog.content.holdouts if is_held_out(holdout, unit) for group in holdout.groups
    )


def serves_the_caller(case: Case, reason: str) -> bool:
    """Whether the caller's own order is served here: where nobody can say what is allowed, fallbacks are, as always."""
    return case.placement.apprentice and reason != HOT_STATE_UNAVAILABLE


def reason_of(case: Case, facts: Facts, *, has_model: bool) -> str:
    """Why the decision is made as it is, as far as is known before anything is narrowed."""
    if facts.hot is None:
        return HOT_STATE_UNAVAILABLE
    if facts.hot.erased:
        return ERASED
    if is_control(case, facts):
        return HOLDOUT
    if not has_model:
        return MODEL_UNAVAILABLE
    if not facts.personal and case.request.customer_id is not None:
        return NOT_PERSONALISED
    if facts.known:
        return RANKED
    return UNKNOWN_CUSTOMER if facts.readable else FEATURES_UNAVAILABLE
