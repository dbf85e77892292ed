"""The catalogue's features over events, replayed over a history: what they were, for whom, at any past time.

The same declarations as the service computes one event at a time (`decisioning.event_features`), here for
many customers and times at once, and bit for bit the same. A model learns from these what it is served.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.errors import DataError
from decisioning.event_features import HOUR, LARGEST, EventFeatures, Feature, as_number, as_text, said_of, texts_of
from decisioning.event_state import Series
from decisioning.events import EventRecord

KnownBy = Literal["occurred", "received"]
PROPERTY = "properties."  # before the name of a property, as a column

Whole = NDArray[np.int64]


def event_frame(events: Iterable[EventRecord], features: EventFeatures) -> pd.DataFrame:
    """The events as `replayed` takes them, with the properties that these features look at."""
    names = _properties(features)
    rows = [
        (
            each.event_id,
            each.unit,
            each.name,
            each.occurred_at,
            each.received_at,
            *(said_of(each.properties, name) for name in names),
        )
        for each in events
    ]
    columns = ["event_id", "customer_id", "name", "occurred_at", "received_at", *(PROPERTY + name for name in names)]
    frame = pd.DataFrame(rows, columns=columns, dtype=object)
    for column in ("occurred_at", "received_at"):
        frame[column] = pd.to_datetime(frame[column], utc=True).dt.as_unit("us")
    return frame


def replayed(features: EventFeatures, events: pd.DataFrame, points: pd.DataFrame, *, known_by: KnownBy) -> pd.DataFrame:
    """Every feature of every point as it was then.

    Args:
        features: The declarations.
        events: `customer_id` (or the visitor's), `name`, `occurred_at`, with `known_by="received"` also
            `received_at`, and `properties.<name>` of each property that the features look at, a list
            where an event says several. In any order; each event once, which is checked where there
            is a column `event_id`.
        points: `customer_id` and `event_timestamp` (UTC).
        known_by: `occurred` counts whatever had occurred by then: what is true of the customer.
            `received` counts of this what had also arrived: what the service could know, late events
            not yet among it.

    Returns:
        A column a feature, in the declarations' order, and a row a point, under the points' index:
        floats, NaN where nothing is known, or texts, None where nothing is known.

    Raises:
        DataError: A column is missing, a time or customer is not known, or an event is there twice.
    """
    history = _History(features, events, known_by)
    who = history.customers.get_indexer(pd.Index(_known_column(points, "customer_id", "points").astype(str)))
    at = _microseconds(points, "event_timestamp", "points")
    found: dict[str, Any] = {}
    for place, series in enumerate(features.states.series):
        asked = _asked(history.of(series), who, at, most=features.states.max_events)
        for feature in features.features:
            if feature.place == place:
                found[feature.name] = _computed(feature, asked, at)
    return pd.DataFrame({each.name: found[each.name] for each in features.features}, index=points.index)


class _Told(NamedTuple):
    """A series' events of all customers: by customer, then by time, then by value.

    Attributes:
        who: The customers' numbers.
        times, received: Microseconds; `received` is None where it does not matter.
        values: Numbers or texts, if the series holds any.
    """

    who: Whole
    times: Whole
    received: Whole | None
    values: NDArray[Any] | None


class _Asked(NamedTuple):
    """Of each point, where its customer's events are that count: from `begin` to `end`, exclusive.

    `some` has the points at which not all of these were known, each with the places of those that were.
    """

    told: _Told
    start_of: Callable[[Whole], Whole]
    begin: Whole
    end: Whole
    some: dict[int, Whole]


class _History:
    """The events' columns, each made ready once for all series."""

    def __init__(self, features: EventFeatures, events: pd.DataFrame, known_by: KnownBy) -> None:
        if "event_id" in events.columns and events["event_id"].duplicated().any():
            first = events.loc[events["event_id"].duplicated(), "event_id"].iloc[0]
            raise DataError(f"the event '{first}' is there twice, must be once; drop what was told again")
        who, self.customers = pd.factorize(_known_column(events, "customer_id", "events").astype(str), sort=True)
        self._who = who.astype(np.int64)
        self._name = _known_column(events, "name", "events").astype(str).to_numpy(dtype=object)
        self._times = _microseconds(events, "occurred_at", "events")
        self._received = _microseconds(events, "received_at", "events") if known_by == "received" else None
        self._said = {name: _column(events, PROPERTY + name, "events") for name in _properties(features)}
        self._texts: dict[str, NDArray[Any]] = {}
        self._lists: dict[str, dict[str | None, list[int]]] = {}  # by property and text, the rows

    def of(self, series: Series) -> _Told:
        """The events of a series."""
        ours = self._name == series.event
        if series.by is not None:
            ours &= self._says(series.by, series.value)
        values: NDArray[Any] | None = None
        if series.of is not None:
            values = _numbers(self._said[series.of]) if series.holds == "numbers" else self._text(series.of)
            ours &= ~pd.isna(values)
        rows = np.flatnonzero(ours)
        keys = [self._times[rows], self._who[rows]]
        if values is not None:
            keys.insert(
                0, values[rows] if series.holds == "numbers" else np.unique(values[rows], return_inverse=True)[1]
            )
        rows = rows[np.lexsort(keys)]
        return _Told(
            who=self._who[rows],
            times=self._times[rows],
            received=None if self._received is None else self._received[rows],
            values=None if values is None else values[rows],
        )

    def _says(self, name: str, value: str | None) -> NDArray[np.bool_]:
        """Of which events the property is this text, or a list with it."""
        if name not in self._lists:
            self._lists[name] = {}
            for row, said in enumerate(_plain(self._said[name])) if self._said[name].dtype == object else ():
                for text in texts_of(said) if isinstance(said, list) else ():
                    self._lists[name].setdefault(text, []).append(row)
        says: NDArray[np.bool_] = self._text(name) == value
        says[self._lists[name].get(value, [])] = True
        return says

    def _text(self, name: str) -> NDArray[Any]:
        if name not in self._texts:
            self._texts[name] = _texts(self._said[name])
        return self._texts[name]


def _asked(told: _Told, who: Whole, at: Whole, *, most: int) -> _Asked:
    distinct = np.unique(told.times)
    span = len(distinct) + 1
    # Customer and time as one number, which a binary search can find: microseconds would be too many for it.
    # Who never did anything has the number -1, before everybody's.
    order = told.who * span + np.searchsorted(distinct, told.times)

    def start_of(time: Whole) -> Whole:
        """Of each point, the place of its customer's first event after this time."""
        return np.searchsorted(order, who * span + np.searchsorted(distinct, time, side="right")).astype(np.int64)

    end = start_of(at)
    begin = np.minimum(np.searchsorted(told.who, who).astype(np.int64), end)
    some = {} if told.received is None else _partly_known(told.who, told.received, begin, end, at)
    # As a state keeps the newest alone.
    return _Asked(
        told, start_of, np.maximum(begin, end - most), end, {point: places[-most:] for point, places in some.items()}
    )


def _partly_known(who: Whole, received: Whole, begin: Whole, end: Whole, at: Whole) -> dict[int, Whole]:
    """Points at which something had occurred and not yet arrived, with the places of what had."""
    if not len(received):
        return {}
    distinct = np.unique(received)
    span = len(distinct) + 1
    # The newest arrival up to each event: a running maximum, in which the next customer always is more.
    newest = np.maximum.accumulate(who * span + np.searchsorted(distinct, received)) % span
    late = (end > begin) & (newest[end - 1] >= np.searchsorted(distinct, at, side="right"))
    return {
        int(point): begin[point] + np.flatnonzero(received[begin[point] : end[point]] <= at[point])
        for point in np.flatnonzero(late)
    }


def _computed(feature: Feature, asked: _Asked, at: Whole) -> NDArray[Any]:
    """The feature at every point."""
    times, values, begin, end = asked.told.times, asked.told.values, asked.begin, asked.end
    if feature.window:
        start = np.clip(asked.start_of(at - feature.window), begin, end)
        places = {point: some[times[some] > at[point] - feature.window] for point, some in asked.some.items()}
        if feature.compute == "count":
            found = (end - start).astype(np.float64)
            for point, some in places.items():
                found[point] = len(some)
            return found
        assert values is not None
        numbers = values.tolist()  # `fsum` is fastest over Python's own
        found = np.array(
            [math.fsum(numbers[a:b]) for a, b in zip(start.tolist(), end.tolist(), strict=True)], np.float64
        )
        for point, some in places.items():
            found[point] = math.fsum(values[some].tolist())
        return found
    last = end - 1
    exists = end > begin
    for point, some in asked.some.items():
        exists[point] = bool(len(some))
        last[point] = some[-1] if len(some) else -1
    if feature.compute == "recency":
        found = np.full(len(at), np.nan)
        found[exists] = (at[exists] - times[last[exists]]) / HOUR
        return found
    assert values is not None
    found = np.full(len(at), np.nan) if feature.kind == "number" else np.full(len(at), None, dtype=object)
    found[exists] = values[last[exists]]
    return found


def _properties(features: EventFeatures) -> list[str]:
    return sorted({name for each in features.states.series for name in (each.by, each.of) if name is not None})


def _numbers(said: "pd.Series[Any]") -> NDArray[np.float64]:
    """The property as numbers, NaN where it is none; see `as_number`."""
    if pd.api.types.is_bool_dtype(said):
        return np.full(len(said), np.nan)
    if pd.api.types.is_numeric_dtype(said):
        numbers = said.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.where(np.abs(numbers) <= LARGEST, numbers, np.nan) + 0.0
    return np.array([as_number(value) for value in _plain(said)], dtype=np.float64)


def _texts(said: "pd.Series[Any]") -> NDArray[Any]:
    """The property as texts, None where it is none; see `as_text`."""
    if said.dtype == object:  # may mix kinds that are equal and not the same: 1, 1.0, true
        return np.array([*map(as_text, _plain(said)), None], dtype=object)[:-1]
    codes, distinct = pd.factorize(said)
    return np.array([*map(as_text, distinct.tolist()), None], dtype=object)[codes]


def _plain(said: "pd.Series[Any]") -> list[Any]:
    """Python's own values, also where numpy's stand among objects."""
    return [value.tolist() if isinstance(value, np.generic | np.ndarray) else value for value in said.tolist()]


def _column(frame: pd.DataFrame, name: str, of: str) -> "pd.Series[Any]":
    if name not in frame.columns:
        raise DataError(
            f"the {of} have no column {name}, must have one; they have {', '.join(map(str, frame.columns))}"
        )
    return frame[name]


def _known_column(frame: pd.DataFrame, name: str, of: str) -> "pd.Series[Any]":
    column = _column(frame, name, of)
    if column.isna().any():
        raise DataError(
            f"the {of} have no {name} in row {int(column.isna().to_numpy().argmax())}, must have one in every row"
        )
    return column


def _microseconds(frame: pd.DataFrame, name: str, of: str) -> Whole:
    column = _known_column(frame, name, of)
    return pd.to_datetime(column, utc=True).dt.as_unit("us").to_numpy(dtype="datetime64[us]").astype(np.int64)
