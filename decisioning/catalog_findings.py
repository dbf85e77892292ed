"""Mistakes of a catalogue's content, collected with where they are; and what has an id in it."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from decisioning.content import (
    Action,
    Audience,
    Budget,
    Channel,
    ContactPolicy,
    Content,
    CoolDown,
    Journey,
    Placement,
    QuietHours,
)
from decisioning.event_content import EventFeature, Hook, Moment, Source
from decisioning.experiment_content import Experiment, GroupHoldout, Layer, Metric

ENTRIES: dict[str, type[msgspec.Struct]] = {
    "channels": Channel,
    "placements": Placement,
    "actions": Action,
    "budgets": Budget,
    "contact_policies": ContactPolicy,
    "cool_downs": CoolDown,
    "quiet_hours": QuietHours,
    "journeys": Journey,
    "audiences": Audience,
    "sources": Source,
    "hooks": Hook,
    "moments": Moment,
    "holdouts": GroupHoldout,
    "layers": Layer,
    "metrics": Metric,
    "experiments": Experiment,
    "event_features": EventFeature,
}


class Findings:
    """Mistakes, collected."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.found: list[str] = []
        self.ids: dict[str, tuple[str, ...]] = {
            kind: tuple(item.id for item in getattr(content, kind)) for kind in ENTRIES
        }

    def add(self, path: str, sentence: str) -> None:
        """One more."""
        self.found.append(f"{path}: {sentence}")

    def refer(self, path: str, name: str, allowed: Iterable[str]) -> None:
        """One more, if the name is none of these."""
        allowed = sorted(allowed)
        if name not in allowed:
            self.add(path, f"'{name}' is not defined, must be one of {', '.join(allowed) or '(none)'}")

    def unique(self, kind: str, ids: Iterable[str]) -> None:
        """One more for each id that is there twice."""
        ids = list(ids)
        for repeated in sorted({i for i in ids if ids.count(i) > 1}):
            self.add(f"{kind}[{repeated}]", "the id is used twice")

    def longer_than_nothing(self, path: str, duration: timedelta, *, at_most: timedelta | None = None) -> None:
        """One more, if it is not above 0, or longer than that."""
        if duration <= timedelta(0) or (at_most is not None and duration > at_most):
            limit = f" and at most {at_most}" if at_most else ""
            self.add(path, f"is {duration}, must be longer than 0{limit}")

    def zoned(self, path: str, at: datetime | None) -> None:
        """One more, if the time does not say where it is one."""
        if at is not None and at.tzinfo is None:
            self.add(path, "has no time zone, write it like 2026-11-21T18:00:00Z")
