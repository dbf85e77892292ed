"""What a linear model sees of the model's input: numbers on one scale, levels and gaps as 0 and 1.

A tree takes a missing value, an infinite one and a level's code as they are; a weighted sum cannot.
All of it is a few array operations, so that the ONNX graph does the same as numpy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from decisioning.bundle import ModelFeature

Floats = NDArray[np.float64]
# No customer is further from the average than so many standard deviations: what is said of the
# rare beyond is a guess, and neither a slip of the keyboard nor an infinity may decide alone.
FURTHEST = 5.0
RAREST = 0.01  # share of the rows below which a level, or a gap, has no weight of its own
OUTERMOST = (0.001, 0.999)


class Column(NamedTuple):
    """One column of the linear model, made of column `place` of the model's input.

    Attributes:
        level: The code that counts as 1, all others as 0; NaN: a missing value counts as 1; None: a number.
        centre, scale: A number's mean and standard deviation in training; missing counts as the mean.
    """

    name: str
    place: int
    level: float | None
    centre: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class LinearInput:
    """Columns of a linear model, a constant 1 before them."""

    columns: tuple[Column, ...]

    @property
    def width(self) -> int:
        """How many columns, the constant among them."""
        return 1 + len(self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns, the constant's first."""
        return ("1", *(column.name for column in self.columns))

    def of(self, rows: NDArray[np.float32]) -> Floats:
        """The linear model's columns, `(n, width)`, of model input `(n, n_features)`.

        >>> age = LinearInput((Column("age", 0, None, centre=40.0, scale=10.0), Column("age unknown", 0, np.nan)))
        >>> age.of(np.array([[50.0], [np.nan], [np.inf]], dtype=np.float32)).tolist()
        [[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [1.0, 5.0, 0.0]]
        """
        found = np.ones((len(rows), self.width))
        for to, column in enumerate(self.columns, start=1):
            values = rows[:, column.place].astype(np.float64)
            if column.level is None:
                values = np.where(np.isnan(values), column.centre, values)
                found[:, to] = np.clip((values - column.centre) / column.scale, -FURTHEST, FURTHEST)
            else:
                found[:, to] = np.isnan(values) if np.isnan(column.level) else values == column.level
        return found


def learn_input(
    features: Sequence[ModelFeature], rows: NDArray[np.float32], places: Sequence[int], *, most: int
) -> LinearInput:
    """At most `most` columns for the features at these places, from training rows `(n, n_features)`.

    A number becomes one on the scale of its training rows; a category one for each level that at
    least 1 % of them have, but for the most frequent, from which the others differ. Where a value
    is missing in at least 1 % there is a column for that, too. If those are too many, the levels
    and gaps that vary least are left out first.
    """
    columns = [column for place in places for column in _columns(place, features[place], rows[:, place])]
    spread = np.array([_spread(column, rows[:, column.place]) for column in columns])
    kept = sorted(np.argsort(-spread, kind="stable")[: most - 1].tolist())
    return LinearInput(tuple(columns[place] for place in kept))


def _columns(place: int, feature: ModelFeature, values: NDArray[np.float32]) -> list[Column]:
    found = []
    missing = np.isnan(values)
    if feature.kind == "category":
        levels, counts = np.unique(values[~missing], return_counts=True)
        often = [
            float(levels[at]) for at in np.argsort(counts, kind="stable")[::-1] if counts[at] >= RAREST * len(values)
        ]
        known = (*feature.categories, "other")
        found += [Column(f"{feature.name}={known[int(level)]}", place, level) for level in sorted(often[1:])]
    else:
        finite = values[np.isfinite(values)].astype(np.float64)
        # Without the outermost, or one slip of the keyboard would make all others the same.
        inner = np.clip(finite, *np.quantile(finite, OUTERMOST)) if len(finite) else finite
        # As float32, which is all that the graph can hold: numpy and the graph then mean the same.
        centre, scale = (
            (float(np.float32(value)) for value in (inner.mean(), inner.std())) if len(inner) else (0.0, 0.0)
        )
        if scale > 0.0:
            found.append(Column(feature.name, place, None, centre, scale))
    if RAREST <= missing.mean() < 1.0:
        found.append(Column(f"{feature.name} unknown", place, float("nan")))
    return found


def _spread(column: Column, values: NDArray[np.float32]) -> float:
    """Variance in training; a number's is 1."""
    if column.level is None:
        return 1.0
    share = float(np.isnan(values).mean() if np.isnan(column.level) else (values == column.level).mean())
    return share * (1.0 - share)
