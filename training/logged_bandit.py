"""Any log of a bandit's choices as arrays: no catalogue, no ledger, no training."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.errors import DataError
from decisioning.evaluation import Floats, Log
from storage.mapping_parts import is_empty
from training.logged_rows import Columns, LoggedRow, read_rows

MOST_CELLS = 100_000_000  # rows x actions; each policy needs 8 bytes for each


class LoggedBandit(NamedTuple):
    """A log in the order of its time, or of the file where it says none.

    Attributes:
        name: What people call the file.
        actions: By column of `log.available`.
        log: Rows as off-policy evaluation wants them.
        features: `(n, n_features)`, what is missing being NaN; names in `feature_names`.
        categories: Of each feature that is no number, its levels; their places are the values in `features`.
        decision, slot: Of slates: which slate a row is of, `(n,)`, and its place in it, from 0; else None.
        chosen: What other policies would do, `(n, n_actions)`, by column.
        number: Each row's number in the file, `(n,)`.
    """

    name: str
    actions: tuple[str, ...]
    log: Log
    features: NDArray[np.float32]
    feature_names: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]
    decision: NDArray[np.int64] | None
    slot: NDArray[np.int64] | None
    chosen: Mapping[str, Floats]
    number: NDArray[np.int64]


def read_logged_bandit(path: Path, columns: Columns, *, now: datetime) -> LoggedBandit:
    """The log in a CSV, JSON lines or Parquet file.

    Raises:
        DataError: There are no rows, or wrong ones, with their numbers; or more than can be weighed.
    """
    return logged_bandit(path.name, read_rows(path, columns, now=now), columns)


def logged_bandit(name: str, rows: Sequence[LoggedRow], columns: Columns) -> LoggedBandit:
    """Rows as arrays.

    Raises:
        DataError: A slate lacks a slot, something is chosen that could not be, or there is more than can be weighed.
    """
    met = dict.fromkeys(row.action for row in rows)
    for row in rows:
        met.update(dict.fromkeys(row.candidates or ()))
    actions = tuple(sorted(met, key=_natural))
    if len(rows) * len(actions) > MOST_CELLS:
        raise DataError(
            f"{name} has {len(rows):,} rows of {len(actions):,} actions, more than {MOST_CELLS:,} chances to weigh;"
            " evaluate a part of it, such as the newest rows",
            where=name,
        )
    column = {action: place for place, action in enumerate(actions)}
    decision, slot = _slates(name, rows, columns)
    available = _available(rows, column, decision, slot)
    customer = pd.factorize(pd.Series([row.customer for row in rows], dtype=object))[0]
    if columns.customer is None:
        customer = np.arange(len(rows)) if decision is None else decision
    logged = np.array([row.probability for row in rows])
    log = Log(
        reward=np.array([row.reward for row in rows]),
        action=np.array([column[row.action] for row in rows], dtype=np.int64),
        probability=np.where(np.isnan(logged), 1.0 / available.sum(axis=1), logged),
        customer=np.asarray(customer, dtype=np.int64),
        available=available,
    )
    features, categories = _features(rows, columns.features)
    chosen = {
        policy: _matrix(name, policy, rows, [row.chosen[place] for row in rows], column, available)
        for place, policy in enumerate(columns.policies)
    }
    number = np.array([row.number for row in rows], dtype=np.int64)
    return LoggedBandit(name, actions, log, features, columns.features, categories, decision, slot, chosen, number)


def _natural(action: str) -> tuple[float, str]:
    """Numbers in their order, before texts in theirs."""
    return (float(action) if action.isdecimal() else np.inf, action)


def _slates(
    name: str, rows: Sequence[LoggedRow], columns: Columns
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    if columns.decision is None:
        return None, None
    decision = pd.factorize(pd.Series([row.decision for row in rows]))[0].astype(np.int64)
    places = sorted({row.slot for row in rows})
    slot = np.searchsorted(places, [row.slot for row in rows]).astype(np.int64)
    keys, first, counts = np.unique(decision * len(places) + slot, return_index=True, return_counts=True)
    if (counts > 1).any():
        row = rows[int(first[np.argmax(counts > 1)])]
        raise DataError(f"{name} row {row.number}: decision '{row.decision}' has slot {row.slot} twice", where=name)
    whole = (decision.max() + 1) * len(places)
    if len(keys) != whole:
        lacks = int(np.setdiff1d(np.arange(whole), keys)[0])
        row = rows[int(np.argmax(decision == lacks // len(places)))]
        raise DataError(
            f"{name} row {row.number}: decision '{row.decision}' lacks slot {places[lacks % len(places)]}; every slate"
            f" must have all {len(places)} slots: leave out those that do not",
            where=name,
        )
    return decision, slot


def _available(
    rows: Sequence[LoggedRow],
    column: Mapping[str, int],
    decision: NDArray[np.int64] | None,
    slot: NDArray[np.int64] | None,
) -> NDArray[np.bool_]:
    available = np.zeros((len(rows), len(column)), dtype=bool)
    layouts: dict[tuple[str, ...], list[int]] = {}
    for place, row in enumerate(rows):
        if row.candidates is None:
            available[place] = True
        else:
            if row.candidates not in layouts:
                layouts[row.candidates] = [column[name] for name in row.candidates]
            available[place, layouts[row.candidates]] = True
    if decision is not None and slot is not None:
        # What stands in an earlier slot cannot stand in a later one.
        order = np.lexsort((slot, decision)).reshape(decision.max() + 1, -1)
        for later in range(1, order.shape[1]):
            for earlier in range(later):
                gone = [column[rows[place].action] for place in order[:, earlier].tolist()]
                available[order[:, later], gone] = False
        wrong = [place for place, row in enumerate(rows) if not available[place, column[row.action]]]
        if wrong:
            row = rows[wrong[0]]
            raise DataError(f"row {row.number}: '{row.action}' stands in an earlier slot of the same decision already")
    return available


def _features(
    rows: Sequence[LoggedRow], names: Sequence[str]
) -> tuple[NDArray[np.float32], dict[str, tuple[str, ...]]]:
    found = np.full((len(rows), len(names)), np.nan, dtype=np.float32)
    categories: dict[str, tuple[str, ...]] = {}
    for place, name in enumerate(names):
        said = pd.Series([None if is_empty(row.features[place]) else row.features[place] for row in rows], dtype=object)
        numbers = pd.to_numeric(said.map(lambda each: float(each) if isinstance(each, bool) else each), errors="coerce")
        if numbers.notna().equals(said.notna()):
            found[:, place] = numbers.to_numpy(dtype=np.float32)
        else:
            codes, levels = pd.factorize(said.map(lambda each: None if each is None else str(each)))
            found[:, place] = np.where(codes >= 0, codes, np.nan)
            categories[name] = tuple(str(level) for level in levels)
    return found, categories


def _matrix(
    name: str,
    policy: str,
    rows: Sequence[LoggedRow],
    chosen: Sequence[Mapping[str, float]],
    column: Mapping[str, int],
    available: NDArray[np.bool_],
) -> Floats:
    """What a policy's column says, `(n, n_actions)`."""
    target = np.zeros(available.shape)
    for place, choice in enumerate(chosen):
        for action, chance in choice.items():
            if chance > 0.0 and (action not in column or not available[place, column[action]]):
                raise DataError(
                    f"{name} row {rows[place].number}, column {policy}: chooses '{action}', which could not have been"
                    " chosen there; a policy can be valued only on what was available",
                    where=name,
                )
            if action in column:
                target[place, column[action]] = chance
    return target


def slates(log: LoggedBandit, values: NDArray[Any]) -> NDArray[Any]:
    """Values of rows, `(n, ...)`, as slates, `(n_slates, n_slots, ...)`."""
    assert log.decision is not None
    assert log.slot is not None
    order = np.lexsort((log.slot, log.decision))
    n_slots = int(log.slot.max()) + 1
    return values[order].reshape(-1, n_slots, *values.shape[1:])
