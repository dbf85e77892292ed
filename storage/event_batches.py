"""A file's rows gathered into events, a part at a time, with the place from which one could go on.

Rows of one event need not stand next to each other, but near. A place to go on from is one at which no
event has rows on both sides: whoever begins there sees every event whole.
"""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from storage.mapped_events import EventMapper, MappedEvent
from storage.row_files import FileRow, RowFile
from storage.row_values import Mistake, Wrong

NEAR = 1_000  # so many other rows may stand between two of the same event
LONGEST = 10_000  # rows of one event
SCAN_EVERY = 1_000


class Checkpoint(NamedTuple):
    """How far a file was read: so many rows, and a digest of them all."""

    rows: int
    digest: str


class Rejected(NamedTuple):
    """Rows that could not be used, and why."""

    mistake: Mistake
    rows: list[FileRow]


class Batch(NamedTuple):
    """A part of a file: the events that it tells, and from where on to read when these are safe.

    Attributes:
        rows: Read since the batch before; `left_out` of them are not wanted by the mapping.
    """

    events: list[MappedEvent]
    rejected: list[Rejected]
    rows: int
    left_out: int
    upto: Checkpoint


class Reading:
    """A file on its way past: how many rows went by, and what they said."""

    def __init__(self) -> None:
        """At the first row."""
        self.rows = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def passed(self, row: FileRow) -> None:
        """One more row."""
        self.rows += 1
        self._hash.update(row.content)
        self._hash.update(b"\n")

    def mark(self) -> "Mark":
        """This place, to be made a checkpoint of if anybody asks."""
        return Mark(self.rows, self._hash.copy())


class Mark(NamedTuple):
    """A place in a file; its digest is worked out when it is asked for."""

    rows: int
    hash: Any

    @property
    def checkpoint(self) -> Checkpoint:
        """The same as text."""
        return Checkpoint(self.rows, self.hash.hexdigest())


@dataclass(slots=True)
class _Gathered:
    """The rows of what may be one event, so far."""

    before: Mark
    last: int
    rows: list[FileRow] = field(default_factory=list)
    number: int = 0
    done: bool = False


def resumed(file: RowFile, known: Collection[Checkpoint]) -> tuple[Iterator[FileRow], Reading]:
    """The rows behind the last known checkpoint that this file agrees with; all where it agrees with none."""
    wanted = {(each.rows, each.digest) for each in known}
    furthest = max((each.rows for each in known), default=0)
    places = {each.rows for each in known}
    reading, agreed = Reading(), Reading()
    rows = file.rows()
    while reading.rows < furthest and (row := next(rows, None)) is not None:
        reading.passed(row)
        if reading.rows in places and reading.mark().checkpoint in wanted:
            agreed = _copy(reading)
    if agreed.rows < reading.rows:
        rows = file.rows()
        for _ in range(agreed.rows):
            next(rows)
    return rows, agreed


def batches(rows: Iterator[FileRow], mapper: EventMapper, reading: Reading) -> Iterator[Batch]:
    """Events and mistakes, part by part, in the order in which they become certain."""
    gathered: dict[object, _Gathered] = {}  # what may get more rows
    since: list[_Gathered] = []  # all that began behind the checkpoint
    safe = reading.mark()
    begun, left_out = reading.rows, 0
    ended = False
    while not ended:
        row = next(rows, None)
        if row is None:
            ended = True
        else:
            before = reading.mark() if row.mistake is not None or not mapper.leaves_out(row) else None
            reading.passed(row)
            if before is None:
                left_out += 1
            else:
                unreadable = row.mistake is not None and row.column is None
                key = mapper.group(row) if not unreadable else None
                one = gathered.get(reading.rows if key is None else key)
                if one is None:
                    one = gathered[reading.rows if key is None else key] = _Gathered(before, reading.rows)
                    since.append(one)
                one.last = reading.rows
                one.number += 1
                if one.number <= LONGEST:
                    one.rows.append(row)
        if ended or reading.rows % SCAN_EVERY == 0:
            near = reading.rows if ended else reading.rows - NEAR
            final = [key for key, one in gathered.items() if one.last <= near or not isinstance(key, tuple)]
            events, rejected = _made(mapper, [gathered.pop(key) for key in final])
            safe, since = _cut(since, safe, reading)
            yield Batch(events, rejected, reading.rows - begun, left_out, safe.checkpoint)
            begun, left_out = reading.rows, 0


def _made(mapper: EventMapper, final: list[_Gathered]) -> tuple[list[MappedEvent], list[Rejected]]:
    events: list[MappedEvent] = []
    rejected: list[Rejected] = []
    for one in final:
        one.done = True
        rows, one.rows = one.rows, []
        try:
            if one.number > LONGEST:
                said = f"is of one event with {one.number:,} rows, more than {LONGEST:,}; see one_event_per"
                raise Wrong(Mistake(rows[0].number, None, said))
            events.append(mapper.event(rows, place=one.before.rows + 1))
        except Wrong as wrong:
            rejected.append(Rejected(wrong.mistake, rows))
    return events, rejected


def _cut(since: list[_Gathered], safe: Mark, reading: Reading) -> tuple[Mark, list[_Gathered]]:
    """The last place that no event spans and before which all are done; and what began behind it."""
    reach = cut = 0
    for place, one in enumerate(since):
        if not one.done:
            break
        reach = max(reach, one.last)
        following = since[place + 1] if place + 1 < len(since) else None
        if following is None:
            return reading.mark(), []
        if following.before.rows >= reach:
            safe, cut = following.before, place + 1
    else:
        return reading.mark(), []
    return safe, since[cut:]


def _copy(reading: Reading) -> Reading:
    twin = Reading()
    twin.rows, twin._hash = reading.mark()
    return twin
