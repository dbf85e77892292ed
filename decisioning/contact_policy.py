"""Contact policies: when an action is suppressed because the customer was contacted enough."""

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


def suppressing(
    proposed: Contactable, policies: Sequence[ContactPolicy], contacts: Sequence[PastContact], *, now: datetime
) -> ContactPolicy | None:
    """The first policy that forbids one more such contact, or None. Showing nothing is no contact.

    A contact exactly one window old no longer counts.

    >>> from datetime import timedelta
    >>> from decisioning.profile import Contact
    >>> once_a_day = ContactPolicy("once_a_day", limit=1, within=timedelta(days=1), per="group")
    >>> seen = [Contact("a", "cards", "web", datetime(2026, 1, 1, 9))]
    >>> proposed = Contact("b", "cards", "email", datetime(2026, 1, 1, 20))
    >>> suppressing(proposed, [once_a_day], seen, now=datetime(2026, 1, 1, 20)).id
    'once_a_day'
    >>> suppressing(proposed, [once_a_day], seen, now=datetime(2026, 1, 2, 9)) is None
    True
    """
    if proposed.action_id == NO_ACTION:
        return None
    for policy in policies:
        if policy.only is not None and _counted_by(policy, proposed) != policy.only:
            continue
        count = sum(
            now - contact.at < policy.within and _counted_by(policy, contact) == _counted_by(policy, proposed)
            for contact in contacts
        )
        if count >= policy.limit:
            return policy
    return None


def _counted_by(policy: ContactPolicy, contact: Contactable) -> str:
    if policy.per == "channel":
        return contact.channel
    if policy.per == "group":
        return contact.group
    if policy.per == "action":
        return contact.action_id
    return ""
