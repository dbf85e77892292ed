"""The engine: reads through ports, lets the pure funnel decide, reserves, and records.

    read -> narrow -> score -> plan -> reserve -> finish -> record

Whatever fails becomes a fallback with a reason; what needs consent or a cap fails closed. An
answer leaves only after its record is durable.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from ulid import ULID

from decisioning import decision as funnel
from decisioning.catalog import Catalog, Placement, Scalar
from decisioning.encoding import RowEncoder
from decisioning.errors import DecisionConflict, RequestError, StoreError
from decisioning.profile import Contact, ContactHistory, HotProfile
from decisioning.record import DecisionRecord, ModelVersion
from decisioning.request import DecisionRequest, OutcomeReport, sane
from decisioning.reservation import AlreadyClaimed, ReservationRequest, take
from decisioning.slots import FilledSlot
from serving.outcomes import OutcomeResult, Outcomes, digest_of
from serving.ports import Features, HotState, Ledger, Scorer
from serving.timers import Laps, StageTimers

# A twin of this call, sent at the same instant, is answered with the first one's record.
TWIN_WAIT = timedelta(seconds=5)
# Decisions of a batch between two looks at other calls.
TOGETHER = 32
TWIN_POLL = timedelta(milliseconds=20)

RANKED, NO_ELIGIBLE_ACTION = "RANKED", "NO_ELIGIBLE_ACTION"
UNKNOWN_CUSTOMER = "FALLBACK_UNKNOWN_CUSTOMER"
FEATURES_UNAVAILABLE = "FALLBACK_FEATURES_UNAVAILABLE"
MODEL_UNAVAILABLE = "FALLBACK_MODEL_UNAVAILABLE"
HOT_STATE_UNAVAILABLE = "FALLBACK_HOT_STATE_UNAVAILABLE"
REASON_DETAILS = {
    UNKNOWN_CUSTOMER: "the customer is not known: ranked from the request's context alone",
    FEATURES_UNAVAILABLE: "stored features cannot be read: ranked from the request's context alone",
    MODEL_UNAVAILABLE: "no model is loaded: the placement's fallback actions, unranked, if it has any",
    HOT_STATE_UNAVAILABLE: "consent and contacts cannot be read: only fallback actions that need neither, if any",
    RANKED: "",
    NO_ELIGIBLE_ACTION: "every action was dropped; dropped_by_step says where",
}


@dataclass(frozen=True, slots=True)
class DrawKey:
    """The server's secret for draws, and a public name by which records refer to it."""

    secret: bytes

    @property
    def key_id(self) -> str:
        """The first characters of the secret's hash."""
        return hashlib.sha256(self.secret).hexdigest()[:12]


class _Facts(NamedTuple):
    """What was read for one decision."""

    features: dict[str, Scalar]
    overridden: tuple[str, ...]
    as_of: datetime | None
    hot: HotProfile | None
    reason: str

    @property
    def contacts(self) -> tuple[Contact, ...]:
        """Contacts of late; none where they cannot be read."""
        return self.hot.contacts if self.hot else ()

    def shared(self, request: DecisionRequest, placement: Placement) -> dict[str, Scalar]:
        """What the model sees of the customer and the moment, the same for every candidate."""
        where: dict[str, Scalar] = {"placement": placement.id, "channel": placement.channel, "slot": 1}
        return {**request.context, **self.features, **where}


class _Case(NamedTuple):
    """One request and the versions that it is decided with."""

    request: DecisionRequest
    unit: str
    digest: str
    decision_id: str
    draw_id: str
    now: datetime
    placement: Placement
    catalog: Catalog
    model: "_Model | None"


class _Choice(NamedTuple):
    """Who was left, in which order, and why so."""

    narrowed: funnel.Narrowed
    planned: funnel.Plan
    reason: str


class _Model(NamedTuple):
    """A scorer, what turns values into its input, and what records call it."""

    scorer: Scorer
    encoder: RowEncoder
    version: ModelVersion

    @classmethod
    def of(cls, scorer: Scorer) -> "_Model":
        manifest = scorer.manifest
        version = ModelVersion(name=manifest.name, version=manifest.version, bundle_sha256=scorer.sha256)
        return cls(scorer, RowEncoder(manifest.features), version)


