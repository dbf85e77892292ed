"""What one decision knows about its customer."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from decisioning.catalog import Action, Purpose, Scalar

HISTORY_WINDOW = timedelta(days=7)
HISTORY_FEATURES = ("contacts_7d", "group_contacts_7d", "action_contacts_7d")


class Contact(msgspec.Struct, frozen=True, array_like=True):
    """An action that this customer saw, or for which a place is reserved."""

    action_id: str
    group: str
    channel: str
    at: datetime


class Consent(msgspec.Struct, frozen=True, array_like=True):
    """One purpose that the customer has consented to on one channel."""

    purpose: Purpose
    channel: str


class HotProfile(msgspec.Struct, frozen=True):
    """What hot state holds of a customer: small, and true at this instant."""

    consents: tuple[Consent, ...] = ()
    contacts: tuple[Contact, ...] = ()


class StoredFeatures(msgspec.Struct, frozen=True):
    """What the feature store holds of a customer: values by name, and how old the oldest is."""

    values: Mapping[str, Scalar]
    as_of: datetime | None


def history_features(action: Action, contacts: Sequence[Contact], *, now: datetime) -> dict[str, float]:
    """How often the customer was contacted in the last seven days: at all, with this group, this action.

    Exactly seven days ago no longer counts. The model learns fatigue from these.

    >>> action = Action(id="a", name="A", group="g", goal="o")
    >>> seen = [Contact("b", "g", "web", datetime(2026, 1, 6)), Contact("a", "g", "web", datetime(2025, 1, 1))]
    >>> history_features(action, seen, now=datetime(2026, 1, 7))
    {'contacts_7d': 1.0, 'group_contacts_7d': 1.0, 'action_contacts_7d': 0.0}
    """
    recent = [contact for contact in contacts if now - contact.at < HISTORY_WINDOW]
    same_group = [contact for contact in recent if contact.group == action.group]
    same_action = sum(contact.action_id == action.id for contact in same_group)
    return {
        "contacts_7d": float(len(recent)),
        "group_contacts_7d": float(len(same_group)),
        "action_contacts_7d": float(same_action),
    }


class ConsentChange(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's word on one purpose and channel, with when and where it was given."""

    customer_id: str
    purpose: Purpose
    channel: str
    granted: bool
    at: datetime
    source: str
