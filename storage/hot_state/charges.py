"""What budgets of everyone's were charged: counted in millionths, so that sums are exact in any order."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from decisioning.budget import left, period_of
from decisioning.content import Budget
from decisioning.profile import BudgetLeft, HotProfile
from storage.instants import to_microseconds

MILLIONTHS = 1_000_000
# For how long the charge of a single contact is remembered. A budget whose period is longer loses,
# when hot state is rebuilt, what was spent before.
CHARGE_MEMORY = timedelta(days=400)


class Period(NamedTuple):
    """A budget's period, in microseconds since 1970; its end no longer belongs to it."""

    begin: int
    end: int


def millionths(charge: float) -> int:
    """A charge as it is counted.

    >>> millionths(0.1) * 3 == millionths(0.3)
    True
    """
    return round(charge * MILLIONTHS)


def period_at(budget: Budget, now: datetime) -> Period | None:
    """The period that `now` is in; None before the first."""
    period = period_of(budget, now=now)
    return period and Period(to_microseconds(period[0]), to_microseconds(period[1]))


def room_in(budget: Budget, spent: int, *, now: datetime) -> BudgetLeft:
    """What is left after `spent` millionths."""
    return BudgetLeft(budget.id, left(budget, spent / MILLIONTHS, now=now))


def of_everyone(budgets: Iterable[Budget]) -> list[Budget]:
    """Those that hot state counts; the others are counted from the customer's own contacts."""
    return [budget for budget in budgets if budget.of == "everyone"]


def with_room(profile: HotProfile, room: Iterable[BudgetLeft]) -> tuple[BudgetLeft, ...]:
    """The profile's budgets, some of them known anew."""
    known = {entry.budget: entry for entry in profile.budgets}
    known.update((entry.budget, entry) for entry in room)
    return tuple(known.values())
