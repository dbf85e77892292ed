from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from decisioning.events import happened
from storage.event_mapping import EventMapping
from storage.mapped_events import EventMapper, MappedEvent
from storage.row_files import FileRow
from storage.row_values import Wrong
from tests.storage.kept import NOW

LEAST: dict[str, Any] = {"event": "purchase", "time": "at", "customer": "who", "message_id": ["id"]}
ROW = {"at": "2026-01-05T10:00:00", "who": "c-1", "id": "o-1"}
LINES = {
    "one_event_per": ["id"],
    "properties": {"value": {"column": "q", "type": "number", "times": "p", "sum": True}, "shop": "shop"},
    "lines": {"product_id": "sku", "quantity": {"column": "q", "type": "whole"}},
}


def mapped(*rows: dict[str, Any], place: int = 1, first: int = 2, **overrides: Any) -> MappedEvent:
    mapping = msgspec.convert({**LEAST, **overrides}, EventMapping)
    mapper = EventMapper(mapping, source="till", now=NOW)
    numbered = [FileRow(first + number, {**ROW, **row}) for number, row in enumerate(rows or ({},))]
    return mapper.event(numbered, place=place)


def mistake(*rows: dict[str, Any], **overrides: Any) -> str:
    with pytest.raises(Wrong) as caught:
        mapped(*rows, **overrides)
    return caught.value.mistake.shown("orders.csv")


def test_a_row_is_an_event() -> None:
    event = mapped({"shop": " Bern "}, properties={"shop": "shop", "more": "nothing"}).event
    assert event.event_id == "till/o-1"
    assert (event.source, event.type, event.name) == ("till", "track", "purchase")
    assert (event.customer_id, event.anonymous_id) == ("c-1", None)
    assert event.occurred_at == datetime(2026, 1, 5, 10, tzinfo=UTC)
    assert event.received_at == NOW
    assert event.properties == {"shop": "Bern"}


def test_rows_of_one_event_become_its_products_and_are_summed() -> None:
    event = mapped(
        {"sku": "a", "q": "6", "p": "2.55", "shop": "Bern"},
        {"sku": "b", "q": "-1", "p": "0.30", "shop": "Basel"},
        {"sku": "c", "q": "", "p": "9"},
        **LINES,
    ).event
    assert event.properties["value"] == 15.0
    assert event.properties["shop"] == "Bern"
    assert event.properties["products"] == [
        {"product_id": "a", "quantity": 6},
        {"product_id": "b", "quantity": -1},
        {"product_id": "c"},
    ]
    told = happened(event)
    assert told is not None
    assert told.products == ("a", "b", "c")


def test_a_product_of_numbers_has_no_dust() -> None:
    value = {"column": "q", "type": "number", "times": "p"}
    assert mapped({"q": "6", "p": "2.55"}, properties={"value": value}).event.properties == {"value": 15.3}


@pytest.mark.parametrize(("number", "name"), [("C536", "order_cancelled"), ("536", "purchase"), ("", "unnumbered")])
def test_the_first_exception_that_holds_names_the_event(number: str, name: str) -> None:
    event = {
        "name": "purchase",
        "instead": [
            {"column": "no", "empty": True, "name": "unnumbered"},
            {"column": "no", "begins": "C", "name": "order_cancelled"},
            {"column": "no", "begins": "C5", "name": "never"},
        ],
    }
    assert mapped({"no": number}, event=event).event.name == name


def test_a_column_can_name_the_event() -> None:
    assert mapped({"kind": " Order Completed"}, event={"column": "kind"}).event.name == "Order Completed"
    assert mistake({"kind": "--"}, event={"column": "kind"}) == (
        "orders.csv row 2, column kind: is '--', must be an event's name"
    )


@pytest.mark.parametrize(
    ("said", "given", "at"),
    [
        ("2026-01-05 10:00:00", {}, datetime(2026, 1, 5, 10, tzinfo=UTC)),
        ("2026-01-05T10:00:00+02:00", {"zone": "Asia/Tokyo"}, datetime(2026, 1, 5, 8, tzinfo=UTC)),
        ("2026-01-05 10:00", {"zone": "Europe/Zurich"}, datetime(2026, 1, 5, 9, tzinfo=UTC)),
        ("2025-07-05 10:00", {"zone": "Europe/Zurich"}, datetime(2025, 7, 5, 8, tzinfo=UTC)),
        ("05/01/2026 10:30", {"format": "%d/%m/%Y %H:%M"}, datetime(2026, 1, 5, 10, 30, tzinfo=UTC)),
        ("1767607200", {"format": "seconds"}, datetime(2026, 1, 5, 10, tzinfo=UTC)),
        (1767607200500, {"format": "milliseconds"}, datetime(2026, 1, 5, 10, 0, 0, 500_000, tzinfo=UTC)),
        (datetime.fromisoformat("2026-01-05T10:00"), {"zone": "Europe/Zurich"}, datetime(2026, 1, 5, 9, tzinfo=UTC)),
        (date(2026, 1, 5), {}, datetime(2026, 1, 5, tzinfo=UTC)),
    ],
)
def test_times(said: object, given: dict[str, str], at: datetime) -> None:
    assert mapped({"at": said}, time={"column": "at", **given}).event.occurred_at == at


