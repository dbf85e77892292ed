"""Valid records by default; a test overrides the one field that it is about."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from decisioning.events import EventRecord
from decisioning.preferences import Preferences, PreferencesChange
from decisioning.profile import Consent, ConsentChange
from decisioning.reasons import Drop
from decisioning.record import Candidate, DecisionRecord, ModelVersion, OutcomeRecord, PolicyVersion, ShownSlot
from decisioning.request import DecisionRequest

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def slot(action_id: str = "card", **overrides: Any) -> ShownSlot:
    defaults: dict[str, Any] = {
        "slot": 1,
        "action_id": action_id,
        "treatment_id": f"{action_id}_web",
        "probability": 0.5,
        "available": (0,),
        "content": {"headline": action_id},
        "group": "cards",
    }
    return ShownSlot(**{**defaults, **overrides})


def decision(decision_id: str = "d-1", **overrides: Any) -> DecisionRecord:
    at = overrides.get("decided_at", NOW)
    customer_id = overrides.get("customer_id", "c-1")
    defaults: dict[str, Any] = {
        "decision_id": decision_id,
        "decided_at": at,
        "expires_at": at + timedelta(minutes=30),
        "domain": "simulated",
        "market": "default",
        "customer_id": customer_id,
        "placement": "home_hero",
        "channel": "web",
        "request": DecisionRequest(placement="home_hero", customer_id=customer_id, context={"device": "mobile"}),
        "features": {"age": 41.0, "segment": "gold", "spend": None},
        "overridden": (),
        "features_as_of": at,
        "consents": (Consent("marketing", "web"),),
        "suppressed": (),
        "contacts": (),
        "assignments": (),
        "dropped": (Drop("loan", "consent", "NO_CONSENT"),),
        "candidates": (Candidate("card", "card_web", 0.125, 10.0, 1.0, 1.0, 1.25, 0.5, 0),),
        "slots": (slot(),),
        "reason": "RANKED",
        "reason_detail": "",
        "policy": PolicyVersion("squarecb", "1", {"gamma": 20.0}),
        "model": ModelVersion("propensity", "7", "f" * 64),
        "catalog_version": "sha256:abc",
        "key_id": "k1",
    }
    return DecisionRecord(**{**defaults, **overrides})


def outcome(outcome_id: str = "o-1", **overrides: Any) -> OutcomeRecord:
    defaults: dict[str, Any] = {
        "outcome_id": outcome_id,
        "decision_id": "d-1",
        "action_id": "card",
        "type": "click",
        "detail": None,
        "value": None,
        "occurred_at": NOW,
        "received_at": NOW,
    }
    return OutcomeRecord(**{**defaults, **overrides})


def consent(customer_id: str = "c-1", **overrides: Any) -> ConsentChange:
    defaults: dict[str, Any] = {
        "customer_id": customer_id,
        "purpose": "marketing",
        "channel": "email",
        "granted": True,
        "at": NOW,
        "source": "test",
    }
    return ConsentChange(**{**defaults, **overrides})


def wishes(customer_id: str = "c-1", *, at: datetime = NOW, **said: Any) -> PreferencesChange:
    preferences = msgspec.convert(said or {"topics": {"exclude": ["loans"]}}, Preferences)
    return PreferencesChange(customer_id=customer_id, preferences=preferences, at=at, source="test")


def event(event_id: str = "shop/1", **overrides: Any) -> EventRecord:
    defaults: dict[str, Any] = {
        "event_id": event_id,
        "source": "shop",
        "type": "track",
        "name": "purchase",
        "customer_id": "c-1",
        "occurred_at": NOW,
        "received_at": NOW,
    }
    return EventRecord(**{**defaults, **overrides})
