"""Who may see what: candidates, consent and engagement policy. Nothing else drops an action here.

Each step takes what the one before left and says for every action it drops why.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from decisioning.catalog import Action, Catalog, Placement
from decisioning.profile import HotProfile
from decisioning.record import Drop
from decisioning.request import DecisionRequest
from decisioning.rules import RuleFailure, RuleScope


class Eligible(NamedTuple):
    """An action that may be shown, and how well the moment suits it."""

    action: Action
    treatment_id: str | None
    context_weight: float


class Kept(NamedTuple):
    """What a step left, and what it dropped."""

    actions: tuple[Action, ...]
    dropped: tuple[Drop, ...]


def candidates(catalog: Catalog, placement: Placement, request: DecisionRequest, *, now: datetime) -> Kept:
    """Actions that are live, valid at `now`, can be rendered here and were not left out by the caller.

    `valid_from` is included, `valid_until` is not.
    """
    kept: list[Action] = []
    dropped: list[Drop] = []
    for action in catalog.content.actions:
        reason = _not_a_candidate(action, catalog, placement, request, now)
        if reason is None:
            kept.append(action)
        else:
            dropped.append(Drop(action.id, "candidates", *reason))
    return Kept(tuple(kept), tuple(dropped))


def _not_a_candidate(
    action: Action, catalog: Catalog, placement: Placement, request: DecisionRequest, now: datetime
) -> tuple[str, str] | None:
    if action.status != "live":
        return "NOT_LIVE", f"status is {action.status}"
    if action.valid_from is not None and now < action.valid_from:
        return "NOT_YET_VALID", f"valid from {action.valid_from.isoformat()}"
    if action.valid_until is not None and now >= action.valid_until:
        return "NO_LONGER_VALID", f"valid until {action.valid_until.isoformat()}"
    if not action.is_no_action and catalog.treatment(action, placement) is None:
        return "NO_TREATMENT", f"no treatment for channel {placement.channel}"
    if request.actions is not None and action.id not in request.actions:
        return "NOT_ASKED_FOR", "not among the request's actions"
    if action.id in request.exclude:
        return "EXCLUDED", "excluded by the request"
    return None


def consented(actions: Iterable[Action], catalog: Catalog, placement: Placement, hot: HotProfile | None) -> Kept:
    """Actions that the customer lets us show on this channel. Showing nothing needs no consent.

    `hot` is None when neither consent nor suppression can be read. Then nothing is shown where
    consent is required, and nothing is sent: whoever unsubscribed would get it too.
    """
    purpose, channel = catalog.channels[placement.channel].requires_consent, placement.channel
    pushed = placement.shown_by == "sent"
    if hot.permits(purpose, channel) if hot is not None else not (purpose or pushed):
        return Kept(tuple(actions), ())
    kept = tuple(action for action in actions if action.is_no_action)
    if hot is None:
        reason, detail = "CONSENT_UNKNOWN", "hot state cannot be read"
    elif channel in hot.suppressed:
        reason, detail = "SUPPRESSED", f"unsubscribed from {channel}, complained, or cannot be reached there"
    else:
        reason, detail = "NO_CONSENT", f"no consent to {purpose} on {channel}"
    refused = tuple(Drop(action.id, "consent", reason, detail) for action in actions if not action.is_no_action)
    return Kept(kept, refused)


def engaged(
    actions: Iterable[Action], catalog: Catalog, placement: Placement, scope: RuleScope
) -> tuple[tuple[Eligible, ...], tuple[Drop, ...]]:
    """Actions whose eligibility, applicability and suitability hold, with their context weight.

    A rule that errs drops its action: a negation must not fail open.
    """
    kept: list[Eligible] = []
    dropped: list[Drop] = []
    for action in actions:
        try:
            for part, rule in catalog.engagement_policy(action):
                if not rule.holds(scope, action):
                    dropped.append(Drop(action.id, "engagement_policy", part.upper(), rule.source))
                    break
            else:
                weight = 1.0
                for context_weight in action.context_weights:
                    if catalog.rule(context_weight.when).holds(scope, action):
                        weight *= context_weight.weight
                treatment = catalog.treatment(action, placement)
                kept.append(Eligible(action, treatment.id if treatment else None, weight))
        except RuleFailure as failure:
            dropped.append(Drop(action.id, "engagement_policy", "RULE_ERROR", str(failure)))
    return tuple(kept), tuple(dropped)
