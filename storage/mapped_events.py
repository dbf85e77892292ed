"""Rows of a file to events, by a mapping: each event with the rows that it is made of."""

import hashlib
import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from decisioning.events import EventRecord, event_id_of
from storage.event_mapping import EventMapping, Name, Property
from storage.mapping_parts import Column, When, Who
from storage.row_files import FileRow
from storage.row_values import ID_LENGTH, Clock, Mistake, Wrong, fit_id, id_of, number_of, shown, text_of, whole_of

_PLACES = 6  # a sum of prices has no more; 2.55 * 6 is 15.299999999999999 in binary
_encode = msgspec.json.Encoder(order="deterministic").encode


class MappedEvent(NamedTuple):
    """An event, what tells it from another under the same id, and its rows."""

    event: EventRecord
    digest: str
    rows: list[FileRow]


class EventMapper:
    """Makes events as one mapping says, in one source's name."""

    def __init__(self, mapping: EventMapping, *, source: str, now: datetime) -> None:
        """Everything is received `now`."""
        self._mapping = mapping
        self._source = source
        self._now = now
        self._clock = Clock(When(column=mapping.time) if isinstance(mapping.time, str) else mapping.time, now=now)
        self._customer = _who(mapping.customer)
        self._anonymous = _who(mapping.anonymous)
        self._properties = {name: _property(each) for name, each in mapping.properties.items()}
        self._lines = {name: _property(each) for name, each in mapping.lines.items()}

    def leaves_out(self, row: FileRow) -> bool:
        """Whether the mapping says that this row is not wanted."""
        return any(condition.holds(row.values.get(condition.column)) for condition in self._mapping.skip)

    def group(self, row: FileRow) -> tuple[str, ...] | None:
        """What rows of the same event have in common; None where each row is an event."""
        columns = self._mapping.one_event_per
        return tuple([str(row.values.get(column)) for column in columns]) if columns else None

    def event(self, rows: list[FileRow], *, place: int) -> MappedEvent:
        """The event that these rows tell; `place` is the first one's in the file.

        Raises:
            Wrong: One of them cannot be used, so none is.
        """
        for row in rows:
            if row.mistake is not None:
                raise Wrong(Mistake(row.number, row.column, row.mistake))
        first = rows[0]
        customer_id, anonymous_id = self._whose(rows)
        properties = self._said(rows, self._properties)
        if self._lines:
            properties["products"] = [self._said([row], self._lines) for row in rows]
        event = EventRecord(
            event_id=event_id_of(self._source, self._message_id(first, place)),
            source=self._source,
            type="track",
            name=self._name(first),
            customer_id=customer_id,
            anonymous_id=anonymous_id,
            properties=properties,
            occurred_at=self._clock.time_of(first),
            received_at=self._now,
        )
        told = _encode((event.name, customer_id, anonymous_id, event.occurred_at, properties))
        return MappedEvent(event, hashlib.blake2b(told, digest_size=16).hexdigest(), rows)

    def _whose(self, rows: Sequence[FileRow]) -> tuple[str | None, str | None]:
        """The customer's and the visitor's id: the same in all rows."""
        ids: list[str | None] = []
        for who in (self._customer, self._anonymous):
            said = [None if who is None else id_of(row, who, decimal=self._decimal) for row in rows]
            for row, owner in zip(rows, said, strict=True):
                if owner != said[0]:
                    assert who is not None
                    words = f"is {shown(owner)}, in row {rows[0].number} of the same event {shown(said[0])}"
                    raise Wrong(Mistake(row.number, who.column, words))
            ids.append(said[0])
        if ids == [None, None]:
            columns = [who.column for who in (self._customer, self._anonymous) if who is not None]
            raise Wrong(Mistake(rows[0].number, " and ".join(columns), "is empty, so nobody did this"))
        return ids[0], ids[1]

    def _name(self, row: FileRow) -> str:
        said = self._mapping.event
        if not isinstance(said, Name):
            return said
        for exception in said.instead:
            if exception.holds(row.values.get(exception.column)):
                return exception.name
        if said.column is None:
            assert said.name is not None
            return said.name
        name = text_of(row, said.column)
        if name is None or not any(sign.isalnum() for sign in name):
            raise Wrong(Mistake(row.number, said.column, f"is {shown(name)}, must be an event's name"))
        return name[:ID_LENGTH]

    def _message_id(self, row: FileRow, place: int) -> str:
        columns = self._mapping.message_id or self._mapping.one_event_per
        if not columns:
            return f"row-{place}-{hashlib.blake2b(row.content, digest_size=12).hexdigest()}"
        parts = []
        for column in columns:
            part = text_of(row, column)
            if part is None:
                raise Wrong(Mistake(row.number, column, "is empty, must tell this event from others"))
            # So that a/b and c is not a and b/c.
            parts.append(part if len(columns) == 1 else re.sub(r"([\\/])", r"\\\1", part))
        return fit_id("/".join(parts), row, columns[0])

    def _said(self, rows: Sequence[FileRow], properties: dict[str, Property]) -> dict[str, Any]:
        """What an event says by its rows; what is empty, it does not say."""
        values = {name: self._value(rows if each.sum else rows[:1], each) for name, each in properties.items()}
        return {name: value for name, value in values.items() if value is not None}

    def _value(self, rows: Sequence[FileRow], each: Property) -> str | float | None:
        if each.type == "text":
            return text_of(rows[0], each.column)
        if each.type == "whole":
            return whole_of(rows[0], each.column, decimal=self._decimal)
        known = [number for row in rows if (number := self._number(row, each)) is not None]
        return round(math.fsum(known), _PLACES) if known else None

    def _number(self, row: FileRow, each: Property) -> float | None:
        number = number_of(row, each.column, decimal=self._decimal)
        if number is None or each.times is None:
            return number
        factor = number_of(row, each.times, decimal=self._decimal)
        return None if factor is None else number * factor

    @property
    def _decimal(self) -> str:
        return self._mapping.file.decimal


def _who(said: Column | Who | None) -> Who | None:
    return Who(column=said) if isinstance(said, str) else said


def _property(said: Column | Property) -> Property:
    return Property(column=said) if isinstance(said, str) else said
