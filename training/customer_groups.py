"""Groups of customers by a feature, as reports name them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

UNKNOWN = "(unknown)"
MOST_GROUPS = 12  # of which each is named; numbers with more values go into quarters
OTHERS = "(others)"


def groups_of(values: Sequence[Any]) -> list[str]:
    """The group of each value: itself where there are few kinds; else a quarter of the numbers, or the rarer ones.

    >>> groups_of(["north", None, "south"])
    ['north', '(unknown)', 'south']
    >>> sorted(set(groups_of(list(range(100)))))
    ['0 to 24', '25 to 49', '50 to 74', '75 to 99']
    """
    known = [value for value in values if not _missing(value)]
    kinds = dict.fromkeys(known)
    if len(kinds) <= MOST_GROUPS:
        return [UNKNOWN if _missing(value) else _called(value) for value in values]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in kinds):
        return _quarters(values, np.array(known, dtype=np.float64))
    counts: dict[Any, int] = {}
    for value in known:
        counts[value] = counts.get(value, 0) + 1
    named = set(sorted(counts, key=lambda kind: (-counts[kind], str(kind)))[:MOST_GROUPS])
    return [UNKNOWN if _missing(value) else _called(value) if value in named else OTHERS for value in values]


def _quarters(values: Sequence[Any], known: Any) -> list[str]:
    edges = np.unique(np.quantile(known, (0.25, 0.5, 0.75)))
    places = np.searchsorted(edges, known, side="right")
    names = {
        place: f"{known[places == place].min():g} to {known[places == place].max():g}"
        for place in np.unique(places).tolist()
    }
    found = iter(places.tolist())
    return [UNKNOWN if _missing(value) else names[next(found)] for value in values]


def _missing(value: Any) -> bool:
    return value is None or value != value


def _called(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
