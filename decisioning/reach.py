"""Whom actions and audiences reach now, when nobody has asked yet.

An action is open to a customer whom a decision would show it on one of its placements, had the
customer seen nothing lately: contact policies, quiet hours and budgets are left aside, since they say
when, not who. So is the control, which is shown fallback actions alone. All else is as in a decision.
"""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

from decisioning.case import assigned, case_of
from decisioning.catalog import Catalog
from decisioning.content import Placement
from decisioning.content_types import MARKETING
from decisioning.decision import narrow
from decisioning.eligibility import candidates
from decisioning.personalisation import considered
from decisioning.profile import Facts, HotProfile
from decisioning.request import DecisionRequest

_WHEN = frozenset({"contact_policy", "budget"})


class Reach(NamedTuple):
    """Actions that are open to a customer; of those in `unknown` a rule needs what only a request says."""

    actions: frozenset[str]
    unknown: frozenset[str]


def askable(catalog: Catalog, *, paused: Collection[str], now: datetime) -> tuple[str, ...]:
    """Actions that anybody could be shown: live, valid now, not stopped, with a rendering; not showing nothing."""
    found: dict[str, None] = {}
    for placement in catalog.content.placements:
        offered = candidates(catalog, placement, _asking(placement, ""), paused=paused, elsewhere=(), now=now)
        found |= {p.action.id: None for p in offered.proposals if not p.action.is_no_action}
    return tuple(found)


def reach_of(catalog: Catalog, customer_id: str, facts: Facts, *, now: datetime) -> Reach:
    """The actions that are open to a customer of whom this is known."""
    opened: set[str] = set()
    unknown: set[str] = set()
    for placement in catalog.content.placements:
        case = case_of(catalog, _asking(placement, customer_id), decision_id="", draw_id="", now=now)
        known = considered(case, facts)
        narrowed = narrow(assigned(case, known), known)
        opened.update(eligible.proposal.action.id for eligible in narrowed.eligible)
        opened.update(drop.action_id for drop in narrowed.dropped if drop.step in _WHEN)
        unknown.update(drop.action_id for drop in narrowed.dropped if drop.reason == "RULE_ERROR")
    return Reach(frozenset(opened), frozenset(unknown - opened))


def channel_reaches(catalog: Catalog, channel: str, hot: HotProfile) -> bool:
    """Whether the customer lets us show or send something on this channel."""
    sends = any(placement.is_push for placement in catalog.content.placements if placement.channel == channel)
    if sends and hot.objects_to(MARKETING, channel):
        return False
    return hot.permits(catalog.channels[channel].requires_consent, channel)


def _asking(placement: Placement, customer_id: str) -> DecisionRequest:
    return DecisionRequest(placement=placement.id, customer_id=customer_id)
