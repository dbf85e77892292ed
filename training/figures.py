"""Figures for MLflow's pages, drawn without a display and without pyplot's global state."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import lightgbm as lgb
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from decisioning.bundle import ModelFeature
from decisioning.evaluation import Estimate
from training.calibration import reliability
from training.uplift_quality import UpliftQuality

MOST_FEATURES = 25
MOST_PANELS = 4


def reliability_figure(propensities: NDArray[np.float64], success: NDArray[np.int64]) -> Figure:
    """Mean propensity against success rate, in ten bins of equal mass; see `calibration_figure`."""
    return calibration_figure(reliability(propensities, success), label="test slice")


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


def shift_figure(masses: Sequence[tuple[str, float, float]], estimates: Sequence[tuple[str, Estimate]]) -> Figure:
    """How often each action came first, before and after, and what was earned, the most changed on top."""
    shown = list(masses[:MOST_FEATURES])[::-1]
    figure, bars = _figure(8.5, 0.36 * len(shown) + 1.6 + (1.4 if estimates else 0.0))
    if estimates:
        figure.clear()
        bars, forest = figure.subplots(2, 1, height_ratios=[0.36 * len(shown) + 1.0, 1.4])
        for place, (label, estimate) in enumerate(reversed(estimates)):
            forest.errorbar(
                estimate.value, place, xerr=[[estimate.value - estimate.low], [estimate.high - estimate.value]],
                fmt="o", color="C0", capsize=3,
            )  # fmt: skip
            forest.annotate(label, (0, place), xycoords=("axes fraction", "data"), xytext=(-6, 0), ha="right",
                            va="center", textcoords="offset points")  # fmt: skip
        forest.axvline(0.0, color="0.8", linewidth=1, zorder=0)
        forest.set(xlabel="reward a decision, 95 % interval", yticks=[], ylim=(-0.7, len(estimates) - 0.3))
    places = np.arange(len(shown))
    bars.barh(places + 0.2, [before for _, before, _ in shown], height=0.4, color="0.7", label="logged")
    bars.barh(places - 0.2, [after for _, _, after in shown], height=0.4, color="C0", label="new catalogue")
    bars.set(xlabel="first slots, sum of probabilities", title="What if", yticks=places)
    bars.set_yticklabels([name for name, _, _ in shown])
    bars.legend(frameon=False)
    return figure


def qini_figure(found: Sequence[UpliftQuality]) -> Figure:
    """Successes gained as more customers get the action, the likeliest to be moved first; a panel an action."""
    shown = list(found)[:MOST_PANELS]
    figure, _ = _figure(4.6 * len(shown), 4.2)
    figure.clear()
    for axes, each in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        share, gain = each.curve.share, each.curve.gain
        axes.fill_between(share, each.low, each.high, color="C0", alpha=0.15, linewidth=0)
        axes.plot(share, gain, color="C0", label="by uplift")
        axes.plot([0.0, 1.0], [0.0, gain[-1]], color="0.7", linewidth=1, label="at random")
        qini = f"Qini {each.qini.value:.3f} [{each.qini.low:.3f}, {each.qini.high:.3f}]"
        axes.set(title=f"{each.action_id}\n{qini}", xlabel="share that gets it", ylabel="gained a customer")
        axes.legend(frameon=False)
    return figure


def weights_figure(weights: Mapping[str, NDArray[np.float64]]) -> Figure:
    """How often rows weigh how much, by policy: a long tail to the right is luck of a few rows."""
    figure, axes = _figure(6.5, 4.0)
    largest = max(float(each.max()) for each in weights.values())
    bins = [0.0, *np.geomspace(0.01, max(largest, 0.02) * 1.01, 40).tolist()]
    for policy, each in weights.items():
        axes.hist(each, bins=bins, histtype="step", label=f"{policy}, at most {each.max():.3g}")
    axes.set(xlabel="weight of a row", ylabel="rows", yscale="log", title="Weights")
    axes.set_xscale("symlog", linthresh=0.01)
    axes.legend(frameon=False, fontsize="small")
    return figure


def over_time_figure(series: Mapping[str, Sequence[tuple[int, Estimate]]]) -> Figure:
    """Values in parts of the log, by the number of each part's first row."""
    figure, axes = _figure(7.0, 4.0)
    for policy, parts in series.items():
        places, estimates = [place for place, _ in parts], [estimate for _, estimate in parts]
        [line] = axes.plot(places, [each.value for each in estimates], marker="o", markersize=3, label=policy)
        axes.fill_between(
            places, [e.low for e in estimates], [e.high for e in estimates], color=line.get_color(), alpha=0.15, lw=0
        )
    axes.set(xlabel="row of the log", ylabel="value a decision, 95 % interval", title="Over time")
    axes.legend(frameon=False, fontsize="small")
    return figure


