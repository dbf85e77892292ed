"""What is kept of an attempt at the gate: the two models, what was found, and what the gate said."""

from datetime import datetime

from decisioning.bundle import Bundle
from storage.ledger.gate_attempts import GateAttempt
from training.evaluation_report import BEST_CONSTANT, CHAMPION_POLICY, MODEL, UNIFORM, EvaluationReport
from training.gate import Verdict
from training.tracking import RegisteredModel


def attempt_of(
    model: RegisteredModel,
    bundle: Bundle,
    champion: Bundle | None,
    report: EvaluationReport | None,
    verdict: Verdict,
    *,
    domain: str,
    force: str | None,
    now: datetime,
    scheduled: bool,
) -> GateAttempt:
    """The attempt, to be kept; `force` counts only where the gate refused.

    A champion is one that could be loaded; where there is none, the gate cannot let a worse one in, so
    nothing of its error is spent.
    """
    judged = (MODEL, CHAMPION_POLICY, BEST_CONSTANT, UNIFORM)
    values = report.values if report is not None else ()
    outcome = "passed" if verdict.passes else "refused" if force is None else "forced"
    return GateAttempt(
        domain=domain,
        at=now,
        scheduled=scheduled,
        alpha=verdict.error if champion is not None else 0.0,
        outcome=outcome,
        run_id=model.run_id,
        version=model.version,
        bundle_sha256=bundle.sha256,
        champion_version=champion.manifest.version if champion else None,
        champion_sha256=champion.sha256 if champion else None,
        since=report.since if report else None,
        n_decisions=report.n_decisions if report else 0,
        n_customers=report.n_customers if report else 0,
        against=verdict.against,
        findings=verdict.findings,
        comparisons=tuple((each.over, each.value, each.low, each.high) for each in verdict.comparisons),
        values=tuple(
            (each.policy, each.estimate.value, each.estimate.low, each.estimate.high)
            for each in values
            if (each.metric, each.estimator) == ("reward", "dr") and each.policy in judged
        ),
        forced=force if outcome == "forced" else None,
    )
