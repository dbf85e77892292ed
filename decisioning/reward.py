"""What a decision earned: a number computed from its outcomes within the attribution window."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from decisioning.content import NO_ACTION, Placement
from decisioning.record import OutcomeRecord

# An e-mail that was not sent or came back was never seen: no failure of the action.
NEVER_SEEN = frozenset({"not_sent", "bounce"})
# What nobody does with an action that they did not see. An open is not among them: machines open e-mails.
PROVES_SHOWN = frozenset({"impression", "click", "accept", "reject", "purchase", "complaint", "unsubscribe"})

# Callers' clocks differ from ours by less. What lies earlier cannot come of the decision.
CLOCK_TOLERANCE = timedelta(minutes=5)


def counted(outcomes: Iterable[OutcomeRecord], placement: Placement, *, decided_at: datetime) -> list[OutcomeRecord]:
    """Outcomes that count: within the window (its end excluded), not by a machine, each id once.

    The window opens `CLOCK_TOLERANCE` before the decision.
    """
    unique = {outcome.outcome_id: outcome for outcome in outcomes if outcome.detail != "machine"}
    return [
        outcome
        for outcome in unique.values()
        if -CLOCK_TOLERANCE <= outcome.occurred_at - decided_at < placement.attribution_window
    ]


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
    total = 0.0
    met: set[str] = set()
    for outcome in sorted(outcomes, key=lambda o: (o.occurred_at, o.outcome_id)):
        worth = placement.reward.get(outcome.type)
        if worth == "value":
            total += outcome.value or 0.0
        elif worth is not None and outcome.type not in met:
            total += float(worth)
            met.add(outcome.type)
    return total
