"""How values become model input: the same numbers, in the same order, in training and serving."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decisioning.bundle import ModelFeature
from decisioning.contact_history import HISTORY_FEATURES, ContactHistory
from decisioning.content import Action
from decisioning.content_types import Scalar, Value

Encode = Callable[[Any], float]
# What a decision itself says of where it stands: no caller's context supplies these. Ranking is for
# the first position, so `slot` is 1 there.
REQUEST_FACTS = ("placement", "channel", "slot")


def encoder(feature: ModelFeature) -> Encode:
    """Turns one value of the feature into a number, NaN when it is missing.

    It raises TypeError (or ValueError, for a text that is no time) where the value is of another kind.

    >>> colour = encoder(ModelFeature("colour", "customer", "category", ("blue", "red")))
    >>> [colour(value) for value in ("red", "green", None)]
    [1.0, 2.0, nan]
    """
    return {"number": _number, "category": _category, "time": _time}[feature.kind](feature)


def encode_value(feature: ModelFeature, value: Scalar | datetime) -> float:
    """One value of one feature; see `encoder`."""
    return encoder(feature)(value)


def encode_column(feature: ModelFeature, values: Iterable[Scalar | datetime]) -> NDArray[np.float32]:
    """Many values of one feature, `(n,)`; a missing value may be NaN too, as data frames have it."""
    if feature.kind == "number" and isinstance(values, np.ndarray) and values.dtype.kind in "bfiu":
        return values.astype(np.float32)
    encode = encoder(feature)
    return np.array([math.nan if value != value else encode(value) for value in values], dtype=np.float32)


class RowEncoder:
    """Model input for the candidates of one decision.

    What belongs to the customer and the moment is encoded once for all candidates; what belongs to
    an action, once for as long as its catalogue entry stays the same.
    """

    def __init__(self, features: Sequence[ModelFeature]) -> None:
        columns = list(enumerate(features))
        self._width = len(columns)
        self._shared = {f.name: (c, encoder(f)) for c, f in columns if f.source in ("customer", "context")}
        self._action = {f.name: (c, encoder(f)) for c, f in columns if f.source == "action"}
        history = {f.name: c for c, f in columns if f.source == "history"}
        self._history_columns = list(history.values())
        self._history_places = [HISTORY_FEATURES.index(name) for name in history]
        self._action_columns = [column for column, _ in self._action.values()]
        self._known: dict[str, tuple[Action, NDArray[np.float32]]] = {}

    def check(self, context: Mapping[str, Scalar]) -> None:
        """Refuse a request's value that is not of the kind of the feature that it names.

        Raises:
            TypeError, ValueError: With the feature's name.
        """
        for name in context.keys() & self._shared.keys() - set(REQUEST_FACTS):
            self._shared[name][1](context[name])

    def rows(
        self, shared: Mapping[str, Value], actions: Sequence[Action], history: ContactHistory
    ) -> NDArray[np.float32]:
        """One row an action, `(n_actions, n_features)`; a feature that `shared` lacks is missing.

        Raises:
            TypeError, ValueError: A value is not of its feature's kind.
        """
        first = np.empty(self._width, dtype=np.float32)
        for name, (column, encode) in self._shared.items():
            first[column] = encode(shared.get(name))
        rows = np.tile(first, (len(actions), 1))
        rows[:, self._action_columns] = [self._of_action(action) for action in actions]
        if self._history_columns:
            counts = np.array([history.of(action) for action in actions], dtype=np.float32)
            rows[:, self._history_columns] = counts[:, self._history_places]
        return rows

    def _of_action(self, action: Action) -> NDArray[np.float32]:
        known = self._known.get(action.id)
        if known is None or known[0] is not action:
            scope = action.scope()
            values = [encode(scope.get(name)) for name, (_, encode) in self._action.items()]
            known = self._known[action.id] = action, np.array(values, dtype=np.float32)
        return known[1]


def _number(feature: ModelFeature) -> Encode:
    def encode(value: Any) -> float:
        if value is None:
            return math.nan
        if not isinstance(value, bool | int | float):
            raise TypeError(f"'{feature.name}' is {value!r}, must be a number")
        return float(value)

    return encode


def _category(feature: ModelFeature) -> Encode:
    codes = {level: float(code) for code, level in enumerate(feature.categories)}
    other = float(len(feature.categories))

    def encode(value: Any) -> float:
        if value is None:
            return math.nan
        if not isinstance(value, str | bool | int):
            raise TypeError(f"'{feature.name}' is {value!r}, must be a text")
        return codes.get(str(value), other)

    return encode


def _time(feature: ModelFeature) -> Encode:
    base = feature.base

    def encode(value: Any) -> float:
        if value is None:
            return math.nan
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if not isinstance(value, datetime) or base is None:
            raise TypeError(f"'{feature.name}' is {value!r}, must be a time")
        return (value - base).total_seconds()

    return encode
