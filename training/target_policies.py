"""Policies to compare on logged decisions, each as probabilities over what could have been chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.bundle import ModelFeature
from decisioning.catalog import Catalog
from decisioning.content_types import NO_ACTION
from decisioning.evaluation import Log
from training.graph_scorer import GraphScorer
from training.model_input import encode_pairs

Floats = NDArray[np.float64]
# Rows with the overall mean that an action starts with: one lucky sale makes no best constant.
PRIOR_ROWS = 50.0


@dataclass(frozen=True, slots=True)
class Decisions:
    """Drawn decisions as arrays; `n_actions` counts every action that was a candidate anywhere.

    Attributes:
        examples: The rows, `(n,)`.
        actions: Ids by column.
        action: Column of what was shown, `(n,)`.
        available: `(n, n_actions)`.
        context_weight, value: As logged, `(n, n_actions)`; 1 and 0 where not available.
    """

    examples: pd.DataFrame
    actions: tuple[str, ...]
    action: NDArray[np.int64]
    available: NDArray[np.bool_]
    context_weight: Floats
    value: Floats

    @property
    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of everything that could have been chosen."""
        rows, columns = np.nonzero(self.available)
        return rows.astype(np.int64), columns.astype(np.int64)

    def log(self, metric: str) -> Log:
        """As off-policy evaluation wants them, with `reward` or `success` as what was earned."""
        return Log(
            reward=self.examples[metric].to_numpy(dtype=np.float64),
            action=self.action,
            probability=self.examples["probability"].to_numpy(dtype=np.float64),
            customer=pd.factorize(self.examples["customer_id"])[0].astype(np.int64),
            available=self.available,
        )


def drawn_decisions(examples: pd.DataFrame, catalog: Catalog) -> Decisions:
    """What a policy drew for the first slot, among actions that the catalogue still has.

    Later slots were filled from what was left, so a policy that chooses otherwise in the first
    would have met other candidates there: they are no evidence on it.

    A candidate that it no longer has cannot be chosen by any target; a row that shows one is left out.
    """
    first = examples["drawn"].to_numpy(dtype=bool) & (examples["slot"] == 1)
    kept = examples[first & examples["action_id"].isin(catalog.actions)].reset_index(drop=True)
    met = {action_id for candidates in set(kept["candidates"]) for action_id in candidates}
    actions = tuple(action_id for action_id in catalog.actions if action_id in met)
    column = {action_id: place for place, action_id in enumerate(actions)}
    # Few sets of candidates, many rows: each set is laid out once.
    set_of_row, sets = pd.factorize(_together(kept["candidates"], kept["context_weights"], kept["values"]))
    layouts = np.zeros((len(sets), len(actions)), dtype=bool)
    weights, worths = np.ones(layouts.shape), np.zeros(layouts.shape)
    for place, logged in enumerate(sets):
        for action_id, context_weight, value in zip(*logged, strict=True):
            if action_id in column:
                layouts[place, column[action_id]] = True
                weights[place, column[action_id]] = context_weight
                worths[place, column[action_id]] = value
    shown = np.array([column[action_id] for action_id in kept["action_id"]], dtype=np.int64)
    return Decisions(kept, actions, shown, layouts[set_of_row], weights[set_of_row], worths[set_of_row])


def candidate_rows(features: Sequence[ModelFeature], decisions: Decisions, catalog: Catalog) -> NDArray[np.float32]:
    """Model input of every candidate of every decision, in the order of `Decisions.pairs`."""
    rows, columns = decisions.pairs
    return encode_pairs(features, decisions.examples, catalog, rows, decisions.actions, columns)


