"""The features that the service keeps up, event by event, are those that a replay of the history gives."""

import itertools
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning.errors import DataError
from decisioning.event_content import EventFeature
from decisioning.event_features import EventFeatures
from decisioning.event_state import EventState
from decisioning.events import EventRecord
from tests.events_by_definition import by_definition
from training.event_history import KnownBy, event_frame, replayed

DATA = Path(os.environ.get("NEXTMOVE_DATA", Path(__file__).parents[3] / "shared" / "data"))
FILE = DATA / "online_retail" / "online_retail_by_day_concat.csv.gz"
real = pytest.mark.skipif(not FILE.is_file(), reason=f"{FILE} is not there; set NEXTMOVE_DATA")
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WINDOWS = (HOUR, DAY, 7 * DAY, 30 * DAY)
DECLARED = (
    EventFeature(id="lines", event="purchase", compute="count", windows=WINDOWS),
    EventFeature(id="spend", event="purchase", compute="sum", of="value", windows=WINDOWS),
    EventFeature(id="returned", event="return", compute="sum", of="value", windows=(30 * DAY,)),
    EventFeature(id="since_order", event="purchase", compute="recency"),
    EventFeature(id="last_product", event="purchase", compute="last", of="product"),
    EventFeature(id="last_value", event="purchase", compute="last", of="value", kind="number"),
    EventFeature(
        id="bought", event="purchase", compute="count", by="product", values=("85123A", "22423", "47566"),
        windows=(DAY, 30 * DAY),
    ),
    EventFeature(id="since_in", event="purchase", compute="recency", by="country", values=("France", "EIRE")),
)  # fmt: skip
FEATURES = EventFeatures(DECLARED)
NUMBERS = itertools.count()


