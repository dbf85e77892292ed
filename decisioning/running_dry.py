"""Audiences that run dry: far smaller than they were, or than they must be.

A size is judged against the audience's own past: the last one of each of the 56 days before. What is
usual is the median of these days, or that of the same weekday where that is smaller, so that a quiet
Sunday is no news. Less than half of that is far smaller, unless it is within four standard deviations:
the square root of what is usual, as of rare things (Poisson), or more where the days vary by more (1.4826
times their median absolute deviation: Rousseeuw & Croux, JASA 1993, section 1).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from math import sqrt
from statistics import median
from typing import Literal, NamedTuple

from decisioning.content import Content
from decisioning.content_types import BLUEPRINT

PAST = timedelta(days=56)
LEAST_DAYS = 7
FAR_SMALLER = 0.5
_DEVIATIONS = 4.0
_OF_MAD = 1.4826

Kind = Literal["audience", "reach", "action"]


class Size(NamedTuple):
    """How many customers there were at an instant.

    `id` is an audience's, an action's, or `audience/channel` for those of an audience whom a channel reaches.
    `out_of` is how many customers were looked at.
    """

    market: str
    kind: Kind
    id: str
    at: datetime
    size: int
    out_of: int

    @property
    def what(self) -> tuple[str, str, str]:
        """What it is the size of."""
        return self.market, self.kind, self.id


def by_day(sizes: Iterable[Size]) -> list[Size]:
    """The last size of each day, oldest first."""
    return list({size.at.date(): size for size in sorted(sizes, key=lambda size: size.at)}.values())


def runs_dry(size: int, past: Iterable[Size], *, now: datetime) -> float | None:
    """What would be usual, where this is far less than it; else None.

    >>> days = [Size("global", "audience", "loyal", datetime(2026, 3, day), 400, 1000) for day in range(1, 10)]
    >>> runs_dry(210, days, now=datetime(2026, 3, 10)), runs_dry(190, days, now=datetime(2026, 3, 10))
    (None, 400.0)
    """
    days = [day for day in by_day(past) if day.at.date() < now.date() and now - day.at <= PAST]
    if len(days) < LEAST_DAYS:
        return None
    middle = median(day.size for day in days)
    alike = [day.size for day in days if day.at.weekday() == now.weekday()]
    usual = float(min(middle, median(alike))) if alike else float(middle)
    deviation = max(sqrt(usual), _OF_MAD * median(abs(day.size - middle) for day in days))
    far = size < FAR_SMALLER * usual and usual - size > _DEVIATIONS * deviation
    return usual if far else None


def warnings(sizes: Sequence[Size], past: Iterable[Size], content: Content) -> list[str]:
    """A sentence on each of these sizes, of one market, that is too small."""
    before: dict[tuple[str, str, str], list[Size]] = {}
    for size in past:
        before.setdefault(size.what, []).append(size)
    minimum = {
        f"{audience.id}/{channel}": least
        for audience in content.audiences
        for channel, least in audience.minimum_size.items()
    }
    found = []
    for size in sizes:
        usual = runs_dry(size.size, before.get(size.what, ()), now=size.at)
        if usual is not None:
            found.append(f"{_named(size)} runs dry: {size.size:,} customers, about {usual:,.0f} are usual")
        if size.kind == "reach" and size.size < minimum.get(size.id, 0):
            found.append(
                f"{_named(size)} is too small: {size.size:,} customers, at least {minimum[size.id]:,} are asked for"
            )
    return found


def _named(size: Size) -> str:
    market = "" if size.market == BLUEPRINT else f" in market {size.market}"
    if size.kind == "reach":
        audience, _, channel = size.id.partition("/")
        return f"audience {audience} on {channel}{market}"
    return f"{size.kind} {size.id}{market}"
