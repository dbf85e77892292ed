"""A mapping: what the columns of a file of events mean, as a marketer writes it in YAML."""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from decisioning.content_types import Id
from storage.mapping_parts import (
    Column,
    Condition,
    FileFormat,
    Part,
    Parts,
    Text,
    When,
    Who,
    check_encoding,
    read_as,
)

SourceName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+(?![\s\S])")]


class Exceptional(Condition, frozen=True, kw_only=True):
    """Rows whose event has another name."""

    name: Text


class Name(Part, frozen=True, kw_only=True):
    """What the event is called: the same for all rows, or what a column says, but for exceptions (the first counts)."""

    name: Text | None = None
    column: Column | None = None
    instead: tuple[Exceptional, ...] = ()

    def __post_init__(self) -> None:
        if (self.name is None) == (self.column is None):
            raise ValueError("must say name or column, not both")


class Property(Part, frozen=True, kw_only=True):
    """What an event says under one of our names.

    Attributes:
        times: Another column that it is multiplied by.
        sum: Of an event with several rows the sum over all of them; else what its first row says.
    """

    column: Column
    type: Literal["text", "number", "whole"] = "text"
    times: Column | None = None
    sum: bool = False

    def __post_init__(self) -> None:
        if self.type != "number" and (self.sum or self.times):
            raise ValueError("sum and times need `type: number`")


class EventMapping(Part, frozen=True, kw_only=True):
    """What a file's columns mean.

    Attributes:
        source: Who tells these events; their ids are its own.
        message_id: Columns that tell an event from every other of the source. Absent: `one_event_per`,
            or else the row's place and content.
        one_event_per: Rows next to each other with the same values here are one event.
        lines: What each row of such an event says in `products`.
        skip: Rows of which any of these is true are left out.
    """

    source: SourceName | None = None
    file: FileFormat = FileFormat()
    event: Text | Name
    time: Column | When
    customer: Column | Who | None = None
    anonymous: Column | Who | None = None
    message_id: tuple[Column, ...] = ()
    one_event_per: tuple[Column, ...] = ()
    properties: dict[Id, Column | Property] = msgspec.field(default_factory=dict)
    lines: dict[Id, Column | Property] = msgspec.field(default_factory=dict)
    skip: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if self.customer is None and self.anonymous is None:
            raise ValueError("must say customer or anonymous: whose events these are")
        summed = any(isinstance(each, Property) and each.sum for each in self.properties.values())
        if not self.one_event_per and (self.lines or summed):
            raise ValueError("lines and sum need one_event_per: which rows are one event")
        if any(isinstance(each, Property) and each.sum for each in self.lines.values()):
            raise ValueError("lines are of one row each, so nothing in them can be a sum")

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that it names."""
        conditions = [*self.skip, *(self.event.instead if isinstance(self.event, Name) else ())]
        parts = [self.time, self.customer, self.anonymous, *self.properties.values(), *self.lines.values(), *conditions]
        named = [each if isinstance(each, str) else each.column for each in parts if each is not None]
        named += [each.times for each in parts if isinstance(each, Property) and each.times is not None]
        if isinstance(self.event, Name) and self.event.column is not None:
            named.append(self.event.column)
        return tuple(dict.fromkeys([*named, *self.message_id, *self.one_event_per]))

    @property
    def digest(self) -> str:
        """The same for the same meaning, however the file is laid out."""
        return hashlib.blake2b(msgspec.json.encode(self, order="deterministic"), digest_size=16).hexdigest()


_PARTS: Parts = {
    "": EventMapping, "file": FileFormat, "event": Name, "instead": Exceptional, "time": When, "customer": Who,
    "anonymous": Who, "properties": Property, "lines": Property, "skip": Condition,
}  # fmt: skip


def read_mapping(path: Path) -> EventMapping:
    """The mapping in a YAML file.

    Raises:
        DataError: It cannot be read, or says what no mapping can; with file and line.
    """
    mapping = read_as(path, EventMapping, parts=_PARTS)
    check_encoding(path, mapping.file.encoding, place="file.encoding")
    return mapping
