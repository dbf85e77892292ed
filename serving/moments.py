"""Moments that are due: decided once, whoever dies meanwhile, and handed to their channel.

    claim -> judge (late? ended by an event? too often?) -> engine -> keep

What a customer allows is what holds when the moment is due, since the engine decides then.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import msgspec

from decisioning.answer import DecisionAnswer, answer
from decisioning.catalog import Release
from decisioning.content_types import PERSONALISATION
from decisioning.errors import DecisionConflict, NextmoveError, RequestError, StoreError, UnknownMoment
from decisioning.event_content import Moment, ToWebhook
from decisioning.identity import is_visitor
from decisioning.moments import Trigger, belongs_to, catalog_of, context_of, ended_by, is_late, why_nothing
from decisioning.personalisation import agrees_to_personalisation
from decisioning.profile import Consent, HotProfile, Subject
from decisioning.record import DecisionRecord
from decisioning.request import DecisionRequest, OutcomeReport
from serving.engine import Engine
from serving.ports import HotState
from storage.ledger.moments import Asking, Decided, KeptMoment, Later, MomentStore, Settled

logger = logging.getLogger(__name__)
# Decided in one go, so that one commit serves many; other calls come in between.
TOGETHER = 32
# After a store could not be read.
TRY_AGAIN = timedelta(seconds=5)
# So long a channel has what it fetched to itself.
HANDED_OUT = timedelta(minutes=5)
SOURCE = "moments"  # who tells that an answer came to nothing
Became = Literal["decided", "delivered", "dead", "ended"]


class DeliveredMoment(msgspec.Struct, frozen=True, kw_only=True):
    """What a channel gets, fetched or sent.

    Attributes:
        moment_id: The same thing told twice has the same one.
        customer_id: Whom the decision is for; None for a visitor whom nobody knows.
        expires_at: Not to be sent later.
        event: What began it.
        decision: As `POST /v1/decisions` answers.
    """

    moment_id: str
    moment: str
    customer_id: str | None
    anonymous_id: str | None
    market: str | None
    due_at: datetime
    expires_at: datetime
    event: Trigger
    decision: DecisionAnswer


class Acknowledgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the channel made of a moment: whether the message was sent, if it says so."""

    status: Literal["sent", "not_sent"] | None = None


class MomentState(msgspec.Struct, frozen=True):
    """What has become of a moment."""

    moment_id: str
    state: str
    reason: str | None


class _Kept(msgspec.Struct):
    """What of a row's record the decision needs."""

    event: Trigger


class _Wanted(NamedTuple):
    """A moment that nothing has ended, and whom it is for: `personal` is whether what they did may be used."""

    kept: KeptMoment
    moment: Moment
    customer_id: str | None
    members: tuple[str, ...]
    personal: bool


_kept_decoder = msgspec.json.Decoder(_Kept)


