"""A cross-fitted reward model for doubly robust estimates: no row is predicted by a model that met its customer."""

import zlib
from collections.abc import Mapping, Sequence

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.bundle import ModelFeature
from decisioning.catalog import Catalog
from training.model_input import encode_shown
from training.target_policies import Decisions

FOLDS = 3
ROUNDS = 50
MOST_EXAMPLES = 30_000
FEWEST_IN_LEAF, MOST_IN_LEAF = 20, 200
FEW_FEATURES = 10
PARAMETERS = {
    "learning_rate": 0.08,
    "num_leaves": 15,
    "max_bin": 63,
    "lambda_l2": 10.0,
    "feature_fraction": 0.7,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


def cross_fitted(
    features: Sequence[ModelFeature],
    encoded: NDArray[np.float32],
    examples: pd.DataFrame,
    decisions: Decisions,
    catalog: Catalog,
    metrics: Sequence[str],
    *,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """What each candidate is expected to earn, `(n, n_actions)` by metric; NaN where not available.

    Customers are dealt into folds. A fold is predicted by a model of all other customers' examples,
    earlier and later, which DR's unbiasedness needs: the model must not have seen the row, nor
    another of the same customer. Chernozhukov et al., *Double/Debiased Machine Learning*, 2018.

    `encoded` is `candidate_rows` with these features; `examples` are in the order of time, and the
    newest 30,000 are learnt from.
    """
    known = examples[examples["action_id"].isin(catalog.actions)].iloc[-MOST_EXAMPLES:]
    return predicted_by_others(
        features,
        encode_shown(features, known, catalog),
        {metric: known[metric].to_numpy(dtype=np.float64) for metric in metrics},
        known["customer_id"],
        encoded,
        decisions.available,
        decisions.examples["customer_id"],
        seed=seed,
    )


def predicted_by_others(
    features: Sequence[ModelFeature],
    shown: NDArray[np.float32],
    earned: Mapping[str, NDArray[np.float64]],
    customers_shown: pd.Series,
    encoded: NDArray[np.float32],
    available: NDArray[np.bool_],
    customers: pd.Series,
    *,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """The same from arrays: `shown` is what is learnt from, `encoded` a row for each that is `available`."""
    fold_of_example, fold_of_row = customer_folds(customers_shown), customer_folds(customers)
    rows, columns = np.nonzero(available)
    categorical = [place for place, feature in enumerate(features) if feature.kind == "category"]
    expected = {metric: np.full(available.shape, np.nan) for metric in earned}
    parameters = {**PARAMETERS, "min_data_in_leaf": int(np.clip(len(shown) // 100, FEWEST_IN_LEAF, MOST_IN_LEAF))}
    if len(features) < FEW_FEATURES:
        parameters["feature_fraction"] = 1.0  # else trees of one feature each, which cannot tell whom an action suits
    for fold in range(FOLDS):
        other, here = fold_of_example != fold, fold_of_row[rows] == fold
        if not here.any():
            continue
        data = lgb.Dataset(shown[other], categorical_feature=categorical, params=parameters, free_raw_data=False)
        for metric, labels in earned.items():
            of_others = labels[other]
            objective = "binary" if metric == "success" and 0.0 < of_others.mean() < 1.0 else "regression"
            data.set_label(of_others)
            booster = lgb.train({**parameters, "objective": objective, "seed": seed}, data, num_boost_round=ROUNDS)
            expected[metric][rows[here], columns[here]] = booster.predict(encoded[here], num_threads=1)
    return expected


def customer_folds(customers: pd.Series) -> NDArray[np.int64]:
    """A customer's fold, the same in every frame."""
    codes, ids = pd.factorize(customers)
    return np.array([zlib.crc32(str(customer).encode()) % FOLDS for customer in ids], dtype=np.int64)[codes]
