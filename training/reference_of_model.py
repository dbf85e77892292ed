"""The reference that a model's live data are compared with, learnt beside the model."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.bundle import ModelFeature
from decisioning.catalog import Catalog
from decisioning.reference import SCORES, Reference, binned, effective_rows
from training.model_input import encode_pairs
from training.time_split import TimeSplit

MOST_DECISIONS = 2_000  # whose candidates are all scored


def learn_reference(
    features: Sequence[ModelFeature],
    rows: NDArray[np.float32],
    examples: pd.DataFrame,
    split: TimeSplit,
    catalog: Catalog,
    propensities: Callable[[NDArray[np.float32]], NDArray[np.floating]],
) -> Reference:
    """Features over every slice that the model used, scores over the test slice, which it did not.

    Args:
        features: The model's.
        rows: Its input for the examples, `(n, n_features)`.
        examples: What it was trained on, in order of time.
        split: Which of them were used for what.
        catalog: Whose actions were candidates.
        propensities: What the model says of input.
    """
    learnt = slice(0, split.test.start)
    customer = pd.factorize(examples["customer_id"])[0].astype(np.int64)
    watched = [
        binned(
            feature.name,
            rows[learnt, place].astype(np.float64),
            categories=feature.categories if feature.kind == "category" else None,
        )
        for place, feature in enumerate(features)
        if is_watched(feature)
    ]
    chosen = np.unique(np.linspace(split.test.start, split.test.stop - 1, MOST_DECISIONS).astype(np.int64))
    sample = examples.iloc[chosen].reset_index(drop=True)
    pairs = [
        (row, action_id)
        for row, candidates in enumerate(sample["candidates"])
        for action_id in candidates
        if action_id in catalog.actions
    ]
    scores, effective = None, 0.0
    if pairs:
        codes, actions = pd.factorize(pd.Series([action_id for _, action_id in pairs]))
        at = np.array([row for row, _ in pairs], dtype=np.int64)
        scored = propensities(encode_pairs(features, sample, catalog, at, list(actions), codes.astype(np.int64)))
        scores = binned(SCORES, np.asarray(scored, dtype=np.float64))
        effective = effective_rows(customer[chosen][at])
    return Reference(
        features=tuple(watched),
        scores=scores,
        effective=effective_rows(customer[learnt]),
        scores_effective=effective,
    )


def is_watched(feature: ModelFeature) -> bool:
    """Whether a feature's drift says anything: not instants, which move on, nor what the policy itself chooses."""
    return feature.source in ("customer", "context") and feature.kind != "time" and feature.name != "slot"
