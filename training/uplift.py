"""The uplift model: by how much showing an action changes the chance of a success, against showing nothing.

A DR-learner. Kennedy, *Towards Optimal Doubly Robust Estimation of Heterogeneous Causal Effects*, Electronic
Journal of Statistics 2023 (arXiv 2004.14497), algorithm 1: what a reward model says of the action and
of nothing, put right by what was seen where one of them was drawn, is regressed on customer and action.
So who responds anyway is not mistaken for who responds because of it, and a new action has an uplift
from its attributes.

**Where boosting starts.** Such numbers are right and very noisy: boosting from nothing, with few decisions,
finds noise or stops at once. So the first trees follow what the reward model expects, with each action's
mean put right; then boosting goes towards the pseudo-outcomes for as long as cross-validation over
customers finds that it helps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.bundle import ModelFeature
from decisioning.catalog import Catalog
from decisioning.content_types import NO_ACTION
from decisioning.errors import DataError
from decisioning.evaluation import Bootstrap, Estimate, Ratio, Terms
from training.model_input import MOST_LEVELS, encode_pairs, encode_shown
from training.propensity import column_names, with_float32_thresholds
from training.reward_model import customer_folds, predicted_by_others

Floats = NDArray[np.float64]
Parameters = dict[str, float | int | str | bool]
ROUNDS, PATIENCE = 200, 20
# A leaf tells an effect, whose noise is that of two means: it needs many more rows than a rate does.
SMALLEST_LEAF, LEAVES_IN_ALL = 50, 64
PARAMETERS: Parameters = {
    "objective": "regression",
    "metric": "l2",
    "learning_rate": 0.05,
    "num_leaves": 8,
    "lambda_l2": 10.0,
    "feature_fraction": 0.7,
    "max_cat_to_onehot": MOST_LEVELS + 1,
    "extra_trees": True,
    "zero_as_missing": False,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}
# The first trees follow numbers without noise, so nothing has to hold them back.
PLUG_IN: Parameters = {
    "learning_rate": 0.1,
    "num_leaves": 31,
    "min_data_in_leaf": 20,
    "lambda_l2": 0.0,
    "feature_fraction": 1.0,
    "extra_trees": False,
}
PLUG_IN_ROUNDS = 60
PRIOR_ROWS = 200.0
# What was rarer than 1 in 100 counts as that: else a few rows would decide. `Contrasts.capped` says how many.
MOST_WEIGHT = 100.0
# A control speaks of every action that it could have been; so many of them, drawn at random, are enough.
ACTIONS_A_CONTROL = 5
MOST_DECISIONS = 100_000  # the newest
FEWEST = 100  # controls, and treated rows
NO_CONTROLS = (
    "uplift is over showing nothing, and the log has {found} decisions at which nothing was drawn with a known chance,"
    " beside an action that could have been; {fewest} are needed: keep no_action live, without conditions, where"
    " actions rank by uplift, under a policy that explores (or with a minimum_probability)"
)
NO_TREATED = (
    "uplift needs decisions at which an action was drawn with a known chance where nothing could have been; the log"
    " has {found}, {fewest} are needed: let the placement's policy explore"
)


class Contrasts(NamedTuple):
    """Draws of an action, and of nothing in its place, `(n_pairs,)` each.

    Attributes:
        examples: The decisions.
        actions: Ids, by code.
        row: Place of the pair's decision in `examples`.
        action: Code of the action that the pair speaks of.
        treated: Whether it was drawn; else nothing was.
        weight: One over the chance of what was drawn, at most `MOST_WEIGHT`; of a control, times how many
            actions it stands for. Where both are weighed so, either is as likely, whoever the customer is.
        capped: Share of the decisions whose chance was smaller than may count.
    """

    examples: pd.DataFrame
    actions: tuple[str, ...]
    row: NDArray[np.int64]
    action: NDArray[np.int64]
    treated: NDArray[np.bool_]
    weight: Floats
    capped: float

    @property
    def success(self) -> Floats:
        """Whether the pair's decision succeeded."""
        return self.examples["success"].to_numpy(dtype=np.float64)[self.row]

    @property
    def customers(self) -> pd.Series:
        """Whose decision each pair is."""
        return self.examples["customer_id"].iloc[self.row]

    def of(self, pairs: NDArray[np.bool_]) -> "Contrasts":
        """Some of the pairs."""
        return self._replace(
            row=self.row[pairs], action=self.action[pairs], treated=self.treated[pairs], weight=self.weight[pairs]
        )


