"""What mappings are made of: a file's format, columns, times, and the reading of them from YAML."""

import codecs
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from decisioning.errors import DataError
from storage.yaml_file import YamlMistake, line_of, plain, read_yaml

Column = Annotated[str, msgspec.Meta(min_length=1)]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Parts = Mapping[str, type[msgspec.Struct]]
Kind = TypeVar("Kind", bound=msgspec.Struct)


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a mapping; what is not known in it is refused."""


class FileFormat(Part, frozen=True, kw_only=True):
    """How the file is written; what is absent is found out.

    Attributes:
        separator: Of a CSV file: between two values.
        decimal: What stands before a number's fraction. Nothing may stand between thousands.
    """

    format: Literal["csv", "jsonl", "parquet"] | None = None
    separator: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] | None = None
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."


class Condition(Part, frozen=True, kw_only=True):
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


class Who(Part, frozen=True, kw_only=True):
    """Whose id a column is; `whole` makes 17850 of 17850.0, as spreadsheets and Pandas write it."""

    column: Column
    type: Literal["text", "whole"] = "text"


class When(Part, frozen=True, kw_only=True):
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


def is_empty(said: Any) -> bool:
    """Whether a column of a row says nothing."""
    return said is None or (isinstance(said, str) and not said.strip())


def read_as(path: Path, kind: type[Kind], *, parts: Parts) -> Kind:
    """The mapping of this kind in a YAML file; `parts` says what stands under which key.

    Raises:
        DataError: It cannot be read, or says what no mapping can; with file and line.
    """
    try:
        root = read_yaml(path, name=path.name)
        return msgspec.convert(plain(root), kind)
    except YamlMistake as error:
        raise DataError("\n".join(error.mistakes), where=str(path)) from error
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at ")
        step = place.strip("`").removeprefix("$").removeprefix(".")
        shown = f"{step}: " if step else ""
        raise DataError(f"{line_of(root, step)}: {shown}{said}{_known(said, step, parts)}", where=str(path)) from error


def check_encoding(path: Path, encoding: str, *, place: str) -> None:
    """Refuse a mapping with an encoding that nobody knows; `place` is where it stands.

    Raises:
        DataError: With file and line.
    """
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        line = line_of(read_yaml(path, name=path.name), place)
        raise DataError(f"{line}: {place}: {error}", where=str(path)) from error


def _known(said: str, step: str, parts: Parts) -> str:
    """What may stand where something unknown does."""
    if "unknown field" not in said:
        return ""
    # `properties[...]` is any name there, `skip[0]` any place.
    path = [name for name in re.sub(r"\[[^\]]*\]", "", step).split(".") if name not in ("", "...")]
    if "instead" in path:
        path = ["instead"]
    while path and ".".join(path) not in parts:
        path.pop()
    kind = parts[".".join(path)]
    fields = msgspec.structs.fields(kind)
    return f"; known are {', '.join(field.encode_name for field in fields)}"
