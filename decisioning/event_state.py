"""What is kept of a customer's events: per series the times, and the values, that features still need.

A series is a set: each event is in it once, known by a hash of its id, however often it is told. It
stands in one order, whatever order events came in: by time, at the same microsecond by value, then by
hash. What can be forgotten and what is too much are both cut off at its old end. So events that are
late or told again, and the states of ids that turn out to be one person, give the same bytes as the
same events once and in order.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import repeat
from typing import Any, Literal, NamedTuple

import msgspec

VERSION = 2  # of what `encoded` writes
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


def event_hash(event_id: str) -> int:
    """What an event is known by in a state: 64 bits.

    >>> event_hash("shop/1") == event_hash("shop/1"), event_hash("shop/1") == event_hash("shop/2")
    (True, False)
    """
    return int.from_bytes(blake2b(event_id.encode(errors="surrogatepass"), digest_size=8).digest(), "big")


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
    """A series' times in microseconds, oldest first, who each event is, and what it holds: numbers, texts, or None."""

    __slots__ = ("ids", "times", "values")

    def __init__(self, times: "array[int]", ids: "array[int]", values: Any) -> None:
        self.times = times
        self.ids = ids
        self.values = values

    def insert(self, at: int, event: int, value: float | str | None) -> int | None:
        """Put an event where it belongs; that place, or None where it is there already."""
        first = bisect_left(self.times, at)
        end = bisect_right(self.times, at, first)
        place = first + bisect_left(range(first, end), (value, event), key=self._entry)
        if place < end and self._entry(place) == (value, event):
            return None
        self.times.insert(place, at)
        self.ids.insert(place, event)
        if self.values is not None:
            self.values.insert(place, value)
        return place

    def drop(self, number: int) -> None:
        """Forget so many of the oldest."""
        del self.times[:number]
        del self.ids[:number]
        if self.values is not None:
            del self.values[:number]

    def entries(self) -> "Iterable[tuple[int, Any, int]]":
        """Time, value and event of each."""
        return zip(self.times, repeat(None) if self.values is None else self.values, self.ids, strict=False)

    def _entry(self, place: int) -> tuple[Any, int]:
        return (None if self.values is None else self.values[place]), self.ids[place]


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


class KeptStates(msgspec.Struct, frozen=True):
    """What a store has of a person: by id, a state in bytes. `complete`: states hold all that ever happened."""

    complete: bool
    by_unit: dict[str, bytes]


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

    @property
    def digest(self) -> str:
        """The same for whatever keeps the same of the same events: 18 characters."""
        return self._header.hex()

    def add(self, state: EventState, place: int, at: int, event: int, value: float | str | None) -> bool:
        """Add an event (`event_hash`) to a series; whether that changed the state. What is too old changes nothing.

        Its value is None where the series holds times alone.
        """
        kept = state.kept.get(place)
        if kept is None:
            kept = state.kept[place] = self._empty(place)
        put = kept.insert(at, event, value)
        return put is not None and self._cut(state, place) <= put

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
            entries = {entry for state in (one, other) if place in state.kept for entry in state.kept[place].entries()}
            for at, value, event in sorted(entries):
                kept.times.append(at)
                kept.ids.append(event)
                if kept.values is not None:
                    kept.values.append(value)
            self._cut(result, place)
        return result

    def ends(self, state: EventState) -> datetime | None:
        """From when on nothing is left of a state that no event is added to; None: there always is something."""
        if any(self.series[place].latest for place in state.kept):
            return None
        ends = (kept.times[-1] + self.series[place].window for place, kept in state.kept.items())
        return EPOCH + max(ends, default=0) * _MICROSECOND + MARGIN

    def encoded(self, state: EventState) -> bytes:
        """The state in bytes: the version, which series these are; times, hashes, numbers at 8 bytes each, texts."""
        kept = [
            (
                place,
                kept.times.tobytes(),
                kept.ids.tobytes(),
                kept.values.tobytes() if isinstance(kept.values, array) else kept.values,
            )
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
            for place, times, ids, values in parts:
                kept = state.kept[place] = self._empty(place)
                kept.times.frombytes(times)
                kept.ids.frombytes(ids)
                if isinstance(values, bytes):
                    kept.values.frombytes(values)
                elif values is not None:
                    kept.values.extend(values)
                if {len(kept.ids), len(kept.times if kept.values is None else kept.values)} != {len(kept.times)}:
                    return None
        except (msgspec.MsgspecError, AttributeError, IndexError, TypeError, ValueError):
            return None
        return state

    def _empty(self, place: int) -> Kept:
        holds = self.series[place].holds
        return Kept(array("q"), array("Q"), {"times": None, "numbers": array("d"), "texts": []}[holds])

    def _cut(self, state: EventState, place: int) -> int:
        """Drop what is older than any window, but for the last one before a read, and what is too much; how many."""
        series, kept = self.series[place], state.kept[place]
        old = bisect_right(kept.times, state.exact_from - series.window)
        if series.latest and old and old == bisect_right(kept.times, state.exact_from):
            old -= 1
        old = max(old, len(kept.times) - self.max_events)
        if old == len(kept.times):
            del state.kept[place]
        elif old:
            kept.drop(old)
        return old


_Encoded = tuple[int, list[tuple[int, bytes, bytes, bytes | list[str] | None]]]
