"""A mapping of one's own data: which columns are customers' features and consents, and which past decisions.

As its owner writes it in YAML; its `name` becomes that of a domain, with a catalogue and models.
"""

import hashlib
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from decisioning.content_types import FeatureKind, Id, Purpose
from decisioning.errors import DataError
from storage.mapping_parts import Column, Condition, FileFormat, Part, Parts, Text, When, check_encoding, read_as
from storage.settings import DomainName
from storage.yaml_file import line_of, read_yaml

TAKEN = ("files", "simulated", "hillstrom")  # names of data sets that come with the product
KEYS = ("customer_id", "event_timestamp", "ingested_at")  # columns of the offline table that are no features
FeatureName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(?![\s\S])", max_length=64)]


class IdOf(Part, frozen=True, kw_only=True):
    """What somebody or something is called: a column, or a text in front of the row's number.

    Attributes:
        type: `whole` makes 17850 of 17850.0, as spreadsheets write it.
    """

    column: Column | None = None
    type: Literal["text", "whole"] = "text"
    row: str | None = None

    def __post_init__(self) -> None:
        if (self.column is None) == (self.row is None):
            raise ValueError("must say column or row, not both")


class ColumnOf(Part, frozen=True, kw_only=True):
    """A column, where a bare text would be something else."""

    column: Column


class FeatureColumn(Part, frozen=True, kw_only=True):
    """What a feature is.

    Attributes:
        column: Absent: named as the feature.
        type: Absent: found out, once, from all rows.
        missing: Texts that stand for nothing, such as 999 or NA.
        separator: Between the texts of a list that one value holds.
    """

    column: Column | None = None
    type: FeatureKind | None = None
    missing: tuple[str | int | float, ...] = ()
    separator: Annotated[str, msgspec.Meta(min_length=1, max_length=3)] = ","


class ConsentColumn(Part, frozen=True, kw_only=True):
    """A consent that a column says; where it is empty, nothing was said.

    Attributes:
        granted: What the column says of who consents; `withdrawn`: of who does not. Anything else is a mistake.
        time: When it was said. Or `since`: all that the first run reads was said then, what later runs
            find changed when they find it.
    """

    column: Column
    purpose: Purpose
    channel: Id
    source: Text
    legal_basis: Text | None = None
    granted: tuple[str | int | bool, ...] = ("yes", "true", "1", True)
    withdrawn: tuple[str | int | bool, ...] = ("no", "false", "0", False)
    time: Column | When | None = None
    since: date | None = None

    def __post_init__(self) -> None:
        if (self.time is None) == (self.since is None):
            raise ValueError("must say time (a column) or since (a date): when it was said")


class CustomerColumns(Part, frozen=True, kw_only=True, rename={"origin": "from"}):
    """What a table of customers says.

    Attributes:
        origin: A file, from the mapping's folder or `--data`, or a database's address, read by `query`.
        time: Since when what a row says of the customer is so; then a customer may have several rows.
            Or `since`, a date: what the first run reads was so since then. Neither: since it is read.
        updated_at: When the row was last changed: a later run looks at what is newer only.
        features: Absent: every column that nothing else is said of, but `leave_out`.
    """

    origin: Text | None = None
    query: Text | None = None
    file: FileFormat = FileFormat()
    id: Column | IdOf
    time: Column | When | None = None
    since: date | None = None
    updated_at: Column | When | None = None
    features: dict[FeatureName, Column | FeatureColumn] = msgspec.field(default_factory=dict)
    leave_out: tuple[Column, ...] = ()
    consents: tuple[ConsentColumn, ...] = ()
    skip: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if self.time is not None and self.since is not None:
            raise ValueError("must say time (a column) or since (a date), not both")
        taken = [name for name in self.features if name in KEYS]
        if taken:
            raise ValueError(f"a feature may not be called {taken[0]}")

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that it names, but for those of features."""
        times = [each.time for each in self.consents]
        parts = [self.id, self.time, self.updated_at, *self.consents, *times, *self.skip]
        named = [each if isinstance(each, str) else each.column for each in parts if each is not None]
        return tuple(dict.fromkeys(name for name in named if name is not None))

    @property
    def digest(self) -> str:
        """The same for the same meaning, wherever the rows come from and whatever they are looked for by."""
        said = msgspec.structs.replace(self, origin=None, query=None, file=FileFormat(decimal=self.file.decimal))
        return hashlib.blake2b(msgspec.json.encode(said, order="deterministic"), digest_size=16).hexdigest()


class ActionColumn(Part, frozen=True, kw_only=True):
    """Which action was taken: a column, whose values `names` may call otherwise; or `always` the same."""

    column: Column | None = None
    names: dict[str, Id] = msgspec.field(default_factory=dict)
    always: Id | None = None

    def __post_init__(self) -> None:
        if (self.column is None) == (self.always is None):
            raise ValueError("must say column or always, not both")


class CandidatesColumn(Part, frozen=True, kw_only=True):
    """A column that lists what could have been chosen, the chosen one among them."""

    column: Column
    separator: Annotated[str, msgspec.Meta(min_length=1, max_length=3)] = ","


class RewardColumn(Part, frozen=True, kw_only=True):
    """What a decision earned: the column's number, or 1 where it says one of `success` and else 0."""

    column: Column
    success: tuple[str | int | bool, ...] = ()


