"""Budgets: what may still be spent, paced over the period."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from decisioning.content import Budget
from decisioning.profile import Contact, HotProfile

# Money is added up in floating point.
_ROUNDING = 1e-9


def period_of(budget: Budget, *, now: datetime) -> tuple[datetime, datetime] | None:
    """Begin (included) and end (excluded) of the period that `now` is in; None before the first."""
    if now < budget.starts:
        return None
    begin = budget.starts + (now - budget.starts) // budget.period * budget.period
    return begin, begin + budget.period


def released(budget: Budget, *, now: datetime) -> float:
    """How much of the period's amount may have been spent by now.

    >>> from datetime import timedelta
    >>> week = Budget(id="b", amount=70.0, period=timedelta(days=7), starts=datetime(2026, 1, 1), pacing="even")
    >>> released(week, now=datetime(2026, 1, 3)), released(week, now=datetime(2025, 12, 31))
    (20.0, 0.0)
    """
    period = period_of(budget, now=now)
    if period is None:
        return 0.0
    if budget.pacing == "none":
        return budget.amount
    return budget.amount * ((now - period[0]) / budget.period)


def left(budget: Budget, spent: float, *, now: datetime) -> float:
    """What may still be charged now, after `spent` in this period."""
    return max(0.0, released(budget, now=now) - spent)


def spent_on_contacts(budget: Budget, contacts: Iterable[Contact], *, now: datetime) -> float:
    """What these contacts were charged in the period that `now` is in."""
    period = period_of(budget, now=now)
    if period is None:
        return 0.0
    begin, end = period
    return sum(contact.cost for contact in contacts if contact.budget == budget.id and begin <= contact.at < end)


class BudgetRoom:
    """What each budget has left for one customer at one instant.

    >>> from datetime import UTC, timedelta
    >>> mails = Budget(id="mails", amount=1.0, counts="contacts", period=timedelta(days=1),
    ...                starts=datetime(2026, 1, 1, tzinfo=UTC), of="customer")
    >>> room = BudgetRoom({"mails": mails}, HotProfile(), now=datetime(2026, 1, 1, 12, tzinfo=UTC))
    >>> room.fits("mails", 1.0)
    True
    >>> room.take("mails", 1.0)
    >>> room.fits("mails", 1.0)
    False
    """

    __slots__ = ("_left",)

    def __init__(self, budgets: Mapping[str, Budget], profile: HotProfile, *, now: datetime) -> None:
        """A budget of everyone's that hot state said nothing of has nothing left."""
        self._left = {entry.budget: entry.left for entry in profile.budgets}
        for budget in budgets.values():
            if budget.of != "everyone":
                contacts = profile.contacts + (profile.account_contacts if budget.of == "account" else ())
                self._left[budget.id] = left(budget, spent_on_contacts(budget, contacts, now=now), now=now)

    def fits(self, budget: str | None, charge: float) -> bool:
        """Whether the charge can be made; what has no budget always can."""
        return budget is None or charge <= self._left.get(budget, 0.0) + _ROUNDING

    def take(self, budget: str | None, charge: float) -> None:
        """Make the charge."""
        if budget is not None:
            self._left[budget] = self._left.get(budget, 0.0) - charge

    def left(self, budget: str) -> float:
        """What is left of a budget."""
        return self._left.get(budget, 0.0)
