"""Figures for MLflow's pages, drawn without a display and without pyplot's global state."""

from collections.abc import Sequence

import lightgbm as lgb
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from decisioning.bundle import ModelFeature
from decisioning.evaluation import Estimate
from training.calibration import reliability

MOST_FEATURES = 25


def reliability_figure(propensities: NDArray[np.float64], success: NDArray[np.int64]) -> Figure:
    """Mean propensity against success rate, in ten bins of equal mass, with 95 % normal intervals."""
    score, rate, rows = reliability(propensities, success).T
    figure, axes = _figure(5.5, 5.0)
    top = 1.1 * max(score.max(), rate.max(), 1e-3)
    axes.plot([0, top], [0, top], color="0.7", linewidth=1, label="perfect")
    axes.errorbar(score, rate, yerr=1.96 * np.sqrt(rate * (1 - rate) / rows), fmt="o-", capsize=3, label="test slice")
    axes.set(xlabel="propensity", ylabel="success rate", title="Reliability", xlim=(0, top), ylim=(0, top))
    axes.legend()
    return figure


def importance_figure(booster: lgb.Booster, features: Sequence[ModelFeature]) -> Figure:
    """How much of the loss each feature took away, the most important first."""
    gain = booster.feature_importance("gain")
    order = np.argsort(gain)[::-1][:MOST_FEATURES][::-1]
    figure, axes = _figure(6.5, 0.26 * len(order) + 1.2)
    axes.barh(
        [f"{features[place].name} ({features[place].source})" for place in order], gain[order] / max(gain.sum(), 1)
    )
    axes.set(xlabel="share of gain", title="Importance")
    return figure


def forest_figure(title: str, estimates: Sequence[tuple[str, Estimate]]) -> Figure:
    """Values with their intervals, one line each, from top to bottom."""
    figure, axes = _figure(7.5, 0.32 * len(estimates) + 1.2)
    for place, (label, estimate) in enumerate(reversed(estimates)):
        axes.plot([estimate.low, estimate.high], [place, place], color="C0")
        axes.plot(estimate.value, place, "o", color="C0")
        axes.annotate(label, (0, place), xycoords=("axes fraction", "data"), xytext=(-6, 0), ha="right", va="center",
                      textcoords="offset points")  # fmt: skip
    axes.set(title=title, xlabel="value a decision, 95 % interval", yticks=[], ylim=(-0.7, len(estimates) - 0.3))
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()
