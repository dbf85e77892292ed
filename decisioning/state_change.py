"""Events on their way into the states of those who did them, whichever store keeps these.

A store knows ids, bytes and a digest: what features are declared, it need not.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from decisioning.event_features import EventFeatures
from decisioning.event_state import EventState
from decisioning.events import EventRecord


class NewState(NamedTuple):
    """A state to be kept; from `ends` on nothing is left of it, None: there always is something."""

    blob: bytes
    ends: datetime | None


class StateChange:
    """Adds events to states. In any order, again, or by several at once, the outcome is the same.

    Attributes:
        digest: What the states are kept under: other declarations may keep something else of the same events.
        units: Those whose states may change.
    """

    def __init__(self, features: EventFeatures, events: Iterable[EventRecord], *, now: datetime) -> None:
        self.digest = features.states.digest
        self._features = features
        self._now = now
        self._by_unit: dict[str, list[EventRecord]] = {}
        for event in events:
            if event.name in features.events:
                self._by_unit.setdefault(event.unit, []).append(event)
        self.units = tuple(self._by_unit)

    def of(self, unit: str, before: bytes | None) -> NewState | None:
        """The state that is to take the place of these bytes (None: of none); None where they may stay."""
        states = self._features.states
        known = None if before is None else states.decoded(before)
        state = known or EventState()
        # All of them: `any` would end with the first.
        changed = sum([self._features.add(state, event) for event in self._by_unit[unit]])
        if not changed and (known is not None or before is None):
            return None
        states.forget(state, now=self._now)
        return NewState(states.encoded(state), states.ends(state))