@pytest.mark.parametrize(
    ("said", "given", "words"),
    [
        ("31/02/2026", {"format": "%d/%m/%Y"}, "is '31/02/2026', must be a time like %d/%m/%Y"),
        ("yesterday", {}, "is 'yesterday', must be a time like 2026-11-21T18:00:00"),
        ("", {}, "is empty, must be a time like 2026-11-21T18:00:00"),
        ("nan", {"format": "seconds"}, "is 'nan', must be a time in seconds since 1970"),
        ("1e30", {"format": "milliseconds"}, "must be a time in milliseconds since 1970"),
        (5, {}, "is '5', must be a time like 2026"),
        (True, {"format": "seconds"}, "is 'True', must be a time in seconds"),
        ("1999-12-31", {}, "must lie between the years 2000 and 2100"),
        ("2026-03-02T12:06", {}, "is '2026-03-02T12:06', must not lie in the future"),
    ],
)
def test_what_is_no_time_is_named_by_file_row_and_column(said: object, given: dict[str, str], words: str) -> None:
    found = mistake({"at": said}, time={"column": "at", **given})
    assert found.startswith("orders.csv row 2, column at: ")
    assert words in found


def test_a_clock_that_is_a_little_fast_is_now() -> None:
    assert mapped({"at": (NOW + timedelta(minutes=4)).isoformat()}).event.occurred_at == NOW


@pytest.mark.parametrize("said", ["17850.0", "17850", 17850, 17850.0, " 17850 ", Decimal("17850.00")])
def test_an_id_that_a_spreadsheet_has_made_a_number_is_whole(said: object) -> None:
    assert mapped({"who": said}, customer={"column": "who", "type": "whole"}).event.customer_id == "17850"


@pytest.mark.parametrize(
    ("said", "decimal", "number"),
    [
        ("12.50", ".", 12.5),
        ("12,50", ",", 12.5),
        ("-.5", ".", -0.5),
        (" 3 ", ",", 3.0),
        (7, ",", 7.0),
        ("1e3", ".", 1000.0),
    ],
)
def test_numbers(said: object, decimal: str, number: float) -> None:
    value = {"value": {"column": "v", "type": "number"}}
    assert mapped({"v": said}, properties=value, file={"decimal": decimal}).event.properties == {"value": number}


@pytest.mark.parametrize(
    ("said", "decimal"),
    [("1,234", "."), ("1.234,5", ","), ("12.5", ","), ("1_0", "."), ("nan", "."), ("inf", "."), ("x", "."), (True, "."),
     (float("nan"), "."), ([1], "."), ("1e999", ".")],
)  # fmt: skip
def test_what_is_no_number_is_named(said: object, decimal: str) -> None:
    found = mistake({"v": said}, properties={"value": {"column": "v", "type": "number"}}, file={"decimal": decimal})
    assert found.startswith("orders.csv row 2, column v: is '")
    assert found.endswith(f", must be a number like 12{decimal}50")


@pytest.mark.parametrize("said", ["1.5", "9007199254740992"])
def test_what_is_not_whole_is_named(said: str) -> None:
    found = mistake({"who": said}, customer={"column": "who", "type": "whole"})
    assert f"column who: is '{said}', must be a whole number" in found


def test_of_nobody_is_a_mistake_and_a_visitor_is_somebody() -> None:
    assert mistake({"who": " "}) == "orders.csv row 2, column who: is empty, so nobody did this"
    assert "column who and device: is empty" in mistake({"who": "", "device": ""}, anonymous="device")
    event = mapped({"who": "", "device": "d-1"}, anonymous="device").event
    assert (event.customer_id, event.unit) == (None, "anonymous:d-1")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"who": "x" * 257}, "column who: is 'xxx"),
        ({"who": "a\x00b"}, "none of them for control"),
        ({"who": ["a"]}, "column who: is '['a']', must be a text or a number"),
        ({"id": ""}, "column id: is empty, must tell this event from others"),
        ({"id": "x" * 257}, "column id: is 'xxx"),
        ({"note": "x" * 10_001}, "column note: has 10,001 signs, must have at most 10,000"),
    ],
)
def test_what_cannot_be_kept_is_named(row: dict[str, Any], words: str) -> None:
    assert words in mistake(row, properties={"note": "note"})


def test_rows_of_one_event_are_of_one_customer() -> None:
    found = mistake({}, {}, {"who": "c-2"}, **LINES)
    assert found == "orders.csv row 4, column who: is 'c-2', in row 2 of the same event 'c-1'"


def test_a_mistake_in_one_row_of_an_event_leaves_out_all() -> None:
    assert mistake({"q": "1", "p": "2"}, {"q": "one", "p": "2"}, **LINES).startswith("orders.csv row 3, column q: ")


def test_several_columns_can_tell_an_event_from_others() -> None:
    both = {"message_id": ["id", "line"]}
    assert mapped({"id": "a", "line": "b"}, **both).event.event_id == "till/a/b"
    ids = {mapped({"id": id_, "line": line}, **both).event.event_id for id_, line in (("a/b", "c"), ("a", "b/c"))}
    assert len(ids) == 2


def test_without_ids_the_same_row_at_the_same_place_is_the_same_event() -> None:
    def told(place: int, who: str = "c-1") -> str:
        return mapped({"who": who}, place=place, message_id=[]).event.event_id

    assert told(1) == told(1)
    assert len({told(1), told(2), told(1, "c-2")}) == 3


def test_the_digest_tells_what_was_said_and_not_when_it_was_read() -> None:
    def digest(**row: Any) -> str:
        return mapped({"v": "1", **row}, properties={"v": "v"}).digest

    assert digest() == digest(more="not named by the mapping")
    assert len({digest(), digest(v="2"), digest(who="c-2"), digest(at="2026-01-06")}) == 4
