"""What the engine needs from the world. Each port has an embedded adapter and a fake for tests.

A port that cannot do its work raises `StoreError`; the engine turns that into a fallback.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from decisioning.bundle import Manifest, Scored
from decisioning.catalog import Release
from decisioning.content import Budget
from decisioning.events import EventRecord, Happened
from decisioning.identity import Link
from decisioning.moments import AwaitedMoment
from decisioning.preferences import PreferencesChange
from decisioning.profile import ConsentChange, HotProfile, StoredFeatures, Subject
from decisioning.record import AuditRecord, DecisionRecord, OutcomeRecord, Told
from decisioning.reservation import AlreadyClaimed, ReservationRequest, Reserved
from decisioning.state_change import StateChange


class Features(Protocol):
    """Stored customer features."""

    @property
    def names(self) -> frozenset[str]:
        """Every feature that can be stored; a request may override each by its name."""
        ...

    async def read(self, customer_id: str, *, account_id: str | None = None) -> StoredFeatures | None:
        """The features of the customer and the account above; None when the customer is not known.

        `account_id` is the caller's word on which account that is, and beats the stored one.
        """
        ...


class HotState(Protocol):
    """What is true of a customer at this instant."""

    async def read(
        self,
        subject: Subject,
        *,
        now: datetime,
        budgets: Sequence[Budget] = (),
        at: datetime | None = None,
        states: str | None = None,
    ) -> HotProfile:
        """All that is true of this customer; `budgets` are those of which it says what is left `at` a time (`now`).

        `states` is the digest of the declarations (`EventStates.digest`) whose states are read too.
        """
        ...

    async def reserve(self, request: ReservationRequest) -> Reserved | AlreadyClaimed:
        """Claim the decision's id and fill its slots, atomically (`reservation.take`)."""
        ...

    async def apply(self, told: Told) -> None:
        """Let an outcome change contacts, consent, purchases and events; again changes nothing."""
        ...

    async def note(self, happened: Sequence[Happened], states: StateChange | None = None) -> None:
        """Let what customers did elsewhere, and what it adds to states, count from the next decision on.

        Again changes nothing.
        """
        ...

    async def link(self, links: Sequence[Link]) -> None:
        """Let ids be one person from the next decision on (`decisioning.identity`); again changes nothing."""
        ...

    async def consent(self, changes: Sequence[ConsentChange]) -> None:
        """Let the last word on each purpose and channel count from the next decision on; again changes nothing."""
        ...

    async def prefer(self, change: PreferencesChange) -> None:
        """Let the last preferences count from the next decision on; again changes nothing."""
        ...

    async def bury(self, names: Collection[str], *, erased: bool = True) -> None:
        """Let these ids be erased from the next call on, or no longer; again changes nothing."""
        ...

    async def pause(self, action: str, *, paused: bool) -> None:
        """Stop an action (`id`, or `market/id`) from the next decision on, or let it go on."""
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

    def score(self, rows: NDArray[np.float32], *, with_members: bool = False) -> Scored:
        """What the manifest says that the graph gives, of rows `(n, n_features)`; members only `with_members`."""
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

    async def append_events(
        self, records: Sequence[tuple[EventRecord, str]], *, begun: Sequence[AwaitedMoment] = ()
    ) -> list[Literal["accepted", "duplicate", "conflict"]]:
        """Returns once the events would survive a power cut; each comes with its digest.

        The moments that an event has `begun` are kept with it, if it is new.
        """
        ...

    async def events_of(self, event_ids: Sequence[str]) -> list[EventRecord]:
        """The events with these ids, as they were told first."""
        ...

    async def outcomes_of(self, decision_id: str) -> list[OutcomeRecord]:
        """What is kept of a decision's outcomes, which may have come before it."""
        ...

    async def append_consents(self, changes: Sequence[ConsentChange]) -> None:
        """Returns once all would survive a power cut; the same word twice is one."""
        ...

    async def append_preferences(self, change: PreferencesChange) -> None:
        """Returns once it would survive a power cut."""
        ...

    async def of_mailbox(self, customer_id: str, *, channel: str) -> list[OutcomeRecord]:
        """The newest outcomes of types `OF_MAILBOX`, the newest first: enough to see a row of soft bounces."""
        ...

    async def append_audit(self, entry: AuditRecord) -> None:
        """Returns once the entry would survive a power cut."""
        ...

    async def erased(self, names: Collection[str]) -> frozenset[str]:
        """Which of these ids are erased, so that nothing of them may be kept; of decisions, `decision_name`."""
        ...

    async def met(self, units: Collection[str]) -> Mapping[str, datetime]:
        """When decisions were first made for these customers and visitors, of those for whom any were."""
        ...

    async def get(self, decision_id: str) -> tuple[DecisionRecord, str] | None:
        """A decision and its request's digest."""
        ...


class Received(NamedTuple):
    """What a receiver made of a delivery.

    Attributes:
        result: `gone`: it says that it wants no more; `failed`: it may be tried again.
        said: What it answered, or what kept it from answering, for people.
        retry_after: When it wants to be asked again.
    """

    result: Literal["delivered", "gone", "failed"]
    said: str
    retry_after: timedelta | None = None


class Webhooks(Protocol):
    """Receivers of moments."""

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of those that are known here."""
        ...

    async def send(self, target: str, message_id: str, body: bytes, *, now: datetime) -> Received:
        """Deliver once, within a bounded time; it does not raise."""
        ...


class Archive(Protocol):
    """Catalogues that were ever released."""

    def release(self, version: str) -> Release:
        """The release of this version (`sha256:...`); `StoreError` where it cannot be had."""
        ...
