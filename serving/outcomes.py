"""Taking outcomes: each is checked, made durable, and then told to hot state."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

import msgspec
from ulid import ULID

from decisioning.catalog import Release
from decisioning.errors import NextmoveError, OutcomeConflict, RequestError, UnknownAction, UnknownDecision
from decisioning.outcome_types import OF_MAILBOX, OF_MESSAGE, REPEATED
from decisioning.record import DecisionRecord, OutcomeRecord, Told, told
from decisioning.request import DecisionRequest, OutcomeReport, sane
from decisioning.reward import CLOCK_TOLERANCE
from serving.feeds import FeedTally
from serving.ports import HotState, Ledger
from storage.id_digests import decision_name

# What is said of a message, or of being contacted at all, rather than of one action.
OF_NO_ACTION = OF_MESSAGE | {"unsubscribe", "complaint"}
# So many messages in a row that come back softly close the channel.
SOFT_BOUNCES = 3


def digest_of(body: DecisionRequest | OutcomeReport, *, part: str = "") -> str:
    """What tells one body from another under the same id; of a placement's part, the whole request and its name."""
    content = msgspec.json.encode(body, order="sorted") + part.encode()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


class OutcomeResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one reported outcome; that of an erased person's decision is ignored."""

    status: Literal["accepted", "duplicate", "ignored", "rejected"]
    outcome_id: str | None = None
    problem: NextmoveError | None = None


class Outcomes:
    """What customers did, on its way into the ledger and hot state."""

    def __init__(self, hot_state: HotState, ledger: Ledger, feeds: FeedTally) -> None:
        self._hot_state = hot_state
        self._ledger = ledger
        self._feeds = feeds

    async def record(
        self,
        reports: Sequence[OutcomeReport],
        release: Release,
        *,
        now: datetime,
        source: str | None = None,
        market: str | None = None,
    ) -> list[OutcomeResult]:
        """Keep outcomes, durably, then let hot state know. Each report has its own result.

        `source` tells them, and `market` is the only one whose decisions they may be of; None for all.

        Raises:
            StoreError: They could not be kept; send them again.
        """
        results: list[OutcomeResult | None] = [None] * len(reports)
        kept: list[tuple[int, OutcomeRecord, DecisionRecord | None]] = []
        for index, report in enumerate(reports):
            found = await self._ledger.get(report.decision_id)
            decided = found[0] if found else None
            if decided is None and await self._ledger.erased([decision_name(report.decision_id)]):
                results[index] = OutcomeResult("ignored", report.outcome_id)
                continue
            try:
                if decided is not None and market not in (None, decided.market):
                    raise UnknownDecision(
                        f"no decision of market '{market}' has the id '{report.decision_id}'", where="decision_id"
                    )
                outcome = _outcome_of(report, decided, release, now=now, source=source)
            except RequestError as error:
                results[index] = OutcomeResult("rejected", report.outcome_id, error)
                continue
            if decided is not None and _is_soft(outcome) and await self._is_one_too_many(outcome, decided, kept):
                outcome = msgspec.structs.replace(outcome, detail=REPEATED)
            kept.append((index, outcome, decided))
        digests = [digest_of(reports[index]) for index, _, _ in kept]
        statuses = await self._ledger.append_outcomes(
            [(outcome, digest) for (_, outcome, _), digest in zip(kept, digests, strict=True)]
        )
        became = dict(zip((index for index, _, _ in kept), statuses, strict=True))
        for index, report in enumerate(reports):
            self._feeds.outcome(source, report, became.get(index, "rejected"), now=now)
        for (index, outcome, decided), status in zip(kept, statuses, strict=True):
            if status == "conflict":
                problem = OutcomeConflict(
                    f"outcome_id '{outcome.outcome_id}' was already used for another outcome;"
                    " send a new id, or the same body",
                    where="outcome_id",
                )
                results[index] = OutcomeResult("rejected", outcome.outcome_id, problem)
                continue
            if decided is not None and status == "accepted":
                await self._hot_state.apply(told_of(outcome, decided))
            elif decided is not None:
                # The first attempt may have died between ledger and hot state.
                await self.apply_kept(decided, outcome.outcome_id)
            results[index] = OutcomeResult(status, outcome.outcome_id)
        return [result for result in results if result is not None]

    async def _is_one_too_many(
        self,
        outcome: OutcomeRecord,
        decided: DecisionRecord,
        batch: Iterable[tuple[int, OutcomeRecord, DecisionRecord | None]],
    ) -> bool:
        """Whether this soft bounce is the one that closes the channel.

        It is judged once, by what is known when it arrives, and kept as judged: so each store, and a
        rebuild, hears the same. Of two that arrive at the same instant neither sees the other; the next does.
        """
        told = await self._ledger.of_mailbox(decided.customer_id, channel=decided.channel)
        whose = decided.customer_id, decided.channel
        beside = [each for _, each, its in batch if its is not None and (its.customer_id, its.channel) == whose]
        return _is_third_in_a_row([outcome, *beside, *told])

    async def apply_kept(self, record: DecisionRecord, outcome_id: str | None = None) -> None:
        """Let hot state know of outcomes in the ledger, of one id or all; again changes nothing."""
        for outcome in await self._ledger.outcomes_of(record.decision_id):
            if outcome_id is None or outcome.outcome_id == outcome_id:
                await self._hot_state.apply(told_of(outcome, record))


