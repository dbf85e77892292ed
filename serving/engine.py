"""The engine: reads through ports, lets the pure funnel decide, reserves, and records.

    read -> narrow -> score -> plan -> reserve -> finish -> record

Whatever fails becomes a fallback with a reason; what needs consent or a cap fails closed. An
answer leaves only after its record is durable.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec
from ulid import ULID

from decisioning import decision as funnel
from decisioning.case import UNSCORED, Case, assigned, assignments_here, case_of, reason_of
from decisioning.catalog import Catalog, Release
from decisioning.contact_history import ContactHistory
from decisioning.content import Action, FeatureTypes
from decisioning.content_types import NO_ACTION, FeatureKind, Scalar, Value
from decisioning.decision import Choice
from decisioning.encoding import RowEncoder
from decisioning.erased import facts_of_nobody, nobodys
from decisioning.errors import DecisionConflict, RequestError, StoreError, UnknownDecision, UnknownExperiment
from decisioning.event_features import EventFeatures
from decisioning.event_state import MARGIN, KeptStates
from decisioning.foretelling import Foreteller, with_chances
from decisioning.personalisation import considered
from decisioning.posterior import Fitted, Posterior
from decisioning.profile import Facts, HotProfile, StoredFeatures, Subject
from decisioning.pseudonyms import Pseudonyms
from decisioning.record import Assignment, DecisionRecord, ModelVersion, Shadow
from decisioning.replay import Replayed, replay
from decisioning.request import AssignmentRequest, Context, DecisionRequest, OutcomeReport, sane
from decisioning.reservation import AlreadyClaimed, ReservationRequest, take, with_contacts
from decisioning.response_counts import variants_of
from decisioning.scores import Scores, scores_of
from decisioning.shadow import casts_shadow, shadow_of
from decisioning.slots import FilledSlot, key_id
from serving.customers import Customers
from serving.events import Events, Reported, Taken
from serving.feeds import FeedTally
from serving.outcomes import OutcomeResult, Outcomes, digest_of
from serving.pauses import PauseAnswer, PauseRequest, Pauses
from serving.ports import Archive, Features, HotState, Ledger, Scorer
from serving.timers import Laps, StageTimers
from serving.unsubscribe_links import UnsubscribeLinks

# A twin of this call, sent at the same instant, is answered with the first one's record.
TWIN_WAIT = timedelta(seconds=5)
# Decisions of a batch between two looks at other calls.
TOGETHER = 32
TWIN_POLL = timedelta(milliseconds=20)
# Of an error's text, which may hold anything.
MOST_SAID = 300
# The feature, or key of a request's context, that names a customer's account.
ACCOUNT_FEATURE = "account_id"


@dataclass(frozen=True, slots=True)
class DrawKey:
    """The server's secret for draws, and a public name by which records refer to it."""

    secret: bytes

    @property
    def key_id(self) -> str:
        """The first characters of the secret's hash."""
        return key_id(self.secret)


class Assigned(NamedTuple):
    """The variants of whoever was asked about, in the catalogue's order, and the catalogue."""

    assignments: tuple[Assignment, ...]
    catalog: Catalog


class _Versions(NamedTuple):
    """What a request is decided with from its first placement to its last."""

    catalog: Catalog
    model: "_Model | None"
    shadow: "_Model | None"
    learnt: Mapping[str, Action]  # actions as the model knows them, the same in every market
    event_features: EventFeatures | None
    foreteller: Foreteller | None

    def under(self, case: Case) -> "_Versions":
        """With the model that the case's variants say, where there is one: the challenger is that in the shadow."""
        if self.shadow is None or case.catalog.models.get(case.placement.id) != "challenger":
            return self
        return self._replace(model=self.shadow, shadow=None)


class _Model(NamedTuple):
    """A scorer, what turns values into its input, what records call it, and what corrects its scores."""

    scorer: Scorer
    encoder: RowEncoder
    version: ModelVersion
    posterior: Posterior

    @classmethod
    def of(cls, scorer: Scorer) -> "_Model":
        manifest = scorer.manifest
        version = ModelVersion(name=manifest.name, version=manifest.version, bundle_sha256=scorer.sha256)
        return cls(scorer, RowEncoder(manifest.features), version, Posterior.of(manifest))


