"""How an evaluation and a promotion look in a terminal."""

from collections.abc import Sequence

from decisioning.evaluation import Estimate
from nextmove.console import out, print_table
from training.estimators import SHOWN, earns_than
from training.evaluation_report import (
    BEST_CONSTANT,
    CHAMPION_POLICY,
    METRICS,
    SUCCESS,
    UNIFORM,
    Cautious,
    EvaluationReport,
    PolicyValue,
)
from training.log_evaluation import AS_LOGGED, LogEvaluation
from training.promotion import Promotion

# Those of a model that a terminal has room for; the report has all of them.
OF_MODELS = ("snips", "dr", "sndr", "dros")


def print_evaluation(report: EvaluationReport) -> None:
    """A table a metric: values of every policy, then the paired differences."""
    same = report.logged["success"] == report.logged["reward"]  # as where a success is worth 1
    for metric in METRICS[:1] if same else METRICS:
        title = (
            f"{metric.capitalize()} a decision of version {report.version}: {report.n_decisions:,} decisions of"
            f" {report.n_customers:,} customers after {report.since:%Y-%m-%d %H:%M}; logged {report.logged[metric]:.4f}"
        )
        found = [each for each in (*report.values, *report.differences) if each.metric == metric]
        cautious = report.cautious if metric == SUCCESS else ()
        _print_values(title, found, OF_MODELS, cautious)
    constants = ", ".join(f"{action} on {placement}" for placement, action in sorted(report.best_constant.items()))
    out.print(f"best constant, chosen on what came before: {constants or 'none'}")
    for line in report.left_out:
        out.print(line)
    for warning in report.warnings:
        out.print(f"caution: {warning}")
    for other, name in ((CHAMPION_POLICY, "the champion"), (BEST_CONSTANT, "the best constant"), (UNIFORM, "uniform")):
        difference = report.difference(other)
        if difference is not None:
            out.print(f"the model: {earns_than(difference, name)} by DR")


def print_log_evaluation(report: LogEvaluation) -> None:
    """A row a policy and estimator, the one to trust marked; then what it comes to for each policy."""
    title = (
        f"Reward a decision on {report.log}: {report.n_decisions:,} decisions of {report.n_customers:,} customers,"
        f" {report.n_actions:,} actions; logged {_interval(report.value(AS_LOGGED, 'mean'))}"
    )
    first = report.verdicts[0].policy
    over = {(each.policy, each.estimator, each.over): _interval(each.estimate) for each in report.differences}
    rows = []
    for verdict in report.verdicts:
        policy = verdict.policy
        for each in report.values:
            if each.policy == policy:
                name = SHOWN[each.estimator] + (" *" if each.estimator == verdict.estimator else "")
                key = policy, each.estimator
                rows.append(
                    (policy, name, _interval(each.estimate), over[*key, AS_LOGGED], over.get((*key, first), ""))
                )
        rows += [
            (policy, f"at any rate, {held.kind}", f"[{held.low:.3g}, {held.high:.3g}]", "", "")
            for held in report.cautious
            if held.policy == policy
        ]
    columns = ["policy", "estimator", "value [95 %]", "minus the log's own", f"minus {first}"]
    several = len(report.verdicts) > 1
    print_table(title, columns if several else columns[:-1], rows if several else [row[:-1] for row in rows])
    for warning in report.warnings:
        out.print(f"caution: {warning}")
    for verdict in report.verdicts:
        out.print(f"{verdict.policy}: {verdict.says}; {verdict.why}")


def _print_values(
    title: str, found: Sequence[PolicyValue], estimators: Sequence[str], cautious: Sequence[Cautious]
) -> None:
    held = {each.policy: f"[{each.low:.3g}, {each.high:.3g}]" for each in cautious if each.kind == "bernstein"}
    cells: dict[str, dict[str, str]] = {}
    for each in found:
        name = each.policy if each.over is None else f"{each.policy} - {each.over}"
        cells.setdefault(name, {})[each.estimator] = _interval(each.estimate)
    columns = ["policy", *(f"{SHOWN[name]} [95 %]" for name in estimators)]
    rows = [(name, *(by.get(estimator, "") for estimator in estimators)) for name, by in cells.items()]
    if held:
        columns.append("at any rate")
        rows = [(*row, held.get(row[0], "")) for row in rows]
    print_table(title, columns, rows)


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"


def print_verdict(promotion: Promotion) -> None:
    """What the gate found."""
    if promotion.verdict is not None:
        for line in (*promotion.verdict.against, *promotion.verdict.findings):
            out.print(f"  gate: {line}")
