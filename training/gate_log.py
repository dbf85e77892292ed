"""Attempts at the gate in MLflow: a run each on the board `gate`, and notes on the model that it was about."""

from collections.abc import Sequence

from decisioning.evaluation import Estimate
from storage.ledger.gate_attempts import GateAttempt, Named
from training.figures import forest_figure
from training.tracking import Tracking

BOARD = "gate"
KEY_TAG = "attempt"


def log_attempt(tracking: Tracking, attempt: GateAttempt) -> None:
    """Log it, once: values and bounds, the comparisons, a forest plot, and the verdict in words.

    The model's version and its own run are told last, so that an attempt which was cut short is logged again.
    """
    if tracking.find_run(BOARD, KEY_TAG, attempt.key) is None:
        tags = {"domain": attempt.domain, "outcome": attempt.outcome, "model_run": attempt.run_id}
        with tracking.run(f"{attempt.domain} version {attempt.version}", board=BOARD, tags=tags) as run_id:
            tracking.log(
                run_id,
                parameters={
                    "version": attempt.version,
                    "champion_version": attempt.champion_version,
                    "scheduled": attempt.scheduled,
                    "since": attempt.since,
                    "decisions": attempt.n_decisions,
                    "customers": attempt.n_customers,
                },
                metrics={"alpha": attempt.alpha, **_metrics("value", attempt.values)}
                | _metrics("over", attempt.comparisons),
            )
            tracking.log_text(run_id, "verdict.md", verdict_text(attempt))
            for name, title, rows in (
                ("comparisons", "reward a decision over others', at the gate's error", attempt.comparisons),
                ("values", "reward a decision", attempt.values),
            ):
                if rows:
                    tracking.log_figure(run_id, f"figures/{name}.png", forest_figure(title, _estimates(rows)))
            tracking.log(run_id, tags={KEY_TAG: attempt.key})
    notes = {
        "gate": attempt.outcome,
        "gate_at": attempt.at.isoformat(),
        "gate_reasons": "; ".join(attempt.against)[:5000],
        "gate_forced_because": attempt.forced or "",
    }
    tracking.log_text(attempt.run_id, f"gate/{attempt.at:%Y-%m-%dT%H%M%S%f}.md", verdict_text(attempt))
    tracking.log(attempt.run_id, tags=notes)
    tracking.tag_version(attempt.domain, attempt.version, notes)


def verdict_text(attempt: GateAttempt) -> str:
    """The verdict in words, as markdown."""
    asked = "by its schedule" if attempt.scheduled else "by hand"
    lines = [
        f"# Gate: {attempt.outcome}, {attempt.at.isoformat()}",
        f"Asked {asked}, with an error of at most {attempt.alpha:.3g}.",
        *(f"- against: {line}" for line in attempt.against),
        *(f"- {line}" for line in attempt.findings),
    ]
    if attempt.forced is not None:
        lines.append(f"- overruled: {attempt.forced}")
    return "\n".join(lines) + "\n"


def _metrics(what: str, rows: Sequence[Named]) -> dict[str, float]:
    return {
        f"{what}/{_metric_name(name)}{suffix}": number
        for name, value, low, high in rows
        for suffix, number in (("", value), ("/low", low), ("/high", high))
    }


def _metric_name(name: str) -> str:
    """A name without what MLflow's names of metrics may not have."""
    kept = "".join(letter if letter.isalnum() or letter in "_-. " else " " for letter in name.split(" (")[0])
    return kept.strip().replace(" ", "_")


def _estimates(rows: Sequence[Named]) -> list[tuple[str, Estimate]]:
    return [(name, Estimate(value, low, high, 0, 0.0)) for name, value, low, high in rows]
