"""The promotion gate: whether what an evaluation found is enough to serve a model.

A gate that is asked by hand errs as often as `ERROR` says, each time. One that is asked again and again
gets less room each time (`alpha_spending`), so that a month of it errs no more often.
"""

from typing import NamedTuple

import msgspec

from decisioning.evaluation import SMALL_SAMPLE
from decisioning.studentised_bounds import Advantage
from training.evaluation_report import BEST_CONSTANT, CHAMPION_POLICY, MODEL, UNIFORM, EvaluationReport

ERROR = 0.05  # of the challengers that are no better than the champion, at most so many pass
# What bounds are asked for is half of the error that they may cost: where few customers pay much, the truth is
# outside up to twice as often as a bound says (`nextmove bench gate`, "rare and large").
SAFETY = 2.0
FEWEST_DEGREES = 20.0
FEWEST_AGREEING = 20.0


class Comparison(NamedTuple):
    """The model's reward a decision over another policy's, and bounds of which each errs with the gate's alpha."""

    over: str
    value: float
    low: float
    high: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate found, at the error it was given; `against` is empty when the model passes."""

    against: tuple[str, ...]
    findings: tuple[str, ...]
    error: float = ERROR
    comparisons: tuple[Comparison, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether nothing speaks against the model."""
        return not self.against


def judge(
    report: EvaluationReport,
    *,
    error: float = ERROR,
    rolled_back: str | None = None,
    champion_damaged: bool = False,
    non_inferior: float | None = None,
) -> Verdict:
    """Whether what was found is enough; on reward, by DR, paired, one customer as one.

    With a champion, the lower bound of the difference must be above 0 against it, the best constant and
    uniform; with `non_inferior`, at least that much below 0. All three must hold, so the chance that a model
    passes which is no better than one of them is `error` at most, however many there are (Berger,
    *Multiparameter Hypothesis Testing and Acceptance Sampling*, Technometrics 1982). Without a champion,
    nothing is served, so nothing explores and nothing is learnt: the first model need only not be
    measurably worse than uniform, and the findings say whether there is evidence for more.
    """
    against, findings, comparisons = [], [], []
    if rolled_back is not None:
        against.append(f"it was rolled back: {rolled_back}")
    if champion_damaged:
        findings.append("the champion's bundle cannot be loaded, so nothing was compared with it")
    first = report.champion_version is None
    for other in (BEST_CONSTANT, UNIFORM) if first else (CHAMPION_POLICY, BEST_CONSTANT, UNIFORM):
        found, called = report.advantages[other], _called(other, report)
        low, high = found.bounds(error / SAFETY)
        comparisons.append(Comparison(called, found.value, low, high))
        sentence, clears = _sentence(called, found, low, high, non_inferior)
        few = _too_few(called, found)
        if first:
            refused = other == UNIFORM and high < 0.0
            (against if refused else findings).append(sentence)
        elif clears and few is not None:
            against.append(few)
        else:
            (findings if clears else against).append(sentence)
    effective = next(v.estimate.effective_sample_size for v in report.values if v.policy == MODEL)
    if effective < SMALL_SAMPLE:
        (findings if first else against).append(
            f"its choices agree with only {effective:.0f} logged ones (effective sample size): too few to tell"
        )
    return Verdict(
        against=tuple(against),
        findings=(*findings, *report.left_out),
        error=error,
        comparisons=tuple(comparisons),
    )


def judge_unseen(*, rolled_back: str | None) -> Verdict:
    """Of a first model whose decisions say no probability: nothing can be compared, and nothing explores without it."""
    finding = "nothing could be compared: no decision says with which probability its action was chosen"
    if rolled_back is not None:
        return Verdict(against=(f"it was rolled back: {rolled_back}",), findings=(finding,))
    return Verdict(against=(), findings=(finding + "; it is the first model, and what it decides will say so",))


def _sentence(called: str, found: Advantage, low: float, high: float, margin: float | None) -> tuple[str, bool]:
    """What was found, in words, and whether it is enough."""
    numbers = f"{found.value:+.4f} [{low:+.4f}, {high:+.4f}]"
    if low > 0.0:
        return f"better than {called}: {numbers}", True
    if margin is not None and low >= -margin:
        return f"at most {margin:g} worse than {called}: {numbers}", True
    if high < 0.0:
        return f"measurably worse than {called}: {numbers}", False
    if margin is not None:
        return f"no evidence that it is at most {margin:g} worse than {called}: {numbers}", False
    return f"no evidence that it beats {called}: {numbers}", False


def _too_few(called: str, found: Advantage) -> str | None:
    """Why bounds are not to be trusted at all: there is a reward model's belief alone, or a few customers' rewards."""
    if found.error == 0.0:
        return None
    if found.agreeing < FEWEST_AGREEING:
        return (
            f"too few to tell whether it beats {called}: where the two differ, only {found.agreeing:.0f} logged choices"
            f" agree with one of them, must be at least {FEWEST_AGREEING:.0f}"
        )
    if found.freedom >= FEWEST_DEGREES:
        return None
    return (
        f"too few to tell whether it beats {called}: the difference of {found.value:+.4f} rests on about"
        f" {max(1.0, found.freedom / 2.0):.0f} customers, must be at least {FEWEST_DEGREES / 2.0:.0f}"
    )


def _called(other: str, report: EvaluationReport) -> str:
    if other == CHAMPION_POLICY:
        return f"the champion (version {report.champion_version})"
    if other == UNIFORM:
        return "uniform"
    constants = sorted(set(report.best_constant.values()))
    if len(constants) == 1:
        return f"always-{constants[0]}"
    return f"the best constant of each placement ({', '.join(constants) or 'unknown'})"
