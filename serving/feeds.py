"""What each source tells, counted as it comes: by hour, name, what became of it, and kinds of properties.

Counting is on the way of every event, so it only adds up in memory; `FeedWatch` writes it down.
"""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime

from decisioning.currencies import is_unconverted
from decisioning.events import EventRecord
from decisioning.feeds import OUTCOME, FeedCount
from decisioning.request import OutcomeReport

# Who tells, where nobody says.
UNNAMED = "local"
# Counted apart; what comes beyond is counted under OTHER. A client that makes up names must not fill memory.
MOST_SOURCES, MOST_NAMES, MOST_PROPERTIES = 200, 200, 100
OTHER = "other"
LONGEST = 200
_KINDS: Mapping[type, str] = {
    str: "text", int: "number", float: "number", bool: "truth", list: "list", dict: "object", type(None): "null",
}  # fmt: skip


class _Cell:
    """One count, and the latest instant that it counts."""

    __slots__ = ("count", "last_at")

    def __init__(self, count: int, last_at: datetime) -> None:
        self.count = count
        self.last_at = last_at


class FeedTally:
    """Counts since they were last taken. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hours: dict[tuple[str, str, datetime], dict[str, _Cell]] = {}
        self._names: dict[str, dict[str, dict[tuple[str, type], str]]] = {}

    def event(self, said: EventRecord, known: EventRecord | None, status: str, *, mapped: bool = True) -> None:
        """Count an event as its source `said` it and as it is `known` here; None where that is not wanted."""
        at = said.received_at
        with self._lock:
            if known is None:
                self._count(*self._called(said.source, said.name), at, "ignored")
                return
            source, name = self._called(said.source, known.name)
            counts = self._hour(source, name, at)
            _add(counts, "received", at)
            if status == "accepted":
                self._count(source, name, known.occurred_at, "occurred")
            else:
                _add(counts, status, at)
            if is_unconverted(known.properties):
                _add(counts, "unconverted", at)
            elif not mapped:
                self._count(*self._called(source, said.name), at, "unmapped")
            kinds = self._names[source][name]
            for called, value in known.properties.items():
                what = kinds.get((called, type(value))) or _kind_of(kinds, called, value)
                if what is not None:
                    _add(counts, what, at)

    def outcome(self, source: str | None, report: OutcomeReport, status: str, *, now: datetime) -> None:
        """Count a reported outcome; a `conflict` is rejected."""
        with self._lock:
            source, name = self._called(source or UNNAMED, OUTCOME + report.type)
            if status not in ("accepted", "duplicate"):
                self._count(source, name, now, "rejected")
                return
            self._count(source, name, now, "received")
            if status == "accepted":
                self._count(source, name, report.occurred_at or now, "occurred")
            else:
                self._count(source, name, now, "duplicate")

    def rejected(self, source: str, count: int, *, now: datetime) -> None:
        """Count what could not be read, so that nobody can tell its name."""
        if count:
            with self._lock:
                self._count(*self._called(source, OTHER), now, "rejected", count)

    def take(self) -> list[FeedCount]:
        """The counts; they begin anew."""
        with self._lock:
            hours, self._hours = self._hours, {}
        return [
            FeedCount(source, name, hour, what, cell.count, cell.last_at)
            for (source, name, hour), counts in hours.items()
            for what, cell in counts.items()
        ]

    def give_back(self, counts: list[FeedCount]) -> None:
        """Counts that could not be written: they are taken again next time."""
        with self._lock:
            for each in counts:
                _add(self._hour(each.source, each.name, each.hour), each.what, each.last_at, each.count)

    def _called(self, source: str, name: str) -> tuple[str, str]:
        """What these are counted under."""
        names = self._names.get(source)
        if names is None:
            source = source[:LONGEST] if len(self._names) < MOST_SOURCES else OTHER
            names = self._names.setdefault(source, {})
        if name not in names:
            name = name[:LONGEST] if len(names) < MOST_NAMES else OTHER
            names.setdefault(name, {})
        return source, name

    def _count(self, source: str, name: str, at: datetime, what: str, count: int = 1) -> None:
        _add(self._hour(source, name, at), what, at, count)

    def _hour(self, source: str, name: str, at: datetime) -> dict[str, _Cell]:
        """The counts of the hour in which `at` lies."""
        at = at if at.tzinfo is UTC else at.astimezone(UTC)
        key = (source, name, at.replace(minute=0, second=0, microsecond=0))
        counts = self._hours.get(key)
        if counts is None:
            counts = self._hours[key] = {}
        return counts


def _add(counts: dict[str, _Cell], what: str, at: datetime, count: int = 1) -> None:
    cell = counts.get(what)
    if cell is None:
        counts[what] = _Cell(count, at)
        return
    cell.count += count
    if at > cell.last_at:
        cell.last_at = at


def _kind_of(kinds: dict[tuple[str, type], str], called: str, value: object) -> str | None:
    """What a property of this kind is counted as, the same from now on; None where there are too many."""
    if len(kinds) >= MOST_PROPERTIES:
        return None
    return kinds.setdefault((called, type(value)), f"type:{called[:LONGEST]}:{_KINDS.get(type(value), 'other')}")