def rows_of(read: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """What was read event by event, as a replay says it."""
    kinds = {feature.name: object if feature.kind == "text" else np.float64 for feature in FEATURES.features}
    return pd.DataFrame(list(read)).astype(kinds)


def points_of(asked: Sequence[tuple[str, datetime]]) -> pd.DataFrame:
    points = pd.DataFrame(asked, columns=["customer_id", "event_timestamp"])
    return points.assign(event_timestamp=pd.to_datetime(points["event_timestamp"], utc=True))


def assert_identical(one: pd.DataFrame, other: pd.DataFrame) -> None:
    assert list(one.columns) == list(other.columns)
    for name in one.columns:
        if one[name].dtype == object:
            assert one[name].tolist() == other[name].tolist(), name
        else:
            np.testing.assert_array_equal(one[name].to_numpy(), other[name].to_numpy(), err_msg=name)
            assert np.array_equal(np.signbit(one[name]), np.signbit(other[name])), name


@pytest.fixture(scope="module")
def lines() -> pd.DataFrame:
    """Every line of every invoice as an event; who is not known is a visitor, one an invoice."""
    text = {"CustomerID": str, "InvoiceNo": str, "StockCode": str}
    sold = pd.read_csv(FILE, dtype=text, parse_dates=["InvoiceDate"])
    return pd.DataFrame(
        {
            "event_id": "till/" + sold.index.astype(str),
            "customer_id": sold["CustomerID"].fillna("anonymous:" + sold["InvoiceNo"]),
            "name": np.where(sold["Quantity"] > 0, "purchase", "return"),
            "occurred_at": sold["InvoiceDate"].dt.tz_localize("UTC"),
            "properties.value": sold["Quantity"] * sold["UnitPrice"],
            "properties.product": sold["StockCode"],
            "properties.country": sold["Country"],
        }
    )


class Service:
    """Keeps every customer's state, written and read back as a store would, and forgets as it goes."""

    def __init__(self) -> None:
        self.states: dict[str, EventState] = {}

    def take(self, events: pd.DataFrame) -> set[str]:
        columns = ("event_id", "customer_id", "name", "occurred_at", "value", "product", "country")
        listed = events.rename(columns=lambda name: name.removeprefix("properties."))
        for event_id, who, name, at, *said in zip(*(listed[each].tolist() for each in columns), strict=True):
            event = EventRecord(
                event_id=event_id, source="till", type="track", name=name, customer_id=who, occurred_at=at,
                received_at=at, properties=dict(zip(("value", "product", "country"), said, strict=True)),
            )  # fmt: skip
            FEATURES.add(self.states.setdefault(who, EventState()), event)
        return set(listed["customer_id"])

    def read(self, who: str, at: datetime) -> dict[str, Any]:
        return FEATURES.read(self.states.get(who, EventState()), now=at)

    def keep(self, customers: set[str], now: datetime) -> None:
        for who in customers:
            FEATURES.states.forget(self.states[who], now=now)
            again = FEATURES.states.decoded(FEATURES.states.encoded(self.states[who]))
            assert again is not None
            self.states[who] = again


@real
def test_a_year_of_a_shop_streamed_in_random_order_within_days_is_its_replay(lines: pd.DataFrame) -> None:
    rng = np.random.default_rng(7)
    service, asked, read = Service(), [], []
    everybody = lines["customer_id"].unique()
    for day, sold in lines.groupby(lines["occurred_at"].dt.floor("D")):
        midnight = day.to_pydatetime() + DAY
        there = service.take(sold.iloc[rng.permutation(len(sold))])
        # Of those who were here today, and of anybody, whenever until tomorrow's shop opens.
        for who in [*rng.choice(sorted(there), 8), *rng.choice(everybody, 8)]:
            at = midnight + timedelta(seconds=int(rng.integers(0, 6 * 3600)))
            asked.append((who, at))
            read.append(service.read(who, at))
        service.keep(there, now=midnight)
    assert len(asked) > 4000
    found = replayed(FEATURES, lines, points_of(asked), known_by="occurred")
    assert_identical(found, rows_of(read))
    assert (found["spend_30d"] != 0).sum() > 1000
    assert found["since_in_france"].notna().sum() > 50


@real
def test_what_arrives_late_is_not_known_before_it_is_received(lines: pd.DataFrame) -> None:
    rng = np.random.default_rng(11)
    known = lines[lines["customer_id"].isin(rng.choice(lines["customer_id"].unique(), 800, replace=False))]
    late = np.where(rng.random(len(known)) < 0.3, rng.exponential(40, len(known)), 0.0)  # in hours
    known = known.assign(received_at=known["occurred_at"] + pd.to_timedelta((late * 3600).round(), unit="s"))
    arriving = known.iloc[rng.permutation(len(known))].sort_values("received_at", kind="stable")
    # Asked near what happens: as an event is received, and up to two days from it.
    moments = arriving.iloc[rng.choice(len(arriving), 4000)]
    at = moments["received_at"] + pd.to_timedelta(rng.choice([0, 1, 1800, 86_400, 172_800], len(moments)), unit="s")
    asked = sorted(zip(moments["customer_id"], at.tolist(), strict=True), key=lambda point: point[1])
    service, read, taken = Service(), [], 0
    received = arriving["received_at"].dt.tz_localize(None).to_numpy()
    for who, now in asked:
        until = int(np.searchsorted(received, now.tz_localize(None).to_datetime64(), side="right"))
        service.keep(service.take(arriving.iloc[taken:until]), now=now)
        taken = until
        read.append(service.read(who, now))
    served, points = rows_of(read), points_of(asked)
    assert_identical(replayed(FEATURES, known, points, known_by="received"), served)
    hindsight = replayed(FEATURES, known, points, known_by="occurred")
    assert (hindsight["spend_1d"] != served["spend_1d"]).sum() > 200


@real
def test_a_sample_of_the_year_is_what_the_definitions_say(lines: pd.DataFrame) -> None:
    rng = np.random.default_rng(3)
    some = lines[lines["customer_id"].isin(["14646.0", "12583.0", "17841.0"])].head(2000)
    records = {
        who: [
            EventRecord(
                event_id="", source="till", type="track", name=row["name"], customer_id=who,
                occurred_at=row["occurred_at"], received_at=row["occurred_at"],
                properties={name: row[f"properties.{name}"] for name in ("value", "product", "country")},
            )
            for row in sold.to_dict("records")
        ]
        for who, sold in some.groupby("customer_id")
    }  # fmt: skip
    # At the very end of a window as often as anywhere.
    ends = some.iloc[rng.choice(len(some), 40)]
    shifts = [timedelta(0), *WINDOWS, timedelta(microseconds=-1)]
    asked = [
        (who, at.to_pydatetime() + shifts[int(rng.integers(len(shifts)))])
        for who, at in zip(ends["customer_id"], ends["occurred_at"], strict=True)
    ]
    expected = [by_definition(DECLARED, records[who], at) for who, at in asked]
    assert_identical(replayed(FEATURES, some, points_of(asked), known_by="occurred"), rows_of(expected))


def event(
    who: str = "c", ago: timedelta = timedelta(0), late: timedelta = timedelta(0), name: str = "purchase", **said: Any
) -> EventRecord:
    return EventRecord(
        event_id=f"s/{next(NUMBERS)}", source="s", type="track", name=name, customer_id=who, properties=said,
        occurred_at=NOON - ago, received_at=NOON - ago + late,
    )  # fmt: skip


# Few, so that many meet: each other, the ends of windows, and times at which something arrives.
agos = st.sampled_from([hours * HOUR for hours in (0, 1, 2, 3, 23, 24, 25, 48, 168, 192, 719, 720, 721)])
said = st.fixed_dictionaries(
    {},
    optional={
        "value": st.sampled_from([0.1, 0.2, 3, 1e15, 2e15, "7", True, None]),
        "product": st.sampled_from(["85123A", "22423", 22423, 22423.0, 1, True, None, ["22423"], [22423, "85123A"]]),
        "country": st.sampled_from(["France", "EIRE", "", ["EIRE", "France", "EIRE"]]),
    },
)
events = st.builds(
    lambda who, ago, late, name, told: event(who, ago, late, name, **told),
    st.sampled_from("ab"), agos, st.sampled_from([timedelta(0), HOUR, 2 * HOUR, DAY, 7 * DAY]),
    st.sampled_from(["purchase", "return"]), said,
)  # fmt: skip


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(
    st.lists(events, max_size=14).map(
        lambda listed: [msgspec.structs.replace(each, event_id=f"s/{place}") for place, each in enumerate(listed)]
    ),
    st.lists(st.tuples(st.sampled_from("abc"), agos), max_size=8),
    st.sampled_from(["occurred", "received"]),
    st.sampled_from([3, 10_000]),
)
def test_stream_and_replay_agree_on_whatever_is_told(
    history: list[EventRecord], asked: list[tuple[str, timedelta]], known_by: KnownBy, most: int
) -> None:
    features = EventFeatures(DECLARED, max_events=most)
    points = points_of([(who, NOON - ago) for who, ago in asked])
    read = []
    for who, ago in asked:
        state, now = EventState(), NOON - ago
        for each in history:
            when = each.occurred_at if known_by == "occurred" else each.received_at
            if each.unit == who and when <= now:
                features.add(state, each)
        read.append(features.read(state, now=now))
    frame = event_frame(history, features).drop(columns="event_id")
    found = replayed(features, frame, points, known_by=known_by)
    assert list(found.columns) == [feature.name for feature in features.features]
    assert len(found) == len(asked)
    if asked:
        assert_identical(found, rows_of(read))


@pytest.mark.parametrize(
    ("kind", "values"),
    [("float64", [3.0, None]), ("Int64", [3, None]), ("object", [np.int64(3), None]), ("float32", [3, np.inf])],
)
def test_a_column_of_any_kind_holds_the_same_numbers_and_texts(kind: str, values: list[Any]) -> None:
    frame = event_frame([event(ago=HOUR), event(country="France")], FEATURES).drop(columns="event_id")
    frame["properties.value"] = frame["properties.product"] = pd.Series(values, dtype=kind)
    found = replayed(FEATURES, frame, points_of([("c", NOON)]), known_by="received").iloc[0]
    assert (found["spend_1d"], found["last_value"], found["last_product"], found["lines_1d"]) == (3.0, 3.0, "3", 2.0)


def test_of_too_many_events_the_newest_that_are_known_count() -> None:
    history = [event(ago=hours * HOUR, late=DAY if hours == 2 else timedelta(0), value=hours) for hours in range(1, 7)]
    few = EventFeatures(DECLARED, max_events=3)
    frame = event_frame(history, few).drop(columns="event_id")
    found = replayed(few, frame, points_of([("c", NOON)]), known_by="received").iloc[0]
    assert (found["lines_1d"], found["spend_1d"], found["last_value"]) == (3.0, 1.0 + 3.0 + 4.0, 1.0)


@pytest.mark.parametrize("values", [(1.0, 2.0), (2.0, 1.0)])
def test_of_several_at_one_moment_the_greatest_value_is_the_last(values: tuple[float, float]) -> None:
    history = [event(value=value, product=f"p{value}") for value in values]
    frame = event_frame(history, FEATURES).drop(columns="event_id")
    found = replayed(FEATURES, frame, points_of([("c", NOON)]), known_by="occurred").iloc[0]
    assert (found["last_value"], found["last_product"]) == (2.0, "p2.0")


def test_true_is_a_text_and_no_number() -> None:
    frame = event_frame([event()], FEATURES)
    frame["properties.value"] = frame["properties.product"] = pd.Series([True])
    found = replayed(FEATURES, frame, points_of([("c", NOON)]), known_by="occurred").iloc[0]
    assert (found["spend_1d"], found["last_product"]) == (0.0, "true")


def test_the_lines_of_an_order_are_replayed() -> None:
    brands = EventFeature(
        id="of", event="purchase", compute="count", by="products.brand", values=("A", "B"), windows=(DAY,)
    )
    features = EventFeatures([brands])
    frame = event_frame([event(products=[{"brand": "A"}, {"brand": "B"}, {"brand": "A"}]), event("d")], features)
    # As a parquet file gives lists back.
    frame["properties.products.brand"] = pd.Series([np.array(["A", "B", "A"], dtype=object), None])
    found = replayed(features, frame, points_of([("c", NOON), ("d", NOON)]), known_by="occurred")
    assert found.to_numpy().tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_the_points_index_stays() -> None:
    points = points_of([("c", NOON), ("d", NOON)]).set_index(pd.Index(["x", "y"]))
    found = replayed(FEATURES, event_frame([event()], FEATURES), points, known_by="occurred")
    assert found["lines_1d"].to_dict() == {"x": 1.0, "y": 0.0}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda events: events.drop(columns="received_at"), "the events have no column received_at, must have one"),
        (lambda events: events.drop(columns="properties.value"), "the events have no column properties.value"),
        (lambda events: events.assign(occurred_at=pd.NaT), "the events have no occurred_at in row 0"),
        (lambda events: events.assign(customer_id=[None, "c"]), "the events have no customer_id in row 0"),
        (lambda events: events.assign(event_id="s/1"), "the event 's/1' is there twice, must be once"),
    ],
)
def test_a_history_that_cannot_be_replayed_is_told(change: Any, said: str) -> None:
    frame = event_frame([event("c"), event("d")], FEATURES)
    with pytest.raises(DataError, match=said):
        replayed(FEATURES, change(frame), points_of([("c", NOON)]), known_by="received")
