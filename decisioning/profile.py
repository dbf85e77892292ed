"""What one decision knows about its customer."""

from collections import Counter
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
    """What hot state holds of a customer: small, and true at this instant.

    `suppressed` are channels on which the customer unsubscribed, complained or cannot be reached:
    nothing goes out there, whatever the channel asks for, until a later consent says otherwise.
    """

    consents: tuple[Consent, ...] = ()
    contacts: tuple[Contact, ...] = ()
    suppressed: tuple[str, ...] = ()

    def permits(self, purpose: Purpose | None, channel: str) -> bool:
        """Whether this customer may be contacted on a channel that requires consent to `purpose`, if any."""
        return channel not in self.suppressed and (purpose is None or Consent(purpose, channel) in self.consents)


class StoredFeatures(msgspec.Struct, frozen=True):
    """What the feature store holds of a customer: values by name, and how old the oldest is."""

    values: Mapping[str, Scalar]
    as_of: datetime | None


class ContactHistory:
    """How often the customer was contacted in the last seven days; the model learns fatigue from it.

    Exactly seven days ago no longer counts.

    >>> seen = [Contact("b", "g", "web", datetime(2026, 1, 6)), Contact("a", "g", "web", datetime(2025, 1, 1))]
    >>> ContactHistory(seen, now=datetime(2026, 1, 7)).of(Action(id="a", name="A", group="g", goal="o"))
    (1, 1, 0)
    """

    __slots__ = ("_actions", "_groups", "_total")

    def __init__(self, contacts: Sequence[Contact], *, now: datetime) -> None:
        recent = [contact for contact in contacts if now - contact.at < HISTORY_WINDOW]
        self._total = len(recent)
        self._groups = Counter(contact.group for contact in recent)
        self._actions = Counter((contact.group, contact.action_id) for contact in recent)

    def of(self, action: Action) -> tuple[int, int, int]:
        """Contacts at all, with this action's group, with this action: `HISTORY_FEATURES`."""
        return self._total, self._groups[action.group], self._actions[action.group, action.id]


class ConsentChange(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's word on one purpose and channel, with when and where it was given."""

    customer_id: str
    purpose: Purpose
    channel: str
    granted: bool
    at: datetime
    source: str
