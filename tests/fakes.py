"""In-memory stand-ins for the engine's ports, each with a switch that makes it fail."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from decisioning.bundle import Manifest, ModelFeature, Scored
from decisioning.content import Budget
from decisioning.content_types import NO_ACTION, Value
from decisioning.errors import StoreError
from decisioning.event_state import KeptStates
from decisioning.events import EventRecord, Happened
from decisioning.identity import Known, Link, linked
from decisioning.moments import AwaitedMoment
from decisioning.outcome_types import OF_MAILBOX
from decisioning.preferences import PreferencesChange
from decisioning.profile import Consent, ConsentChange, Contact, HotProfile, StoredFeatures, Subject
from decisioning.record import AuditRecord, DecisionRecord, OutcomeRecord, Told
from decisioning.reservation import AlreadyClaimed, ReservationRequest, Reserved, take
from decisioning.state_change import StateChange

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)


class FakeFeatures:
    def __init__(self, customers: dict[str, dict[str, Value]] | None = None) -> None:
        self.customers = customers if customers is not None else {"c-1": {"age": 41.0, "city": "ulm"}}
        self.accounts: dict[str, dict[str, Value]] = {}
        self.names = frozenset({"age", "city", "account_id"})
        self.down = False

    async def read(self, customer_id: str, *, account_id: str | None = None) -> StoredFeatures | None:
        if self.down:
            raise StoreError("features are down")
        values = self.customers.get(customer_id)
        if values is None:
            return None
        account_id = account_id or values.get("account_id")
        return StoredFeatures(values, AS_OF, account_id, self.accounts.get(account_id, {}))


class FakeHotState:
    """One customer's profile for all, plus the contacts that each reserved."""

    def __init__(self, profile: HotProfile = HotProfile()) -> None:  # noqa: B008 (frozen)
        self.profile = profile
        self.contacts: list[tuple[Subject, Contact]] = []
        self.claims: dict[str, AlreadyClaimed] = {}
        self.applied: list[Told] = []
        self.happened: list[Happened] = []
        self.known: dict[str, Known] = {}
        self.states: dict[tuple[str, str], bytes] = {}
        self.complete = True
        self.taken_by_others: tuple[Contact, ...] = ()
        self.buried: frozenset[str] = frozenset()
        self.reads = 0
        self.down = False

    async def read(
        self,
        subject: Subject,
        *,
        now: datetime,
        budgets: Sequence[Budget] = (),
        at: datetime | None = None,
        states: str | None = None,
    ) -> HotProfile:
        if self.down:
            raise StoreError("hot state is down")
        self.reads += 1
        if subject.customer_id in self.buried:
            return HotProfile(budgets=self.profile.budgets, paused=self.profile.paused, erased=True)
        profile = self._profile(subject)
        if states is None:
            return profile
        members = profile.person.members if profile.person else (subject.customer_id,)
        kept = {unit: self.states[states, unit] for unit in members if (states, unit) in self.states}
        return msgspec.structs.replace(profile, states=KeptStates(self.complete, kept))

    async def bury(self, names: Collection[str], *, erased: bool = True) -> None:
        self.buried = self.buried.union(names) if erased else self.buried.difference(names)

    async def reserve(self, request: ReservationRequest) -> Reserved | AlreadyClaimed:
        if request.decision_id in self.claims:
            return self.claims[request.decision_id]
        self.claims[request.decision_id] = AlreadyClaimed(request.digest, request.now)
        filled = take(request, self._profile(request.subject, self.taken_by_others))
        self.contacts += [(request.subject, contact) for _, contact in request.new_contacts(filled)]
        return Reserved(filled, self._profile(request.subject, self.taken_by_others))

    async def apply(self, told: Told) -> None:
        self.applied.append(told)

    async def note(self, happened: Sequence[Happened], states: StateChange | None = None) -> None:
        if self.down:
            raise StoreError("hot state is down")
        self.happened += happened
        for unit in states.units if states else ():
            new = states.of(unit, self.states.get((states.digest, unit)))
            if new is not None:
                self.states[states.digest, unit] = new.blob

    async def link(self, links: Sequence[Link]) -> None:
        if self.down:
            raise StoreError("hot state is down")
        change = linked(links, lambda _: self.known)
        for unit in change.ties.keys() | change.people.keys():
            known = self.known.get(unit, Known())
            self.known[unit] = Known(change.ties.get(unit, known.ties), change.people.get(unit, known.person))

    async def consent(self, changes: Sequence[ConsentChange]) -> None:
        if self.down:
            raise StoreError("hot state is down")
        for change in changes:
            word = Consent(change.purpose, change.channel)
            rest = {"consents": set(self.profile.consents) - {word}, "withdrawn": set(self.profile.withdrawn) - {word}}
            rest["consents" if change.granted else "withdrawn"].add(word)
            told = {name: tuple(sorted(words, key=lambda w: (w.purpose, w.channel))) for name, words in rest.items()}
            self.profile = msgspec.structs.replace(self.profile, **told)

    async def prefer(self, change: PreferencesChange) -> None:
        if self.down:
            raise StoreError("hot state is down")
        self.profile = msgspec.structs.replace(self.profile, preferences=change.preferences)

    async def pause(self, action: str, *, paused: bool) -> None:
        if self.down:
            raise StoreError("hot state is down")
        rest = tuple(name for name in self.profile.paused if name != action)
        self.profile = msgspec.structs.replace(self.profile, paused=(*rest, action) if paused else rest)

    def _profile(self, subject: Subject, others: tuple[Contact, ...] = ()) -> HotProfile:
        person = self.known.get(subject.customer_id, Known()).person
        members = person.members if person else (subject.customer_id,)
        called = person.id if person else subject.customer_id
        own = tuple(
            contact if owner.customer_id == called else msgspec.structs.replace(contact, customer_id=owner.customer_id)
            for owner, contact in self.contacts
            if owner.customer_id in members
        )
        shared = tuple(
            contact
            for owner, contact in self.contacts
            if owner.customer_id not in members and owner.account_id == subject.account_id
        )
        return msgspec.structs.replace(
            self.profile,
            contacts=(*self.profile.contacts, *own, *others),
            account_contacts=(*self.profile.account_contacts, *(shared if subject.account_id else ())),
            version=self.profile.version + len(self.contacts) + len(others),
            person=person or self.profile.person,
            met_first=person.met_first if person else self.profile.met_first,
        )


