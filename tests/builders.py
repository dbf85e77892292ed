"""Valid values by default; a test overrides the one field that it is about."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from decisioning.case import Case, case_of
from decisioning.catalog import Catalog, Eligible, Proposal, Release
from decisioning.content import Action, Channel, ContactPolicy, Content, Placement, Treatment
from decisioning.content_types import BLUEPRINT, NO_ACTION
from decisioning.event_content import Moment
from decisioning.experiment_content import Experiment, Holdout, Variant
from decisioning.exploration import SquareCB
from decisioning.profile import Consent, Contact, HotProfile
from decisioning.record import Candidate, DecisionRecord, PolicyVersion, ShownSlot
from decisioning.request import DecisionRequest

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
CONSENTED = HotProfile(consents=(Consent("marketing", "email"),))


def action(action_id: str = "card", **overrides: Any) -> Action:
    if action_id == NO_ACTION:
        overrides = {"treatments": (), "value": 1.0, **overrides}
    defaults: dict[str, Any] = {
        "id": action_id,
        "name": action_id,
        "group": "cards",
        "goal": "sell",
        "status": "live",
        "value": 10.0,
        "treatments": (
            Treatment(f"{action_id}_web", "web", {"headline": action_id}),
            Treatment(f"{action_id}_email", "email"),
        ),
    }
    return Action(**(defaults | overrides))


def placement(placement_id: str = "home_hero", **overrides: Any) -> Placement:
    defaults: dict[str, Any] = {
        "id": placement_id,
        "channel": "web",
        "slots": 2,
        "priority_scale": 10.0,
        "exploration": SquareCB(gamma=10.0),
        "reward": {"accept": 1.0},
    }
    return Placement(**(defaults | overrides))


def content(*actions: Action, **overrides: Any) -> Content:
    defaults: dict[str, Any] = {
        "domain": "shop",
        "currency": "EUR",
        "holdout": Holdout(share=0.0),
        "continuity": timedelta(0),
        "personalisation": "default",
        "topics": (),
        "groups": ("cards", "loans", "other"),
        "goals": ("sell",),
        "channels": (Channel("web"), Channel("email", requires_consent="marketing")),
        "placements": (placement(), placement("newsletter", channel="email", slots=1, shown_by="sent")),
        "actions": actions or (action("card"), action("loan", group="loans"), action(NO_ACTION, group="other")),
    }
    return Content(**(defaults | overrides))


def eligible(
    action_id: str = "card", *, channel: str = "web", repeats: str | None = None, cost: float = 0.0, **overrides: Any
) -> Eligible:
    """A candidate without rules; a contact with it is charged its `cost`."""
    made = action(action_id, **overrides)
    proposal = Proposal(
        action=made,
        treatment=None,
        treatment_id=None,
        engagement=(),
        weights=(),
        value=1.0,
        value_rule=None,
        rate=1.0,
        counted_by={"any": "", "channel": channel, "group": made.group, "goal": made.goal, "action": made.id},
        cost=cost,
        gated=False,
    )
    return Eligible(proposal, 1.0, 1.0, repeats)


def catalog(*actions: Action, **overrides: Any) -> Catalog:
    return Catalog(content(*actions, **overrides), version="sha256:test")


def release(*actions: Action, **overrides: Any) -> Release:
    return Release({BLUEPRINT: content(*actions, **overrides)}, version="sha256:test")


def weekly_cap(limit: int = 1, **overrides: Any) -> ContactPolicy:
    return ContactPolicy(**({"id": "weekly", "limit": limit, "within": timedelta(days=7)} | overrides))


def contact(action_id: str = "card", *, ago: timedelta = timedelta(days=1), **overrides: Any) -> Contact:
    return Contact(**({"action_id": action_id, "group": "cards", "channel": "web", "at": NOW - ago} | overrides))


def experiment(**overrides: Any) -> Experiment:
    defaults: dict[str, Any] = {
        "id": "hero_copy",
        "status": "running",
        "variants": (Variant(id="a", weight=1.0), Variant(id="b", weight=1.0, payload={"tone": "bold"})),
    }
    return Experiment(**(defaults | overrides))


def case(shop: Catalog | None = None, *, decision_id: str = "d", now: datetime = NOW, **asked: Any) -> Case:
    asking = asked.pop("asking", None) or request(**asked)
    return case_of(shop or catalog(), asking, decision_id=decision_id, draw_id=decision_id, now=now)


def candidate(action_id: str, **overrides: Any) -> Candidate:
    defaults: dict[str, Any] = {
        "action_id": action_id, "treatment_id": None, "propensity": 0.1, "value": 1.0, "context_weight": 1.0,
        "lever": 1.0, "priority": 0.1, "weight": 0.5, "tier": 0,
    }  # fmt: skip
    return Candidate(**(defaults | overrides))


def slot(number: int = 1, action_id: str = "card", **overrides: Any) -> ShownSlot:
    defaults: dict[str, Any] = {
        "slot": number, "action_id": action_id, "treatment_id": None, "probability": 0.5, "available": (0, 1, 2),
        "content": {}, "group": "cards", "confirmed": True,
    }  # fmt: skip
    return ShownSlot(**(defaults | overrides))


def record(**overrides: Any) -> DecisionRecord:
    decided_at = overrides.get("decided_at", NOW)
    defaults: dict[str, Any] = {
        "decision_id": "d-1",
        "decided_at": decided_at,
        "expires_at": decided_at + timedelta(minutes=30),
        "domain": "shop",
        "market": "default",
        "customer_id": "c-1",
        "placement": "home_hero",
        "channel": "web",
        "request": request(context={"device": "mobile", "age": 50.0}),
        "features": {"age": 50.0, "colour": "red"},
        "overridden": ("age",),
        "features_as_of": decided_at,
        "consents": (),
        "suppressed": (),
        "contacts": (contact(),),
        "assignments": (),
        "dropped": (),
        "candidates": (candidate("card", context_weight=2.0, value=25.0), candidate("loan"), candidate(NO_ACTION)),
        "slots": (slot(),),
        "reason": "RANKED",
        "reason_detail": "",
        "policy": PolicyVersion("squarecb", "1", {}),
        "model": None,
        "catalog_version": "sha256:test",
        "key_id": "k",
    }
    return DecisionRecord(**(defaults | overrides))


def request(**overrides: Any) -> DecisionRequest:
    return msgspec.convert({"customer_id": "c-1", "placement": "home_hero"} | overrides, DecisionRequest)


def moment(moment_id: str = "cart_abandoned", **overrides: Any) -> Moment:
    """A cart that was filled an hour ago, and nothing bought since: a letter, which the channel fetches."""
    defaults: dict[str, Any] = {
        "id": moment_id, "event": "cart_added", "delay": timedelta(hours=1), "unless": ("purchase",),
        "placement": "newsletter", "deliver": "pull",
    }  # fmt: skip
    return Moment(**(defaults | overrides))