@dataclass(frozen=True, slots=True)
class UpliftModel:
    """A fitted model, and what it was fitted from.

    Attributes:
        effects: By action, the mean uplift beside its doubly robust estimate, with how many were treated.
        learnt_from: `controls`, `treated` and `capped`, in numbers.
    """

    booster: lgb.Booster
    parameters: Parameters
    effects: pd.DataFrame
    learnt_from: dict[str, float]

    def uplifts(self, rows: NDArray[np.float32]) -> Floats:
        """In chances of a success, `(n,)`, of model input `(n, n_features)`."""
        return np.asarray(self.booster.predict(rows, num_threads=1), dtype=np.float64)


def ranks_by_uplift(catalog: Catalog, action_id: str) -> bool:
    """Whether arbitration asks for this action's uplift."""
    action = catalog.actions[action_id]
    return action.status == "live" and action.rank_by == "uplift"


def contrasts(examples: pd.DataFrame, catalog: Catalog, *, rng: np.random.Generator) -> Contrasts:
    """First slots that a policy drew where both an action and nothing could have been.

    Controls are draws of `no_action`: not what is left when nothing is eligible, no fallback, no holdout,
    none of which is drawn. What was certain is no evidence either: nothing else could have been.
    """
    chance = examples["probability"].to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore"):
        weighable = (chance > 0.0) & (chance < 1.0)
    first = examples["drawn"].to_numpy(dtype=bool) & (examples["slot"] == 1).to_numpy()
    known = examples["action_id"].isin(catalog.actions).to_numpy()
    free = examples["candidates"].map(lambda ids: NO_ACTION in ids).to_numpy(dtype=bool)
    drawn = examples[first & weighable & known & free].reset_index(drop=True)
    actions = tuple(name for name in catalog.actions if name != NO_ACTION)
    code = {name: place for place, name in enumerate(actions)}
    rows: list[int] = []
    codes: list[int] = []
    stands_for: list[float] = []
    for row, (shown, candidates) in enumerate(zip(drawn["action_id"], drawn["candidates"], strict=True)):
        if shown != NO_ACTION:
            rows.append(row)
            codes.append(code[shown])
            stands_for.append(1.0)
            continue
        asked = others = [code[name] for name in candidates if name in code]
        if len(others) > ACTIONS_A_CONTROL:
            asked = rng.choice(others, ACTIONS_A_CONTROL, replace=False).tolist()
        rows += [row] * len(asked)
        codes += asked
        stands_for += [len(others) / max(len(asked), 1)] * len(asked)
    inverse = 1.0 / drawn["probability"].to_numpy(dtype=np.float64)
    place = np.array(rows, dtype=np.int64)
    return Contrasts(
        examples=drawn,
        actions=actions,
        row=place,
        action=np.array(codes, dtype=np.int64),
        treated=(drawn["action_id"] != NO_ACTION).to_numpy(dtype=bool)[place],
        weight=np.minimum(inverse, MOST_WEIGHT)[place] * np.array(stands_for),
        capped=float((inverse > MOST_WEIGHT).mean()) if len(inverse) else 0.0,
    )


