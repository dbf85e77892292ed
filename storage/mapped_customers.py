"""Rows of a table to customers, by a mapping: features, and what they consent to."""

import hashlib
from datetime import UTC, date, datetime, time
from typing import NamedTuple

import msgspec

from decisioning.content_types import Purpose, Value
from storage.data_mapping import ConsentColumn, CustomerColumns, FeatureColumn, IdOf, id_of, when
from storage.feature_kinds import Features, is_missing
from storage.mapping_parts import Who, is_empty
from storage.row_files import FileRow
from storage.row_values import Clock, Mistake, Wrong, fit_id, number_of, shown, text_of
from storage.row_values import id_of as id_in

_encode = msgspec.json.Encoder(order="deterministic").encode
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class SaidConsent(NamedTuple):
    """What a row says of a consent; `at` is None where it does not say when."""

    column: ConsentColumn
    granted: bool
    at: datetime | None

    @property
    def about(self) -> tuple[Purpose, str]:
        """What may be consented to."""
        return self.column.purpose, self.column.channel


class MappedCustomer(NamedTuple):
    """A customer as a row says; `at` is None where it does not say since when."""

    customer_id: str
    at: datetime | None
    features: dict[str, Value]
    consents: list[SaidConsent]
    row: FileRow

    @property
    def digest(self) -> bytes:
        """Another one as soon as anything else is said."""
        consents = [(*said.about, said.granted, said.at) for said in self.consents]
        return hashlib.blake2b(_encode((self.features, consents)), digest_size=16).digest()


class CustomerMapper:
    """Makes customers as one mapping says."""

    def __init__(self, mapping: CustomerColumns, features: Features, *, now: datetime) -> None:
        """`features` are complete; nothing can be so since later than `now`."""
        self._mapping = mapping
        self._decimal = mapping.file.decimal
        self._id = id_of(mapping.id)
        self._clock = None if mapping.time is None else Clock(when(mapping.time), now=now)
        self._updated = None if mapping.updated_at is None else Clock(when(mapping.updated_at), now=now)
        self._features = features
        self._consents = [
            (each, None if each.time is None else Clock(when(each.time), now=now)) for each in mapping.consents
        ]

    def leaves_out(self, row: FileRow) -> bool:
        """Whether the mapping says that this row is not wanted."""
        return any(condition.holds(row.values.get(condition.column)) for condition in self._mapping.skip)

    def updated_at(self, row: FileRow) -> datetime | None:
        """When the row was last changed, if it says so.

        Raises:
            Wrong: Its time cannot be read.
        """
        return None if self._updated is None else self._updated.time_of(row)

    def customer(self, row: FileRow) -> MappedCustomer:
        """The customer in this row.

        Raises:
            Wrong: It cannot be used.
        """
        if row.mistake is not None:
            raise Wrong(Mistake(row.number, row.column, row.mistake))
        return MappedCustomer(
            customer_id=id_said(row, self._id, decimal=self._decimal),
            at=None if self._clock is None else self._clock.time_of(row),
            features={name: value_of(row, name, each, decimal=self._decimal) for name, each in self._features.items()},
            consents=[said for each, clock in self._consents if (said := _consent(row, each, clock)) is not None],
            row=row,
        )


def id_said(row: FileRow, said: IdOf, *, decimal: str) -> str:
    """The id in a row.

    Raises:
        Wrong: It is empty, or cannot be an id.
    """
    if said.column is None:
        return fit_id(f"{said.row}{row.number}", row, "row")
    found = id_in(row, Who(column=said.column, type=said.type), decimal=decimal)
    if found is None:
        raise Wrong(Mistake(row.number, said.column, "is empty, must say whose row this is"))
    return found


def value_of(row: FileRow, name: str, column: FeatureColumn, *, decimal: str) -> Value:
    """What a row says of a feature; None, or no texts, where nothing.

    Raises:
        Wrong: It says something of another kind.
    """
    place, kind = column.column or name, column.type
    said = row.values.get(place)
    if is_empty(said) or is_missing(said, column):
        return () if kind == "texts" else None
    if kind == "number":
        if isinstance(said, bool):
            return float(said)
        return number_of(row, place, decimal=decimal)
    if kind == "text":
        return text_of(row, place)
    if kind == "truth":
        truth = _TRUTHS.get(str(said).strip().lower())
        if truth is None:
            raise Wrong(Mistake(row.number, place, f"is {shown(said)}, must be true or false"))
        return truth
    if isinstance(said, list | tuple):
        return tuple(str(each) for each in said if each is not None)
    return tuple(part.strip() for part in str(said).split(column.separator) if part.strip())


def _consent(row: FileRow, column: ConsentColumn, clock: Clock | None) -> SaidConsent | None:
    said = row.values.get(column.column)
    if is_empty(said):
        return None
    word = str(said).strip().lower()
    granted = word in {str(each).lower() for each in column.granted}
    if not granted and word not in {str(each).lower() for each in column.withdrawn}:
        words = ", ".join(dict.fromkeys(str(each).lower() for each in (*column.granted, *column.withdrawn)))
        raise Wrong(Mistake(row.number, column.column, f"is {shown(said)}, must be one of {words}, or empty"))
    return SaidConsent(column, granted, None if clock is None else clock.time_of(row))


def midnight(day: date) -> datetime:
    """The beginning of a day, in UTC."""
    return datetime.combine(day, time(), UTC)
