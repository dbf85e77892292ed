"""What is kept of a customer's events: per series the times, and the values, that features still need.

A series is always what one sort of all its events leaves, whatever order they came in: by time, and
at the same microsecond by value, the greatest last. What can be forgotten and what is too much are
both cut off at its old end. So late events, and the states of two customers who turn out to be one,
give the same bytes as the same events in order.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

import msgspec

VERSION = 1  # of what `encoded` writes
# Of a series the newest so many are kept: 333 a day for a month. Of more, which no person does,
# counts stay at this number and sums are of these; nothing then depends on the order of arrival either.
MAX_EVENTS = 10_000
# A read may lie so far before the last `forget`: replicas' clocks differ.
MARGIN = timedelta(hours=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ALWAYS = -(1 << 62)  # before any time

Held = Literal["times", "numbers", "texts"]


def microseconds(at: datetime) -> int:
    """Since 1970; exact, which `timestamp()` is not.

    >>> microseconds(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    return (at - EPOCH) // _MICROSECOND


class Series(NamedTuple):
    """Events that features are computed from, and how long they need them.

    Attributes:
        event: Their name.
        by, value: Those alone that have this value of this property; None: all.
        of: The property whose value is held; events without it are none of this series.
        holds: Times alone, or each with its number or text.
        window: The longest that is asked for, in microseconds; 0 if none is.
        latest: Whether the last one is asked for, however old it is.
    """

    event: str
    by: str | None
    value: str | None
    of: str | None
    holds: Held
    window: int
    latest: bool


class Kept:
    """A series' times in microseconds, oldest first, and what each holds: numbers, texts, or None."""

    __slots__ = ("times", "values")

    def __init__(self, times: "array[int]", values: Any) -> None:
        self.times = times
        self.values = values

    def insert(self, at: int, value: float | str | None) -> None:
        """Put an event where it belongs."""
        place = bisect_right(self.times, at)
        if self.values is not None:
            place = bisect_right(self.values, value, bisect_left(self.times, at, 0, place), place)
            self.values.insert(place, value)
        self.times.insert(place, at)

    def drop(self, number: int) -> None:
        """Forget so many of the oldest."""
        del self.times[:number]
        if self.values is not None:
            del self.values[:number]


class EventState:
    """One customer's events, as far as features need them.

    Attributes:
        exact_from: Reads at this time (microseconds) or later are exact.
        kept: By the place of the series among all; series without events are absent.
    """

    __slots__ = ("exact_from", "kept")

    def __init__(self) -> None:
        self.exact_from = _ALWAYS
        self.kept: dict[int, Kept] = {}


class EventStates:
    """Makes, changes and writes states over these series.

    Raises:
        ValueError: `max_events` is not positive.
    """

    def __init__(self, series: Sequence[Series], *, max_events: int = MAX_EVENTS) -> None:
        if max_events < 1:
            raise ValueError(f"max_events is {max_events}, must be at least 1")
        self.series = tuple(series)
        self.max_events = max_events
        self._header = (
            bytes([VERSION]) + blake2b(msgspec.json.encode([max_events, MARGIN, self.series]), digest_size=8).digest()
        )

    def add(self, state: EventState, place: int, at: int, value: float | str | None) -> None:
        """Add an event to a series; its value is None where the series holds times alone."""
        kept = state.kept.get(place)
        if kept is None:
            kept = state.kept[place] = self._empty(place)
        kept.insert(at, value)
        self._cut(state, place)

    def forget(self, state: EventState, *, now: datetime) -> None:
        """Drop what no read at `now`, less an hour, or later needs."""
        state.exact_from = max(state.exact_from, microseconds(now - MARGIN))
        for place in list(state.kept):
            self._cut(state, place)

    def merged(self, one: EventState, other: EventState) -> EventState:
        """The state that all events of both would have given; both stay as they are."""
        result = EventState()
        result.exact_from = max(one.exact_from, other.exact_from)
        for place in sorted(one.kept.keys() | other.kept.keys()):
            kept = result.kept[place] = self._empty(place)
            parts = [state.kept[place] for state in (one, other) if place in state.kept]
            if kept.values is None:
                kept.times.extend(sorted(at for part in parts for at in part.times))
            else:
                pairs = sorted(pair for part in parts for pair in zip(part.times, part.values, strict=True))
                kept.times.extend(at for at, _ in pairs)
                kept.values.extend(value for _, value in pairs)
            self._cut(result, place)
        return result

    def encoded(self, state: EventState) -> bytes:
        """The state in bytes: the version, which series they are of, the times at 8 bytes each, the values."""
        kept = [
            (place, kept.times.tobytes(), kept.values.tobytes() if isinstance(kept.values, array) else kept.values)
            for place, kept in sorted(state.kept.items())
        ]
        return self._header + msgspec.msgpack.encode((state.exact_from, kept))

    def decoded(self, blob: bytes) -> EventState | None:
        """The state in these bytes; None where they are of no use, and it must be made anew from the events.

        That is so after the declarations changed what is kept, under another version of this format,
        and where the bytes are damaged.
        """
        if not blob.startswith(self._header):
            return None
        try:
            exact_from, parts = msgspec.msgpack.decode(memoryview(blob)[len(self._header) :], type=_Encoded)
            state = EventState()
            state.exact_from = exact_from
            for place, times, values in parts:
                kept = state.kept[place] = self._empty(place)
                kept.times.frombytes(times)
                if isinstance(values, bytes):
                    kept.values.frombytes(values)
                elif values is not None:
                    kept.values.extend(values)
                if kept.values is not None and len(kept.values) != len(kept.times):
                    return None
        except (msgspec.MsgspecError, AttributeError, IndexError, TypeError, ValueError):
            return None
        return state

    def _empty(self, place: int) -> Kept:
        holds = self.series[place].holds
        return Kept(array("q"), {"times": None, "numbers": array("d"), "texts": []}[holds])

    def _cut(self, state: EventState, place: int) -> None:
        """Drop what is older than any window, but for the last one before a read, and what is too much."""
        series, kept = self.series[place], state.kept[place]
        old = bisect_right(kept.times, state.exact_from - series.window)
        if series.latest and old and old == bisect_right(kept.times, state.exact_from):
            old -= 1
        old = max(old, len(kept.times) - self.max_events)
        if old == len(kept.times):
            del state.kept[place]
        elif old:
            kept.drop(old)


_Encoded = tuple[int, list[tuple[int, bytes, bytes | list[str] | None]]]
