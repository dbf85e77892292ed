"""The promotion gate: whether what an evaluation found is enough to serve a model."""

import msgspec

from decisioning.evaluation import SMALL_SAMPLE, Estimate
from training.evaluation_report import BEST_CONSTANT, CHAMPION_POLICY, MODEL, UNIFORM, EvaluationReport


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate found; `against` is empty when the model passes."""

    against: tuple[str, ...]
    findings: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """Whether nothing speaks against the model."""
        return not self.against


def judge(
    report: EvaluationReport,
    *,
    rolled_back: str | None = None,
    champion_damaged: bool = False,
    non_inferior: float | None = None,
) -> Verdict:
    """Whether what was found is enough; on reward, by DR.

    With a champion, the lower bound of the paired difference must be above 0 against it, the best
    constant and uniform; with `non_inferior`, at least that much below 0. Without one, nothing is
    served, so nothing explores and nothing is learnt: the first model need only not be measurably
    worse than uniform, and the findings say whether there is evidence for more.
    """
    against, findings = [], []
    if rolled_back is not None:
        against.append(f"it was rolled back: {rolled_back}")
    if champion_damaged:
        findings.append("the champion's bundle cannot be loaded, so nothing was compared with it")
    first = report.champion_version is None
    floor = 0.0 if non_inferior is None else -non_inferior
    for other in (CHAMPION_POLICY, BEST_CONSTANT, UNIFORM):
        difference = report.difference(other)
        if difference is None:
            continue
        sentence = f"reward over {_called(other, report)}: {_interval(difference)}"
        if first:
            refused = other == UNIFORM and difference.high < 0.0
            (against if refused else findings).append(f"{sentence}: {_evidence(difference)}")
        elif difference.low > 0.0 or (non_inferior is not None and difference.low >= floor):
            findings.append(f"{sentence}: clears {floor:g}")
        else:
            against.append(f"{sentence}: its lower bound does not clear {floor:g}")
    effective = next(v.estimate.effective_sample_size for v in report.values if v.policy == MODEL)
    if effective < SMALL_SAMPLE:
        (findings if first else against).append(
            f"its choices agree with only {effective:.0f} logged ones (effective sample size): too few to tell"
        )
    return Verdict(against=tuple(against), findings=(*findings, *report.left_out))


def judge_unseen(*, rolled_back: str | None) -> Verdict:
    """Of a first model whose decisions say no probability: nothing can be compared, and nothing explores without it."""
    finding = "nothing could be compared: no decision says with which probability its action was chosen"
    if rolled_back is not None:
        return Verdict(against=(f"it was rolled back: {rolled_back}",), findings=(finding,))
    return Verdict(against=(), findings=(finding + "; it is the first model, and what it decides will say so",))


def _called(other: str, report: EvaluationReport) -> str:
    if other == CHAMPION_POLICY:
        return f"the champion (version {report.champion_version})"
    if other == BEST_CONSTANT:
        return f"the best constant ({', '.join(sorted(set(report.best_constant.values()))) or 'unknown'})"
    return "uniform"


def _interval(difference: Estimate) -> str:
    return f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def _evidence(difference: Estimate) -> str:
    if difference.low > 0.0:
        return "measurably better"
    return "measurably worse" if difference.high < 0.0 else "no evidence of a difference"
