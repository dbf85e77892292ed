"""Who may see what: candidates, consent and engagement policy. Nothing else drops an action here.

Each step takes what the one before left and says for every action it drops why.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from decisioning.catalog import Catalog, Eligible, Proposal, not_engaged
from decisioning.content import Asks, Placement
from decisioning.content_types import MARKETING
from decisioning.continuity import Continuity
from decisioning.journey import stage_weight
from decisioning.profile import Consent, Facts, HotProfile
from decisioning.reasons import Drop
from decisioning.request import DecisionRequest
from decisioning.rules import RuleFailure, RuleScope

BUYING_ROLE_FEATURE = "buying_role"


class Kept(NamedTuple):
    """What a step left, and what it dropped."""

    proposals: Sequence[Proposal]
    dropped: Sequence[Drop]


def candidates(
    catalog: Catalog,
    placement: Placement,
    request: DecisionRequest,
    *,
    paused: Collection[str],
    elsewhere: Collection[str],
    now: datetime,
    held_out: Collection[str] = (),
) -> Kept:
    """Actions that are live, not paused, valid at `now`, have a rendering here and are wanted by the caller.

    None of a group in whose control the customer is (`held_out`).

    A preview takes those that are approved for live. `valid_from` is included, `valid_until` is
    not. `elsewhere` is what other placements of the same request show already.
    """
    offered = catalog.offered(placement)
    previewed = offered.previewed if request.mode == "preview" else ()
    if not (
        paused or elsewhere or held_out or request.exclude or offered.dated or offered.previewed or request.actions
    ):
        return Kept(offered.live, offered.dropped)
    kept: list[Proposal] = []
    dropped = list(offered.dropped)
    wanted = None if request.actions is None else frozenset(request.actions)
    for proposal in (*offered.live, *previewed):
        action = proposal.action
        if paused and (action.id in paused or f"{catalog.content.market}/{action.id}" in paused):
            dropped.append(Drop(action.id, "candidates", "PAUSED", "stopped by somebody until it is resumed"))
        elif action.group in held_out:
            detail = f"the customer is in the control of {action.group}"
            dropped.append(Drop(action.id, "candidates", "HELD_OUT", detail))
        elif action.valid_from is not None and now < action.valid_from:
            detail = f"valid from {action.valid_from.isoformat()}"
            dropped.append(Drop(action.id, "candidates", "NOT_YET_VALID", detail))
        elif action.valid_until is not None and now >= action.valid_until:
            detail = f"valid until {action.valid_until.isoformat()}"
            dropped.append(Drop(action.id, "candidates", "NO_LONGER_VALID", detail))
        elif wanted is not None and action.id not in wanted:
            dropped.append(Drop(action.id, "candidates", "NOT_ASKED_FOR", "not among the request's actions"))
        elif action.id in request.exclude:
            dropped.append(Drop(action.id, "candidates", "EXCLUDED", "excluded by the request"))
        elif action.id in elsewhere:
            dropped.append(Drop(action.id, "candidates", "SHOWN_ELSEWHERE", "in another placement of the same request"))
        else:
            kept.append(proposal)
    if not previewed:
        detail = "status is approved; previews show it"
        dropped += [Drop(proposal.action.id, "candidates", "NOT_LIVE", detail) for proposal in offered.previewed]
    return Kept(kept, dropped)


def consented(proposals: Sequence[Proposal], catalog: Catalog, placement: Placement, hot: HotProfile | None) -> Kept:
    """Actions that the customer lets us show on this channel. Showing nothing needs no consent.

    `hot` is None when neither consent nor suppression can be read. Then nothing is shown where
    consent is required, and nothing is sent: whoever unsubscribed would get it too.

    Nothing is sent either to who said no to marketing here, whatever the channel requires.
    """
    purpose, channel = catalog.channels[placement.channel].requires_consent, placement.channel
    objected = placement.is_push and hot is not None and hot.objects_to(MARKETING, channel)
    if not objected and (hot.permits(purpose, channel) if hot is not None else not (purpose or placement.is_push)):
        return Kept(proposals, ())
    if hot is None:
        reason, detail = "CONSENT_UNKNOWN", "hot state cannot be read"
    elif channel in hot.suppressed:
        reason, detail = "SUPPRESSED", f"unsubscribed from {channel}, complained, or cannot be reached there"
    elif objected:
        reason, detail = "OBJECTED", f"said no to marketing on {channel}: nothing is sent there"
    else:
        reason, detail = "NO_CONSENT", f"no consent to {purpose} on {channel}"
    return Kept(
        tuple(proposal for proposal in proposals if proposal.action.is_no_action),
        tuple(Drop(p.action.id, "consent", reason, detail) for p in proposals if not p.action.is_no_action),
    )


def engaged(
    proposals: Sequence[Proposal],
    screened: Sequence[Eligible | Drop | None],
    catalog: Catalog,
    facts: Facts,
    scope: RuleScope,
    continuity: Continuity,
    stages: tuple[str, ...],
    *,
    now: datetime,
) -> tuple[list[Eligible], list[Drop]]:
    """Actions that suit this customer now, with their context weight and value.

    Not what they do not wish to hear of, nor what asks for a consent that they have given; not what
    they bought already, nor what they accepted and is followed up; only what their journey stages and
    their role in the account's buying group allow; and what eligibility, applicability and suitability
    hold for. A rule that errs drops its action: a negation must not fail open.

    `screened` is what plain rules made of each proposal; the others are asked one by one.
    """
    bought = {purchase.product: purchase.at for purchase in facts.hot.purchases} if facts.hot else {}
    role = facts.features.get(BUYING_ROLE_FEATURE)
    kept: list[Eligible] = []
    dropped: list[Drop] = []
    unwanted = _unwanted(catalog, facts.hot)
    known, every = facts.hot is not None, bool(continuity.followed_up or unwanted) or not facts.readable
    for proposal, ready in zip(proposals, screened, strict=True):
        if ready is not None and not (every or proposal.gated):
            (kept if ready.__class__ is Eligible else dropped).append(ready)  # type: ignore[arg-type]
            continue
        refusal = None if proposal.action.is_no_action else unwanted.get(proposal.action.group)
        if refusal is None and not facts.readable:
            refusal = _unread(proposal, facts)
        if refusal is None and not known:
            refusal = _unknown(proposal)
        if refusal is None and proposal.action.asks is not None:
            refusal = _asked_already(proposal.action.asks, facts.hot)
        refusal = refusal or _gate(proposal, continuity, stages, role, bought, now)
        if refusal is not None:
            dropped.append(Drop(proposal.action.id, "engagement_policy", *refusal))
            continue
        asked = ready or _asked(proposal, scope)
        (kept if asked.__class__ is Eligible else dropped).append(asked)  # type: ignore[arg-type]
    weighted = [stage for stage in stages if catalog.stages[stage].weights]
    if weighted or continuity.repeats:
        kept = [_moved(each, catalog, weighted, continuity.repeats) for each in kept]
    return kept, dropped


def _moved(each: Eligible, catalog: Catalog, stages: Sequence[str], repeats: Mapping[str, str]) -> Eligible:
    """With what the customer's journey stages multiply it by, and the decision that it repeats."""
    action = each.proposal.action
    weight, repeated = stage_weight(catalog, stages, action), repeats.get(action.id)
    if weight == 1.0 and repeated is None:
        return each
    return Eligible(each.proposal, weight * each.context_weight, each.value, repeated)


