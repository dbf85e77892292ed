"""Feeds: what a source tells under one name, when it was silent, and which decisions that leaves unjudged.

Silence is not rejection. A decision whose outcomes were not told, since the feed that brings them
had stopped, is neither a failure nor a success: whatever learns or evaluates asks `Untold` first.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from decisioning.content import Placement
from decisioning.event_content import Source
from decisioning.reward import Timed, closes_at
from decisioning.rhythm import HOURS_OF_WEEK, MEMORY, Rhythm, rhythm_of

HOUR = timedelta(hours=1)
# Before what is asked about, so much is read: the rhythm is that of four weeks, and a stop may be as old.
HISTORY = 2 * MEMORY * HOUR
OUTCOME = "outcome:"  # begins the names of feeds of outcomes
# A feed that brought a smaller share of an outcome than this is not missed.
MATTERS = 0.1


class FeedCount(msgspec.Struct, frozen=True):
    """How much of something a source told in the hour that begins at `hour`.

    Attributes:
        name: Of the event, in our vocabulary; `outcome:<type>` of outcomes.
        what: `received`, by when it came, and what became of it: `duplicate`, `ignored`, `rejected`,
            `unmapped` (under the source's own name), `unconverted` (in a currency without a rate).
            `type:<property>:<kind>` of what was received. `occurred`: what was new, by when it happened.
        last_at: The latest instant that is counted here.
    """

    source: str
    name: str
    hour: datetime
    what: str
    count: int
    last_at: datetime


class Gap(NamedTuple):
    """A time for which a feed told nothing or far too little; `until` (excluded) is None: still."""

    source: str
    name: str
    begin: datetime
    until: datetime | None

    def overlaps(self, begin: datetime, end: datetime) -> bool:
        """Whether anything between `begin` and `end` (excluded) was not told."""
        return self.begin < end and (self.until is None or begin < self.until)

    def __str__(self) -> str:
        what = f"outcomes '{self.name.removeprefix(OUTCOME)}'" if self.name.startswith(OUTCOME) else f"'{self.name}'"
        if self.until is None:
            return f"{what} of '{self.source}' are not told since {self.begin:%Y-%m-%d %H:%M} UTC"
        return (
            f"{what} of '{self.source}' were not told between {self.begin:%Y-%m-%d %H:%M} and"
            f" {self.until:%Y-%m-%d %H:%M} UTC"
        )


class Watched(NamedTuple):
    """A feed: its rhythm from the hour `first` on."""

    source: str
    name: str
    first: datetime
    counts: Sequence[int]
    rhythm: Rhythm

    @property
    def gaps(self) -> list[Gap]:
        """When it was silent."""
        return [
            Gap(
                self.source,
                self.name,
                self.first + stop.begin * HOUR,
                None if stop.end is None else self.first + stop.end * HOUR,
            )
            for stop in self.rhythm.stops
        ]


def watched(
    counts: Iterable[FeedCount], *, now: datetime, time_zone: str, whole_sources: bool = False
) -> list[Watched]:
    """The feeds in these counts, hour by hour up to the last whole one; with `whole_sources` one a source.

    `time_zone` says by which clocks people live, whose week the rhythm is.
    """
    by_feed: dict[tuple[str, str], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for each in counts:
        by_feed[each.source, "" if whole_sources else each.name][_number(each.hour)] += each.count
    end = _number(now)
    firsts = [min(hours) for hours in by_feed.values()]
    start = min(firsts, default=end)
    zone = ZoneInfo(time_zone)
    slots = np.array([_slot(number, zone) for number in range(start, end)], dtype=np.int64)
    found = []
    for (source, name), hours in sorted(by_feed.items()):
        first = min(hours)
        if first < end:
            told = [hours.get(number, 0) for number in range(first, end)]
            found.append(Watched(source, name, _hour(first), told, rhythm_of(told, slots[first - start :])))
    return found


class Untold:
    """Which outcomes were not told when; empty, all were."""

    def __init__(self, gaps: Iterable[Gap] = ()) -> None:
        self._by_type: dict[str, list[Gap]] = defaultdict(list)
        for gap in gaps:
            self._by_type[gap.name.removeprefix(OUTCOME)].append(gap)

    def gap(self, record: Timed, placement: Placement) -> Gap | None:
        """The first gap within the decision's attribution window that its reward may be missing from.

        That is one of an outcome that its placement rewards, or that proves there that it was shown.
        """
        return self.between(placement, record.decided_at, closes_at(record, placement))

    def between(self, placement: Placement, begin: datetime, end: datetime) -> Gap | None:
        """The first gap in this time of what decides there whether something was shown and succeeded."""
        needed = {*placement.reward, placement.shown_by}
        found = (
            gap for kind in needed & self._by_type.keys() for gap in self._by_type[kind] if gap.overlaps(begin, end)
        )
        return min(found, key=lambda gap: (gap.begin, gap.source, gap.name), default=None)


def left_out_lines(decisions: Mapping[Gap, int]) -> tuple[str, ...]:
    """How many decisions are not judged, and what was not told of them.

    >>> gap = Gap("till", "outcome:purchase", datetime(2026, 3, 2, 12), datetime(2026, 3, 3, 9))
    >>> left_out_lines({gap: 1204})[0][:67]
    "1,204 decisions are left out: outcomes 'purchase' of 'till' were no"
    """
    return tuple(f"{count:,} decisions are left out: {gap}" for gap, count in decisions.items())


def untold(occurred: Iterable[FeedCount], sources: Iterable[Source], *, now: datetime, time_zone: str) -> Untold:
    """What was not told, by what happened when: `occurred` counts of outcomes, from `HISTORY` before on.

    What is delivered late closes the gap that it fills. Which feeds an outcome needs, the catalogue
    says (`Source.outcomes`); where it does not, those that brought a tenth of it or more.
    """
    counts = [each for each in occurred if each.what == "occurred" and each.name.startswith(OUTCOME)]
    needed = feeds_needed(counts, sources)
    told = [each for each in counts if each.source in needed[each.name.removeprefix(OUTCOME)]]
    return Untold(gap for feed in watched(told, now=now, time_zone=time_zone) for gap in feed.gaps)


def feeds_needed(counts: Iterable[FeedCount], sources: Iterable[Source]) -> Mapping[str, frozenset[str]]:
    """By outcome type, the sources without which it is not known.

    >>> hour = datetime(2026, 3, 2, 12, tzinfo=UTC)
    >>> brought = {"till": 95, "app": 5}
    >>> told = [FeedCount(name, "outcome:purchase", hour, "occurred", n, hour) for name, n in brought.items()]
    >>> sorted(feeds_needed(told, [])["purchase"])
    ['till']
    >>> sorted(feeds_needed(told, [Source(id="app", outcomes=("purchase",))])["purchase"])
    ['app']
    """
    declared: dict[str, set[str]] = defaultdict(set)
    for source in sources:
        for kind in source.outcomes:
            declared[kind].add(source.id)
    brought: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for each in counts:
        brought[each.name.removeprefix(OUTCOME)][each.source] += each.count
    learnt = {
        kind: {source for source, count in by.items() if count >= MATTERS * sum(by.values())}
        for kind, by in brought.items()
    }
    return {kind: frozenset(found) for kind, found in {**learnt, **declared}.items()}


def _number(at: datetime) -> int:
    """Which hour since 1970."""
    return int(at.timestamp()) // 3600


def _hour(number: int) -> datetime:
    return datetime.fromtimestamp(number * 3600, UTC)


def _slot(number: int, zone: ZoneInfo) -> int:
    local = _hour(number).astimezone(zone)
    return (local.weekday() * 24 + local.hour) % HOURS_OF_WEEK