def _is_soft(outcome: OutcomeRecord) -> bool:
    return outcome.type == "bounce" and outcome.detail == "soft"


def _is_third_in_a_row(outcomes: Iterable[OutcomeRecord]) -> bool:
    """Whether the latest messages to a mailbox came back softly, so many of them that it is given up.

    One message that comes back several times counts once. What was given up before counts no more: a
    customer who consents anew begins anew.
    """
    messages: set[str] = set()
    for outcome in sorted(outcomes, key=lambda each: each.occurred_at, reverse=True):
        if _is_soft(outcome):
            messages.add(outcome.decision_id)
        elif outcome.type in OF_MAILBOX and (outcome.type != "bounce" or outcome.detail == REPEATED):
            break
    return len(messages) >= SOFT_BOUNCES


def told_of(outcome: OutcomeRecord, decided: DecisionRecord) -> Told:
    """The outcome as hot state needs it."""
    return told(
        outcome,
        subject=decided.subject,
        channel=decided.channel,
        decision_id=decided.decision_id,
        slots=decided.slots,
    )


def _outcome_of(
    report: OutcomeReport, decided: DecisionRecord | None, release: Release, *, now: datetime, source: str | None
) -> OutcomeRecord:
    """The report as the ledger keeps it.

    Raises:
        RequestError: It cannot be of this decision, or has a time that cannot be.
    """
    action_id = report.action_id
    if decided is not None:
        shown = [slot.action_id for slot in decided.slots]
        if action_id is None and len(shown) == 1:
            action_id = shown[0]
        if action_id not in shown and not (action_id is None and report.type in OF_NO_ACTION):
            raise UnknownAction(
                f"action_id is '{report.action_id}', must be one that decision {report.decision_id} showed:"
                f" {', '.join(shown) or '(none)'}",
                where="action_id",
            )
    elif action_id is not None and not any(action_id in c.actions for c in release.markets.values()):
        raise UnknownAction(
            f"action_id is '{action_id}', which the catalogue does not have; GET /v1/catalog lists its actions",
            where="action_id",
        )
    occurred_at = sane(report.occurred_at, where="occurred_at") if report.occurred_at is not None else now
    if occurred_at - now > CLOCK_TOLERANCE:
        raise RequestError(
            f"occurred_at is {occurred_at.isoformat()}, must not lie in the future (now {now.isoformat()})",
            where="occurred_at",
        )
    return OutcomeRecord(
        outcome_id=report.outcome_id or str(ULID.from_datetime(now)),
        decision_id=report.decision_id,
        action_id=action_id,
        type=report.type,
        detail=report.detail,
        value=report.value,
        occurred_at=occurred_at,
        received_at=now,
        source=source,
    )
