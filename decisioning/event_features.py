"""Features over what a customer did: counts, sums, recency and last values, exact at any time.

Declared in the catalogue (`event_content.EventFeature`), kept up one event at a time, in whatever order
events arrive, and read at any time. `training/event_history.py` computes the same over a history.

An event counts in a window from when it occurred until it is exactly one window old. Added again, an
event (by its `event_id`) changes nothing.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import reduce
from typing import Any, Literal, NamedTuple

from decisioning.content_types import FeatureKind, Scalar
from decisioning.event_content import EventFeature
from decisioning.event_state import (
    EPOCH,
    MAX_EVENTS,
    EventState,
    EventStates,
    Held,
    KeptStates,
    Series,
    event_hash,
    microseconds,
)
from decisioning.events import EventRecord

HOUR = 3_600_000_000  # in microseconds
# Beyond these a property is a mistake of whoever sent it, and counts as not said: sums stay finite,
# states small.
LARGEST = 1e15
LONGEST = 1_000  # characters
LINES = "products"  # an order's, in the Segment specification: a list whose entries have properties themselves


def as_number(value: Any) -> float | None:
    """A property as a number; None where it is none, or is not finite, or beyond 10^15.

    >>> as_number(3), as_number("3"), as_number(True), as_number(float("inf"))
    (3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
        return None
    return float(value) + 0.0  # no negative zero: it would sort and print differently


def as_text(value: Any) -> str | None:
    """A property as the text that `values` are compared with; None where it is none, or longer than 1,000.

    >>> as_text("shoes"), as_text(42), as_text(42.0), as_text(True), as_text(["shoes"])
    ('shoes', '42', '42', 'true', None)
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        number = as_number(value)
        return None if number is None else str(int(number)) if number.is_integer() else repr(number)
    return value if isinstance(value, str) and len(value) <= LONGEST else None


def said_of(properties: Mapping[str, Any], name: str) -> Any:
    """A property; of `products.category`, a list of what the lines of an order say.

    >>> said_of({"products": [{"category": "shoes"}, {"category": "bags"}]}, "products.category")
    ['shoes', 'bags']
    """
    lines, dot, inner = name.partition(".")
    if not dot or lines != LINES:
        return properties.get(name)
    listed = properties.get(LINES)
    return (
        [line.get(inner) for line in listed if isinstance(line, Mapping)] if isinstance(listed, list | tuple) else None
    )


def texts_of(said: Any) -> frozenset[str | None]:
    """What a property says as texts, each once: an order with two lines of shoes is one order of shoes.

    >>> sorted(texts_of(["shoes", 42, "shoes"])), texts_of("shoes")
    (['42', 'shoes'], frozenset({'shoes'}))
    """
    return frozenset(map(as_text, said)) if isinstance(said, list) else frozenset((as_text(said),))


class Feature(NamedTuple):
    """A feature, the place of its series, and its window in microseconds (0 if it has none)."""

    name: str
    kind: FeatureKind
    compute: Literal["count", "sum", "recency", "last"]
    place: int
    window: int


class EventFeatures:
    """The declared features, ready to be computed.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> features = EventFeatures([
    ...     EventFeature(id="orders", event="purchase", compute="count", windows=(timedelta(days=1),)),
    ...     EventFeature(id="since_order", event="purchase", compute="recency"),
    ... ])
    >>> state = EventState()
    >>> features.add(state, EventRecord(event_id="s/1", source="s", type="track", name="purchase",
    ...     customer_id="c", occurred_at=noon, received_at=noon))
    True
    >>> features.read(state, now=noon + timedelta(hours=23))
    {'orders_1d': 1.0, 'since_order': 23.0}
    >>> features.read(state, now=noon + timedelta(hours=24))
    {'orders_1d': 0.0, 'since_order': 24.0}

    Attributes:
        features: In the declarations' order.
        states: Makes, merges, trims and writes the states; `states.series` are what is kept.
    """

    def __init__(self, declared: Sequence[EventFeature], *, max_events: int = MAX_EVENTS) -> None:
        wanted = [
            (_Key.of_feature(feature, each.value), feature, each) for feature in declared for each in feature.derived()
        ]
        keys = sorted({key for key, _, _ in wanted}, key=_Key.order)
        self.features = tuple(
            Feature(each.name, each.kind, feature.compute, keys.index(key), _microseconds_of(each.window))
            for key, feature, each in wanted
        )
        read = [[each for each in self.features if each.place == place] for place in range(len(keys))]
        self.states = EventStates(
            [
                Series(
                    *key,
                    window=max(each.window for each in read[place]),
                    latest=any(each.compute in ("recency", "last") for each in read[place]),
                )
                for place, key in enumerate(keys)
            ],
            max_events=max_events,
        )
        self._read = [tuple((each.name, each.compute, each.window) for each in group) for group in read]
        self._nothing: dict[str, Scalar] = {
            each.name: 0.0 if each.compute in ("count", "sum") else None for each in self.features
        }
        # By event and property, the series of each of its values: of a hundred values an event has one.
        self._routes: dict[str, dict[str | None, dict[str | None, list[int]]]] = {}
        for place, key in enumerate(keys):
            self._routes.setdefault(key.event, {}).setdefault(key.by, {}).setdefault(key.value, []).append(place)

    @property
    def unknown(self) -> dict[str, Scalar]:
        """Every feature of somebody of whom nothing can be said."""
        return dict.fromkeys(self._nothing)

    @property
    def events(self) -> frozenset[str]:
        """Names of the events that any feature looks at."""
        return frozenset(self._routes)

    def add(self, state: EventState, event: EventRecord) -> bool:
        """Add an event, however late; whether the state changed by that."""
        changed, at, known_by = False, 0, 0
        for by, places_of in self._routes.get(event.name, {}).items():
            values = (None,) if by is None else texts_of(said_of(event.properties, by))
            for place in [place for value in values for place in places_of.get(value, ())]:
                series = self.states.series[place]
                held = held_value(series.holds, said_of(event.properties, series.of)) if series.of is not None else None
                if series.of is None or held is not None:
                    if not known_by:
                        at, known_by = microseconds(event.occurred_at), event_hash(event.event_id)
                    changed |= self.states.add(state, place, at, known_by, held)
        return changed

    def read(self, state: EventState, *, now: datetime) -> dict[str, Scalar]:
        """Every feature at this time, by name; events that occur later do not count yet.

        A count or sum of nothing is 0, a recency or last value of nothing None.

        Raises:
            ValueError: `now` is before what the state can still answer; see `EventStates.forget`.
        """
        at = microseconds(now)
        if at < state.exact_from:
            earliest = EPOCH + timedelta(microseconds=state.exact_from)
            raise ValueError(
                f"now is {now.isoformat()}, must not be before {earliest.isoformat()}: what only older reads need is"
                " forgotten; replay the events instead"
            )
        values = self._nothing.copy()
        for place, kept in state.kept.items():
            times, held = kept.times, kept.values
            end = bisect_right(times, at)
            if not end:
                continue
            for name, compute, window in self._read[place]:
                if compute == "count":
                    values[name] = float(end - bisect_right(times, at - window, 0, end))
                elif compute == "recency":
                    values[name] = (at - times[end - 1]) / HOUR
                elif compute == "last":
                    values[name] = held[end - 1]
                else:  # rounded once, so that it does not depend on the order
                    values[name] = math.fsum(held[bisect_right(times, at - window, 0, end) : end])
        return values

    def of_person(self, kept: KeptStates, *, now: datetime) -> dict[str, Scalar] | None:
        """Every feature of a person whose ids have these states; None where that cannot be said exactly."""
        found = [self.states.decoded(blob) for blob in kept.by_unit.values()]
        states = [state for state in found if state is not None]
        if not kept.complete or len(states) < len(found):
            return None
        state = reduce(self.states.merged, states) if states else EventState()
        return None if microseconds(now) < state.exact_from else self.read(state, now=now)


def held_value(holds: Held, value: Any) -> float | str | None:
    """What a series holds of a property's value; None where the event is then none of the series."""
    return as_number(value) if holds == "numbers" else as_text(value)


class _Key(NamedTuple):
    """What events a series is of, and what it holds of them; features with the same key share it."""

    event: str
    by: str | None
    value: str | None
    of: str | None
    holds: Held

    @classmethod
    def of_feature(cls, feature: EventFeature, value: str | None) -> "_Key":
        if feature.of is None:
            return cls(feature.event, feature.by, value, None, "times")
        is_number = feature.compute == "sum" or feature.kind == "number"
        return cls(feature.event, feature.by, value, feature.of, "numbers" if is_number else "texts")

    def order(self) -> tuple[str, ...]:
        """The same for the same series, in whatever order features are declared."""
        return tuple("" if part is None else f"={part}" for part in self)


def _microseconds_of(window: timedelta | None) -> int:
    return 0 if window is None else window // timedelta(microseconds=1)
