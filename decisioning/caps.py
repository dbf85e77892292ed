"""Contact policies as they are asked: what is the same for every customer is worked out once."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

import msgspec

from decisioning.content import ContactPolicy, CountedPer


class Caps(tuple[ContactPolicy, ...]):
    """Contact policies, with what is the same for every customer worked out: which of them count alike.

    Attributes:
        recent: Whose contacts, within which window.
        alike: What is counted: of which of `recent`, by what.
        asked: For each policy which of `alike` it counts, by what, of which only, and its limit.
        said: By the policy's id, what it allows, in words.
    """

    recent: tuple[tuple[str, timedelta], ...]
    alike: tuple[tuple[int, CountedPer], ...]
    asked: tuple[tuple[int, CountedPer, str | None, int], ...]
    said: Mapping[str, str]

    def __new__(cls, policies: Iterable[ContactPolicy] = ()) -> "Caps":
        """From policies, in their order."""
        made = super().__new__(cls, policies)
        recent: dict[tuple[str, timedelta], int] = {}
        alike: dict[tuple[int, CountedPer], int] = {}
        asked = []
        for cap in made:
            which = recent.setdefault((cap.of, cap.within), len(recent))
            asked.append((alike.setdefault((which, cap.per), len(alike)), cap.per, cap.only, cap.limit))
        made.asked = tuple(asked)
        made.recent, made.alike = tuple(recent), tuple(alike)
        made.said = {cap.id: f"{cap.id}: {cap.limit} within {msgspec.to_builtins(cap.within)}" for cap in made}
        return made
