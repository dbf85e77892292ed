"""Features over events: the same whatever order events come in, and exactly what their definition says."""

import itertools
import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decisioning.content_types import Scalar
from decisioning.event_content import EventFeature
from decisioning.event_features import EventFeatures, as_number, as_text
from decisioning.event_state import MARGIN, EventState
from decisioning.events import EventRecord
from tests.events_by_definition import by_definition

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DECLARED = (
    EventFeature(id="orders", event="purchase", compute="count", windows=(HOUR, DAY, 7 * DAY)),
    EventFeature(id="spend", event="purchase", compute="sum", of="value", windows=(DAY, 7 * DAY)),
    EventFeature(id="since_order", event="purchase", compute="recency"),
    EventFeature(id="last_country", event="purchase", compute="last", of="country"),
    EventFeature(id="last_value", event="purchase", compute="last", of="value", kind="number"),
    EventFeature(
        id="orders_of", event="purchase", compute="count", by="category", values=("shoes", "bags"), windows=(DAY,)
    ),
    EventFeature(id="since", event="page", compute="recency", by="category", values=("shoes",)),
    EventFeature(
        id="lines_of",
        event="purchase",
        compute="sum",
        of="value",
        by="products.brand",
        values=("A", "B"),
        windows=(DAY,),
    ),
)
FEATURES = EventFeatures(DECLARED)
NUMBERS = itertools.count()


def event(ago: timedelta = timedelta(0), name: str = "purchase", **properties: Any) -> EventRecord:
    """One that is no other, unless it is given another's `event_id`."""
    at, event_id = NOON - ago, properties.pop("event_id", None) or f"s/{next(NUMBERS)}"
    return EventRecord(
        event_id=event_id, source="s", type="track", name=name, customer_id="c", properties=properties, occurred_at=at,
        received_at=at,
    )  # fmt: skip


def state_of(events: Iterable[EventRecord], features: EventFeatures = FEATURES) -> EventState:
    state = EventState()
    for each in events:
        features.add(state, each)
    return state


def read(*events: EventRecord, now: datetime = NOON) -> dict[str, Scalar]:
    return FEATURES.read(state_of(events), now=now)


# Times on a coarse grid, so that many meet: each other, and the ends of windows.
agos = st.integers(-24, 24 * 9).map(lambda number: number * HOUR / 2)
prices = st.sampled_from([0.1, 0.2, 1e15, -1e15, 3.0, 1e-9])
properties = st.fixed_dictionaries(
    {},
    optional={
        "value": prices,
        "country": st.sampled_from("abc"),
        "category": st.sampled_from(("shoes", "bags", "x", ["bags", "shoes", "bags"])),
        "products": st.lists(st.fixed_dictionaries({}, optional={"brand": st.sampled_from("AB")}), max_size=3),
    },
)
events = st.builds(
    lambda ago, name, said: event(ago, name, **said), agos, st.sampled_from(("purchase", "page")), properties
)
histories = st.lists(events, max_size=14).map(
    lambda listed: [msgspec.structs.replace(each, event_id=f"s/{place}") for place, each in enumerate(listed)]
)
PROPERTY = settings(max_examples=150, derandomize=True, deadline=None, database=None)


def test_names_come_from_the_id_the_value_and_the_window() -> None:
    assert [feature.name for feature in FEATURES.features] == [
        "orders_1h", "orders_1d", "orders_7d", "spend_1d", "spend_7d", "since_order", "last_country", "last_value",
        "orders_of_shoes_1d", "orders_of_bags_1d", "since_shoes", "lines_of_a_1d",
        "lines_of_b_1d",
    ]  # fmt: skip


def test_of_somebody_who_did_nothing_counts_are_zero_and_the_rest_unknown() -> None:
    nothing = read()
    assert {nothing[name] for name in ("orders_1h", "spend_7d", "orders_of_shoes_1d")} == {0.0}
    assert {nothing[name] for name in ("since_order", "last_country", "last_value", "since_shoes")} == {None}


