"""Contact policies as they are asked: what is the same for every customer is worked out once."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

from decisioning.content import ContactPolicy, CountedPer


class Caps(tuple[ContactPolicy, ...]):
    """Contact policies, with what is the same for every customer worked out: which of them count alike.

    Attributes:
        recent: Whose contacts, within which window.
        alike: What is counted: of which of `recent`, by what.
        counted: For each policy, which of `alike`.
        said: By the policy's id, what it allows, in words.
    """

    recent: tuple[tuple[str, timedelta], ...]
    alike: tuple[tuple[int, CountedPer], ...]
    counted: tuple[int, ...]
    said: Mapping[str, str]

    def __new__(cls, policies: Iterable[ContactPolicy] = ()) -> "Caps":
        """From policies, in their order."""
        made = super().__new__(cls, policies)
        recent: dict[tuple[str, timedelta], int] = {}
        alike: dict[tuple[int, CountedPer], int] = {}
        made.counted = tuple(
            alike.setdefault((recent.setdefault((cap.of, cap.within), len(recent)), cap.per), len(alike))
            for cap in made
        )
        made.recent, made.alike = tuple(recent), tuple(alike)
        made.said = {cap.id: f"{cap.id}: {cap.limit} within {cap.within}" for cap in made}
        return made
