"""Rows of a log to past decisions, by a mapping."""

import re
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from storage.data_mapping import (
    ActionColumn,
    CandidatesColumn,
    ColumnOf,
    DecisionColumns,
    RewardColumn,
    feature_column,
    id_of,
    when,
)
from storage.event_batches import Rejected
from storage.feature_kinds import Features, found_features
from storage.mapped_customers import id_said, midnight, value_of
from storage.mapping_parts import Column, FileFormat
from storage.row_files import FileRow
from storage.row_values import Clock, Mistake, Wrong, number_of, shown, text_of

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,255}")


class LoggedDecision(NamedTuple):
    """A past decision; `candidates` and `probability` are None where the row does not say them."""

    row: FileRow
    row_id: str
    customer_id: str
    decided_at: datetime | None
    placement: str
    action_id: str
    probability: float | None
    candidates: tuple[str, ...] | None
    reward: float
    context: dict[str, Any]


class DecisionMapper:
    """Makes past decisions as one mapping says, each row for itself."""

    def __init__(self, mapping: DecisionColumns, file: FileFormat, context: Features, *, now: datetime) -> None:
        """`context` is complete (`found_context`); nothing was decided later than `now`."""
        self._mapping = mapping
        self._decimal = file.decimal
        self._context = context
        self._id = None if mapping.id is None else id_of(mapping.id)
        self._customer = id_of(mapping.customer)
        self._clock = None if mapping.time is None else Clock(when(mapping.time), now=now)
        said = mapping.action
        self._action = ActionColumn(column=said) if isinstance(said, str) else said
        self._reward = RewardColumn(column=mapping.reward) if isinstance(mapping.reward, str) else mapping.reward

    def leaves_out(self, row: FileRow) -> bool:
        """Whether the mapping says that this row is not wanted."""
        return any(condition.holds(row.values.get(condition.column)) for condition in self._mapping.skip)

    def decision(self, row: FileRow) -> LoggedDecision:
        """The decision in this row.

        Raises:
            Wrong: It cannot be used.
        """
        if row.mistake is not None:
            raise Wrong(Mistake(row.number, row.column, row.mistake))
        action_id = self._action_id(row)
        candidates = self._candidates(row)
        if candidates is not None and action_id not in candidates:
            words = f"is {shown(action_id)}, which is not among the candidates {', '.join(candidates)}"
            raise Wrong(Mistake(row.number, self._action.column, words))
        placement = self._mapping.placement
        return LoggedDecision(
            row=row,
            row_id=f"row-{row.number}" if self._id is None else id_said(row, self._id, decimal=self._decimal),
            customer_id=id_said(row, self._customer, decimal=self._decimal),
            decided_at=None if self._clock is None else self._clock.time_of(row),
            placement=placement if isinstance(placement, str) else _id_in(row, placement.column),
            action_id=action_id,
            probability=self._probability(row),
            candidates=candidates,
            reward=self._earned(row),
            context={name: value_of(row, name, each, decimal=self._decimal) for name, each in self._context.items()},
        )

    def _action_id(self, row: FileRow) -> str:
        if self._action.column is None:
            return str(self._action.always)
        if not self._action.names:
            return _id_in(row, self._action.column)
        said = text_of(row, self._action.column)
        if said not in self._action.names:
            words = f"is {shown(said)}, must be one of {', '.join(self._action.names)}"
            raise Wrong(Mistake(row.number, self._action.column, words))
        return self._action.names[said]

    def _candidates(self, row: FileRow) -> tuple[str, ...] | None:
        said = self._mapping.candidates
        if not isinstance(said, CandidatesColumn):
            return said
        listed = row.values.get(said.column)
        parts = listed if isinstance(listed, list | tuple) else str(listed or "").split(said.separator)
        names = [str(part).strip() for part in parts if str(part).strip()]
        renamed = tuple(dict.fromkeys(self._action.names.get(name, name) for name in names))
        if not renamed:
            raise Wrong(Mistake(row.number, said.column, "is empty, must list what could have been chosen"))
        return renamed

    def _probability(self, row: FileRow) -> float | None:
        said = self._mapping.probability
        if isinstance(said, ColumnOf):
            number = number_of(row, said.column, decimal=self._decimal)
            if number is not None and not 0.0 < number <= 1.0:
                words = f"is {shown(row.values[said.column])}, must be above 0 and at most 1"
                raise Wrong(Mistake(row.number, said.column, words))
            return number
        return float(said) if isinstance(said, int | float) else None

    def _earned(self, row: FileRow) -> float:
        column = self._reward.column
        if self._reward.success:
            return float(text_of(row, column) in {str(each) for each in self._reward.success})
        number = number_of(row, column, decimal=self._decimal)
        if number is None:
            raise Wrong(Mistake(row.number, column, "is empty, must say what the decision earned; 0 for nothing"))
        return number