def test_an_event_exactly_one_window_old_no_longer_counts() -> None:
    moment = timedelta(microseconds=1)
    assert read(event(DAY))["orders_1d"] == 0.0
    assert read(event(DAY - moment))["orders_1d"] == 1.0
    assert read(event())["orders_1d"] == 1.0
    assert read(event(-moment)) == read()


def test_an_event_without_the_property_is_counted_but_sums_and_last_values_pass_it_over() -> None:
    found = read(event(2 * HOUR, value=5, country="CH"), event(HOUR, value="7", country=None))
    assert (found["orders_1d"], found["spend_1d"], found["last_country"]) == (2.0, 5.0, "CH")


def test_an_order_counts_once_for_each_brand_among_its_lines() -> None:
    order = event(value=9.0, products=[{"brand": "A"}, {"brand": "A"}, {"brand": "B"}, {}, "?"])
    found = read(order, event(products="A", value=1.0), event(value=2.0))
    assert (found["lines_of_a_1d"], found["lines_of_b_1d"], found["orders_1d"]) == (9.0, 9.0, 3.0)


def test_what_no_feature_looks_at_changes_nothing() -> None:
    state = EventState()
    assert not FEATURES.add(state, event(name="search"))
    assert not FEATURES.add(state, event(name="page", category="bags"))
    assert not state.kept
    assert FEATURES.add(state, event(name="page", category="shoes"))


@pytest.mark.parametrize(
    ("value", "number", "text"),
    [
        (3, 3.0, "3"), (2.5, 2.5, "2.5"), (3.0, 3.0, "3"), (True, None, "true"), ("3", None, "3"), (None, None, None),
        (math.nan, None, None), (math.inf, None, None), (10**400, None, None), (1e15, 1e15, "1000000000000000"),
        (-1.1e15, None, None), ([1], None, None), ("x" * 1000, None, "x" * 1000), ("x" * 1001, None, None),
    ],
)  # fmt: skip
def test_a_property_is_a_number_a_text_or_not_said(value: Any, number: float | None, text: str | None) -> None:
    assert (as_number(value), as_text(value)) == (number, text)


def test_no_zero_is_negative() -> None:
    assert str(as_number(-0.0)) == "0.0"


@PROPERTY
@given(histories, agos)
def test_every_feature_is_what_its_definition_says(history: list[EventRecord], ago: timedelta) -> None:
    assert read(*history, now=NOON - ago) == by_definition(DECLARED, history, NOON - ago)