class FakeLedger:
    def __init__(self) -> None:
        self.decisions: dict[str, tuple[DecisionRecord, str]] = {}
        self.outcomes: dict[str, tuple[OutcomeRecord, str]] = {}
        self.events: dict[str, tuple[EventRecord, str]] = {}
        self.moments: list[AwaitedMoment] = []
        self.audits: list[AuditRecord] = []
        self.consents: list[ConsentChange] = []
        self.preferences: list[PreferencesChange] = []
        self.buried: frozenset[str] = frozenset()
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

    async def append_events(
        self, records: Sequence[tuple[EventRecord, str]], *, begun: Sequence[AwaitedMoment] = ()
    ) -> list[str]:
        if self.down:
            raise StoreError("the ledger is down")
        statuses = []
        for event, digest in records:
            known = self.events.setdefault(event.event_id, (event, digest))
            statuses.append("accepted" if known[0] is event else "duplicate" if known[1] == digest else "conflict")
            if statuses[-1] == "accepted":
                self.moments += [moment for moment in begun if moment.event_id == event.event_id]
        return statuses

    async def events_of(self, event_ids: Sequence[str]) -> list[EventRecord]:
        return [self.events[event_id][0] for event_id in event_ids]

    async def append_consents(self, changes: Sequence[ConsentChange]) -> None:
        if self.down:
            raise StoreError("the ledger is down")
        self.consents += changes

    async def append_preferences(self, change: PreferencesChange) -> None:
        if self.down:
            raise StoreError("the ledger is down")
        self.preferences.append(change)

    async def of_mailbox(self, customer_id: str, *, channel: str) -> list[OutcomeRecord]:
        of = {
            key for key, (one, _) in self.decisions.items() if (one.customer_id, one.channel) == (customer_id, channel)
        }
        found = [each for each, _ in self.outcomes.values() if each.decision_id in of and each.type in OF_MAILBOX]
        return sorted(found, key=lambda each: each.occurred_at, reverse=True)

    async def met(self, units: Collection[str]) -> dict[str, datetime]:
        made = [record for record, _ in self.decisions.values() if record.customer_id in units]
        return {record.customer_id: record.decided_at for record in reversed(made)}

    async def erased(self, names: Collection[str]) -> frozenset[str]:
        return self.buried.intersection(names)

    async def append_audit(self, entry: AuditRecord) -> None:
        if self.down:
            raise StoreError("the ledger is down")
        self.audits.append(entry)

    async def get(self, decision_id: str) -> tuple[DecisionRecord, str] | None:
        if self.down:
            raise StoreError("the ledger is down")
        return self.decisions.get(decision_id)


class FakeScorer:
    """Propensity by action id; uplift, of a model that has learnt it; and each member's, of one with an ensemble."""

    def __init__(
        self,
        propensities: dict[str, float] | None = None,
        *,
        uplifts: dict[str, float] | None = None,
        members: dict[str, Sequence[float]] | None = None,
    ) -> None:
        self.uplifts = uplifts
        self.members = members
        self.members_asked = 0
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
            outputs=("propensity",) if uplifts is None else ("propensity", "uplift"),
            n_members=0 if members is None else len(next(iter(members.values()))),
        )
        self.sha256 = "1" * 64
        self.rows: NDArray[np.float32] | None = None

    def score(self, rows: NDArray[np.float32], *, with_members: bool = False) -> Scored:
        self.rows = rows
        self.members_asked += with_members
        names = [*self.propensities, "another"]
        shown = [names[int(code)] for code in rows[:, 3]]
        propensity = np.array([self.propensities.get(name, 0.05) for name in shown], dtype=np.float32)
        scored = Scored(propensity)
        if self.uplifts is not None:
            uplift = np.array([self.uplifts.get(name, 0.0) for name in shown], dtype=np.float32)
            scored = scored._replace(uplift=uplift)
        if self.members is not None and with_members:
            scored = scored._replace(members=np.array([self.members[name] for name in shown], dtype=np.float32))
        return scored