def priorities(
    scorer: GraphScorer,
    features: Sequence[ModelFeature],
    encoded: NDArray[np.float32],
    decisions: Decisions,
    catalog: Catalog,
) -> Floats:
    """What the service would rank by, `(n, n_actions)`; -inf where not available.

    Propensity x context weight x value x lever: the propensity from the graph that is served, with
    its `features`; weight and value as logged; the lever of today's catalogue. For actions that it
    ranks by uplift, what the model learnt of that, or the propensity above that of showing nothing.
    `encoded` is `candidate_rows`.
    """
    rows, columns = decisions.pairs
    scored = scorer.score(encoded)
    ranked_by = np.asarray(scored.propensity, dtype=np.float64)
    by_uplift = np.array([catalog.actions[name].rank_by == "uplift" for name in decisions.actions])[columns]
    if by_uplift.any():
        if scored.uplift is not None:
            over = scored.uplift[by_uplift]
        else:
            asked, place = np.unique(rows[by_uplift], return_inverse=True)
            nothing = np.zeros(len(asked), dtype=np.int64)
            alone = encode_pairs(features, decisions.examples, catalog, asked, [NO_ACTION], nothing)
            over = ranked_by[by_uplift] - scorer.score(alone).propensity[place]
        ranked_by = ranked_by.copy()
        ranked_by[by_uplift] = np.maximum(0.0, over)
    lever = np.array([catalog.actions[name].lever for name in decisions.actions])
    ranked = np.full(decisions.available.shape, -np.inf)
    pairs = rows, columns
    ranked[pairs] = ranked_by * decisions.context_weight[pairs] * decisions.value[pairs] * lever[columns]
    return ranked


def greedy(ranked: Floats) -> Floats:
    """All mass on the highest of each row; ties share."""
    best = ranked == ranked.max(axis=1, keepdims=True)
    return best / best.sum(axis=1, keepdims=True)


def uniform(decisions: Decisions) -> Floats:
    """The same for everything that could have been chosen."""
    return decisions.available / decisions.available.sum(axis=1, keepdims=True)


def always(decisions: Decisions, action_id: str, otherwise: Floats) -> Floats:
    """One action wherever it could have been chosen; `otherwise`, `(n, n_actions)`, elsewhere."""
    column = decisions.actions.index(action_id)
    target = otherwise.copy()
    could = decisions.available[:, column]
    target[could] = 0.0
    target[could, column] = 1.0
    return target


def constant_ranking(past: Decisions, metric: str) -> dict[str, list[str]]:
    """By placement, actions in the order of what they earned on average, the best first.

    Means weigh each row by one over its probability, so that what was shown only to the likely
    does not look better than it is, and start from the placement's mean.
    """
    log = past.log(metric)
    placements = past.examples["placement"].to_numpy()
    ranking = {}
    for placement in sorted(set(placements)):
        of = placements == placement
        weight = 1.0 / log.probability[of]
        typical = weight.mean()
        mean = float((weight * log.reward[of]).sum() / weight.sum())
        counts = np.bincount(log.action[of], weights=weight, minlength=len(past.actions))
        sums = np.bincount(log.action[of], weights=weight * log.reward[of], minlength=len(past.actions))
        means = (sums + PRIOR_ROWS * typical * mean) / (counts + PRIOR_ROWS * typical)
        ranking[placement] = [past.actions[place] for place in np.argsort(-means, kind="stable")]
    return ranking


def best_constant(decisions: Decisions, ranking: dict[str, list[str]]) -> Floats:
    """Whoever it is, the first of the placement's ranking that could have been chosen.

    With a placement or an action that the ranking does not know: any, uniformly.
    """
    rank = np.full(decisions.available.shape, -np.inf)
    placements = decisions.examples["placement"].to_numpy()
    for placement, order in ranking.items():
        of = placements == placement
        for place, action_id in enumerate(order):
            if action_id in decisions.actions:
                rank[of, decisions.actions.index(action_id)] = -place
    unknown = np.isneginf(rank) & decisions.available
    rank[unknown] = -float(len(decisions.actions)) - 1.0
    rank[~decisions.available] = -np.inf
    return greedy(rank)


def _together(*columns: pd.Series) -> pd.Series:
    return pd.Series(list(zip(*columns, strict=True)), dtype=object)
