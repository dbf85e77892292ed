"""From examples to the model's input: which features there are, and their numbers.

Values become numbers through `decisioning.bundle` alone, which the service uses too.
"""

from collections import Counter
from collections.abc import Container, Sequence
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.bundle import ModelFeature
from decisioning.catalog import Catalog
from decisioning.contact_history import HISTORY_FEATURES, NO_HISTORY, ContactHistory
from decisioning.encoding import REQUEST_FACTS, encode_column, encode_value
from decisioning.errors import DataError
from training.collector import paused
from training.examples import CUSTOMER

Kind = Literal["number", "category", "time"]

# A rarer level tells noise; it is coded like a level that was never met, so "other" is learnt too.
MINIMUM_COUNT = 20
MOST_LEVELS = 200
# Callers may send anything under any name: what few send tells nothing, and one request makes no feature.
CONTEXT_SHARE = 0.01
MOST_CONTEXT_FEATURES = 50
HISTORY_PART = 10_000  # pairs whose history waits as Python values
# These name somebody: rules may ask for them, but what is learnt of one holds for nobody else.
NAMES_OF_SOMEBODY = frozenset({"account_id", "reports_to", "referred_by"})


def learn_features(train: pd.DataFrame, catalog: Catalog) -> tuple[ModelFeature, ...]:
    """The model's columns, their kinds and levels, from the training slice alone.

    A name of the request's context becomes a feature where at least 1 % of the rows have a value
    for it, the 50 most frequent at most; never a name that another source has. Lists, features that
    name somebody, and those that the catalogue protects (`fairness`), are for rules.

    Raises:
        DataError: Two sources that are not the callers' use one name.
    """
    untouched = NAMES_OF_SOMEBODY.union(catalog.content.fairness.protected)
    customer = [
        _learnt(name.removeprefix(CUSTOMER), "customer", train[name])
        for name in train.columns
        if name.startswith(CUSTOMER) and name.removeprefix(CUSTOMER) not in untouched and not _holds_lists(train[name])
    ]
    others = [_learnt(name, "context", train[name]) for name in REQUEST_FACTS]
    scopes = {action_id: action.scope() for action_id, action in catalog.actions.items()}
    for name in dict.fromkeys(name for scope in scopes.values() for name in scope):
        shown = train["action_id"].map({action_id: scope.get(name) for action_id, scope in scopes.items()})
        others.append(_learnt(name, "action", shown))
    others += [ModelFeature(name, "history", "number") for name in HISTORY_FEATURES]
    sources: dict[str, str] = {}
    for feature in (*customer, *others):
        if feature.name in sources:
            raise DataError(
                f"'{feature.name}' is a feature of {sources[feature.name]} and {feature.source}; names must be unique,"
                " since a request may supply a value by name: rename one"
            )
        sources[feature.name] = feature.source
    taken = untouched.union(sources)
    sent = [_learnt(name, "context", _sent(name, train)) for name in _names_often_sent(train["context"], taken=taken)]
    return (*customer, *sent, *others)