class Engine:
    """Decides, and takes outcomes. One per process; `release` and `scorer` are swapped while it runs.

    Attributes:
        features: Reads what is stored of customers.
        customers: Takes consents, preferences and who unsubscribes.
        links: Makes and reads links to unsubscribe by.
        feeds: Counts what each source tells.
        moments_due: What events that were told have begun, to be decided at once.
        foreteller: Foretells journey stages; None where no such model is promoted.
        shadow: The challenger that scores what `scorer` decides; None: there is none.
        on_shadow: Told `scored` or `failed` of each decision that the shadow was asked about.
        shadow_problem: Why the shadow failed, the first time that it did.
    """

    def __init__(
        self,
        *,
        release: Release,
        features: Features,
        hot_state: HotState,
        ledger: Ledger,
        scorer: Scorer | None,
        draw_key: DrawKey,
        archive: Archive | None = None,
        links: UnsubscribeLinks | None = None,
        timers: StageTimers | None = None,
        paused: tuple[str, ...] = (),
        pseudonyms: Pseudonyms | None = None,
    ) -> None:
        self.release = release
        self._swapping = threading.Lock()  # a posterior must not bring back the model that it came for
        self.scorer = scorer
        self.foreteller: Foreteller | None = None
        self.shadow = None
        self.on_shadow: Callable[[str], None] = lambda _: None
        self.timers = timers or StageTimers()
        self.features = features
        self._hot_state = hot_state
        self._ledger = ledger
        self._pseudonyms = pseudonyms or Pseudonyms(None)
        self.feeds = FeedTally()
        self._events = Events(hot_state, ledger, self._pseudonyms, self.feeds)
        self.moments_due = self._events.moments_due
        self._outcomes = Outcomes(hot_state, ledger, self.feeds)
        self.customers = Customers(hot_state, ledger, self._outcomes, self._pseudonyms)
        self.links = links or UnsubscribeLinks(draw_key.secret, domain=release.domain)
        self._pauses = Pauses(hot_state, ledger)
        self._archive = archive
        self._key = draw_key
        self._paused = paused  # as last read, at first from the ledger: a stop holds while hot state is away

    @property
    def scorer(self) -> Scorer | None:
        """The model that scores now."""
        return self._model.scorer if self._model else None

    @scorer.setter
    def scorer(self, scorer: Scorer | None) -> None:
        model = _Model.of(scorer) if scorer is not None else None
        with self._swapping:
            self._model = model

    def take_posterior(self, fitted: Fitted | None) -> None:
        """Correct scores by this from the next decision on, if it is of the model that scores; else by nothing."""
        with self._swapping:
            model = self._model
            if model is None:
                return
            own = fitted if fitted is not None and fitted.bundle_sha256 == model.scorer.sha256 else None
            if (own.version if own is not None else None) != model.posterior.version:
                self._model = model._replace(posterior=Posterior.of(model.scorer.manifest, own))

    @property
    def shadow(self) -> Scorer | None:
        """The challenger that scores beside it."""
        return self._shadow.scorer if self._shadow else None

    @shadow.setter
    def shadow(self, scorer: Scorer | None) -> None:
        self._shadow = _Model.of(scorer) if scorer is not None else None
        self.shadow_problem: str | None = None

    async def decide(self, request: DecisionRequest, *, now: datetime) -> DecisionRecord:
        """Answer a request for one placement; see `decide_placements`."""
        [record] = await self.decide_placements(request, now=now)
        return record

    async def decide_placements(
        self, request: DecisionRequest, *, now: datetime, stored_first: bool = False
    ) -> tuple[DecisionRecord, ...]:
        """Answer one request, a record a placement; they are durable when this returns, except in preview.

        Who is one person by several ids has one variant of each experiment and one count of contacts,
        whichever is named; features are those of the id that is named.

        Placements are decided in their order, with one read of the customer. None shows what
        another shows, and contacts made by one count for the next. With `stored_first` a value that
        the request supplies does not count where one is stored, or where nobody can tell.

        Raises:
            RequestError: The request cannot be answered as it is; nothing was kept.
            StoreError: The ledger does not take records now; nothing may be shown.
        """
        laps = self.timers.start()
        request, clock = self._under_pseudonyms(request), now
        now = sane(request.now, where="now") if request.now is not None else now
        each = request.for_each_placement()
        # The whole request: a part must not answer for another request that has the same part.
        digests = [digest_of(request, part=one.placement or "") for one in each]
        live = request.mode == "live"
        firsts = [
            await self._first_of(one, digest) if live and one.decision_id else None
            for one, digest in zip(each, digests, strict=True)
        ]
        records: list[DecisionRecord] = []
        cases: list[Case] = []
        erased = False
        facts: Facts | None = None
        for record, digest in zip(firsts, digests, strict=True):
            if record is None:
                if not cases:
                    versions = self._versions(request.market)
                    cases = self._cases(each, versions, now)
                    laps.lap("request")
                    facts = await self._read(request, versions, laps, now=now, clock=clock, stored_first=stored_first)
                    unit = _unit_of(request, facts.hot)
                    erased = facts.hot is not None and facts.hot.erased
                assert facts is not None
                case = cases[len(records)]._replace(unit=unit, elsewhere=_shown(records))
                if erased:
                    case, facts, digest = _of_nobody(case, facts, now=now)
                record, facts = await self._decide(case, versions, facts, digest, laps)
            records.append(record)
        return tuple(records)

    async def assign(self, request: AssignmentRequest, *, now: datetime, stored_first: bool = False) -> Assigned:
        """The variants alone that a decision would have for this customer; nothing is ranked, reserved or kept.

        `stored_first` as of `decide_placements`.

        Raises:
            RequestError: The request cannot be answered as it is.
            StoreError: Hot state cannot be read: nobody can say who the customer is.
        """
        versions, laps = self._versions(request.market), StageTimers().start()
        catalog = versions.catalog
        wanted = _wanted(request, catalog)
        places = (request.placement,) if request.placement is not None else tuple(catalog.placements)
        each = [self._under_pseudonyms(request.at(place)) for place in places]
        cases = self._cases(each, versions, now)
        facts = await self._read(each[0], versions, laps, now=now, clock=now, stored_first=stored_first)
        if facts.hot is None:
            raise StoreError("hot state cannot be read, so nobody can say who the customer is; ask again")
        found: dict[str, Assignment] = {}
        for case in cases:
            case = case._replace(unit=_unit_of(each[0], facts.hot))
            for assignment in assignments_here(case, considered(case, facts)):
                found.setdefault(assignment.experiment, assignment)
        return Assigned(tuple(found[name] for name in catalog.experiments if name in found and name in wanted), catalog)

    def _versions(self, market: str | None) -> "_Versions":
        """What is served now, of this market."""
        release = self.release
        return _Versions(
            release.of(market),
            self._model,
            self._shadow,
            release.everywhere.actions,
            release.event_features,
            self.foreteller,
        )

    def _under_pseudonyms(self, request: DecisionRequest) -> DecisionRequest:
        """The request as it is kept: it names the customer as the stores do."""
        if not self._pseudonyms.are_used:
            return request
        return msgspec.structs.replace(
            request,
            customer_id=self._pseudonyms.of_any(request.customer_id),
            anonymous_id=self._pseudonyms.of_any(request.anonymous_id),
        )

    async def _decide(
        self, case: Case, versions: "_Versions", facts: Facts, digest: str, laps: Laps
    ) -> tuple[DecisionRecord, Facts]:
        """One placement's record, and the facts as they are with it."""
        live = case.request.mode == "live"
        everything, facts = facts, considered(case, facts)
        case = assigned(case, facts)
        versions = versions.under(case)
        choice = self._choose(case, versions, facts, laps)
        reservation = funnel.reservation(case, facts, choice.planned, digest=digest)
        after = everything
        try:
            if live and facts.hot is not None and reservation.eligible:
                reserved = await self._hot_state.reserve(reservation)
                if isinstance(reserved, AlreadyClaimed):
                    return await self._twin(reservation, reserved), everything
                filled, after = reserved.filled, msgspec.structs.replace(everything, hot=reserved.profile)
            else:
                filled = take(reservation, reservation.seen)
                if facts.hot is not None:
                    made = [contact for _, contact in reservation.new_contacts(filled)]
                    hot = with_contacts(facts.hot, made, version=facts.hot.version)
                    after = msgspec.structs.replace(everything, hot=hot)
        except StoreError:
            # What cannot be reserved may be over its cap by now: only what needs no cap is left.
            after = msgspec.structs.replace(everything, hot=None)
            facts = considered(case, after)
            choice = self._choose(case, versions, facts, laps)
            reservation = funnel.reservation(case, facts, choice.planned, digest=digest)
            filled = take(reservation, reservation.seen)
        laps.lap("reserve")
        shadow = self._shadow_of(case, versions, facts, choice, filled, laps)
        version = versions.model.version if versions.model else None
        record = funnel.record_of(case, facts, choice, filled, model=version, key_id=self._key.key_id, shadow=shadow)
        laps.lap("finish")
        if live:
            record = await self._keep(record, digest)
            laps.lap("ledger")
        return record, after

    async def decide_many(
        self, requests: Sequence[DecisionRequest], *, now: datetime, stored_first: bool = False
    ) -> list[tuple[DecisionRecord, ...] | Exception]:
        """Several requests in order, each with its own records or error; one commit serves many."""
        results: list[tuple[DecisionRecord, ...] | Exception] = []
        for begin in range(0, len(requests), TOGETHER):
            chunk = (
                self.decide_placements(request, now=now, stored_first=stored_first)
                for request in requests[begin : begin + TOGETHER]
            )
            for result in await asyncio.gather(*chunk, return_exceptions=True):
                if isinstance(result, BaseException) and not isinstance(result, Exception):
                    raise result  # cancelled
                results.append(result)
        return results

    @property
    def own_features(self) -> frozenset[str]:
        """Names of features that are stored, or computed of what customers did."""
        content = self.release.blueprint.content
        computed = (each.name for one in content.event_features for each in one.derived())
        return self.features.names.union((ACCOUNT_FEATURE,), computed, content.chances)

    async def find(self, decision_id: str) -> DecisionRecord | None:
        """The record of a decision, or None."""
        found = await self._ledger.get(decision_id)
        return found[0] if found else None

    async def replay(self, decision_id: str) -> Replayed:
        """Whether this decision comes out again from its record, bit for bit; see `decisioning.replay`.

        Raises:
            UnknownDecision: There is no such decision.
            SetupError: It was drawn with another secret.
            StoreError: The catalogue that it was made under cannot be read.
        """
        record = await self.find(decision_id)
        if record is None:
            raise UnknownDecision(f"no decision has the id '{decision_id[:256]}'", where="decision_id")
        release = self.release
        if release.version != record.catalog_version:
            if self._archive is None:
                raise StoreError(f"catalogue {record.catalog_version} is not at hand; this service keeps no archive")
            release = self._archive.release(record.catalog_version)
        return replay(record, release.of(record.market), key=self._key.secret)

    async def record_outcomes(
        self,
        reports: Sequence[OutcomeReport],
        *,
        now: datetime,
        source: str | None = None,
        market: str | None = None,
    ) -> list[OutcomeResult]:
        """Keep outcomes, durably, then let hot state know; see `Outcomes.record`."""
        return await self._outcomes.record(reports, self.release, now=now, source=source, market=market)

    async def record_events(self, reported: Sequence[Reported]) -> list[Taken]:
        """Keep events, durably, then let hot state know; see `Events.record`."""
        return await self._events.record(reported, self.release)

    async def pause(
        self, action_id: str, request: PauseRequest, *, paused: bool, actor: str, now: datetime
    ) -> PauseAnswer:
        """Stop an action from the next decision on, or let it go on; see `Pauses.put`."""
        return await self._pauses.put(action_id, request, self.release, paused=paused, actor=actor, now=now)

    def unsubscribe_path(self, record: DecisionRecord) -> str | None:
        """The link for the message that a decision becomes; None where nothing is sent."""
        catalog = self.release.markets.get(record.market)
        if catalog is None or record.placement not in catalog.push or not record.slots:
            return None
        return self.links.path(record.request.unit, record.channel)

    async def paused(self, *, now: datetime) -> tuple[str, ...]:
        """What is stopped now: actions, as `id` or `market/id`."""
        return (await self._hot_state.read(Subject(""), now=now)).paused

    def _cases(self, each: Sequence[DecisionRequest], versions: "_Versions", now: datetime) -> list[Case]:
        """The requests with all that they name looked up, in one version of catalogue and model."""
        if versions.model is not None:
            _check_context(each[0], versions.model.encoder)
        cases = []
        for request in each:
            fresh = str(ULID.from_datetime(now))
            cases.append(
                case_of(
                    versions.catalog,
                    request,
                    decision_id=request.decision_id or fresh,
                    # A preview must not foretell the draw of the live decision with the same id.
                    draw_id=(request.decision_id or fresh) if request.mode == "live" else f"preview:{fresh}",
                    now=now,
                )
            )
        return cases

    def _choose(self, case: Case, versions: "_Versions", facts: Facts, laps: Laps) -> Choice:
        """Narrow, score and plan; without hot state or a model, and for the control, the fallback."""
        narrowed, model = funnel.narrow(case, facts), versions.model
        laps.lap("narrow")
        reason = reason_of(case, facts, has_model=model is not None)
        if reason in UNSCORED or model is None:
            return Choice(narrowed, funnel.plan_fallback(case, narrowed, reason), reason)
        if not narrowed.has_choice:
            return Choice(narrowed, funnel.NOTHING, reason)
        scores = _scores(case, narrowed, model, versions.learnt, facts, laps)
        planned = funnel.plan(case, narrowed, scores, key=self._key.secret)
        laps.lap("plan")
        return Choice(narrowed, planned, reason)

    def _shadow_of(
        self,
        case: Case,
        versions: "_Versions",
        facts: Facts,
        choice: Choice,
        filled: Sequence[FilledSlot],
        laps: Laps,
    ) -> Shadow | None:
        """What the challenger says of the same candidates; whatever it fails with, the decision stands."""
        model = versions.shadow
        if model is None or not casts_shadow(case, choice):
            return None
        try:
            scores = _scores(
                case, choice.narrowed, model, versions.learnt, facts, laps, stages=("shadow", "shadow", "shadow")
            )
            found = shadow_of(case, choice, scores, filled, model=model.version)
        except Exception as error:  # a model that nobody has promoted may be wrong in any way
            self.shadow_problem = self.shadow_problem or f"{type(error).__name__}: {error}"[:MOST_SAID]
            found = None
        self.on_shadow("failed" if found is None else "scored")
        laps.lap("shadow")
        return found

    async def _read(
        self,
        request: DecisionRequest,
        versions: "_Versions",
        laps: Laps,
        *,
        now: datetime,
        clock: datetime,
        stored_first: bool,
    ) -> Facts:
        """All that stores know; what cannot be read is absent, and the reason says so."""
        catalog, context = versions.catalog, request.context
        stored, unreadable = None, False
        if request.customer_id is not None:
            try:
                stored = await self._stored(request.customer_id, _account_in(context), stored_first=stored_first)
            except StoreError:
                unreadable = True
        laps.lap("features")
        account_id = stored.account_id if stored else _account_in({} if unreadable and stored_first else context)
        subject = Subject(request.unit, account_id)
        # Of what was long ago, states have forgotten what they need no more.
        over_events = versions.event_features
        states = over_events.states.digest if over_events and now >= clock - MARGIN else None
        try:
            budgets, at = catalog.content.budgets, max(now, request.planned_at or now)
            hot = await self._hot_state.read(subject, now=now, budgets=budgets, at=at, states=states)
            self._paused = hot.paused
        except StoreError:
            hot = None
        laps.lap("hot_read")
        known = stored.values if stored else dict.fromkeys(self.features.names)
        untold: frozenset[str] = self.features.names if unreadable else frozenset()
        if over_events is not None:
            computed = _computed(over_events, hot, request, now=now)
            known = {**known, **(computed or over_events.unknown)}
            untold |= frozenset(() if computed else over_events.unknown)
        if stored_first:
            context = {name: value for name, value in context.items() if name not in untold}
        supplied = _supplied(context, known, catalog.features, stored_first=stored_first)
        facts = Facts(
            features={**known, **supplied},
            account_id=account_id,
            account=stored.account if stored else {},
            hot=hot,
            paused=self._paused,
            overridden=tuple(supplied),
            as_of=stored.as_of if stored else None,
            known=stored is not None,
            readable=not unreadable,
        )
        return with_chances(facts, versions.catalog, versions.foreteller, context=request.context, now=now)

    async def _stored(self, customer_id: str, named: str | None, *, stored_first: bool) -> StoredFeatures | None:
        """What the feature store holds, with the account that the request names, if any."""
        if named is None or not stored_first:
            return await self.features.read(customer_id, account_id=named)
        stored = await self.features.read(customer_id)
        if stored is None or stored.account_id is not None or stored.values.get(ACCOUNT_FEATURE) is not None:
            return stored
        return await self.features.read(customer_id, account_id=named)

    async def _keep(self, record: DecisionRecord, digest: str) -> DecisionRecord:
        """Make the record durable; what stands under its id already, of the same body, is the answer."""
        if await self._ledger.append_decision(record, digest=digest) == "duplicate":
            first = await self._first_answer(record.decision_id, digest)
            return first if first is not None else record
        if record.request.decision_id is not None:
            await self._outcomes.apply_kept(record)  # outcomes may have come before their decision
        return record

    async def _first_of(self, request: DecisionRequest, digest: str) -> DecisionRecord | None:
        """The first answer to this request, if there was one; also if whoever is asked about was erased."""
        assert request.decision_id is not None
        try:
            return await self._first_answer(request.decision_id, digest)
        except DecisionConflict:
            if not await self._ledger.erased([request.unit]):
                raise
            return await self._first_answer(request.decision_id, _digest_of_nobodys(request))

    async def _first_answer(self, decision_id: str, digest: str) -> DecisionRecord | None:
        found = await self._ledger.get(decision_id)
        if found is None:
            return None
        record, first_digest = found
        if first_digest != digest:
            raise _conflict(decision_id, record)
        return record

    async def _twin(self, reservation: ReservationRequest, claim: AlreadyClaimed) -> DecisionRecord:
        """The answer of the call that claimed this id first and is not yet in the ledger."""
        if claim.digest != reservation.digest:
            raise _conflict(reservation.decision_id, await self.find(reservation.decision_id))
        for _ in range(TWIN_WAIT // TWIN_POLL):
            first = await self._first_answer(reservation.decision_id, reservation.digest)
            if first is not None:
                return first
            await asyncio.sleep(TWIN_POLL.total_seconds())
        raise StoreError(
            f"decision '{reservation.decision_id}' was begun at {claim.claimed_at.isoformat()} and is not recorded yet;"
            " send it again"
        )


def _wanted(request: AssignmentRequest, catalog: Catalog) -> frozenset[str]:
    """The experiments that are asked for: those that are named, or all.

    Raises:
        UnknownExperiment: The catalogue does not have one.
    """
    known = frozenset(experiment.id for experiment in catalog.content.experiments)
    for index, name in enumerate(request.experiments or ()):
        if name not in known:
            allowed = ", ".join(sorted(known)) or "none: the catalogue has no experiment"
            raise UnknownExperiment(
                f"experiments[{index}] is '{name}', must be one of {allowed}", where=f"experiments[{index}]"
            )
    return known if request.experiments is None else frozenset(request.experiments)


def _unit_of(request: DecisionRequest, hot: HotProfile | None) -> str:
    """What whoever is asked about is called; see `Case.unit`."""
    return hot.person.id if hot and hot.person else request.unit


def _of_nobody(case: Case, facts: Facts, *, now: datetime) -> tuple[Case, Facts, str]:
    """The same asked for somebody who was erased: what is decided, by what, and the digest of what is asked."""
    fresh = str(ULID.from_datetime(now))
    request = nobodys(case.request, decision_id=fresh, about=(ACCOUNT_FEATURE,))
    decision_id = request.decision_id or fresh
    draw_id = decision_id if request.mode == "live" else case.draw_id
    case = case._replace(request=request, unit=request.unit, decision_id=decision_id, draw_id=draw_id)
    return case, facts_of_nobody(facts, case), _digest_of_nobodys(request)


def _digest_of_nobodys(request: DecisionRequest) -> str:
    """Of a request without whoever it is about: a hash of an id that others can guess is as good as the id."""
    asked = nobodys(request, decision_id="", about=(ACCOUNT_FEATURE,))
    return digest_of(asked, part=request.placement or "")


def _scores(
    case: Case,
    narrowed: funnel.Narrowed,
    model: "_Model",
    learnt: Mapping[str, Action],
    facts: Facts,
    laps: Laps,
    *,
    stages: tuple[str, str, str] = ("encode", "score", "posterior"),
) -> Scores:
    """Scores of the eligible, with that of showing nothing where one of them ranks by uplift over it.

    `stages` are what its time is charged to.
    """
    by_uplift = "uplift" not in model.scorer.manifest.outputs and any(
        eligible.proposal.action.rank_by == "uplift" for eligible in narrowed.eligible
    )
    actions = [learnt[eligible.proposal.action.id] for eligible in narrowed.eligible]
    where: dict[str, Value] = {"placement": case.placement.id, "channel": case.placement.channel, "slot": 1}
    shared = {**case.request.context, **facts.features, **where}
    rows = model.encoder.rows(
        shared,
        [*actions, learnt[NO_ACTION]] if by_uplift else actions,
        ContactHistory(facts.history, now=case.now),
    )
    laps.lap(stages[0])
    scored = model.scorer.score(rows, with_members=case.placement.exploration.by_members)
    scores = scores_of(scored, with_baseline=by_uplift)
    laps.lap(stages[1])
    scores = model.posterior.corrected(
        scores,
        [action.id for action in actions],
        variants=variants_of(case.assignments) if case.assignments else "",
        channel=case.placement.channel,
    )
    laps.lap(stages[2])
    return scores


def _computed(
    over_events: EventFeatures, hot: HotProfile | None, request: DecisionRequest, *, now: datetime
) -> dict[str, Scalar] | None:
    """Features over events; None where nobody can say. A visitor's are of that visitor, whoever it turned out to be."""
    if hot is None or hot.states is None:
        return None
    kept = hot.states
    if request.customer_id is None:
        own = {unit: blob for unit, blob in kept.by_unit.items() if unit == request.unit}
        kept = KeptStates(kept.complete, own)
    return over_events.of_person(kept, now=now)


def _shown(records: Sequence[DecisionRecord]) -> tuple[str, ...]:
    return tuple(slot.action_id for record in records for slot in record.slots if slot.action_id != NO_ACTION)


def _account_in(context: Context) -> str | None:
    named = context.get(ACCOUNT_FEATURE)
    return named if isinstance(named, str) else None


def _supplied(
    context: Context, known: Mapping[str, Value], kinds: FeatureTypes | None, *, stored_first: bool
) -> dict[str, Value]:
    """Features that the request supplies for this moment.

    Raises:
        RequestError: One is of another kind than the feature.
    """
    supplied: dict[str, Value] = {}
    for name in sorted(context.keys() & known.keys()):
        if stored_first and known[name] is not None:
            continue
        value, kind = context[name], kinds.customer.get(name) if kinds else None
        if not (value is None or kind is None or _is_of(kind, value)):
            raise RequestError(f"context: '{name}' is {value!r}, must be a {kind}", where=f"context.{name}")
        # Rules calculate with fractions, and CEL does not mix them with whole numbers.
        supplied[name] = float(value) if kind == "number" and isinstance(value, int) else value
    return supplied


def _is_of(kind: FeatureKind, value: object) -> bool:
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str if kind == "text" else bool) and kind != "texts"


def _check_context(request: DecisionRequest, encoder: RowEncoder) -> None:
    try:
        encoder.check(request.context)
    except (TypeError, ValueError) as error:
        name = next((name for name in request.context if f"'{name}'" in str(error)), "")
        raise RequestError(f"context: {error}", where=f"context.{name}") from error


def _conflict(decision_id: str, first: DecisionRecord | None) -> DecisionConflict:
    return DecisionConflict(
        f"decision_id '{decision_id}' was already used with another body; send a new id, or the same body",
        first=first,
    )
