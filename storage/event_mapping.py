"""A mapping: what the columns of a file of events mean, as a marketer writes it in YAML."""

import codecs
import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from decisioning.content import Id
from decisioning.errors import DataError
from storage.yaml_file import YamlMistake, line_of, plain, read_yaml

Column = Annotated[str, msgspec.Meta(min_length=1)]
Text = Annotated[str, msgspec.Meta(min_length=1)]
SourceName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+(?![\s\S])")]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a mapping; what is not known in it is refused."""


class FileFormat(_Part, frozen=True, kw_only=True):
    """How the file is written; what is absent is found out.

    Attributes:
        separator: Of a CSV file: between two values.
        decimal: What stands before a number's fraction. Nothing may stand between thousands.
    """

    format: Literal["csv", "jsonl", "parquet"] | None = None
    separator: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] | None = None
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."


class Condition(_Part, frozen=True, kw_only=True):
    """What a row's column must be: exactly one of these."""

    column: Column
    empty: bool | None = None
    equals: str | int | tuple[str | int, ...] | None = None
    begins: Text | None = None

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.empty, self.equals, self.begins)) != 1:
            raise ValueError("must say one of empty, equals and begins")

    def holds(self, said: Any) -> bool:
        """Whether it is true of what a row's column says."""
        if self.empty is not None:
            return is_empty(said) is self.empty
        text = "" if is_empty(said) else str(said)
        if self.begins is not None:
            return text.startswith(self.begins)
        wanted = self.equals if isinstance(self.equals, tuple) else (self.equals,)
        return text in map(str, wanted)


class Exceptional(Condition, frozen=True, kw_only=True):
    """Rows whose event has another name."""

    name: Text


class Name(_Part, frozen=True, kw_only=True):
    """What the event is called: the same for all rows, or what a column says, but for exceptions (the first counts)."""

    name: Text | None = None
    column: Column | None = None
    instead: tuple[Exceptional, ...] = ()

    def __post_init__(self) -> None:
        if (self.name is None) == (self.column is None):
            raise ValueError("must say name or column, not both")


class Who(_Part, frozen=True, kw_only=True):
    """Whose id a column is; `whole` makes 17850 of 17850.0, as spreadsheets and Pandas write it."""

    column: Column
    type: Literal["text", "whole"] = "text"


class When(_Part, frozen=True, kw_only=True):
    """When it happened.

    Attributes:
        format: `iso`, seconds or milliseconds since 1970, or a pattern like `%d/%m/%Y %H:%M`.
        zone: Where the clock hung, for times that do not say it themselves.
    """

    column: Column
    format: Text = "iso"
    zone: Text = "UTC"

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"zone is '{self.zone}', must be one like Europe/London") from error


class Property(_Part, frozen=True, kw_only=True):
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


class EventMapping(_Part, frozen=True, kw_only=True):
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
    properties: dict[Id, Column | Property] = {}
    lines: dict[Id, Column | Property] = {}
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


def is_empty(said: Any) -> bool:
    """Whether a column of a row says nothing."""
    return said is None or (isinstance(said, str) and not said.strip())


def read_mapping(path: Path) -> EventMapping:
    """The mapping in a YAML file.

    Raises:
        DataError: It cannot be read, or says what no mapping can; with file and line.
    """
    try:
        root = read_yaml(path, name=path.name)
        mapping = msgspec.convert(plain(root), EventMapping)
        codecs.lookup(mapping.file.encoding)
    except YamlMistake as error:
        raise DataError("\n".join(error.mistakes), where=str(path)) from error
    except LookupError as error:
        raise DataError(f"{line_of(root, 'file.encoding')}: file.encoding: {error}", where=str(path)) from error
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at ")
        step = place.strip("`").removeprefix("$").removeprefix(".")
        shown = f"{step}: " if step else ""
        raise DataError(f"{line_of(root, step)}: {shown}{said}{_known(said, step)}", where=str(path)) from error
    return mapping


_PARTS: dict[str, type[msgspec.Struct]] = {
    "": EventMapping, "file": FileFormat, "event": Name, "instead": Exceptional, "time": When, "customer": Who,
    "anonymous": Who, "properties": Property, "lines": Property, "skip": Condition,
}  # fmt: skip


def _known(said: str, step: str) -> str:
    """What may stand where something unknown does."""
    if "unknown field" not in said:
        return ""
    kind = _PARTS.get("instead" if "instead" in step else step.partition(".")[0].partition("[")[0], EventMapping)
    return f"; known are {', '.join(kind.__struct_fields__)}"