def ratio_figure(title: str, ratios: Sequence[tuple[str, Estimate]], floor: float) -> Figure:
    """Ratios with their intervals on a logarithmic axis, with lines at 1, at the floor and at one over it."""
    figure, axes = _figure(7.5, 0.32 * len(ratios) + 1.4)
    for place, (label, ratio) in enumerate(reversed(ratios)):
        axes.plot([max(ratio.low, 0.01), max(ratio.high, 0.01)], [place, place], color="C0")
        axes.plot(max(ratio.value, 0.01), place, "o", color="C0")
        axes.annotate(label, (0, place), xycoords=("axes fraction", "data"), xytext=(-6, 0), ha="right", va="center",
                      textcoords="offset points")  # fmt: skip
    for at, style in ((1.0, "-"), (floor, ":"), (1.0 / floor, ":")):
        axes.axvline(at, color="0.7", linestyle=style, zorder=0)
    axes.set(title=title, xlabel="ratio", xscale="log", yticks=[], ylim=(-0.7, len(ratios) - 0.3))
    return figure


def drift_figure(drifts: Sequence[tuple[str, float, str]]) -> Figure:
    """The stability index of each feature, the furthest on top, with lines where it is moderate and major."""
    shown = sorted(drifts, key=lambda each: each[1])[-MOST_FEATURES:]
    figure, axes = _figure(7.0, 0.28 * len(shown) + 1.4)
    colours = {"major": "C3", "moderate": "C1"}
    axes.barh(
        [name for name, _, _ in shown], [psi for _, psi, _ in shown],
        color=[colours.get(level, "0.7") for _, _, level in shown],
    )  # fmt: skip
    for at in (0.1, 0.25):
        axes.axvline(at, color="0.5", linestyle=":")
    axes.set(title="Live against training; coloured where it is more than chance", xlabel="PSI")
    return figure


def calibration_figure(bins: ArrayLike, *, label: str = "live") -> Figure:
    """Mean propensity against success rate, with 95 % normal intervals; `bins` is `(n, 3)`: both, and how many."""
    score, rate, rows = np.array(bins, dtype=np.float64).T
    figure, axes = _figure(5.5, 5.0)
    top = 1.1 * max(score.max(), rate.max(), 1e-3)
    axes.plot([0, top], [0, top], color="0.7", linewidth=1, label="perfect")
    axes.errorbar(score, rate, yerr=1.96 * np.sqrt(rate * (1 - rate) / rows), fmt="o-", capsize=3, label=label)
    axes.set(xlabel="propensity", ylabel="success rate", title="Reliability", xlim=(0, top), ylim=(0, top))
    axes.legend()
    return figure


def trend_figure(title: str, label: str, lines: Sequence[tuple[str, Sequence[datetime], Sequence[float]]]) -> Figure:
    """Values over time, a line each."""
    figure, axes = _figure(8.0, 3.6)
    for name, at, values in lines:
        axes.plot(np.array([each.replace(tzinfo=None) for each in at], dtype="datetime64[s]"), values, "o-", label=name)
    axes.set(title=title, ylabel=label)
    axes.tick_params(axis="x", rotation=30)
    axes.legend(frameon=False)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()
