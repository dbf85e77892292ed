"""Features over events as their definitions say them: slow, and plain enough to be believed."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from decisioning.content_types import Scalar
from decisioning.event_content import EventFeature
from decisioning.event_features import as_text
from decisioning.events import EventRecord


def by_definition(
    declared: Sequence[EventFeature], events: Sequence[EventRecord], now: datetime, *, most: int = 10_000
) -> dict[str, Scalar]:
    """Every feature, written down as its definition says it."""
    found: dict[str, Scalar] = {}
    for feature in declared:
        for each in feature.derived():
            held = sorted(
                (e.occurred_at, as_text(e.properties[feature.of]) if each.kind == "text" else e.properties[feature.of])
                if feature.of
                else (e.occurred_at, 0)
                for e in events
                if e.name == feature.event
                and e.occurred_at <= now
                and (feature.by is None or each.value in told(e, feature.by))
                and (feature.of is None or feature.of in e.properties)
            )[-most:]
            recent = [value for at, value in held if each.window is None or now - at < each.window]
            match feature.compute:
                case "count":
                    found[each.name] = float(len(recent))
                case "sum":
                    found[each.name] = math.fsum(recent)
                case "recency":
                    found[each.name] = (now - held[-1][0]) / timedelta(hours=1) if held else None
                case "last":
                    found[each.name] = held[-1][1] if held else None
    return found


def told(event: EventRecord, name: str) -> list[str | None]:
    """What the event says under this name: one thing, or several in a list or an order's lines."""
    said = (
        [line.get(name[9:]) for line in event.properties.get("products", ())]
        if name[:9] == "products."
        else event.properties.get(name)
    )
    return [as_text(each) for each in (said if isinstance(said, list) else [said])]
