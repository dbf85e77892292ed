"""The evaluation of a log as a run on the board `off-policy`."""

import msgspec
import numpy as np

from decisioning.evaluation import Estimate, Floats, Terms
from training.estimators import SHOWN
from training.figures import forest_figure, over_time_figure, weights_figure
from training.log_evaluation import Evaluated
from training.tracking import Tracking

BOARD = "off-policy"
PERIODS = 10
_OF_ROWS = ("dr", "dros", "switch_dr", "ips", "cascade_dr", "rips", "sips", "dm")  # means of rows, the best first


def log_evaluation(tracking: Tracking, evaluated: Evaluated) -> str:
    """Metrics, tables, the report as JSON, and figures: values, weights, and the value over time; its id."""
    report = evaluated.report
    said = "; ".join(f"{each.policy}: {each.says}" for each in report.verdicts)
    tags = {"log": report.log, "verdict": said, "warnings": "; ".join(report.warnings) or "none"}
    with tracking.run(f"evaluate {report.log}", board=BOARD, tags=tags) as run_id:
        metrics = {
            f"{_name(each.policy)}/{each.estimator}{'/over-' + _name(each.over) if each.over else ''}{suffix}": value
            for each in (*report.values, *report.differences)
            for suffix, value in (
                ("", each.estimate.value),
                ("/low", each.estimate.low),
                ("/high", each.estimate.high),
            )
        }
        tracking.log(run_id, parameters={"decisions": report.n_decisions, "actions": report.n_actions}, metrics=metrics)
        tracking.log_table(run_id, "evaluation/values", report.table())
        encoded = msgspec.json.format(msgspec.json.encode(report), indent=1).decode()
        tracking.log_text(run_id, "evaluation/report.json", encoded)
        estimates = [(f"{each.policy} {SHOWN.get(each.estimator, '')}", each.estimate) for each in report.values]
        title = f"reward a decision, {report.n_decisions:,} of {report.log}"
        tracking.log_figure(run_id, "figures/reward_by_policy.png", forest_figure(title, estimates))
        tracking.log_figure(run_id, "figures/weights.png", weights_figure(evaluated.weights))
        series = {
            policy: over_time(terms)
            for policy in evaluated.weights
            if (terms := _of_rows(evaluated, policy)) is not None
        }
        if series:
            tracking.log_figure(run_id, "figures/reward_over_time.png", over_time_figure(series))
    return run_id


def over_time(terms: Terms, *, periods: int = PERIODS) -> list[tuple[int, Estimate]]:
    """The value in parts of the log, each as many rows, by the number of its first; with normal intervals."""
    [ratio] = terms.ratios
    parts = np.array_split(np.arange(len(ratio.numerator)), max(1, min(periods, len(ratio.numerator) // 2)))
    return [(int(part[0]) + 1, _mean(ratio.numerator[part])) for part in parts]


def _mean(rows: Floats) -> Estimate:
    value, half = float(rows.mean()), 1.96 * float(rows.std(ddof=1) / np.sqrt(len(rows)))
    return Estimate(value, value - half, value + half, len(rows), float(len(rows)))


def _of_rows(evaluated: Evaluated, policy: str) -> Terms | None:
    found = (evaluated.terms.get((policy, name)) for name in _OF_ROWS)
    return next((terms for terms in found if terms is not None and len(terms.ratios) == 1), None)


def _name(policy: str) -> str:
    """As MLflow takes it in a metric's name."""
    return "".join(sign if sign.isalnum() or sign in "_-. /" else "-" for sign in policy)
