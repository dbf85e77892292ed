from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from storage.event_batches import LONGEST, NEAR, Batch, Checkpoint, batches, resumed
from storage.event_mapping import EventMapping
from storage.mapped_events import EventMapper
from storage.mapping_parts import FileFormat
from storage.row_files import RowFile
from tests.storage.kept import NOW

GROUPED: dict[str, Any] = {
    "event": "purchase", "time": "at", "customer": "who", "one_event_per": ["id"],
    "properties": {"value": {"column": "v", "type": "number", "sum": True}},
    "skip": [{"column": "v", "equals": "skip"}],
}  # fmt: skip
SINGLE: dict[str, Any] = {"event": "purchase", "time": "at", "customer": "who", "message_id": ["id"]}
Row = tuple[object, object]


def written(path: Path, rows: Sequence[Row]) -> RowFile:
    lines = [f"{id_},{value},c-1,2026-01-05\n" if id_ is not None else "odd\n" for id_, value in rows]
    path.write_text("id,v,who,at\n" + "".join(lines), encoding="utf-8")
    return RowFile(path, FileFormat(), needed=["id", "v", "who", "at"])


def read(file: RowFile, said: dict[str, Any] = GROUPED, known: Sequence[Checkpoint] = ()) -> list[Batch]:
    mapper = EventMapper(msgspec.convert(said, EventMapping), source="till", now=NOW)
    rows, reading = resumed(file, known)
    return list(batches(rows, mapper, reading))


def told(found: Sequence[Batch]) -> dict[str, object]:
    events = [each.event for batch in found for each in batch.events]
    assert len({event.event_id for event in events}) == len(events)
    return {event.event_id.removeprefix("till/"): event.properties.get("value") for event in events}


def test_rows_of_one_event_are_gathered_though_others_stand_between(tmp_path: Path) -> None:
    found = read(written(tmp_path / "a.csv", [("a", 1), ("b", 10), ("a", 2), ("c", "skip"), ("b", 20), ("d", "skip")]))
    assert told(found) == {"a": 3.0, "b": 30.0}
    assert (sum(batch.rows for batch in found), sum(batch.left_out for batch in found)) == (6, 2)


def test_rows_that_are_too_far_away_are_another_event(tmp_path: Path) -> None:
    between = [(f"x{number}", 1) for number in range(2 * NEAR + 1)]
    events = [
        each for batch in read(written(tmp_path / "a.csv", [("a", 1), *between, ("a", 2)])) for each in batch.events
    ]
    assert [each.event.properties["value"] for each in events if each.event.event_id == "till/a"] == [1.0, 2.0]


def test_an_event_of_too_many_rows_is_a_mistake(tmp_path: Path) -> None:
    rows = [("a", 1)] * (LONGEST + 1) + [("b", 1)]
    found = read(written(tmp_path / "a.csv", rows))
    [rejected] = [each for batch in found for each in batch.rejected]
    assert "is of one event with 10,001 rows" in rejected.mistake.said
    assert told(found) == {"b": 1.0}


def test_every_mistake_has_the_rows_that_it_costs(tmp_path: Path) -> None:
    found = read(written(tmp_path / "a.csv", [("a", 1), (None, 0), ("b", "x"), ("b", 1), ("a", 1)]))
    rejected = {each.mistake.row: [row.number for row in each.rows] for batch in found for each in batch.rejected}
    assert rejected == {3: [3], 4: [4, 5]}
    assert told(found) == {"a": 2.0}


def interleaved(rng: np.random.Generator, rows: int) -> list[Row]:
    """Events of up to 40 rows, each near where it begins; now and then a row that is left out or cannot be read."""
    placed: list[tuple[float, Row]] = []
    begin = 0.0
    while begin < rows:
        size = int(rng.integers(1, 40))
        apart = rng.choice([1] * 15 + [3, 20])  # how much room they take, times their number
        placed += [
            (float(at), (f"e{begin}", int(rng.integers(1, 9)))) for at in begin + rng.uniform(0, size * apart, size)
        ]
        begin += size
    rows_in_order = [row for _, row in sorted(placed)]
    return [(None, 0) if rng.uniform() < 0.01 else row for row in rows_in_order]


def test_whoever_goes_on_from_any_checkpoint_misses_nothing_and_sees_every_event_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    file = written(tmp_path / "a.csv", interleaved(rng, 12_000))
    whole = read(file)
    checkpoints = list(dict.fromkeys(batch.upto for batch in whole))
    assert len(checkpoints) > 5
    everything = told(whole)
    for checkpoint in checkpoints:
        before = told([batch for batch in whole if batch.upto.rows <= checkpoint.rows])
        after = told(read(file, known=[checkpoint]))
        assert after.items() <= everything.items()
        # What the checkpoint promises: all that is not told again was told in batches up to it.
        assert everything.keys() - after.keys() <= before.keys()


def test_at_the_end_everything_is_read(tmp_path: Path) -> None:
    file = written(tmp_path / "a.csv", [(f"e{number}", 1) for number in range(2_500)])
    *_, last = read(file, SINGLE)
    assert last.upto.rows == 2_500
    assert told(read(file, SINGLE, known=[last.upto])) == {}


def test_of_a_file_that_has_grown_the_new_rows_are_read(tmp_path: Path) -> None:
    rows = [(f"e{number}", 1) for number in range(1_500)]
    *_, last = read(written(tmp_path / "a.csv", rows), SINGLE)
    grown = written(tmp_path / "b.csv", [*rows, ("new", 1)])
    assert set(told(read(grown, SINGLE, known=[last.upto]))) == {"new"}


def test_the_furthest_checkpoint_that_the_file_agrees_with_counts(tmp_path: Path) -> None:
    rows = [(f"e{number}", 1) for number in range(2_500)]
    first, second, third = (batch.upto for batch in read(written(tmp_path / "a.csv", rows), SINGLE))
    changed = written(tmp_path / "b.csv", [*rows[:2_200], ("other", 1), *rows[2_201:]])
    again = told(read(changed, SINGLE, known=[third, first, second, Checkpoint(7, "no such")]))
    assert len(again) == 500
    assert "other" in again
    earlier = written(tmp_path / "c.csv", [("other", 1), *rows])
    assert len(told(read(earlier, SINGLE, known=[first, second, third]))) == 2_501
    shorter = written(tmp_path / "d.csv", rows[:1_000])
    assert told(read(shorter, SINGLE, known=[first, third])) == {}
