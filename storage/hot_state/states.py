"""What stores of hot state have in common where they keep the states of features over events.

States of different declarations stand beside each other, each under its digest, since replicas take a
new catalogue at different times. Those that nobody uses any more are dropped.
"""

from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from decisioning.state_change import StateChange

# A declaration in use is said to be so at least this often, and counts as in use for so long after.
SAY_IN_USE = timedelta(minutes=1)
IN_USE = timedelta(minutes=10)


class Replay(NamedTuple):
    """How far the ledger's events (by `seq`) are in the states; `complete`: all of them are, and new ones are added."""

    upto: int = 0
    complete: bool = False


class BulkStates(Protocol):
    """A domain's states for bulk work, not for the event loop. Each call raises `StoreError` where it fails."""

    def change(self, change: StateChange) -> None:
        """Add events to states, in short parts; again changes nothing."""
        ...

    def replayed(self, digest: str) -> Replay:
        """How far the ledger's events are in the states of these declarations."""
        ...

    def note_replayed(self, digest: str, replay: Replay, *, now: datetime) -> None:
        """Say how far they are."""
        ...

    def say_in_use(self, digest: str, *, now: datetime) -> None:
        """Say that somebody uses them, if they are there."""
        ...

    def unused(self, *, now: datetime) -> list[str]:
        """Digests of declarations that nobody said to be in use for long."""
        ...

    def drop(self, digest: str) -> None:
        """Forget all states of these declarations, and first that they were complete."""
        ...