class Moments:
    """Decides what is due, hands it out, and hears what became of it."""

    def __init__(
        self,
        engine: Engine,
        hot_state: HotState,
        store: MomentStore,
        *,
        count: Callable[[str, Became], None] = lambda _moment, _became: None,
    ) -> None:
        """`count` is told each moment, by its id in the catalogue, that has become something."""
        self._engine = engine
        self._hot_state = hot_state
        self._store = store
        self._count = count

    async def decide_due(self, *, now: datetime) -> int:
        """Decide some of what is due; how much of it was taken.

        Raises:
            StoreError: The ledger cannot be used.
        """
        return await self._decide(await asyncio.to_thread(self._store.claim_due, now=now, limit=TOGETHER), now)

    async def decide_begun(self, moment_ids: Collection[str], *, now: datetime) -> int:
        """Decide those of these that are due, likewise."""
        return await self._decide(await asyncio.to_thread(self._store.claim_begun, moment_ids, now=now), now)

    async def end_expired(self, *, now: datetime) -> int:
        """End answers that nobody took in time, and give back their places; how many."""
        ended = await asyncio.to_thread(self._store.end_expired, now=now, limit=TOGETHER)
        for each in ended:
            self._count(each.moment, "ended" if each.state == "ended" else "dead")
        await self.release([each.decision_id for each in ended], now=now)
        return len(ended)

    async def hand_out(
        self, *, channel: str | None, market: str | None, limit: int, now: datetime
    ) -> list[msgspec.Raw]:
        """Answers for a channel to deliver, those due for the longest first; nobody else gets them for 5 minutes."""
        found = await asyncio.to_thread(
            self._store.hand_out, channel=channel, market=market, limit=limit, now=now, until=now + HANDED_OUT
        )
        return [msgspec.Raw(each.record) for each in found]

    async def acknowledge(
        self, moment_id: str, said: Acknowledgement, *, market: str | None, source: str, now: datetime
    ) -> MomentState:
        """The channel has it; again changes nothing. What it says of the message counts as the outcome would.

        Raises:
            UnknownMoment: There is none in this market, or none that is decided yet.
            OutcomeConflict: The channel said the contrary before.
            StoreError: It could not be kept; say it again.
        """
        found = await asyncio.to_thread(self._store.find, moment_id)
        if found is None or found.state == "waiting" or market not in (None, found.market):
            raise UnknownMoment(f"no moment to deliver has the id '{moment_id[:256]}'", where="moment_id")
        if said.status is not None:
            report_id = f"{found.decision_id}/acknowledged"
            await self._report(found.decision_id, said.status, report_id=report_id, source=source, now=now)
        if found.state != "decided":
            return MomentState(moment_id, found.state, found.reason)
        if await self.keep([(found, Settled(moment_id, "delivered"))], now=now):
            return MomentState(moment_id, "delivered", None)
        return await self.acknowledge(moment_id, Acknowledgement(), market=market, source=source, now=now)

    async def keep(self, changes: Sequence[tuple[KeptMoment, Decided | Settled | Later]], *, now: datetime) -> set[str]:
        """What became of claimed moments; the ids of those that it changed."""
        changed = await asyncio.to_thread(self._store.keep, [change for _, change in changes], now=now)
        for kept, change in changes:
            if change.moment_id in changed and not isinstance(change, Later):
                self._count(kept.moment, change.state if isinstance(change, Settled) else "decided")
        return changed

    async def release(self, decision_ids: Sequence[str], *, now: datetime) -> None:
        """Give back the places of answers that nobody delivered."""
        for decision_id in decision_ids:
            await self._report(decision_id, "not_sent", report_id=f"{decision_id}/released", source=SOURCE, now=now)

    async def _report(
        self, decision_id: str, status: Literal["sent", "not_sent"], *, report_id: str, source: str, now: datetime
    ) -> None:
        report = OutcomeReport(decision_id=decision_id, type=status, outcome_id=report_id)
        [result] = await self._engine.record_outcomes([report], now=now, source=source)
        if result.problem is not None:
            raise result.problem

    async def _decide(self, claimed: list[KeptMoment], now: datetime) -> int:
        if not claimed:
            return 0
        judged = await asyncio.gather(*(self._judge(kept, now) for kept in claimed))
        changes: list[tuple[KeptMoment, Decided | Settled | Later]] = []
        wanted: list[_Wanted] = []
        for kept, each in zip(claimed, judged, strict=True):
            if isinstance(each, _Wanted):
                wanted.append(each)
            else:
                changes.append((kept, each))
        let = await asyncio.to_thread(
            self._store.let_through,
            [Asking(each.kept, each.members, each.moment.at_most) for each in wanted],
            now=now,
        )
        through = [each for each in wanted if each.kept.moment_id in let]
        too_many = [each.kept for each in wanted if each.kept.moment_id not in let]
        changes += [(kept, Settled(kept.moment_id, "ended", "AT_MOST")) for kept in too_many]
        answers = await asyncio.gather(*(self._ask(each, now) for each in through))
        changes += zip((each.kept for each in through), answers, strict=True)
        await self.keep(changes, now=now)
        return len(claimed)

    async def _judge(self, kept: KeptMoment, now: datetime) -> _Wanted | Settled | Later:
        """Whether it is still wanted."""
        catalog = catalog_of(kept.market, self._engine.release)
        moment = catalog.moments.get(kept.moment)
        if moment is None:
            return Settled(kept.moment_id, "ended", "NOT_IN_CATALOGUE")
        if is_late(moment, kept.due_at, now=now):
            return Settled(kept.moment_id, "ended", "LATE")
        unit = kept.customer_id if kept.customer_id is not None else f"anonymous:{kept.anonymous_id}"
        try:
            profile = await self._hot_state.read(Subject(unit), now=now)
        except StoreError:
            return Later(kept.moment_id, now + TRY_AGAIN)
        happened = ended_by(moment, profile.events, since=kept.occurred_at)
        if happened is not None:
            return Settled(kept.moment_id, "ended", f"UNLESS {happened}")
        members = profile.person.members if profile.person else (unit,)
        customer_id, channel = _known(kept, profile), catalog.placements[moment.placement].channel
        personal = Consent(PERSONALISATION, channel) in profile.consents or (
            customer_id is not None and agrees_to_personalisation(catalog.content, channel, profile)
        )
        return _Wanted(kept, moment, customer_id, members, personal)

    async def _ask(self, wanted: _Wanted, now: datetime) -> Decided | Settled | Later:
        """The engine's answer, the first one where it was asked before."""
        kept, moment = wanted.kept, wanted.moment
        trigger = _kept_decoder.decode(kept.record).event
        request = DecisionRequest(
            placement=moment.placement,
            customer_id=wanted.customer_id,
            anonymous_id=None if wanted.customer_id is not None else kept.anonymous_id,
            decision_id=kept.decision_id,
            market=kept.market,
            context=context_of(trigger.properties if wanted.personal else {}, features=self._engine.own_features),
        )
        try:
            record = await self._engine.find(kept.decision_id)
            if record is None:
                record = await self._first_answer(request, now)
            if not belongs_to(record, moment, wanted.members):
                raise DecisionConflict(f"decision {kept.decision_id} was asked for by somebody else")
        except StoreError as error:
            logger.warning("moment %s is tried again: %s", kept.moment_id, error.message)
            return Later(kept.moment_id, now + TRY_AGAIN)
        except NextmoveError as error:
            logger.error("moment %s cannot be decided: %s", kept.moment_id, error.message)
            return Settled(kept.moment_id, "ended", error.code.upper())
        except Exception as error:  # a mistake of ours; it must not keep the others from being decided
            logger.error("moment %s could not be decided", kept.moment_id, exc_info=error)
            return Later(kept.moment_id, now + TRY_AGAIN)
        nothing = why_nothing(record)
        if nothing is not None:
            return Settled(kept.moment_id, "ended", nothing)
        return self._decided(wanted, trigger, record)

    async def _first_answer(self, request: DecisionRequest, now: datetime) -> DecisionRecord:
        """The decision, without what the event says that the model cannot take."""
        while True:
            try:
                [record] = await self._engine.decide_placements(request, now=now, stored_first=True)
                return record
            except RequestError as error:
                name = (error.where or "").removeprefix("context.")
                if name not in request.context:
                    raise
                rest = {key: value for key, value in request.context.items() if key != name}
                request = msgspec.structs.replace(request, context=rest)

    def _decided(self, wanted: _Wanted, trigger: Trigger, record: DecisionRecord) -> Decided:
        kept, moment = wanted.kept, wanted.moment
        expires_at = min(kept.due_at + moment.expires, record.expires_at)
        delivered = DeliveredMoment(
            moment_id=kept.moment_id,
            moment=kept.moment,
            customer_id=record.request.customer_id,
            anonymous_id=kept.anonymous_id,
            market=kept.market,
            due_at=kept.due_at,
            expires_at=expires_at,
            event=trigger,
            decision=answer(record, unsubscribe=self._engine.unsubscribe_path(record)),
        )
        return Decided(
            moment_id=kept.moment_id,
            customer_id=record.request.customer_id,
            channel=record.channel,
            target=None if moment.deliver == "pull" else moment.deliver.webhook,
            expires_at=expires_at,
            record=msgspec.json.encode(delivered),
        )


def undeliverable(release: Release, targets: Collection[str]) -> list[str]:
    """A sentence for each webhook that moments are sent to, and that is not known here."""
    wanted = {
        (moment.deliver.webhook, moment.id)
        for catalog in release.markets.values()
        for moment in catalog.moments.values()
        if isinstance(moment.deliver, ToWebhook) and moment.deliver.webhook not in targets
    }
    return [
        f"moment {moment} goes to the webhook '{name}', which the file of the setting webhooks does not have"
        for name, moment in sorted(wanted)
    ]


def _known(kept: KeptMoment, profile: HotProfile) -> str | None:
    """The customer: the event's own, or who the visitor has turned out to be meanwhile."""
    if kept.customer_id is not None or profile.person is None or is_visitor(profile.person.id):
        return kept.customer_id
    return profile.person.id