class DecisionColumns(Part, frozen=True, kw_only=True, rename={"origin": "from"}):
    """What a log of past decisions says, one a row.

    Attributes:
        origin: As that of customers, whose it is when absent; `query` and `file` likewise.
        id: Absent: the row's number.
        between: Rows without a time, but in its order: they are spread evenly between these two days.
        probability: The chance with which the action was chosen: a column, or the same number for all.
            `uniform`: each candidate's chance was the same; `empirical`: as often as each action stands in
            the log. Those two are assumptions. Absent: unknown; such rows are learnt from, not evaluated on.
        candidates: What could have been chosen. Absent: every action of the log.
        context: What was known of the moment, under the name that callers of the service send it by.
    """

    origin: Text | None = None
    query: Text | None = None
    file: FileFormat | None = None
    id: Column | IdOf | None = None
    customer: Column | IdOf
    time: Column | When | None = None
    between: tuple[date, date] | None = None
    placement: Id | ColumnOf = "main"
    action: Column | ActionColumn
    probability: Literal["uniform", "empirical"] | float | ColumnOf | None = None
    candidates: tuple[Id, ...] | CandidatesColumn | None = None
    reward: Column | RewardColumn
    context: dict[FeatureName, Column | FeatureColumn] = msgspec.field(default_factory=dict)
    skip: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        if (self.time is None) == (self.between is None):
            raise ValueError("must say time (a column), or between (two dates) for rows that stand in order of time")
        if self.between is not None and self.between[0] >= self.between[1]:
            raise ValueError("between must be two dates, the earlier first")
        if isinstance(self.probability, float | int) and not 0 < self.probability <= 1:
            raise ValueError(f"probability is {self.probability:g}, must be above 0 and at most 1")

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that it names."""
        columns = [self.customer, self.action, self.reward, *(_ for _ in (self.id, self.time) if _ is not None)]
        structs = [self.placement, self.probability, self.candidates, *self.skip]
        named = [each if isinstance(each, str) else each.column for each in columns]
        named += [each.column for each in structs if isinstance(each, ColumnOf | CandidatesColumn | Condition)]
        named += [feature_column(name, each).column for name, each in self.context.items()]
        return tuple(dict.fromkeys(name for name in named if name is not None))


class DataMapping(Part, frozen=True, kw_only=True):
    """One's own data as a domain of this name."""

    name: DomainName
    customers: CustomerColumns
    decisions: DecisionColumns | None = None

    def __post_init__(self) -> None:
        if self.name in TAKEN:
            raise ValueError(f"name is '{self.name}', which is taken; choose another")

    @property
    def of_customers(self) -> CustomerColumns:
        """What is said of customers; columns that tell of decisions in the same rows are no features."""
        if self.decisions is None or self.decisions.origin is not None:
            return self.customers
        left_out = (*self.customers.leave_out, *self.decisions.columns)
        return msgspec.structs.replace(self.customers, leave_out=left_out)


def feature_column(name: str, said: Column | FeatureColumn) -> FeatureColumn:
    """The same in full."""
    if isinstance(said, str):
        return FeatureColumn(column=said)
    return said if said.column is not None else msgspec.structs.replace(said, column=name)


def when(said: Column | When) -> When:
    """The same in full."""
    return When(column=said) if isinstance(said, str) else said


def id_of(said: Column | IdOf) -> IdOf:
    """The same in full."""
    return IdOf(column=said) if isinstance(said, str) else said


def read_data_mapping(path: Path) -> DataMapping:
    """The mapping in a YAML file.

    Raises:
        DataError: It cannot be read, or says what no mapping can; with file and line.
    """
    mapping = read_as(path, DataMapping, parts=_PARTS)
    check_encoding(path, mapping.customers.file.encoding, place="customers.file.encoding")
    decisions = mapping.decisions
    if decisions is not None:
        if decisions.file is not None:
            check_encoding(path, decisions.file.encoding, place="decisions.file.encoding")
        if decisions.origin is None and (decisions.query is not None or decisions.file is not None):
            line = line_of(read_yaml(path, name=path.name), "decisions")
            raise DataError(f"{line}: decisions: query and file need `from`: where decisions are", where=str(path))
    return mapping


_PARTS: Parts = {
    "": DataMapping, "customers": CustomerColumns, "customers.file": FileFormat, "customers.id": IdOf,
    "customers.time": When, "customers.updated_at": When, "customers.features": FeatureColumn,
    "customers.consents": ConsentColumn, "customers.consents.time": When, "customers.skip": Condition,
    "decisions": DecisionColumns, "decisions.file": FileFormat, "decisions.id": IdOf, "decisions.customer": IdOf,
    "decisions.time": When, "decisions.placement": ColumnOf, "decisions.action": ActionColumn,
    "decisions.probability": ColumnOf, "decisions.candidates": CandidatesColumn, "decisions.reward": RewardColumn,
    "decisions.context": FeatureColumn, "decisions.skip": Condition,
}  # fmt: skip
