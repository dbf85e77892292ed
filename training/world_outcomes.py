"""What simulated customers do with one action that they are shown, and how word of it arrives."""

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

import numpy as np

from decisioning.content_types import NO_ACTION
from decisioning.outcome_types import OutcomeType
from training.world_actions import LATEST, WorldAction


class Reaction(NamedTuple):
    """Something done, `after` seconds; `value` is money, for a success only; `machine`: by no person."""

    type: OutcomeType
    after: float
    value: float | None = None
    machine: bool = False


class Report(NamedTuple):
    """An outcome and how it is reported: `copies` times, 0 being never, at `reported_at`.

    `detail` is `machine` where no person did it.
    """

    outcome_id: str
    action_id: str
    type: OutcomeType
    occurred_at: datetime
    reported_at: datetime
    value: float | None
    detail: Literal["machine"] | None
    copies: int


def draw_reactions(
    rng: np.random.Generator, action: WorldAction, channel: str, chance: float, contacted: int, *, worth: float
) -> list[Reaction]:
    """The reactions of a customer who succumbs with this `chance` and was `contacted` so often in a week.

    A success is a purchase, or an acceptance where there is no product to buy, and `worth` so much on
    average; before it comes a click. Whoever does not
    respond may still click, reject, or, where marketing is pushed, unsubscribe: the more often
    contacted, the sooner.
    """
    success = rng.random() < chance
    late = _delay(rng)
    amount = round(worth * float(rng.gamma(16.0, 1.0 / 16.0)), 2)  # mean 1, deviation a quarter
    buys = action.product is not None or action.id == NO_ACTION  # of their own accord they buy something else
    taken = Reaction("purchase" if buys else "accept", late, amount)
    if action.id == NO_ACTION:
        return [taken] if success else []
    looked = min(float(rng.exponential(25.0)), late / 2.0)
    reactions = [Reaction("sent" if channel == "email" else "impression", 0.5)]
    if channel == "email":
        if rng.random() < 0.08:
            reactions.append(Reaction("open", 2.0, machine=True))
        if success or rng.random() < 0.3:
            reactions.append(Reaction("open", looked))
    if success or rng.random() < min(2.0 * chance, 0.5):
        reactions.append(Reaction("click", looked + 1.0))
    if success:
        reactions.append(taken)
    elif channel != "email" and rng.random() < 0.012 + 0.004 * contacted:
        reactions.append(Reaction("reject", looked + 2.0))
    elif channel != "web" and rng.random() < 0.002 + 0.001 * contacted:
        reactions.append(Reaction("unsubscribe", looked + 3.0))
    return reactions


def report(
    rng: np.random.Generator, reaction: Reaction, *, decision_id: str, action_id: str, decided_at: datetime
) -> Report:
    """Word of a reaction: mostly within seconds, one in ten within hours; 3 % come twice, 2 % never."""
    occurred = decided_at + timedelta(seconds=reaction.after)
    lag = float(rng.exponential(1_800.0 if rng.random() < 0.1 else 4.0))
    fate = rng.random()
    suffix = "-machine" if reaction.machine else ""
    return Report(
        outcome_id=f"{decision_id}-{action_id}-{reaction.type}{suffix}",
        action_id=action_id,
        type=reaction.type,
        occurred_at=occurred,
        reported_at=occurred + timedelta(seconds=lag),
        value=reaction.value,
        detail="machine" if reaction.machine else None,
        copies=0 if fate < 0.02 else 2 if fate < 0.05 else 1,
    )


def _delay(rng: np.random.Generator) -> float:
    """Seconds until a success: three in four within minutes, one in twenty after half a day and more."""
    kind = rng.random()
    if kind < 0.75:
        seconds = 20.0 + float(rng.exponential(480.0))
    elif kind < 0.95:
        seconds = float(rng.exponential(4.0 * 3600.0))
    else:
        seconds = float(rng.uniform(12.0, 44.0)) * 3600.0
    return min(max(seconds, 5.0), LATEST.total_seconds())