@PROPERTY
@given(histories, st.randoms(use_true_random=False), agos)
def test_the_order_of_arrival_does_not_matter(history: list[EventRecord], random: Any, ago: timedelta) -> None:
    told = [*history, *random.sample(history, len(history) // 2)]  # some of them twice
    shuffled = random.sample(told, len(told))
    one, other = state_of(history), EventState()
    for place, each in enumerate(shuffled):
        FEATURES.add(other, each)
        if place == len(history) // 2:  # what comes after is late, or older than anything is remembered
            FEATURES.states.forget(other, now=NOON - ago)
    FEATURES.states.forget(one, now=NOON - ago)
    FEATURES.states.forget(other, now=NOON - ago)
    assert FEATURES.states.encoded(one) == FEATURES.states.encoded(other)


@PROPERTY
@given(histories, agos, st.integers(0, 40))
def test_forgetting_changes_no_read_that_may_still_come(history: list[EventRecord], ago: timedelta, later: int) -> None:
    forgetful, now = state_of(history), NOON - ago
    FEATURES.states.forget(forgetful, now=now)
    at = now - MARGIN + later * HOUR / 2
    assert FEATURES.read(forgetful, now=at) == FEATURES.read(state_of(history), now=at)


@PROPERTY
@given(histories, st.integers(0, 14), st.integers(0, 14), agos, agos)
def test_ids_that_turn_out_to_be_one_person_have_the_state_of_all_events(
    history: list[EventRecord], begin: int, end: int, ago: timedelta, other_ago: timedelta
) -> None:
    states = FEATURES.states
    # What lies between the two was told of both.
    one, other = state_of(history[: max(begin, end)]), state_of(history[min(begin, end) :])
    both = state_of(history)
    states.forget(one, now=NOON - ago)
    states.forget(other, now=NOON - other_ago)
    before = states.encoded(one), states.encoded(other)
    states.forget(both, now=NOON - min(ago, other_ago))
    assert states.encoded(states.merged(one, other)) == states.encoded(both)
    assert states.encoded(states.merged(other, one)) == states.encoded(both)
    assert (states.encoded(one), states.encoded(other)) == before


@PROPERTY
@given(histories, histories, histories, st.integers(1, 4))
def test_merging_is_a_union_and_adding_what_is_there_changes_nothing(
    first: list[EventRecord], second: list[EventRecord], third: list[EventRecord], most: int
) -> None:
    features = EventFeatures(DECLARED, max_events=most)
    states = features.states
    one, two, three = (state_of(history, features) for history in (first, second, third))
    left = states.merged(states.merged(one, two), three)
    right = states.merged(one, states.merged(three, two))
    assert states.encoded(left) == states.encoded(right)
    assert states.encoded(states.merged(left, left)) == states.encoded(left)
    assert not any(features.add(left, each) for each in [*first, *second, *third])
    assert states.encoded(left) == states.encoded(right)


@PROPERTY
@given(histories, agos, st.sampled_from((EventFeatures(DECLARED), EventFeatures(DECLARED[:2]))))
def test_a_state_may_be_thrown_away_once_nothing_can_be_left_of_it(
    history: list[EventRecord], ago: timedelta, features: EventFeatures
) -> None:
    state = state_of(history, features)
    features.states.forget(state, now=NOON - ago)
    ends = features.states.ends(state)
    if ends is None:
        later = 1000 * DAY
        features.states.forget(state, now=NOON + later)
        assert state.kept
    else:
        earliest = max(ends - MARGIN, NOON - ago)
        assert features.read(state, now=earliest) == features.read(EventState(), now=earliest)


@PROPERTY
@given(histories, st.randoms(use_true_random=False), agos)
def test_of_too_many_events_the_newest_count_in_any_order(
    history: list[EventRecord], random: Any, ago: timedelta
) -> None:
    few = EventFeatures(DECLARED, max_events=3)
    now = max((each.occurred_at for each in history), default=NOON) + ago + 12 * HOUR
    one, other = state_of(history, few), state_of(random.sample(history, len(history)), few)
    assert few.states.encoded(one) == few.states.encoded(other)
    assert few.read(one, now=now) == by_definition(DECLARED, history, now, most=3)
    half = len(history) // 2
    merged = few.states.merged(state_of(history[:half], few), state_of(history[half:], few))
    assert few.states.encoded(merged) == few.states.encoded(one)


@PROPERTY
@given(histories, agos)
def test_a_state_that_was_written_reads_the_same(history: list[EventRecord], ago: timedelta) -> None:
    state = state_of(history)
    FEATURES.states.forget(state, now=NOON - ago)
    again = FEATURES.states.decoded(FEATURES.states.encoded(state))
    assert again is not None
    assert again.exact_from == state.exact_from
    assert FEATURES.states.encoded(again) == FEATURES.states.encoded(state)
    assert FEATURES.read(again, now=NOON - ago) == FEATURES.read(state, now=NOON - ago)


def test_a_read_of_what_was_forgotten_is_refused() -> None:
    state = state_of([event()])
    FEATURES.states.forget(state, now=NOON)
    FEATURES.read(state, now=NOON - MARGIN)
    with pytest.raises(ValueError, match=r"now is 2026-03-02T10:59:59.*, must not be before 2026-03-02T11:00:00"):
        FEATURES.read(state, now=NOON - MARGIN - timedelta(seconds=1))


def test_only_what_is_still_asked_for_is_kept() -> None:
    state = state_of(
        [event(days * DAY, name, value=1.0, category="shoes") for days in range(60) for name in ("purchase", "page")]
    )
    FEATURES.states.forget(state, now=NOON)
    kept = {FEATURES.states.series[place]: len(each.times) for place, each in state.kept.items()}
    assert {(series.event, series.by, series.holds): number for series, number in kept.items()} == {
        ("page", "category", "times"): 2,  # no window: the last one, and the last before the margin
        ("purchase", None, "times"): 8,  # a week and the hour of margin
        ("purchase", None, "numbers"): 8,
        ("purchase", "category", "times"): 2,
    }


def test_an_event_told_again_changes_nothing_and_another_at_the_same_moment_counts() -> None:
    state = state_of([event(event_id="s/a", value=2.0)])
    before = FEATURES.states.encoded(state)
    assert not FEATURES.add(state, event(event_id="s/a", value=2.0))
    assert FEATURES.states.encoded(state) == before
    assert FEATURES.add(state, event(event_id="s/b", value=2.0))
    assert FEATURES.read(state, now=NOON)["spend_1d"] == 4.0


def test_an_older_forget_brings_nothing_back() -> None:
    state = state_of([event()])
    FEATURES.states.forget(state, now=NOON)
    FEATURES.states.forget(state, now=NOON - DAY)
    with pytest.raises(ValueError, match="must not be before 2026-03-02T11:00:00"):
        FEATURES.read(state, now=NOON - DAY)


def test_of_somebody_whose_every_event_is_too_old_nothing_is_kept() -> None:
    counting = EventFeatures(DECLARED[:1])
    state = state_of([event(9 * DAY)], counting)
    counting.states.forget(state, now=NOON)
    assert not state.kept
    assert not counting.add(state, event(9 * DAY))
    assert not state.kept


def test_features_that_need_the_same_events_share_them() -> None:
    purchases = [series for series in FEATURES.states.series if series[:4] == ("purchase", None, None, None)]
    assert len(purchases) == 1


@pytest.mark.parametrize(
    "damaged",
    [
        lambda blob: b"",
        lambda blob: bytes([blob[0] + 1]) + blob[1:],
        lambda blob: blob[:-1],
        lambda blob: blob[:9],
        lambda blob: blob[:9] + b"\x92\x00\x91\x94\x63\xc4\x00\xc4\x00\xc0",  # a series that is not there
        lambda blob: blob[:9] + b"\x92\x00\x91\x94\x00\xc4\x01x\xc4\x08xxxxxxxx\xc0",  # a part of a time
        lambda blob: blob[:9] + b"\x92\x00\x91\x94\x00\xc4\x08xxxxxxxx\xc4\x00\xc0",  # nobody's time
        lambda blob: (
            blob[:9] + b"\x92\x00\x91\x94\x00\xc4\x08xxxxxxxx\xc4\x08xxxxxxxx\xc4\x08xxxxxxxx"
        ),  # numbers that nobody asked for
    ],
)
def test_bytes_that_are_of_no_use_are_told_from_a_state(damaged: Any) -> None:
    blob = FEATURES.states.encoded(state_of([event(value=1.0, country="CH", category="shoes")]))
    assert FEATURES.states.decoded(blob) is not None
    assert FEATURES.states.decoded(damaged(blob)) is None


def test_times_without_as_many_values_are_no_state() -> None:
    state = state_of([event(value=1.0), event(HOUR, value=2.0)])
    [numbers] = [kept for kept in state.kept.values() if kept.values]
    numbers.values.pop()
    assert FEATURES.states.decoded(FEATURES.states.encoded(state)) is None


def test_a_state_outlives_declarations_that_keep_the_same_events() -> None:
    blob = FEATURES.states.encoded(state_of([event(value=1.0)]))
    renamed = EventFeatures(
        [*reversed(DECLARED), EventFeature(id="n", event="purchase", compute="count", windows=(DAY,))]
    )
    again = renamed.states.decoded(blob)
    assert again is not None
    assert renamed.read(again, now=NOON)["n_1d"] == 1.0
    longer = EventFeature(id="n", event="purchase", compute="count", windows=(8 * DAY,))
    assert EventFeatures([*DECLARED, longer]).states.decoded(blob) is None


def test_a_state_that_keeps_no_event_is_refused() -> None:
    with pytest.raises(ValueError, match="max_events is 0, must be at least 1"):
        EventFeatures(DECLARED, max_events=0)
