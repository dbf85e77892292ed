"""What the columns of a row say: texts, numbers, ids and times, or a mistake with its place."""

import math
import re
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from decisioning.errors import RequestError
from decisioning.request import sane
from decisioning.reward import CLOCK_TOLERANCE
from storage.mapping_parts import When, Who, is_empty
from storage.row_files import FileRow

ID_LENGTH = 256
LONGEST_TEXT = 10_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_TIMES = {
    "iso": "like 2026-11-21T18:00:00",
    "seconds": "in seconds since 1970",
    "milliseconds": "in milliseconds since 1970",
}


class Mistake(NamedTuple):
    """What is wrong with a row, and in which column if it is one."""

    row: int
    column: str | None
    said: str

    def shown(self, file: str) -> str:
        """For people.

        >>> Mistake(17, "Price", "is 'x', must be a number").shown("orders.csv")
        "orders.csv row 17, column Price: is 'x', must be a number"
        """
        column = f", column {self.column}" if self.column is not None else ""
        return f"{file} row {self.row}{column}: {self.said}"


class Wrong(Exception):
    """A row that cannot be used."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.said)
        self.mistake = mistake


def text_of(row: FileRow, column: str) -> str | None:
    """What a column says, without blanks around it; None where it is empty."""
    said = row.values.get(column)
    if is_empty(said):
        return None
    if isinstance(said, list | dict | bytes):
        raise Wrong(Mistake(row.number, column, f"is {shown(said)}, must be a text or a number"))
    text = str(said).strip()
    if len(text) > LONGEST_TEXT:
        raise Wrong(Mistake(row.number, column, f"has {len(text):,} signs, must have at most {LONGEST_TEXT:,}"))
    return text


def number_of(row: FileRow, column: str, *, decimal: str) -> float | None:
    """The number in a column; None where it is empty.

    What may stand between thousands is refused: 1,234 is another number in half of the world.
    """
    said = row.values.get(column)
    if is_empty(said):
        return None
    number = math.nan
    if isinstance(said, str):
        text = said.strip()
        plain = text if decimal == "." else text.replace(".", "?").replace(",", ".")
        if NUMBER.fullmatch(plain):
            number = float(plain)
    elif said is not None and not isinstance(said, bool):
        try:
            number = float(said)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
    if not math.isfinite(number):
        raise Wrong(Mistake(row.number, column, f"is {shown(said)}, must be a number like 12{decimal}50"))
    return number


def whole_of(row: FileRow, column: str, *, decimal: str) -> int | None:
    """The whole number in a column, though it may be written with a fraction of 0; None where it is empty."""
    number = number_of(row, column, decimal=decimal)
    if number is None:
        return None
    if not number.is_integer() or abs(number) >= 2**53:
        raise Wrong(Mistake(row.number, column, f"is {shown(row.values[column])}, must be a whole number"))
    return int(number)


def id_of(row: FileRow, who: Who, *, decimal: str) -> str | None:
    """Whose id a column says; None where it is empty."""
    if who.type == "text":
        text = text_of(row, who.column)
    else:
        whole = whole_of(row, who.column, decimal=decimal)
        text = None if whole is None else str(whole)
    return None if text is None else fit_id(text, row, who.column)


def fit_id(text: str, row: FileRow, column: str) -> str:
    """The same text, if it can be an id."""
    if len(text) > ID_LENGTH or _CONTROL.search(text):
        said = f"is {shown(text)}, must have at most {ID_LENGTH} signs, none of them for control"
        raise Wrong(Mistake(row.number, column, said))
    return text


class Clock:
    """When rows happened, as their source writes it."""

    def __init__(self, when: When, *, now: datetime) -> None:
        """Nothing can have happened after `now`, but for what clocks differ."""
        self._when = when
        self._now = now
        self._zone = ZoneInfo(when.zone)
        self._of_text = lru_cache(4_096)(self._parsed)  # rows of the same time stand together

    def time_of(self, row: FileRow) -> datetime:
        """In UTC, and not in the future."""
        column = self._when.column
        said = row.values.get(column)
        try:
            at = sane(self._of_text(said.strip()) if isinstance(said, str) else self._as_time(said), where="it")
        except RequestError as error:
            raise Wrong(Mistake(row.number, column, f"is {shown(said)}: {error.message}")) from error
        except (ValueError, OverflowError, OSError, TypeError) as error:
            looks = _TIMES.get(self._when.format, f"like {self._when.format}")
            raise Wrong(Mistake(row.number, column, f"is {shown(said)}, must be a time {looks}")) from error
        if at - self._now > CLOCK_TOLERANCE:
            raise Wrong(Mistake(row.number, column, f"is {shown(said)}, must not lie in the future"))
        return min(at, self._now)

    def _parsed(self, text: str) -> datetime:
        form = self._when.format
        if form in ("seconds", "milliseconds"):
            return self._as_time(float(text))
        # The zone comes below.
        return self._in_utc(datetime.fromisoformat(text) if form == "iso" else datetime.strptime(text, form))  # noqa: DTZ007

    def _as_time(self, said: object) -> datetime:
        """Of a value that its file has as a time or a number."""
        if isinstance(said, datetime):
            return self._in_utc(said)
        if isinstance(said, date):
            return self._in_utc(datetime.combine(said, time()))
        if isinstance(said, int | float) and not isinstance(said, bool) and self._when.format in _TIMES:
            if self._when.format == "seconds":
                return datetime.fromtimestamp(said, UTC)
            if self._when.format == "milliseconds":
                return datetime.fromtimestamp(said / 1_000, UTC)
        raise TypeError("no time")

    def _in_utc(self, at: datetime) -> datetime:
        return (at if at.tzinfo is not None else at.replace(tzinfo=self._zone)).astimezone(UTC)


def shown(said: object) -> str:
    """A value in a message, cut off where it is long."""
    if is_empty(said):
        return "empty"
    text = str(said)
    return f"'{text[:60]}...'" if len(text) > 63 else f"'{text}'"
