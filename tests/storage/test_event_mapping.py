from pathlib import Path
from typing import Any

import pytest

from decisioning.errors import DataError
from storage.event_mapping import EventMapping, read_mapping
from storage.mapping_parts import Condition

LEAST = "event: purchase\ntime: at\ncustomer: who\n"


def read(tmp_path: Path, text: str) -> EventMapping:
    path = tmp_path / "orders.yaml"
    path.write_text(text, encoding="utf-8")
    return read_mapping(path)


def test_the_least_mapping_names_its_columns(tmp_path: Path) -> None:
    assert read(tmp_path, LEAST).columns == ("at", "who")


def test_every_column_that_is_named_anywhere_is_needed(tmp_path: Path) -> None:
    mapping = read(
        tmp_path,
        """
event: {column: kind, instead: [{column: c1, empty: true, name: x}]}
time: {column: at}
anonymous: {column: device}
message_id: [id]
one_event_per: [order]
properties: {value: {column: q, type: number, times: p, sum: true}, shop: branch}
lines: {product_id: sku}
skip: [{column: c2, equals: 0}]
""",
    )
    assert set(mapping.columns) == {"at", "device", "id", "order", "q", "p", "branch", "sku", "c1", "c2", "kind"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LEAST + "colour: red\n", "orders.yaml:1: Object contains unknown field `colour`; known are source, file, ev"),
        (
            "event: purchase\ntime: {column: at, zome: UTC}\ncustomer: who\n",
            "orders.yaml:2: time: Object contains unknown field `zome`; known are column, format, zone",
        ),
        (
            "event: purchase\ncustomer: who\ntime:\n  column: at\n  zone: Berlin\n",
            "orders.yaml:3: time: zone is 'Berlin', must be one like Europe/London",
        ),
        (
            LEAST + "skip:\n  - {column: a, empty: true}\n  - {column: b}\n",
            "orders.yaml:6: skip[1]: must say one of empty",
        ),
        ("event: purchase\ntime: at\n", "orders.yaml:1: must say customer or anonymous"),
        ("event: {name: a, column: b}\ntime: at\ncustomer: who\n", "orders.yaml:1: event: must say name or column"),
        (LEAST + "properties: {value: {column: v, sum: true}}\n", "sum and times need `type: number`"),
        (LEAST + "properties: {value: {column: v, type: number, sum: true}}\n", "need one_event_per"),
        (LEAST + "lines: {product_id: sku}\n", "need one_event_per"),
        (LEAST + "one_event_per: [o]\nlines: {v: {column: v, type: number, sum: true}}\n", "nothing in them can be a"),
        (LEAST + "file: {encoding: klingon}\n", "orders.yaml:4: file.encoding: unknown encoding: klingon"),
        (LEAST + "source: ''\n", "orders.yaml:4: source: "),
        (LEAST + "time: other\n", "orders.yaml:4: 'time' stands twice, first in line 2"),
        ("event: [\n", "orders.yaml:2: is not YAML"),
    ],
)
def test_a_mistake_is_named_by_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, text)
    assert said in caught.value.message


def test_a_mapping_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.yaml: cannot be read"):
        read_mapping(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("given", "value", "holds"),
    [
        ({"empty": True}, " ", True),
        ({"empty": True}, None, True),
        ({"empty": True}, 0, False),
        ({"empty": False}, "a", True),
        ({"empty": False}, "", False),
        ({"equals": "a"}, "a", True),
        ({"equals": "a"}, "ab", False),
        ({"equals": 0}, "0", True),
        ({"equals": 0}, 0, True),
        ({"equals": ("a", "b")}, "b", True),
        ({"equals": ("a", "b")}, None, False),
        ({"begins": "C"}, "C5", True),
        ({"begins": "C"}, "5C", False),
        ({"begins": "C"}, None, False),
    ],
)
def test_conditions(given: dict[str, Any], value: object, holds: bool) -> None:
    assert Condition(column="x", **given).holds(value) is holds


def test_the_digest_is_of_what_a_mapping_says_not_of_its_layout(tmp_path: Path) -> None:
    first = read(tmp_path, LEAST)
    assert read(tmp_path, "# an order\ncustomer: who\ntime: at\nevent: 'purchase'\n").digest == first.digest
    assert read(tmp_path, LEAST.replace("who", "whom")).digest != first.digest