@paused()
def encode_pairs(
    features: Sequence[ModelFeature],
    examples: pd.DataFrame,
    catalog: Catalog,
    rows: NDArray[np.int64],
    actions: Sequence[str],
    codes: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Model input of customers met with actions, `(n_pairs, n_features)`.

    Pair i is `examples.iloc[rows[i]]` shown `actions[codes[i]]`, which need not be what was shown.

    Raises:
        DataError: An action is not in the catalogue.
    """
    unknown = sorted(set(actions) - set(catalog.actions))
    if unknown:
        raise DataError(
            f"the examples show {', '.join(unknown)}, which the catalogue does not have; retire, not delete"
        )
    encoded = np.empty((len(rows), len(features)), dtype=np.float32)
    scopes = [catalog.actions[name].scope() for name in actions]
    history: NDArray[np.float32] | None = None
    for column, feature in enumerate(features):
        if feature.source == "action":
            values = [encode_value(feature, _conforming(feature.kind, scope.get(feature.name))) for scope in scopes]
            encoded[:, column] = np.array(values, dtype=np.float32)[codes]
        elif feature.source == "history":
            if history is None:
                history = _history(examples, catalog, rows, actions, codes)
            encoded[:, column] = history[:, HISTORY_FEATURES.index(feature.name)]
        else:
            encoded[:, column] = _encoded(feature, examples)[rows]
    return encoded


def encode_shown(features: Sequence[ModelFeature], examples: pd.DataFrame, catalog: Catalog) -> NDArray[np.float32]:
    """Model input of what was shown, `(n, n_features)`."""
    codes, actions = pd.factorize(examples["action_id"])
    return encode_pairs(features, examples, catalog, np.arange(len(examples)), list(actions), codes.astype(np.int64))


def _holds_lists(column: pd.Series) -> bool:
    return column.dtype == object and any(isinstance(value, tuple | list) for value in column)


def _names_often_sent(contexts: pd.Series, *, taken: Container[str]) -> list[str]:
    """Names to learn from, counted before any column is built, in the order in which they first came."""
    counts = Counter(name for context in contexts for name, value in context.items() if value is not None)
    free = Counter({name: count for name, count in counts.items() if name not in taken})
    fewest = CONTEXT_SHARE * len(contexts)
    often = {name for name, count in free.most_common(MOST_CONTEXT_FEATURES) if count >= fewest}
    return [name for name in counts if name in often]


def _sent(name: str, examples: pd.DataFrame) -> pd.Series:
    """What callers sent under a name, None where nothing, `(n,)`."""
    return pd.Series([context.get(name) for context in examples["context"]], dtype=object)


def _learnt(name: str, source: Any, column: pd.Series) -> ModelFeature:
    if _is_numeric(column):
        return ModelFeature(name, source, "number")
    values = _plain(column)
    kind = _kind(values)
    if kind == "category":
        counts: Counter[str] = Counter()
        # By value first: few levels, many rows. 1 and True would count as one, and are told apart by name.
        for (_, value), count in Counter(zip(map(type, values), values, strict=True)).items():
            if _conforming(kind, value) is not None:
                counts[str(value)] += count
        frequent = [level for level, count in counts.most_common(MOST_LEVELS) if count >= MINIMUM_COUNT]
        return ModelFeature(name, source, kind, tuple(sorted(frequent)))
    if kind == "time":
        first = min(value for value in values if isinstance(value, datetime))
        return ModelFeature(name, source, kind, base=first.replace(hour=0, minute=0, second=0, microsecond=0))
    return ModelFeature(name, source, kind)


def _kind(values: Sequence[Any]) -> Kind:
    """What most of the values are; a column without any counts as a number."""
    kinds: Counter[Kind] = Counter()
    for kind_of, count in Counter(map(type, values)).items():
        if kind_of is type(None):
            continue
        kinds["category" if issubclass(kind_of, str) else "time" if issubclass(kind_of, datetime) else "number"] += (
            count
        )
    return kinds.most_common(1)[0][0] if kinds else "number"


def _encoded(feature: ModelFeature, examples: pd.DataFrame) -> NDArray[np.float32]:
    """One customer or context feature, `(n,)`."""
    if feature.source == "context" and feature.name not in REQUEST_FACTS:
        column = _sent(feature.name, examples)
    else:
        name = CUSTOMER + feature.name if feature.source == "customer" else feature.name
        if name not in examples.columns:
            return np.full(len(examples), np.nan, dtype=np.float32)
        column = examples[name]
    if feature.kind == "number" and _is_numeric(column):
        return encode_column(feature, column.to_numpy())
    if feature.kind == "category" and not _is_numeric(column):  # few levels, many rows
        codes, levels = pd.factorize(column)
        encoded = encode_column(feature, [*(_conforming(feature.kind, level) for level in levels), None])
        return encoded[codes]  # missing has code -1, the last
    return encode_column(feature, [_conforming(feature.kind, value) for value in _plain(column)])


def _is_numeric(column: pd.Series) -> bool:
    return isinstance(column.dtype, np.dtype) and column.dtype.kind in "bfiu"


def _plain(column: pd.Series) -> list[Any]:
    """Python values, None where missing."""
    if _is_numeric(column):
        return column.tolist()
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return [None if value is pd.NaT else value.to_pydatetime() for value in column.tolist()]
    missing = column.isna()
    return column.where(~missing, None).tolist() if missing.any() else column.tolist()


def _conforming(kind: Kind, value: Any) -> Any:
    """The value, or None where it is of another kind than its column: callers may send anything once."""
    allowed = {"number": bool | int | float, "category": str | bool | int, "time": datetime}[kind]
    return value if isinstance(value, allowed) else None


def _history(
    examples: pd.DataFrame, catalog: Catalog, rows: NDArray[np.int64], names: Sequence[str], codes: NDArray[np.int64]
) -> NDArray[np.float32]:
    """`ContactHistory` of each pair, `(n_pairs, len(HISTORY_FEATURES))`."""
    actions = [catalog.actions[name] for name in names]
    found = np.empty((len(rows), len(HISTORY_FEATURES)), dtype=np.float32)
    found[:] = NO_HISTORY
    contacts, moments = examples["contacts"].to_numpy(), pd.DatetimeIndex(examples["decided_at"])
    asked = np.flatnonzero(np.array([bool(each) for each in contacts], dtype=bool)[rows])
    for part in np.array_split(asked, len(asked) // HISTORY_PART + 1):
        if len(part):
            values: list[tuple[float, ...]] = []
            last, history = -1, None
            met = zip(rows[part].tolist(), codes[part].tolist(), moments[rows[part]].to_pydatetime(), strict=True)
            for row, code, now in met:
                if row != last or history is None:
                    last, history = row, ContactHistory(contacts[row], now=now)
                values.append(history.of(actions[code]))
            found[part] = values
    return found