class ReadDecisions(NamedTuple):
    """What a log says: its decisions in the order of their time, and what could not be used."""

    decisions: list[LoggedDecision]
    rejected: list[Rejected]


def read_decisions(rows: Iterable[FileRow], mapper: DecisionMapper, mapping: DecisionColumns) -> ReadDecisions:
    """Every decision, complete but for a probability that nobody knows."""
    found: list[LoggedDecision] = []
    rejected: list[Rejected] = []
    places: dict[str, int] = {}
    for row in rows:
        try:
            if row.mistake is None and mapper.leaves_out(row):
                continue
            decision = mapper.decision(row)
            if decision.row_id in places:
                first = places[decision.row_id]
                raise Wrong(
                    Mistake(row.number, _column(mapping), f"the id '{decision.row_id}' stands in row {first} too")
                )
            places[decision.row_id] = row.number
            found.append(decision._replace(row=FileRow(row.number, {})))
        except Wrong as wrong:
            rejected.append(Rejected(wrong.mistake, [row]))
    if mapping.between is not None:
        began, ended = (midnight(day) for day in mapping.between)
        step = (ended - began) / max(len(found), 1)
        found = [each._replace(decided_at=began + place * step) for place, each in enumerate(found)]
    return ReadDecisions(_with_probabilities(_with_candidates(found), mapping), rejected)


def found_context(rows: Iterable[FileRow], mapping: DecisionColumns, file: FileFormat) -> Features:
    """What the mapping says of the moment, with the types that it leaves open."""
    features = {name: feature_column(name, said) for name, said in mapping.context.items()}
    if all(each.type is not None for each in features.values()):
        return features
    return found_features(rows, features, decimal=file.decimal)


def _with_candidates(decisions: list[LoggedDecision]) -> list[LoggedDecision]:
    """Where no row says any: every action that stands in the log of the placement."""
    actions: dict[str, dict[str, None]] = {}
    for each in decisions:
        actions.setdefault(each.placement, {})[each.action_id] = None
    known = {placement: tuple(sorted(names)) for placement, names in actions.items()}
    return [each if each.candidates else each._replace(candidates=known[each.placement]) for each in decisions]


def _with_probabilities(decisions: list[LoggedDecision], mapping: DecisionColumns) -> list[LoggedDecision]:
    """Where the mapping assumes them: as many candidates, or as often as each action stands in the log."""
    if mapping.probability == "uniform":
        return [each._replace(probability=1.0 / len(each.candidates or ("",))) for each in decisions]
    if mapping.probability != "empirical":
        return decisions
    shown_at = Counter((each.placement, each.action_id) for each in decisions)
    shares: dict[tuple[str, tuple[str, ...]], int] = {}
    assumed = []
    for each in decisions:
        key = (each.placement, each.candidates or ())
        if key not in shares:
            shares[key] = sum(shown_at[each.placement, name] for name in key[1])
        assumed.append(each._replace(probability=shown_at[each.placement, each.action_id] / shares[key]))
    return assumed


def _column(mapping: DecisionColumns) -> Column | None:
    return None if mapping.id is None else id_of(mapping.id).column


def _id_in(row: FileRow, column: Column) -> str:
    said = text_of(row, column)
    if said is None or not _ID.fullmatch(said):
        words = f"is {shown(said)}, must be an id of letters, digits, `_`, `.` and `-`; `names` can give it another"
        raise Wrong(Mistake(row.number, column, words))
    return said
