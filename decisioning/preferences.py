"""What a customer wishes to hear of, and how often: binding, as the customer's own word.

Topics are the catalogue's groups, and hold wherever an action could appear. A frequency is about what
is sent: it counts messages (answers of push placements), and lets a page answer whoever comes to it.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Annotated

import msgspec

from decisioning.content_types import CONTACT_MEMORY
from decisioning.errors import RequestError

Group = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Topics(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Groups of actions: only those in `include` (None: all of them), and none of those in `exclude`."""

    include: tuple[Group, ...] | None = None
    exclude: tuple[Group, ...] = ()

    def refuses(self, group: str) -> bool:
        """Whether the customer does not want to hear of this group."""
        return group in self.exclude or (self.include is not None and group not in self.include)


class Frequency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """At most `limit` messages within a rolling window, of 30 days at most; a limit of 0 is none at all."""

    limit: Annotated[int, msgspec.Meta(ge=0, le=1000)]
    within: timedelta


class Preferences(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All that a customer wishes; the next word replaces the whole of it.

    >>> wishes = Preferences(topics=Topics(exclude=("loans",)), frequency=Frequency(limit=2, within=timedelta(days=7)))
    >>> wishes.topics.refuses("loans"), wishes.topics.refuses("cards")
    (True, False)
    """

    topics: Topics = Topics()
    frequency: Frequency | None = None

    def checked(self, choosable: Collection[str]) -> "Preferences":
        """The same, after seeing that it can be kept to; `choosable` are the topics there are.

        Raises:
            RequestError: A topic that is none, or a window that is too long or none.
        """
        for field in ("include", "exclude"):
            for place, group in enumerate(getattr(self.topics, field) or ()):
                if group not in choosable:
                    where = f"topics.{field}[{place}]"
                    allowed = ", ".join(sorted(choosable)) or "(none)"
                    raise RequestError(f"{where} is '{group}', must be one of {allowed}", where=where)
        if self.frequency is not None and not timedelta(0) < self.frequency.within <= CONTACT_MEMORY:
            raise RequestError(
                f"frequency.within is {msgspec.to_builtins(self.frequency.within)}, must be longer than nothing"
                f" and at most P{CONTACT_MEMORY.days}D",
                where="frequency.within",
            )
        return self


class PreferencesChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a customer said, when and where; the last word is the one of the latest time."""

    customer_id: str
    preferences: Preferences
    at: datetime
    source: str