class Engine:
    """Decides, and takes outcomes. One per process; `catalog` and `scorer` are swapped while it runs."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        features: Features,
        hot_state: HotState,
        ledger: Ledger,
        scorer: Scorer | None,
        draw_key: DrawKey,
        timers: StageTimers | None = None,
    ) -> None:
        self.catalog = catalog
        self.scorer = scorer
        self.timers = timers or StageTimers()
        self._features = features
        self._hot_state = hot_state
        self._ledger = ledger
        self._outcomes = Outcomes(hot_state, ledger)
        self._key = draw_key

    @property
    def scorer(self) -> Scorer | None:
        """The model that scores now."""
        return self._model.scorer if self._model else None

    @scorer.setter
    def scorer(self, scorer: Scorer | None) -> None:
        self._model = _Model.of(scorer) if scorer is not None else None

    async def decide(self, request: DecisionRequest, *, now: datetime) -> DecisionRecord:
        """Answer one request; the record is durable when this returns, except in preview.

        Raises:
            RequestError: The request cannot be answered as it is; nothing was kept.
            StoreError: The ledger does not take records now; nothing may be shown.
        """
        laps = self.timers.start()
        unit, digest, live = request.unit, digest_of(request), request.mode == "live"
        if live and request.decision_id is not None:
            first = await self._first_answer(request.decision_id, digest)
            if first is not None:
                return first
        case = self._case(request, unit, digest, now)
        laps.lap("request")

        facts = await self._read(request, laps, now=case.now)
        choice = self._choose(case, facts, laps)
        reservation = _reservation(case, choice.planned)
        try:
            if live and facts.hot is not None and reservation.candidates:
                filled = await self._hot_state.reserve(reservation)
            else:
                filled = take(reservation, facts.hot or funnel.NO_HOT_PROFILE)
        except StoreError:
            # What cannot be reserved may be over its cap by now: only what needs no cap is left.
            facts = facts._replace(hot=None, reason=HOT_STATE_UNAVAILABLE)
            choice = self._choose(case, facts, laps)
            filled = take(_reservation(case, choice.planned), funnel.NO_HOT_PROFILE)
        if isinstance(filled, AlreadyClaimed):
            return await self._twin(reservation, filled)
        laps.lap("reserve")

        record = _record(case, facts, choice, filled, self._key.key_id)
        laps.lap("finish")
        if live:
            record = await self._keep(record, digest)
            laps.lap("ledger")
        return record

    async def decide_many(
        self, requests: Sequence[DecisionRequest], *, now: datetime
    ) -> list[DecisionRecord | Exception]:
        """Several decisions in order, each with its own record or error; one commit serves many."""
        results: list[DecisionRecord | Exception] = []
        for begin in range(0, len(requests), TOGETHER):
            chunk = (self.decide(request, now=now) for request in requests[begin : begin + TOGETHER])
            for result in await asyncio.gather(*chunk, return_exceptions=True):
                if isinstance(result, BaseException) and not isinstance(result, Exception):
                    raise result  # cancelled
                results.append(result)
        return results

    async def find(self, decision_id: str) -> DecisionRecord | None:
        """The record of a decision, or None."""
        found = await self._ledger.get(decision_id)
        return found[0] if found else None

    async def record_outcomes(self, reports: Sequence[OutcomeReport], *, now: datetime) -> list[OutcomeResult]:
        """Keep outcomes, durably, then let hot state know; see `Outcomes.record`."""
        return await self._outcomes.record(reports, self.catalog, now=now)

    def _case(self, request: DecisionRequest, unit: str, digest: str, now: datetime) -> "_Case":
        """The request with all that it names looked up, in one version of catalogue and model."""
        catalog, model = self.catalog, self._model
        now = sane(request.now, where="now") if request.now is not None else now
        placement = funnel.placement_of(catalog, request)
        if model is not None:
            _check_context(request, model.encoder)
        fresh = str(ULID.from_datetime(now))
        # A preview must not foretell the draw of the live decision with the same id.
        decision_id = request.decision_id or fresh
        draw_id = decision_id if request.mode == "live" else f"preview:{fresh}"
        return _Case(request, unit, digest, decision_id, draw_id, now, placement, catalog, model)

    def _choose(self, case: "_Case", facts: "_Facts", laps: Laps) -> "_Choice":
        """Narrow, score and plan; without hot state or a model, the fallback."""
        contacts, model = facts.contacts, case.model
        narrowed = funnel.narrow(case.catalog, case.placement, case.request, facts.features, facts.hot, now=case.now)
        laps.lap("narrow")
        if facts.hot is None or model is None:
            reason = facts.reason if facts.hot is None else MODEL_UNAVAILABLE
            return _Choice(narrowed, funnel.plan_fallback(narrowed), reason)
        if not narrowed.has_choice:
            return _Choice(narrowed, funnel.NOTHING, facts.reason)
        actions = [candidate.action for candidate in narrowed.eligible]
        history = ContactHistory(contacts, now=case.now)
        rows = model.encoder.rows(facts.shared(case.request, case.placement), actions, history)
        laps.lap("encode")
        propensities = model.scorer.score(rows)
        laps.lap("score")
        key = self._key.secret
        planned = funnel.plan(narrowed, propensities, case.placement, draw_id=case.draw_id, key=key)
        laps.lap("plan")
        return _Choice(narrowed, planned, facts.reason)

    async def _read(self, request: DecisionRequest, laps: Laps, *, now: datetime) -> "_Facts":
        """All that stores know; what cannot be read is absent, and the reason says so."""
        stored, reason = None, UNKNOWN_CUSTOMER
        if request.customer_id is not None:
            try:
                stored = await self._features.read(request.customer_id)
            except StoreError:
                reason = FEATURES_UNAVAILABLE
        laps.lap("features")
        try:
            hot: HotProfile | None = await self._hot_state.read(request.unit, now=now)
        except StoreError:
            hot = None
        laps.lap("hot_read")
        values = stored.values if stored else dict.fromkeys(self._features.names)
        overridden = tuple(name for name in request.context if name in values)
        return _Facts(
            features={**values, **{name: request.context[name] for name in overridden}},
            overridden=overridden,
            as_of=stored.as_of if stored else None,
            hot=hot,
            reason=HOT_STATE_UNAVAILABLE if hot is None else RANKED if stored else reason,
        )

    async def _keep(self, record: DecisionRecord, digest: str) -> DecisionRecord:
        """Make the record durable; what stands under its id already, of the same body, is the answer."""
        if await self._ledger.append_decision(record, digest=digest) == "duplicate":
            first = await self._first_answer(record.decision_id, digest)
            return first if first is not None else record
        if record.request.decision_id is not None:
            await self._outcomes.apply_kept(record)  # outcomes may have come before their decision
        return record

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


def _reservation(case: _Case, planned: funnel.Plan) -> ReservationRequest:
    placement, catalog = case.placement, case.catalog
    return ReservationRequest(
        decision_id=case.decision_id,
        digest=case.digest,
        customer_id=case.unit,
        now=case.now,
        expires_at=case.now + placement.time_out,
        candidates=tuple(
            funnel.contact_of(catalog.actions[candidate.action_id], placement, case.now)
            for candidate in planned.candidates
        ),
        order=planned.order,
        slots=min(case.request.limit or placement.slots, placement.slots),
        policies=catalog.content.contact_policies,
        channel=placement.channel,
        purpose=catalog.channels[placement.channel].requires_consent,
        confirmed=placement.shown_by == "decision",
    )


def _record(case: _Case, facts: _Facts, choice: _Choice, filled: Sequence[FilledSlot], key_id: str) -> DecisionRecord:
    placement, catalog = case.placement, case.catalog
    slots = funnel.finish(choice.planned, filled, catalog, placement)
    nothing_left = not slots and choice.reason in (RANKED, UNKNOWN_CUSTOMER)
    reason = NO_ELIGIBLE_ACTION if nothing_left else choice.reason
    return DecisionRecord(
        decision_id=case.decision_id,
        decided_at=case.now,
        expires_at=case.now + placement.time_out,
        domain=catalog.content.domain,
        market=catalog.content.market,
        customer_id=case.unit,
        placement=placement.id,
        channel=placement.channel,
        request=case.request,
        features=facts.features,
        overridden=facts.overridden,
        features_as_of=facts.as_of,
        consents=facts.hot.consents if facts.hot else (),
        suppressed=facts.hot.suppressed if facts.hot else (),
        contacts=facts.contacts,
        assignments=choice.narrowed.assignments,
        dropped=(*choice.narrowed.dropped, *funnel.lost(choice.planned, filled)),
        candidates=choice.planned.candidates,
        slots=slots,
        reason=reason,
        reason_detail=REASON_DETAILS[reason],
        policy=funnel.policy_version(placement),
        model=case.model.version if case.model else None,
        catalog_version=catalog.version,
        key_id=key_id,
    )


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
