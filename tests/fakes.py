"""In-memory stand-ins for the engine's ports, each with a switch that makes it fail."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from decisioning.bundle import Manifest, ModelFeature
from decisioning.catalog import NO_ACTION, Scalar
from decisioning.errors import StoreError
from decisioning.profile import Contact, HotProfile, StoredFeatures
from decisioning.record import DecisionRecord, OutcomeRecord
from decisioning.reservation import AlreadyClaimed, ReservationRequest, take
from decisioning.slots import FilledSlot

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)


class FakeFeatures:
    def __init__(self, customers: dict[str, dict[str, Scalar]] | None = None) -> None:
        self.customers = customers if customers is not None else {"c-1": {"age": 41.0, "city": "ulm"}}
        self.names = frozenset({"age", "city"})
        self.down = False

    async def read(self, customer_id: str) -> StoredFeatures | None:
        if self.down:
            raise StoreError("features are down")
        values = self.customers.get(customer_id)
        return StoredFeatures(values, AS_OF) if values is not None else None


class FakeHotState:
    def __init__(self, profile: HotProfile = HotProfile()) -> None:  # noqa: B008 (frozen)
        self.profile = profile
        self.contacts: list[tuple[str, Contact]] = []
        self.claims: dict[str, AlreadyClaimed] = {}
        self.applied: list[OutcomeRecord] = []
        self.taken_by_others: tuple[Contact, ...] = ()
        self.down = False

    async def read(self, customer_id: str, *, now: datetime) -> HotProfile:
        if self.down:
            raise StoreError("hot state is down")
        own = tuple(contact for owner, contact in self.contacts if owner == customer_id)
        return HotProfile(self.profile.consents, self.profile.contacts + own, self.profile.suppressed)

    async def reserve(self, request: ReservationRequest) -> tuple[FilledSlot, ...] | AlreadyClaimed:
        if request.decision_id in self.claims:
            return self.claims[request.decision_id]
        self.claims[request.decision_id] = AlreadyClaimed(request.digest, request.now)
        own = [contact for owner, contact in self.contacts if owner == request.customer_id]
        contacts = (*self.profile.contacts, *own, *self.taken_by_others)
        filled = take(request, HotProfile(self.profile.consents, contacts, self.profile.suppressed))
        for slot in filled:
            if request.candidates[slot.chosen].action_id != NO_ACTION:
                self.contacts.append((request.customer_id, request.candidates[slot.chosen]))
        return filled

    async def apply(self, customer_id: str, outcome: OutcomeRecord, channel: str) -> None:
        self.applied.append(outcome)


class FakeLedger:
    def __init__(self) -> None:
        self.decisions: dict[str, tuple[DecisionRecord, str]] = {}
        self.outcomes: dict[str, tuple[OutcomeRecord, str]] = {}
        self.down = False

    async def append_decision(self, record: DecisionRecord, *, digest: str) -> str:
        if self.down:
            raise StoreError("the ledger is down")
        first = self.decisions.setdefault(record.decision_id, (record, digest))
        return "accepted" if first[0] is record else "duplicate"

    async def outcomes_of(self, decision_id: str) -> list[OutcomeRecord]:
        return [outcome for outcome, _ in self.outcomes.values() if outcome.decision_id == decision_id]

    async def append_outcomes(self, records: Sequence[tuple[OutcomeRecord, str]]) -> list[str]:
        if self.down:
            raise StoreError("the ledger is down")
        statuses = []
        for outcome, digest in records:
            known = self.outcomes.setdefault(outcome.outcome_id, (outcome, digest))
            statuses.append("accepted" if known[0] is outcome else "duplicate" if known[1] == digest else "conflict")
        return statuses

    async def get(self, decision_id: str) -> tuple[DecisionRecord, str] | None:
        if self.down:
            raise StoreError("the ledger is down")
        return self.decisions.get(decision_id)


class FakeScorer:
    """Propensity by action id, in the order of `actions`."""

    def __init__(self, propensities: dict[str, float] | None = None) -> None:
        self.propensities = propensities or {"card": 0.3, "loan": 0.2, NO_ACTION: 0.1}
        features = (
            ModelFeature("age", "customer", "number"),
            ModelFeature("city", "customer", "category", ("ulm",)),
            ModelFeature("cart_value", "context", "number"),
            ModelFeature("action_id", "action", "category", tuple(self.propensities)),
            ModelFeature("contacts_7d", "history", "number"),
        )
        self.manifest = Manifest(
            domain="shop",
            name="shop-propensity",
            version="7",
            run_id="run",
            created_at=AS_OF,
            features=features,
            graph_sha256="0" * 64,
            probe=b"",
            probe_scores=b"",
            data_sha256="0" * 64,
            trained_until=AS_OF,
            git_commit="none",
        )
        self.sha256 = "1" * 64
        self.rows: NDArray[np.float32] | None = None

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        self.rows = rows
        known = [*self.propensities.values(), 0.05]
        return np.array([known[int(code)] for code in rows[:, 3]], dtype=np.float32)