def _asked(proposal: Proposal, scope: RuleScope) -> Eligible | Drop:
    """What the rules make of a proposal, asked one by one."""
    try:
        for part, rule in proposal.engagement:
            if not rule.holds(scope):
                return not_engaged(proposal.action.id, part, rule)
        return Eligible(proposal, _context_weight(proposal, scope), value_of(proposal, scope))
    except RuleFailure as failure:
        return Drop(proposal.action.id, "engagement_policy", "RULE_ERROR", str(failure))


def _context_weight(proposal: Proposal, scope: RuleScope) -> float:
    weight = 1.0
    for when, factor in proposal.weights:
        if when.holds(scope):
            weight *= factor
    return weight


def _unwanted(catalog: Catalog, hot: HotProfile | None) -> Mapping[str, tuple[str, str]]:
    """Groups that the customer does not wish to hear of, or may not; with why."""
    if hot is None:
        return dict.fromkeys(catalog.topics, ("PREFERENCES_UNKNOWN", "hot state cannot be read"))
    if hot.preferences is None:
        return {}
    topics = hot.preferences.topics
    refused = (group for group in catalog.topics if topics.refuses(group))
    return {group: ("PREFERENCE", f"the customer does not wish to hear of {group}") for group in refused}


def _asked_already(asks: Asks, hot: HotProfile | None) -> tuple[str, str] | None:
    """Why a consent need not be asked for, or must not since nobody knows."""
    if hot is None:
        return "CONSENT_UNKNOWN", "hot state cannot be read"
    if Consent(asks.purpose, asks.channel) in hot.consents:
        return "ALREADY_CONSENTED", f"the customer has consented to {asks.purpose} on {asks.channel}"
    return None


