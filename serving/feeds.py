"""What each source tells, counted as it comes: by hour, name, what became of it, and kinds of properties.

Counting is on the way of every event, so it only adds up in memory; `FeedWatch` writes it down.
"""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

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
_Key = tuple[str, str, datetime, str]


class FeedTally:
    """Counts since they were last taken. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[_Key, tuple[int, datetime]] = {}
        self._names: dict[str, dict[str, dict[tuple[str, type], str]]] = {}

    def event(self, said: EventRecord, known: EventRecord | None, status: str, *, mapped: bool = True) -> None:
        """Count an event as its source `said` it and as it is `known` here; None where that is not wanted."""
        at = said.received_at
        with self._lock:
            if known is None:
                self._add(said.source, said.name, at, "ignored")
                return
            source, name = self._called(said.source, known.name)
            self._count(source, name, at, "received")
            if status == "accepted":
                self._count(source, name, known.occurred_at, "occurred")
            else:
                self._count(source, name, at, status)
            if not mapped:
                self._add(source, said.name, at, "unmapped")
            self._properties(source, name, known.properties, at)

    def outcome(self, source: str | None, report: OutcomeReport, status: str, *, now: datetime) -> None:
        """Count a reported outcome; a `conflict` is rejected."""
        with self._lock:
            source, name = self._called(source or UNNAMED, OUTCOME + report.type)
            if status == "accepted":
                self._count(source, name, now, "received")
                self._count(source, name, report.occurred_at or now, "occurred")
            elif status == "duplicate":
                self._count(source, name, now, "received")
                self._count(source, name, now, "duplicate")
            else:
                self._count(source, name, now, "rejected")

    def rejected(self, source: str, count: int, *, now: datetime) -> None:
        """Count what could not be read, so that nobody can tell its name."""
        with self._lock:
            for _ in range(count):
                self._add(source, OTHER, now, "rejected")

    def take(self) -> list[FeedCount]:
        """The counts; they begin anew."""
        with self._lock:
            counts, self._counts = self._counts, {}
        return [
            FeedCount(source, name, hour, what, count, last)
            for (source, name, hour, what), (count, last) in counts.items()
        ]

    def give_back(self, counts: list[FeedCount]) -> None:
        """Counts that could not be written: they are taken again next time."""
        with self._lock:
            for each in counts:
                key = (each.source, each.name, each.hour, each.what)
                count, last = self._counts.get(key, (0, each.last_at))
                self._counts[key] = (count + each.count, max(last, each.last_at))

    def _add(self, source: str, name: str, at: datetime, what: str) -> None:
        self._count(*self._called(source, name), at, what)

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

    def _count(self, source: str, name: str, at: datetime, what: str) -> None:
        at = at if at.tzinfo is UTC else at.astimezone(UTC)
        key = (source, name, at.replace(minute=0, second=0, microsecond=0), what)
        before = self._counts.get(key)
        self._counts[key] = (1, at) if before is None else (before[0] + 1, max(before[1], at))

    def _properties(self, source: str, name: str, properties: Mapping[str, Any], at: datetime) -> None:
        whats = self._names[source][name]
        for called, value in properties.items():
            what = whats.get((called, type(value)))
            if what is None:
                if len(whats) >= MOST_PROPERTIES:
                    continue
                what = f"type:{called[:LONGEST]}:{_KINDS.get(type(value), 'other')}"
                whats[called, type(value)] = what
            self._count(source, name, at, what)
