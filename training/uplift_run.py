"""What a training does about uplift: a model where one is wanted and can be learnt, and its quality in MLflow."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from decisioning.catalog import Catalog
from decisioning.errors import DataError
from training.example_sources import Progress
from training.figures import qini_figure
from training.linear_model import LinearModel
from training.propensity import PropensityModel
from training.tracking import Tracking
from training.uplift import UpliftModel, fit_uplift, ranks_by_uplift
from training.uplift_quality import UpliftQuality, quality_estimates, quality_table

NOT_WANTED = "no live action ranks by uplift"
NOT_LINEAR = "not learnt beside a linear model, so it is the propensity above that of showing nothing"


class LearntUplift(NamedTuple):
    """The model, or None, and in words why."""

    model: UpliftModel | None
    said: str


def learn_uplift(
    draws: pd.DataFrame, propensity: PropensityModel | LinearModel, catalog: Catalog, *, seed: int, progress: Progress
) -> LearntUplift:
    """A model of uplift beside this one, if a live action ranks by it and the log has what it takes.

    `draws` has every row, met or not; those later than the propensity model's slices are left to test on.
    """
    learnt = LearntUplift(None, NOT_WANTED)
    if any(ranks_by_uplift(catalog, name) for name in catalog.actions):
        learnt = (
            LearntUplift(None, NOT_LINEAR)
            if isinstance(propensity, LinearModel)
            else _learn(draws, propensity, catalog, seed=seed)
        )
    progress(f"uplift: {learnt.said}")
    return learnt


def _learn(draws: pd.DataFrame, propensity: PropensityModel, catalog: Catalog, *, seed: int) -> LearntUplift:
    earlier = (draws["decided_at"] <= pd.Timestamp(propensity.split.trained_until)).to_numpy()
    try:
        model = fit_uplift(draws[earlier], propensity.features, catalog, seed=seed)
    except DataError as error:
        return LearntUplift(None, f"not learnt, so it is the propensity above that of showing nothing: {error.message}")
    of = model.learnt_from
    said = f"learnt from {of['treated']:,.0f} draws of an action and {of['controls']:,.0f} of nothing"
    if of["capped"]:
        said += f"; {of['capped']:.1%} of them, rarer than 1 in 100, count as if they were not"
    return LearntUplift(model, said)


def uplift_metrics(found: Sequence[UpliftQuality]) -> dict[str, float]:
    """Of all actions together: `uplift_qini`, `uplift_effect`, `uplift_at_10` and so on."""
    return {f"uplift_{name}": each.value for name, each in quality_estimates(found[0]).items()} if found else {}


def log_uplift(tracking: Tracking, run_id: str, learnt: LearntUplift, found: Sequence[UpliftQuality]) -> None:
    """What was done, and of a model: its trees, its effects by action, tables and the Qini curves."""
    tracking.log(run_id, tags={"uplift": learnt.said})
    if learnt.model is None:
        return
    model = learnt.model
    tracking.log(
        run_id,
        parameters={f"uplift_{name}": value for name, value in model.parameters.items()},
        metrics={f"uplift_{name}": value for name, value in model.learnt_from.items()},
    )
    tracking.log_text(run_id, "uplift/booster.txt", model.booster.model_to_string())
    tracking.log_table(run_id, "uplift/effects", model.effects)
    if found:
        bounds = {
            f"test_uplift_{name}_{end}": getattr(each, end)
            for name, each in quality_estimates(found[0]).items()
            for end in ("low", "high")
        }
        tracking.log(run_id, metrics={name: value for name, value in bounds.items() if np.isfinite(value)})
        tracking.log_table(run_id, "uplift/quality", quality_table(found))
        tracking.log_figure(run_id, "figures/qini.png", qini_figure(found))
