"""What the engine needs from the world. Each port has an embedded adapter and a fake for tests.

A port that cannot do its work raises `StoreError`; the engine turns that into a fallback.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from decisioning.bundle import Manifest
from decisioning.profile import HotProfile, StoredFeatures
from decisioning.record import DecisionRecord, OutcomeRecord
from decisioning.reservation import AlreadyClaimed, ReservationRequest
from decisioning.slots import FilledSlot


class Features(Protocol):
    """Stored customer features."""

    @property
    def names(self) -> frozenset[str]:
        """Every feature that can be stored; a request may override each by its name."""
        ...

    async def read(self, customer_id: str) -> StoredFeatures | None:
        """The customer's features; None when the customer is not known."""
        ...


class HotState(Protocol):
    """What is true of a customer at this instant."""

    async def read(self, customer_id: str, *, now: datetime) -> HotProfile:
        """Consents and contacts."""
        ...

    async def reserve(self, request: ReservationRequest) -> tuple[FilledSlot, ...] | AlreadyClaimed:
        """Claim the decision's id and fill its slots, atomically."""
        ...

    async def apply(self, customer_id: str, outcome: OutcomeRecord, channel: str) -> None:
        """Let an outcome confirm or release a contact or withdraw consent; once per outcome id."""
        ...


class Scorer(Protocol):
    """A verified model."""

    @property
    def manifest(self) -> Manifest:
        """What the model is."""
        ...

    @property
    def sha256(self) -> str:
        """The bundle's hash."""
        ...

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated propensity of each row: `(n, n_features)` to `(n,)`."""
        ...


class Ledger(Protocol):
    """The durable truth."""

    async def append_decision(self, record: DecisionRecord, *, digest: str) -> Literal["accepted", "duplicate"]:
        """Returns once the record would survive a power cut; `duplicate` where its id stands already."""
        ...

    async def append_outcomes(
        self, records: Sequence[tuple[OutcomeRecord, str]]
    ) -> list[Literal["accepted", "duplicate", "conflict"]]:
        """Returns once the records would survive a power cut; each comes with its body's digest."""
        ...

    async def outcomes_of(self, decision_id: str) -> list[OutcomeRecord]:
        """What is kept of a decision's outcomes, which may have come before it."""
        ...

    async def get(self, decision_id: str) -> tuple[DecisionRecord, str] | None:
        """A decision and its request's digest."""
        ...
