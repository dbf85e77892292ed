"""Contact policies as they are asked: what is the same for every customer is worked out once."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

import msgspec

from decisioning.content import ContactPolicy
from decisioning.content_types import CountedPer


class Caps(tuple[ContactPolicy, ...]):
    """Contact policies, with what is the same for every customer worked out.

    Attributes:
        recent: Whose contacts, within which window.
        asked: For each policy which of `recent` it counts, by what, of which only, and its limit.
        said: By the policy's id, what it allows, in words.
    """

    recent: tuple[tuple[str, timedelta], ...]
    asked: tuple[tuple[int, CountedPer, str | None, int], ...]
    said: Mapping[str, str]

    def __new__(cls, policies: Iterable[ContactPolicy] = ()) -> "Caps":
        """From policies, in their order."""
        made = super().__new__(cls, policies)
        recent: dict[tuple[str, timedelta], int] = {}
        made.asked = tuple(
            (recent.setdefault((cap.of, cap.within), len(recent)), cap.per, cap.only, cap.limit) for cap in made
        )
        made.recent = tuple(recent)
        made.said = {cap.id: f"{cap.id}: {cap.limit} within {msgspec.to_builtins(cap.within)}" for cap in made}
        return made