def _unread(proposal: Proposal, facts: Facts) -> tuple[str, str] | None:
    """Why an action must wait for the feature store: `x == null || ...` holds only for who really has no x."""
    action = proposal.action
    if action.stages:
        return "FEATURES_UNKNOWN", f"for {', '.join(action.stages)}; the feature store cannot be read"
    for _, rule in proposal.engagement:
        unread = [(root, name) for root, name in rule.names if root == "account" or name not in facts.overridden]
        named = sorted(".".join(feature) for feature in unread)
        if named:
            return "FEATURES_UNKNOWN", f"{rule.shown} needs {', '.join(named)}; the feature store cannot be read"
    return None


def _unknown(proposal: Proposal) -> tuple[str, str] | None:
    """Why an action must wait for hot state: a bought product is not offered only because nobody can say so."""
    action = proposal.action
    if action.promotes:
        return "PURCHASES_UNKNOWN", "hot state cannot be read"
    return ("STAGE", f"for {', '.join(action.stages)}; hot state cannot be read") if action.stages else None


def _gate(
    proposal: Proposal,
    continuity: Continuity,
    stages: tuple[str, ...],
    role: object,
    bought: Mapping[str, datetime],
    now: datetime,
) -> tuple[str, str] | None:
    """Why the customer's purchases, answers, journey stage or buying role rule the action out."""
    action = proposal.action
    for product in action.promotes:
        at = bought.get(product)
        if at is not None and (action.again_after is None or now - at < action.again_after):
            again = "" if action.again_after is None else f", offered again from {at + action.again_after:%Y-%m-%d}"
            return "ALREADY_BOUGHT", f"{product} on {at:%Y-%m-%d}{again}"
    if action.id in continuity.followed_up:
        return "FOLLOWED_UP", f"accepted; {continuity.followed_up[action.id]} follows"
    if action.stages and not set(action.stages) & set(stages):
        return "STAGE", f"for {', '.join(action.stages)}; the customer is in {', '.join(stages) or 'none'}"
    if action.buying_roles and role not in action.buying_roles:
        return "BUYING_ROLE", f"for {', '.join(action.buying_roles)}; the customer is {role or 'none'}"
    return None


def value_of(proposal: Proposal, scope: RuleScope) -> float:
    """What a success is worth, in the catalogue's currency.

    Raises:
        RuleFailure: The rule errs, or gives less than nothing.
    """
    if proposal.value_rule is None:
        return proposal.value
    value = proposal.value_rule.number(scope) * proposal.rate
    if not 0.0 <= value < float("inf"):
        raise RuleFailure(f"'{proposal.value_rule.shown}' gives {value!r}, must be at least 0")
    return value
