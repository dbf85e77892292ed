"""What a linear model's run shows of it in MLflow: what it believes, how it learnt, what that was worth.

**Progressive validation.** The log is cut by time. On each part decides what had been learnt before it,
by Thompson sampling over the model's own doubt; what that would have earned is estimated doubly
robustly, with the model's own expectation, which has not seen the part. So every row is judged once, by a
model that it has not taught (Blum, Kalai & Langford, *Beating the Hold-Out*, COLT 1999). Regret is
what the best constant action of each placement, chosen in hindsight from the whole log, would have
earned more.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import expit

from decisioning.bundle import Scored
from decisioning.catalog import Catalog
from decisioning.evaluation import Bootstrap, Estimate, doubly_robust
from decisioning.thompson import chances_of_largest
from training.calibration import FLOOR
from training.linear_model import BLOCK, LinearModel, Regression, calibrated
from training.model_quality import quality
from training.target_policies import (
    Decisions,
    best_constant,
    candidate_rows,
    constant_ranking,
    drawn_decisions,
    uniform,
)
from training.tracking import Tracking

Floats = NDArray[np.float64]
CURVE = (0.125, 0.25, 0.5)  # shares of the rows that were learnt from, before all of them
PARTS = 5
MOST_DECISIONS = 2_000  # a part, drawn from it: each costs a tenth of a millisecond
FEWEST_DECISIONS = 200


class Progressive(NamedTuple):
    """What would have been earned a decision while it learnt.

    Attributes:
        parts: A row a part: rows learnt from, decisions judged, and each policy's value.
        thompson, constant, uniform: Over all parts.
        regret: `constant` minus `thompson`, paired.
    """

    parts: pd.DataFrame
    thompson: Estimate
    constant: Estimate
    uniform: Estimate
    regret: Estimate


def log_linear(
    tracking: Tracking,
    run_id: str,
    model: LinearModel,
    rows: NDArray[np.float32],
    examples: pd.DataFrame,
    everything: pd.DataFrame,
    catalog: Catalog,
    *,
    seed: int,
) -> None:
    """Log tables, metrics and figures. `rows` are those of `examples`, `everything` has what was not met, too."""
    success = examples["success"].to_numpy(dtype=np.int64)
    believed = snapshot(model, rows)
    tracking.log_table(run_id, "posterior", believed)
    tracking.log_figure(run_id, "figures/posterior.png", posterior_figure(believed))
    curve = learning_curve(model, rows, success, seed=seed)
    for learnt_from, found in curve:
        tracking.log(run_id, metrics={f"curve/{name}": value for name, value in found.items()}, step=learnt_from)
    tracking.log_figure(run_id, "figures/learning_curve.png", curve_figure(curve))
    progress = progressive(model, rows, examples, everything, catalog, seed=seed)
    if progress is None:
        return
    for part in progress.parts.to_dict("records"):
        step = int(part["learnt_from"])
        tracking.log(run_id, metrics={f"progressive/{n}": part[n] for n in ("thompson", "constant")}, step=step)
    totals = {
        "thompson": progress.thompson, "constant": progress.constant, "uniform": progress.uniform,
        "regret": progress.regret,
    }  # fmt: skip
    tracking.log(
        run_id,
        metrics={
            f"value/{name}{suffix}": value
            for name, each in totals.items()
            for suffix, value in (("", each.value), ("/low", each.low), ("/high", each.high))
        },
    )
    tracking.log_table(run_id, "progressive", progress.parts)
    tracking.log_figure(run_id, "figures/progressive.png", progress_figure(progress))


def snapshot(model: LinearModel, rows: NDArray[np.float32]) -> pd.DataFrame:
    """What it believes of each action for the average customer: rows, log-odds with sd, propensity; the best first."""
    average = model.columns.of(rows[model.split.train][-BLOCK:]).mean(axis=0)
    furthest = -np.log(FLOOR)
    moved = np.clip(model.base + model.weights.mean @ average, -furthest, furthest)
    log_odds = model.calibration.slope * moved + model.calibration.intercept
    sd = model.sd_factor * np.sqrt(np.square(average @ model.weights.factor).sum(axis=-1))
    table = pd.DataFrame(
        {
            "action_id": model.actions,
            "rows": model.seen,
            "log_odds": log_odds,
            "sd": sd,
            "propensity": expit(log_odds),
            "low": expit(log_odds - 1.96 * sd),
            "high": expit(log_odds + 1.96 * sd),
        }
    )
    return table.sort_values("log_odds", ascending=False, kind="stable", ignore_index=True)


def learning_curve(
    model: LinearModel, rows: NDArray[np.float32], success: NDArray[np.int64], *, seed: int
) -> list[tuple[int, dict[str, float]]]:
    """Quality on the test slice by how many rows, the newest, were learnt from; those of the model last."""
    end, test = model.split.valid.stop, model.split.test
    regression = Regression.of(model.features, rows[model.split.train], rate=float(expit(model.base)))
    base_rate = float(success[model.split.train].mean())
    curve = []
    learnt_until = end
    for share in CURVE:
        start = end - round(share * end)
        regression.learn(rows[start:learnt_until], success[start:learnt_until])
        learnt_until = start
        smaller = calibrated(regression, model.features, rows, success, model.split, seed=seed)
        curve.append((end - start, quality(smaller.propensities(rows[test]), success[test], base_rate=base_rate)))
    curve.append((end, quality(model.propensities(rows[test]), success[test], base_rate=base_rate)))
    return curve


def progressive(
    model: LinearModel,
    rows: NDArray[np.float32],
    examples: pd.DataFrame,
    everything: pd.DataFrame,
    catalog: Catalog,
    *,
    seed: int,
) -> Progressive | None:
    """What Thompson sampling over this model would have earned while it learnt; None with too few drawn decisions.

    Columns, and the calibration, are the model's: they choose scales, not actions.
    """
    rng = np.random.default_rng(seed)
    parts = list(_parts(model, rows, examples, everything, catalog, rng=rng))
    if sum(len(part.decisions.examples) for part in parts) < FEWEST_DECISIONS:
        return None
    judged = drawn_decisions(pd.concat([part.decisions.examples for part in parts], ignore_index=True), catalog)
    ranking = constant_ranking(drawn_decisions(everything, catalog), "reward")
    log = judged.log("reward")
    thompson = _joined(judged, [(part.decisions, part.thompson) for part in parts])
    expected = _joined(judged, [(part.decisions, part.expected) for part in parts])
    targets = {"thompson": thompson, "constant": best_constant(judged, ranking), "uniform": uniform(judged)}
    terms = {name: doubly_robust(log, target, expected) for name, target in targets.items()}
    bootstrap = Bootstrap(terms, log.customer, rng=rng)
    table, start = [], 0
    for part in parts:
        of = slice(start, start + len(part.decisions.examples))
        start = of.stop
        earned = {name: float(each.ratios[0].numerator[of].mean()) for name, each in terms.items()}
        table.append({"learnt_from": part.learnt_from, "decisions": of.stop - of.start, **earned})
    return Progressive(
        parts=pd.DataFrame(table),
        thompson=bootstrap.estimate("thompson"),
        constant=bootstrap.estimate("constant"),
        uniform=bootstrap.estimate("uniform"),
        regret=bootstrap.difference("constant", "thompson"),
    )


class _Part(NamedTuple):
    """Decisions that what was learnt before them made: `(n, n_actions of the part)` each."""

    decisions: Decisions
    thompson: Floats
    expected: Floats
    learnt_from: int


def _parts(
    model: LinearModel,
    rows: NDArray[np.float32],
    examples: pd.DataFrame,
    everything: pd.DataFrame,
    catalog: Catalog,
    *,
    rng: np.random.Generator,
) -> Iterator[_Part]:
    """The parts of the log but for the first, which is only learnt from."""
    success = examples["success"].to_numpy(dtype=np.int64)
    regression = Regression.of(model.features, rows[model.split.train], rate=float(expit(model.base)))
    cuts = [round(share * len(examples)) for share in np.linspace(0.0, 1.0, PARTS + 1)]
    for start, stop, end in zip(cuts, cuts[1:], cuts[2:], strict=False):
        regression.learn(rows[start:stop], success[start:stop])
        since = examples["decided_at"].iloc[stop]
        until = examples["decided_at"].iloc[end] if end < len(examples) else everything["decided_at"].iloc[-1]
        later = (everything["decided_at"] >= since) & (everything["decided_at"] < until)
        decisions = drawn_decisions(_some(everything[later], rng), catalog)
        if len(decisions.examples):
            learnt = model.with_weights(regression.weights())
            chances, expected = _decided(learnt, decisions, catalog)
            yield _Part(decisions, chances, expected, stop)


def _some(examples: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """At most so many, in the order of time."""
    if len(examples) <= MOST_DECISIONS:
        return examples
    return examples.iloc[np.sort(rng.choice(len(examples), MOST_DECISIONS, replace=False))]


def _decided(model: LinearModel, decisions: Decisions, catalog: Catalog) -> tuple[Floats, Floats]:
    """Chances by Thompson sampling, and what each action is expected to earn, `(n, n_actions)` both."""
    rows, columns = decisions.pairs
    scored: Scored = model.scored(candidate_rows(model.features, decisions, catalog))
    lever = np.array([catalog.actions[name].lever for name in decisions.actions])[columns]
    value = decisions.value[rows, columns]
    worth = decisions.context_weight[rows, columns] * value * lever
    assert scored.sd is not None
    propensity = np.asarray(scored.propensity)
    ranked, doubt, expected = (np.zeros(decisions.available.shape) for _ in range(3))
    ranked[rows, columns] = propensity * worth
    doubt[rows, columns] = np.abs(worth) * propensity * (1.0 - propensity) * scored.sd
    expected[rows, columns] = propensity * value
    chances = np.zeros(decisions.available.shape)
    for row, available in enumerate(decisions.available):
        chances[row, available] = chances_of_largest(ranked[row, available], doubt[row, available])
    return chances, expected


def _joined(judged: Decisions, parts: list[tuple[Decisions, Floats]]) -> Floats:
    """The parts' arrays in the columns of all, `(n, n_actions)`."""
    joined = np.zeros(judged.available.shape)
    start = 0
    for decisions, values in parts:
        columns = [judged.actions.index(name) for name in decisions.actions]
        joined[start : start + len(values), columns] = values
        start += len(values)
    return joined


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def posterior_figure(believed: pd.DataFrame) -> Figure:
    """What is believed of each action for the average customer, with 95 % intervals."""
    shown = believed.head(40).iloc[::-1]
    figure, axes = _axes(6.5, 0.22 * len(shown) + 1.2)
    axes.hlines(range(len(shown)), shown["low"], shown["high"], color="C0")
    axes.plot(shown["propensity"], range(len(shown)), "o", color="C0")
    axes.set_yticks(range(len(shown)), [f"{each.action_id} ({each.rows:,})" for each in shown.itertuples()])
    axes.set(title="Believed of the average customer", xlabel="propensity, 95 % interval; rows met in brackets")
    return figure


def curve_figure(curve: list[tuple[int, dict[str, float]]]) -> Figure:
    """Log loss on the test slice against rows learnt from."""
    figure, axes = _axes(5.5, 4.0)
    axes.plot([n for n, _ in curve], [found["log_loss"] for _, found in curve], "o-")
    axes.axhline(curve[-1][1]["base_rate_log_loss"], color="0.7", label="base rate")
    axes.set(title="Learning curve", xlabel="rows learnt from", ylabel="log loss on the test slice", xscale="log")
    axes.legend(frameon=False)
    return figure


def progress_figure(progress: Progressive) -> Figure:
    """Value a decision by how much had been learnt."""
    figure, axes = _axes(5.5, 4.0)
    for name, label in (
        ("thompson", "Thompson sampling"),
        ("constant", "best constant, in hindsight"),
        ("uniform", "uniform"),
    ):
        axes.plot(progress.parts["learnt_from"], progress.parts[name], "o-", label=label)
    axes.set(title="While it learnt", xlabel="rows learnt from", ylabel="value a decision, doubly robust")
    axes.legend(frameon=False)
    return figure
