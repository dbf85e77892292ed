"""Contact policies: when an action is suppressed because the customer was contacted enough."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from decisioning.catalog import NO_ACTION, ContactPolicy


class Contactable(Protocol):
    """Something that counts, or would count, as a contact."""

    @property
    def action_id(self) -> str: ...  # noqa: D102
    @property
    def group(self) -> str: ...  # noqa: D102
    @property
    def channel(self) -> str: ...  # noqa: D102


class PastContact(Contactable, Protocol):
    """A contact with its time."""

    @property
    def at(self) -> datetime: ...  # noqa: D102


class ContactCounts:
    """How often a customer was contacted, by what each policy counts together.

    Counted once per decision, so that asking about a candidate costs one look-up per policy,
    however long the history is. A contact exactly one window old no longer counts.

    >>> from datetime import timedelta
    >>> from decisioning.profile import Contact
    >>> once_a_day = ContactPolicy("once_a_day", limit=1, within=timedelta(days=1), per="group")
    >>> seen = [Contact("a", "cards", "web", datetime(2026, 1, 1, 9))]
    >>> proposed = Contact("b", "cards", "email", datetime(2026, 1, 1, 20))
    >>> ContactCounts([once_a_day], seen, now=datetime(2026, 1, 1, 20)).suppressing(proposed).id
    'once_a_day'
    >>> ContactCounts([once_a_day], seen, now=datetime(2026, 1, 2, 9)).suppressing(proposed) is None
    True
    """

    __slots__ = ("_counts", "_policies")

    def __init__(self, policies: Sequence[ContactPolicy], contacts: Sequence[PastContact], *, now: datetime) -> None:
        self._policies = policies
        self._counts = [
            Counter(_counted_by(policy, contact) for contact in contacts if now - contact.at < policy.within)
            for policy in policies
        ]

    def suppressing(self, proposed: Contactable) -> ContactPolicy | None:
        """The first policy that forbids one more such contact, or None. Showing nothing is no contact."""
        if proposed.action_id == NO_ACTION:
            return None
        for policy, counts in zip(self._policies, self._counts, strict=True):
            key = _counted_by(policy, proposed)
            if (policy.only is None or policy.only == key) and counts[key] >= policy.limit:
                return policy
        return None

    def add(self, contact: Contactable) -> None:
        """One more contact, now."""
        if contact.action_id != NO_ACTION:
            for policy, counts in zip(self._policies, self._counts, strict=True):
                counts[_counted_by(policy, contact)] += 1


def _counted_by(policy: ContactPolicy, contact: Contactable) -> str:
    if policy.per == "channel":
        return contact.channel
    if policy.per == "group":
        return contact.group
    if policy.per == "action":
        return contact.action_id
    return ""
