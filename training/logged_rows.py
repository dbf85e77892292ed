"""Rows of a log of a bandit's choices, read by the names of their columns.

Nothing is repaired. A row that cannot be true is a mistake with its number, since one wrong probability can
outweigh every right one.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from decisioning.errors import DataError
from storage.mapping_parts import FileFormat, When, is_empty
from storage.row_files import FileRow, RowFile
from storage.row_values import Clock, Mistake, Wrong, number_of, shown, text_of, whole_of

SUM_TOLERANCE = 1e-3  # as files round
MOST_SHOWN = 5
ONE_COLUMN = ("action", "reward", "probability", "customer", "time", "candidates", "probabilities", "decision", "slot")
UNIFORM = "uniform"
NEEDED = ("action", "reward", "probability")
_NO_PROBABILITY = (
    "; where every candidate had the same chance, --map probability=uniform; else nothing can be evaluated"
)


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """Which column says what; None where the file does not say it.

    Attributes:
        probability: The chance with which the action was chosen; in a slate, given the slots before it. Or
            `uniform`: everything that could be chosen had the same.
        customer: Absent: every row, or every slate, is another customer's.
        candidates: What could have been chosen. Absent: every action of the log.
        probabilities: The chance of every candidate; may stand instead of `probability`, or be checked by it.
        decision, slot: Of a slate with a row a slot: what the rows of one have in common, and the place in it.
        features: What the reward may depend on.
        policies: Columns that hold what other policies would do, by name (`column:NAME`).
    """

    action: str
    reward: str
    probability: str | None = None
    customer: str | None = None
    time: str | None = None
    candidates: str | None = None
    probabilities: str | None = None
    decision: str | None = None
    slot: str | None = None
    features: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()


class LoggedRow(NamedTuple):
    """A row; `candidates` and `decision` are None where it does not say them, `chosen` is by policies' columns.

    `probability` is NaN where everything that could be chosen had the same.
    """

    number: int
    action: str
    reward: float
    probability: float
    customer: str | None
    at: datetime | None
    candidates: tuple[str, ...] | None
    decision: str | None
    slot: int
    features: tuple[Any, ...]
    chosen: tuple[dict[str, float], ...]


def columns_of(path: Path, maps: Sequence[str], *, policies: Sequence[str] = ()) -> Columns:
    """What `role=column` says, and where it says nothing the column that is called as its role.

    `features` may name several columns, and use `*`: `features=age,user_*`.

    Raises:
        DataError: There is no such file or column, or no row, or nothing says what an action, reward or probability is.
    """
    known = _columns_in(path)
    if not known:
        raise DataError(f"{path.name} has no rows; a log needs at least one", where=str(path))
    said: dict[str, str] = {}
    for each in maps:
        role, equals, column = (part.strip() for part in each.partition("="))
        if not equals or role not in (*ONE_COLUMN, "features") or not column:
            raise DataError(
                f"--map is '{each}', must be ROLE=COLUMN with one of {', '.join(ONE_COLUMN)}, features", where="map"
            )
        if role in said:
            raise DataError(f"--map says {role} twice: {said[role]} and {column}", where="map")
        said[role] = column
    chosen = {role: said.get(role, role if role in known else None) for role in ONE_COLUMN}
    features: list[str] = []
    for pattern in said.get("features", "").split(","):
        found = [column for column in known if fnmatchcase(column, pattern.strip())]
        if pattern.strip() and not found:
            raise _no_column(path, f"the feature '{pattern.strip()}'", known)
        features += found
    for role, column in said.items():
        if role != "features" and column not in known and (role, column) != ("probability", UNIFORM):
            raise _no_column(path, f"'{column}' (--map {role})", known)
    for column in policies:
        if column not in known:
            raise _no_column(path, f"'{column}' (--policy column:{column})", known)
    if chosen["probability"] is None and chosen["probabilities"] is not None:
        lacking = [role for role in NEEDED[:2] if chosen[role] is None]
    else:
        lacking = [role for role in NEEDED if chosen[role] is None]
    if lacking:
        raise DataError(
            f"nothing says which column of {path.name} is the {lacking[0]}: --map {lacking[0]}=COLUMN;"
            f" its columns are {', '.join(known)}" + (_NO_PROBABILITY if lacking[0] == "probability" else ""),
            where=str(path),
        )
    for role, other in (("decision", "slot"), ("slot", "decision")):
        if chosen[role] is not None and chosen[other] is None:
            if role in said:
                raise DataError(f"--map names the {role} of slates and nothing the {other}: --map {other}=COLUMN")
            chosen[role] = None
    taken = {column for column in chosen.values() if column is not None} - {chosen["slot"]}
    return Columns(
        **{role: column for role, column in chosen.items() if column is not None},
        features=tuple(dict.fromkeys(column for column in features if column not in taken)),
        policies=tuple(dict.fromkeys(policies)),
    )


def read_rows(path: Path, columns: Columns, *, now: datetime) -> list[LoggedRow]:
    """The rows of a CSV, JSON lines or Parquet file, in the order of their time where they say it.

    Lists (`candidates`, `probabilities`, a policy's column) are lists, JSON, or texts with commas between.

    Raises:
        DataError: There are wrong ones: the first of them, with their numbers and what to do.
    """
    named = [
        getattr(columns, role) for role in ONE_COLUMN if (role, getattr(columns, role)) != ("probability", UNIFORM)
    ]
    needed = dict.fromkeys(c for c in (*named, *columns.features, *columns.policies) if c is not None)
    file = RowFile(path, FileFormat(), needed=tuple(needed))
    rows, mistakes = _rows_of(file.rows(), columns, now)
    if mistakes:
        raise DataError(_said(file.name, mistakes, len(rows) + len(mistakes)), where=str(path))
    if columns.time is not None:
        rows.sort(key=lambda row: (row.at, row.number))
    return rows


def _columns_in(path: Path) -> tuple[str, ...]:
    known: dict[str, None] = {}
    for row in islice(RowFile(path, FileFormat(), needed=()).rows(), 100):  # JSON lines may leave out what is empty
        known.update(dict.fromkeys(row.values))
    return tuple(known)


def _no_column(path: Path, what: str, known: Sequence[str]) -> DataError:
    return DataError(f"{path.name} has no column {what}; its columns are {', '.join(known)}", where=str(path))


def _rows_of(rows: Iterable[FileRow], columns: Columns, now: datetime) -> tuple[list[LoggedRow], list[Mistake]]:
    clock = None if columns.time is None else Clock(When(column=columns.time), now=now)
    found: list[LoggedRow] = []
    mistakes: list[Mistake] = []
    for row in rows:
        try:
            found.append(_row(row, columns, clock))
        except Wrong as wrong:
            mistakes.append(wrong.mistake)
    return found, mistakes


def _row(row: FileRow, columns: Columns, clock: Clock | None) -> LoggedRow:
    if row.mistake is not None:
        raise Wrong(Mistake(row.number, row.column, row.mistake))
    action = text_of(row, columns.action)
    if action is None:
        raise Wrong(Mistake(row.number, columns.action, "is empty, must say which action was chosen"))
    reward = _number(row, columns.reward)
    if reward is None:
        raise Wrong(Mistake(row.number, columns.reward, "is empty, must say what was earned; 0 for nothing"))
    listed = None if columns.candidates is None else _list_in(row, columns.candidates)
    candidates = None if listed is None else tuple(str(each) for each in listed)
    if candidates is not None and action not in candidates:
        raise Wrong(
            Mistake(row.number, columns.action, f"is {shown(action)}, which is not among the candidates {candidates}")
        )
    probability: float | None = None
    if columns.probability == UNIFORM and UNIFORM not in row.values:
        probability = math.nan
    elif columns.probability is not None:
        probability = _probability(row, columns.probability)
    if columns.probabilities is not None:
        every = _distribution(row, columns.probabilities, candidates)
        candidates = tuple(every)
        probability = _agreed(row, columns, every, action, probability)
    if probability is None:
        words = "is empty, must be the chance with which the action was chosen; leave out rows whose nobody knows"
        raise Wrong(Mistake(row.number, columns.probability, words))
    slot: int | None = 0
    if columns.slot is not None and (slot := whole_of(row, columns.slot, decimal=".")) is None:
        raise Wrong(Mistake(row.number, columns.slot, "is empty, must be the slot's number"))
    return LoggedRow(
        number=row.number,
        action=action,
        reward=reward,
        probability=probability,
        customer=None if columns.customer is None else _named(row, columns.customer),
        at=None if clock is None else clock.time_of(row),
        candidates=candidates,
        decision=None if columns.decision is None else _named(row, columns.decision),
        slot=slot or 0,
        features=tuple(row.values.get(column) for column in columns.features),
        chosen=tuple(_choice(row, column, candidates) for column in columns.policies),
    )


def _named(row: FileRow, column: str) -> str:
    said = text_of(row, column)
    if said is None:
        raise Wrong(Mistake(row.number, column, "is empty, must say whose row it is"))
    return said


def _number(row: FileRow, column: str) -> float | None:
    said = row.values.get(column)
    return float(said) if isinstance(said, bool) else number_of(row, column, decimal=".")


def _probability(row: FileRow, column: str) -> float | None:
    number = number_of(row, column, decimal=".")
    if number is not None and not 0.0 < number <= 1.0:
        why = "what could not happen cannot be weighed: log the chance that it really had"
        if number > 1.0:
            why = "a percentage must be divided by 100"
        raise Wrong(
            Mistake(row.number, column, f"is {shown(row.values[column])}, must be above 0 and at most 1; {why}")
        )
    return number


def _agreed(
    row: FileRow, columns: Columns, every: Mapping[str, float], action: str, probability: float | None
) -> float:
    column = columns.probabilities
    if action not in every:
        raise Wrong(Mistake(row.number, columns.action, f"is {shown(action)}, of which {column} gives no chance"))
    if every[action] <= 0.0:
        raise Wrong(Mistake(row.number, column, f"gives the chosen action {shown(action)} no chance; must be above 0"))
    if probability is not None and abs(probability - every[action]) > SUM_TOLERANCE:
        said = f"gives {shown(action)} {every[action]:g}, but {columns.probability} says {probability:g}"
        raise Wrong(Mistake(row.number, column, f"{said}; they must be the same"))
    return every[action]


def _list_in(row: FileRow, column: str) -> list[Any]:
    said = row.values.get(column)
    if isinstance(said, str) and said.strip().startswith("["):
        try:
            said = json.loads(said)
        except ValueError as error:
            raise Wrong(Mistake(row.number, column, f"is {shown(said)}, which is no JSON: {error}")) from error
    parts = said if isinstance(said, list | tuple) else [] if is_empty(said) else str(said).split(",")
    listed = [part.strip() if isinstance(part, str) else part for part in parts]
    if not listed:
        raise Wrong(Mistake(row.number, column, "is empty, must list at least one"))
    return listed


def _distribution(row: FileRow, column: str, candidates: Sequence[str] | None) -> dict[str, float]:
    """A chance for each candidate: an object, or a list in the order of the candidates."""
    said = row.values.get(column)
    if isinstance(said, str) and said.strip().startswith("{"):
        try:
            said = json.loads(said)
        except ValueError as error:
            raise Wrong(Mistake(row.number, column, f"is {shown(said)}, which is no JSON: {error}")) from error
    if isinstance(said, dict):
        pairs = [(str(name), chance) for name, chance in said.items() if chance is not None]
    else:
        listed = _list_in(row, column)
        if candidates is None:
            words = 'lists chances of nobody knows what: --map candidates=COLUMN, or write objects like {"a": 0.5}'
            raise Wrong(Mistake(row.number, column, words))
        if len(listed) != len(candidates):
            words = f"has {len(listed)} chances for {len(candidates)} candidates; must have one each"
            raise Wrong(Mistake(row.number, column, words))
        pairs = list(zip(candidates, listed, strict=True))
    try:
        every = {name: float(chance) for name, chance in pairs}
    except (TypeError, ValueError) as error:
        raise Wrong(Mistake(row.number, column, f"is {shown(said)}, must hold numbers")) from error
    total = sum(every.values())
    if not (all(chance >= 0.0 for chance in every.values()) and abs(total - 1.0) <= SUM_TOLERANCE):
        words = f"sums to {total:g} over the candidates; chances must be at least 0 and sum to 1"
        raise Wrong(Mistake(row.number, column, words))
    return {name: chance / total for name, chance in every.items()}


def _choice(row: FileRow, column: str, candidates: Sequence[str] | None) -> dict[str, float]:
    """What a policy would do: an action's name, or a chance for each candidate."""
    said = row.values.get(column)
    listed = isinstance(said, list | dict) or (isinstance(said, str) and said.strip()[:1] in ("{", "["))
    if listed or (isinstance(said, str) and "," in said):
        return _distribution(row, column, candidates)
    action = text_of(row, column)
    if action is None:
        raise Wrong(Mistake(row.number, column, "is empty, must be an action or a chance for each candidate"))
    return {action: 1.0}


def _said(name: str, mistakes: Sequence[Mistake], rows: int) -> str:
    """How many are wrong, and the first of them."""
    lines = [f"{len(mistakes):,} of {rows:,} rows of {name} are wrong"]
    lines += [each.shown(name) for each in mistakes[:MOST_SHOWN]]
    if len(mistakes) > MOST_SHOWN:
        lines.append(f"and {len(mistakes) - MOST_SHOWN:,} more")
    return "\n".join(lines)
