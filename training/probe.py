"""Synthetic model input on which a graph must agree with the model that it came from.

Never a real customer's values: a bundle is kept for good, and a person may ask to be forgotten.
"""

from collections.abc import Sequence

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from decisioning.bundle import ModelFeature

Float32s = NDArray[np.float32]
PROBE_ROWS = 256  # what a bundle carries
MOST_CHECK_ROWS = 8192  # what an export is checked on
FURTHEST = 1e30  # where ordinary numbers end


def thresholds(boosters: Sequence[lgb.Booster], n_features: int) -> list[Float32s]:
    """Where the trees of a graph cut each numeric feature: sorted, unique, one array a feature."""
    cuts: list[set[float]] = [set() for _ in range(n_features)]
    pending = [tree["tree_structure"] for booster in boosters for tree in booster.dump_model()["tree_info"]]
    while pending:
        node = pending.pop()
        if "split_feature" not in node:
            continue
        if node["decision_type"] == "<=":
            cuts[node["split_feature"]].add(float(node["threshold"]))
        pending += [node["left_child"], node["right_child"]]
    largest = float(np.finfo(np.float32).max)  # a cut may lie beyond, at the end of float64
    return [np.clip(sorted(each), -largest, largest).astype(np.float32) for each in cuts]


def synthetic_rows(features: Sequence[ModelFeature], cuts: Sequence[Float32s], *, rng: np.random.Generator) -> Float32s:
    """Rows that meet every edge of every column, `(n, n_features)`, at most 8192 of them.

    A number runs through every threshold and its two float32 neighbours, both infinities, missing,
    and ordinary values between the thresholds; a category through every level, one that is not
    known, and missing. Columns are shuffled independently, so that edges meet each other.
    """
    columns = [
        _levels(feature) if feature.kind == "category" else _numbers(each, rng)
        for feature, each in zip(features, cuts, strict=True)
    ]
    n = min(MOST_CHECK_ROWS, max(PROBE_ROWS, *(len(column) for column in columns)))
    return np.stack([rng.permutation(np.resize(rng.permutation(column), n)) for column in columns], axis=1)


def _levels(feature: ModelFeature) -> Float32s:
    known = np.arange(len(feature.categories) + 1, dtype=np.float32)  # the last is "any other"
    return np.append(known, np.float32(np.nan))


def _numbers(cuts: Float32s, rng: np.random.Generator) -> Float32s:
    # A cut at the end of all numbers only tells those that are missing from the others.
    ordinary_cuts = cuts[np.abs(cuts) < FURTHEST]
    low, high = (float(ordinary_cuts[0]), float(ordinary_cuts[-1])) if len(ordinary_cuts) else (-1.0, 1.0)
    margin = 0.1 * (high - low) + 1.0
    ordinary = rng.uniform(low - margin, high + margin, max(32, len(cuts))).astype(np.float32)
    edges = np.array([-np.inf, np.inf, np.nan, 0.0, -0.0], dtype=np.float32)
    with np.errstate(over="ignore"):  # above the last number is infinity, an edge as well
        below, above = np.nextafter(cuts, np.float32(-np.inf)), np.nextafter(cuts, np.float32(np.inf))
    return np.concatenate([ordinary, edges, cuts, below, above])
