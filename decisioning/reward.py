"""What a decision earned: a number computed from its outcomes within the attribution window."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Protocol

import msgspec

from decisioning.content import Placement
from decisioning.content_types import NO_ACTION
from decisioning.outcome_types import OF_MESSAGE
from decisioning.record import OutcomeRecord, ShownSlot

# An e-mail that was not sent or came back was never seen: no failure of the action.
NEVER_SEEN = frozenset({"not_sent", "bounce"})
# What nobody does with an action that they did not see. An open is not among them: machines open e-mails.
PROVES_SHOWN = frozenset({"impression", "click", "accept", "reject", "purchase", "complaint", "unsubscribe"})

# Callers' clocks differ from ours by less. What lies earlier cannot come of the decision.
CLOCK_TOLERANCE = timedelta(minutes=5)


class Timed(Protocol):
    """What an attribution window needs of a decision; a `DecisionRecord` is one."""

    @property
    def decided_at(self) -> datetime:
        """When it was made."""
        ...

    @property
    def contact_at(self) -> datetime | None:
        """When the contact is planned for, if for later."""
        ...


class Answered(Protocol):
    """What outcomes need of a decision; a `DecisionRecord` is one."""

    @property
    def decision_id(self) -> str:
        """Its id."""
        ...

    @property
    def slots(self) -> tuple[ShownSlot, ...]:
        """What it gave."""
        ...


def credited(
    outcomes: Mapping[str, Sequence[OutcomeRecord]], decisions: Iterable[Answered]
) -> dict[str, list[OutcomeRecord]]:
    """Outcomes by the decision that earned them, as hot state credits them (`record.told`).

    What is reported of a reload counts for the decision whose contact it still was, and no longer
    for the reload: else a click on it would make a failure of the first and a success of the second.
    Only `decisions` with slots that repeat need be given.
    """
    found = {decision_id: list(reported) for decision_id, reported in outcomes.items()}
    for decision in decisions:
        own = found.get(decision.decision_id)
        if own is None or all(slot.repeats is None for slot in decision.slots):
            continue
        kept: list[OutcomeRecord] = []
        for outcome in own:
            meant = [slot for slot in decision.slots if _means(outcome, slot, only=len(decision.slots) == 1)]
            if any(slot.repeats is None for slot in meant) or not meant:
                kept.append(outcome)
            for slot in meant:
                if slot.repeats is not None:
                    moved = msgspec.structs.replace(outcome, decision_id=slot.repeats, action_id=slot.action_id)
                    found.setdefault(slot.repeats, []).append(moved)
        found[decision.decision_id] = kept
    return found


def of_slot(record: Answered, slot: ShownSlot, outcomes: Iterable[OutcomeRecord]) -> list[OutcomeRecord]:
    """The outcomes that speak of one slot.

    One that names no action is that of an only one; what is said of a whole message is said of every slot.
    """
    only = len(record.slots) == 1
    return [outcome for outcome in outcomes if _means(outcome, slot, only=only)]


def _means(outcome: OutcomeRecord, slot: ShownSlot, *, only: bool) -> bool:
    if outcome.action_id is None:
        return only or outcome.type in OF_MESSAGE
    return outcome.action_id == slot.action_id


def opens_at(record: Timed) -> datetime:
    """When a decision's contact is, from which its attribution window lasts: it may be planned for later."""
    return record.contact_at or record.decided_at


def closes_at(record: Timed, placement: Placement) -> datetime:
    """When a decision's attribution window closes."""
    return opens_at(record) + placement.attribution_window


def counted(outcomes: Iterable[OutcomeRecord], record: Timed, placement: Placement) -> list[OutcomeRecord]:
    """A decision's outcomes that count: within its window (its end excluded), not by a machine, each id once.

    The window opens `CLOCK_TOLERANCE` before the decision, since a planned contact may come early.
    """
    opens, closes = record.decided_at - CLOCK_TOLERANCE, closes_at(record, placement)
    # One report may speak of several slots, so it counts once for each.
    unique = {(o.outcome_id, o.action_id): o for o in outcomes if o.detail != "machine"}
    return [outcome for outcome in unique.values() if opens <= outcome.occurred_at < closes]


def was_shown(action_id: str, outcomes: Iterable[OutcomeRecord], placement: Placement) -> bool:
    """Whether the customer met the choice: what was never seen teaches nothing.

    Choosing to show nothing needs no proof. An action needs the placement's `shown_by`, or an
    outcome that nobody gives who did not see it, whether or not the placement rewards it.
    """
    types = {outcome.type for outcome in outcomes}
    if types & NEVER_SEEN:
        return False
    if placement.shown_by == "decision" or action_id == NO_ACTION:
        return True
    return placement.shown_by in types or bool(types & PROVES_SHOWN)


def reward(outcomes: Iterable[OutcomeRecord], placement: Placement) -> float:
    """The sum over outcome types of what the placement says each is worth; a type counts once.

    Amounts (`value`) are added up, since a customer can buy twice.
    """
    return sum(_worths(sorted(outcomes, key=lambda o: (o.occurred_at, o.outcome_id)), placement))


def succeeded_at(outcomes: Iterable[OutcomeRecord], placement: Placement) -> datetime | None:
    """When it was first known that these earn more than 0: by arrival, not by when it happened; None if never."""
    arrived = sorted(outcomes, key=lambda o: (o.received_at, o.outcome_id))
    totals = accumulate(_worths(arrived, placement))
    return next((each.received_at for each, total in zip(arrived, totals, strict=True) if total > 0.0), None)


def _worths(outcomes: Iterable[OutcomeRecord], placement: Placement) -> Iterator[float]:
    met: set[str] = set()
    for outcome in outcomes:
        worth = placement.reward.get(outcome.type)
        if worth == "value":
            yield outcome.value or 0.0
        else:
            yield 0.0 if worth is None or outcome.type in met else float(worth)
            met.add(outcome.type)
