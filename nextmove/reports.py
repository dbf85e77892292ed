"""How an evaluation and a promotion look in a terminal."""

from nextmove.console import out, print_table
from training.evaluation_report import ESTIMATORS, METRICS, EvaluationReport
from training.promotion import Promotion


def print_evaluation(report: EvaluationReport) -> None:
    """A table a metric: values of every policy, then the paired differences."""
    same = report.logged["success"] == report.logged["reward"]  # as where a success is worth 1
    for metric in METRICS[:1] if same else METRICS:
        title = (
            f"{metric.capitalize()} a decision of version {report.version}: {report.n_decisions:,} decisions of"
            f" {report.n_customers:,} customers after {report.since:%Y-%m-%d %H:%M}; logged {report.logged[metric]:.4f}"
        )
        columns = ("policy", *(f"{name.upper()} [95 %]" for name in ESTIMATORS))
        print_table(title, columns, _rows(report, metric))
    constants = ", ".join(f"{action} on {placement}" for placement, action in sorted(report.best_constant.items()))
    out.print(f"best constant, chosen on what came before: {constants or 'none'}")
    for line in report.left_out:
        out.print(line)
    for warning in report.warnings:
        out.print(f"caution: {warning}")


def _rows(report: EvaluationReport, metric: str) -> list[tuple[str, ...]]:
    cells: dict[str, dict[str, str]] = {}
    for found in (*report.values, *report.differences):
        if found.metric == metric:
            estimate = found.estimate
            name = found.policy if found.over is None else f"{found.policy} - {found.over}"
            text = f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
            cells.setdefault(name, {})[found.estimator] = text
    return [(name, *(by.get(estimator, "") for estimator in ESTIMATORS)) for name, by in cells.items()]


def print_verdict(promotion: Promotion) -> None:
    """What the gate found."""
    if promotion.verdict is not None:
        for line in (*promotion.verdict.against, *promotion.verdict.findings):
            out.print(f"  gate: {line}")
