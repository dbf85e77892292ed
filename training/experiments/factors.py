"""Main effects and interactions of a multivariate experiment: least squares on the variants' values."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import msgspec
import numpy as np
from scipy.stats import norm

from decisioning.experiment_content import Experiment
from training.experiments.comparison import Adjusted
from training.experiments.moments import Floats
from training.experiments.reading import holm


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """How much a level changes the metric against its factor's first level, averaged evenly over the other factors.

    Of two levels of two factors: how much more the one does beside the other. The interval is for one look.

    Attributes:
        of: `colour=red`, or `colour=red x size=large`.
        p_value: Corrected for the number of effects (Holm).
    """

    of: str
    value: float
    low: float
    high: float
    p_value: float


def effects(experiment: Experiment, values: Sequence[Adjusted], counts: Sequence[float]) -> list[Effect]:
    """Of every level and, where the variants tell them apart, every pair of levels; none where two always go together.

    `values` and `counts` are by variant. Levels are coded around 0, so that effects are averages over the other
    factors. Errors are robust to variants that vary differently: White, *A Heteroskedasticity-Consistent Covariance
    Matrix Estimator*, Econometrica 48, 1980; units of a variant have the same row, so its mean and variance suffice.
    """
    main = _columns(experiment)
    design = {**main, **_pairs(main)}
    if _rank(design) < len(design) + 1:
        design = main
    if _rank(design) < len(design) + 1:
        return []
    x = np.column_stack([np.ones(len(values)), *design.values()])
    n, y = np.asarray(counts, dtype=np.float64), np.array([float(each.value) for each in values])
    bread = np.linalg.inv(x.T @ (n[:, None] * x))
    found = bread @ (x.T @ (n * y))
    spread = n * np.array([float(each.variance) for each in values]) + np.square(y - x @ found)  # of one unit
    errors = np.sqrt(np.diag(bread @ (x.T @ ((n * spread)[:, None] * x)) @ bread))[1:]
    found = found[1:]
    p_values = holm((2.0 * norm.sf(np.abs(found / errors))).tolist())
    half = norm.isf(0.025) * errors
    return [
        Effect(of=name, value=float(value), low=float(value - h), high=float(value + h), p_value=p)
        for name, value, h, p in zip(design, found, half, p_values, strict=True)
    ]


def _columns(experiment: Experiment) -> dict[str, Floats]:
    """For each level but the first, `(n_variants,)`: whether a variant has it, around 0."""
    return {
        f"{factor}={level}": np.array(
            [float(variant.levels[factor] == level) - 1.0 / len(levels) for variant in experiment.variants]
        )
        for factor, levels in experiment.factors.items()
        for level in levels[1:]
    }


def _pairs(main: Mapping[str, Floats]) -> dict[str, Floats]:
    return {
        f"{one} x {other}": main[one] * main[other]
        for one, other in combinations(main, 2)
        if one.partition("=")[0] != other.partition("=")[0]
    }


def _rank(design: Mapping[str, Floats]) -> int:
    columns = list(design.values())
    return int(np.linalg.matrix_rank(np.column_stack([np.ones(len(columns[0])), *columns])))