def fit_uplift(examples: pd.DataFrame, features: Sequence[ModelFeature], catalog: Catalog, *, seed: int) -> UpliftModel:
    """Fit on these draws, of which the newest 100,000 are used; all must be earlier than the test slice.

    `examples` has every draw, met or not, in the order of time; `features` are the propensity model's, since
    one graph takes one input. How many trees are enough is cross-validated over customers.

    Raises:
        DataError: Too few controls, or too few treated, were drawn with a known chance.
    """
    pairs = contrasts(examples.iloc[-MOST_DECISIONS:], catalog, rng=np.random.default_rng(seed))
    controls = len(np.unique(pairs.row[~pairs.treated]))
    treated = int(pairs.treated.sum())
    for found, message in ((controls, NO_CONTROLS), (treated, NO_TREATED)):
        if found < FEWEST:
            raise DataError(message.format(found=found, fewest=FEWEST))
    shown = encode_pairs(features, pairs.examples, catalog, pairs.row, pairs.actions, pairs.action)
    expected, targets = pseudo_outcomes(pairs, shown, features, catalog, seed=seed)
    parameters: Parameters = {
        **PARAMETERS,
        "min_data_in_leaf": max(SMALLEST_LEAF, len(shown) // LEAVES_IN_ALL),
        "seed": seed,
    }

    def dataset(values: Floats, start: Floats | None = None) -> lgb.Dataset:
        return lgb.Dataset(
            shown,
            values,
            weight=pairs.weight / pairs.weight.mean(),
            init_score=start,
            feature_name=column_names(tuple(features)),
            categorical_feature=[place for place, feature in enumerate(features) if feature.kind == "category"],
            params=parameters,
            free_raw_data=False,
        )

    first = lgb.train(
        {**parameters, **PLUG_IN}, dataset(_plug_in(pairs, expected, targets)), num_boost_round=PLUG_IN_ROUNDS
    )
    fold = customer_folds(pairs.customers)
    folds = [(np.flatnonzero(fold != each), np.flatnonzero(fold == each)) for each in np.unique(fold)]
    stopping = lgb.early_stopping(PATIENCE, verbose=False)
    start = np.asarray(first.predict(shown, num_threads=1), dtype=np.float64)
    losses = lgb.cv(parameters, dataset(targets, start), num_boost_round=ROUNDS, folds=folds, callbacks=[stopping])
    rounds = len(losses["valid l2-mean"])
    both = lgb.train(parameters, dataset(targets), num_boost_round=rounds, init_model=first)
    booster = with_float32_thresholds(both.model_to_string())
    return UpliftModel(
        booster=booster,
        parameters={**parameters, "rounds": rounds},
        effects=_effects(pairs, targets, np.asarray(booster.predict(shown, num_threads=1)), seed=seed),
        learnt_from={"controls": float(controls), "treated": float(treated), "capped": pairs.capped},
    )


def pseudo_outcomes(
    pairs: Contrasts, shown: NDArray[np.float32], features: Sequence[ModelFeature], catalog: Catalog, *, seed: int
) -> tuple[Floats, Floats]:
    """Of each pair, the effect that a reward model expects, and the pseudo-outcome, `(n_pairs,)` both.

    The weighted mean of the latter among like customers is the effect on them. With `m` what a reward model
    of other customers expects, it is `m(action) - m(nothing)` plus, where the action was drawn,
    `2 (success - m(action))`, and minus `2 (success - m(nothing))` where nothing was: under the weights of
    `pairs` either was drawn with chance one half. Right when the chances are, whatever the model; Kennedy,
    algorithm 1. `shown` is the input of each pair's customer and action.
    """
    codes = np.zeros(len(pairs.row), dtype=np.int64)
    nothing = encode_pairs(features, pairs.examples, catalog, pairs.row, [NO_ACTION], codes)
    both = np.stack([shown, nothing], axis=1).reshape(2 * len(shown), len(features))
    expected = predicted_by_others(
        features,
        encode_shown(features, pairs.examples, catalog),
        {"success": pairs.examples["success"].to_numpy(dtype=np.float64)},
        pairs.examples["customer_id"],
        both,
        np.ones((len(shown), 2), dtype=bool),
        pairs.customers,
        seed=seed,
    )["success"]
    with_action, without = expected.T
    success = pairs.success
    effect = with_action - without
    return effect, effect + 2.0 * np.where(pairs.treated, success - with_action, without - success)


def _plug_in(pairs: Contrasts, expected: Floats, targets: Floats) -> Floats:
    """What the reward model expects, put right by action on average.

    How far it is off for an action starts from how far it is off for all, with `PRIOR_ROWS`.
    """
    off = pairs.weight * (targets - expected)
    overall, typical = off.sum() / pairs.weight.sum(), pairs.weight.mean()
    sums = np.bincount(pairs.action, weights=off, minlength=len(pairs.actions))
    counts = np.bincount(pairs.action, weights=pairs.weight, minlength=len(pairs.actions))
    by_action = (sums + PRIOR_ROWS * typical * overall) / (counts + PRIOR_ROWS * typical)
    return expected + by_action[pairs.action]


def _effects(pairs: Contrasts, targets: Floats, uplifts: Floats, *, seed: int) -> pd.DataFrame:
    """One row an action that was drawn, the most often drawn first."""
    customer = pd.factorize(pairs.customers)[0].astype(np.int64)
    found = []
    for code in np.unique(pairs.action[pairs.treated]).tolist():
        of = pairs.action == code
        weight = pairs.weight[of]
        terms = Terms((Ratio(weight * targets[of], weight),), weight)
        bootstrap = Bootstrap({"effect": terms}, customer[of], rng=np.random.default_rng(seed), replications=200)
        effect: Estimate = bootstrap.estimate("effect")
        found.append(
            {
                "action_id": pairs.actions[code],
                "treated": int(pairs.treated[of].sum()),
                "controls": int((~pairs.treated[of]).sum()),
                "effect": effect.value,
                "low": effect.low,
                "high": effect.high,
                "mean_uplift": float(np.average(uplifts[of], weights=weight)),
            }
        )
    return pd.DataFrame(found).sort_values("treated", ascending=False, kind="stable", ignore_index=True)
