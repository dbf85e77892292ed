"""How much error a gate that is asked on a schedule may spend now.

Of 1,000 months at most 50 promote any challenger that is no better, however often the gate is asked in them.
The chances of being wrong add up at most (Bonferroni's inequality), whatever data the attempts share and
whichever models they are about; so it is enough that what is spent within any 30 days sums to `BUDGET`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

BUDGET = 0.05
PERIOD = timedelta(days=30)
FIRST = timedelta(days=1)  # where nothing was asked within the period, so much time counts as gone by


class Spent(NamedTuple):
    """What an earlier attempt spent, and when."""

    at: datetime
    alpha: float


def spend(earlier: Sequence[Spent], *, now: datetime) -> float:
    """The error that an attempt may make now: the budget in proportion to the time since the last one.

    So hourly attempts get `BUDGET / 720` each and daily ones `BUDGET / 30`; waiting loses nothing. 0 where
    the budget of the last 30 days is used up. `earlier` may come in any order.

    >>> noon = datetime(2026, 1, 1, 12)
    >>> round(spend([Spent(noon - timedelta(hours=1), 0.001)], now=noon) * 720, 6)
    0.05
    >>> round(spend([], now=noon) * 30, 6)
    0.05
    """
    within = [each for each in earlier if now - PERIOD < each.at <= now]
    since = now - max(each.at for each in within) if within else FIRST
    left = BUDGET - sum(each.alpha for each in within)
    return max(0.0, min(BUDGET * (since / PERIOD), left))
