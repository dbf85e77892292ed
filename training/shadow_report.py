"""What a challenger in the shadow would have done with live decisions, and what that would have earned."""

from collections.abc import Iterable
from datetime import datetime

import msgspec
import numpy as np

from decisioning.errors import DataError
from decisioning.evaluation import (
    Bootstrap,
    Estimate,
    doubly_robust,
    inverse_propensity,
    mean_of,
    overlap_warnings,
    self_normalised,
)
from decisioning.record import DecisionRecord, Shadow
from training.closed_decisions import Closed
from training.figures import forest_figure
from training.first_slots import FirstSlots, first_slots, policy_of
from training.tracking import Tracking

BOARD = "shadow"
DECIDED = "decided"  # what the decisions earned as they were made
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LEVEL_SHARE = 1e-12  # chances that differ by less are level


class ShadowValue(msgspec.Struct, frozen=True):
    """What the challenger would have earned a decision, and how much more than was earned, paired."""

    estimator: str
    value: Estimate
    difference: Estimate


class ShadowReport(msgspec.Struct, frozen=True, kw_only=True):
    """A challenger beside what was served.

    Attributes:
        decisions: That both scored.
        agreement: Share in which both have the same first choice; where several are level, that much of it.
        overlap: How much of the two policies' probabilities is on the same actions, on average.
        score_differences: The challenger's propensity minus the one that was served, over all candidates: by
            quantile.
        mean_absolute_difference: Of the same.
        closed: Decisions that were drawn and whose attribution window has closed: what the values rest on.
        earned: What those earned a decision; None where there is none.
        values: By estimator. Empty without `earned`.
    """

    domain: str
    version: str
    bundle_sha256: str
    served_versions: tuple[str, ...]
    since: datetime
    until: datetime
    decisions: int
    agreement: float
    overlap: float
    score_differences: dict[str, float]
    mean_absolute_difference: float
    closed: int
    earned: Estimate | None
    values: tuple[ShadowValue, ...]
    warnings: tuple[str, ...]


def shadow_report(
    records: Iterable[DecisionRecord],
    closed: Iterable[Closed],
    *,
    domain: str,
    bundle_sha256: str,
    since: datetime,
    until: datetime,
    seed: int = 1,
) -> ShadowReport:
    """Compare one challenger with what was served; `closed` are those of `records` of which all is told.

    Values weigh what was drawn by the logged probabilities, so the challenger decided nothing for them.

    Raises:
        DataError: It scored no decision of this time.
    """
    pairs = [(record, shadow) for record in records if (shadow := _of(record, bundle_sha256)) and record.slots]
    if not pairs:
        raise DataError(
            f"the challenger {bundle_sha256[:12]} scored no decision since {since:%Y-%m-%d %H:%M}; let the service"
            " decide with it in the shadow (nextmove shadow start), or choose a longer time with --since"
        )
    agreements, overlaps, differences = [], [], []
    for record, shadow in pairs:
        ours, theirs = np.array(policy_of(record)), np.array(shadow.probabilities)
        first, second = (each >= each.max() - LEVEL_SHARE for each in (ours, theirs))
        agreements.append((first & second).sum() / max(first.sum(), second.sum()))
        overlaps.append(np.minimum(ours, theirs).sum())
        served = [candidate.propensity or 0.0 for candidate in record.candidates]
        differences.append(np.array(shadow.propensities) - np.array(served))
    gaps = np.concatenate(differences)
    drawn = [each for each in closed if each.record.drawn and _of(each.record, bundle_sha256)]
    earned, values, warnings = _values(drawn, seed=seed) if drawn else (None, (), ())
    return ShadowReport(
        domain=domain,
        version=pairs[-1][1].model.version,
        bundle_sha256=bundle_sha256,
        served_versions=tuple(sorted({record.model.version for record, _ in pairs if record.model is not None})),
        since=since,
        until=until,
        decisions=len(pairs),
        agreement=float(np.mean(agreements)),
        overlap=float(np.mean(overlaps)),
        score_differences={
            f"{share:g}": float(gap) for share, gap in zip(QUANTILES, np.quantile(gaps, QUANTILES), strict=True)
        },
        mean_absolute_difference=float(np.abs(gaps).mean()),
        closed=len(drawn),
        earned=earned,
        values=values,
        warnings=warnings
        or (() if drawn else ("no value yet: no drawn decision of this time has its attribution window closed",)),
    )


def _of(record: DecisionRecord, bundle_sha256: str) -> Shadow | None:
    shadow = record.shadow
    return shadow if shadow is not None and shadow.model.bundle_sha256 == bundle_sha256 else None


def _values(drawn: list[Closed], *, seed: int) -> tuple[Estimate, tuple[ShadowValue, ...], tuple[str, ...]]:
    logged: FirstSlots = first_slots(drawn)
    target = logged.laid_out(lambda record: record.shadow.probabilities if record.shadow else ())
    log = logged.log
    terms = {
        DECIDED: mean_of(log.reward, np.ones(len(drawn))),
        "ips": inverse_propensity(log, target),
        "dr": doubly_robust(log, target, logged.expected),
    }
    if terms["ips"].weights.any():
        terms["snips"] = self_normalised(log, target)
    bootstrap = Bootstrap(terms, log.customer, rng=np.random.default_rng(seed))
    warnings = overlap_warnings(log, target)
    unsupported = float(target[logged.policy == 0.0].sum()) / len(drawn)
    if unsupported > 0.0:
        warnings.append(
            f"{unsupported:.1%} of the challenger's choices had no chance in what was served: let the placement explore"
            " (minimum_probability), or take the values as the model's word there"
        )
    values = tuple(
        ShadowValue(name, bootstrap.estimate(name), bootstrap.difference(name, DECIDED))
        for name in ("ips", "snips", "dr")
        if name in terms
    )
    return bootstrap.estimate(DECIDED), values, tuple(warnings)


def log_shadow(tracking: Tracking, report: ShadowReport) -> str:
    """A run of the board `shadow`: metrics, the report as JSON, and a forest plot; its id."""
    with tracking.run(f"shadow of version {report.version}", board=BOARD, tags={"domain": report.domain}) as run_id:
        estimates = [(f"{each.estimator.upper()} - decided", each.difference) for each in report.values]
        metrics = {"agreement": report.agreement, "overlap": report.overlap, "decisions": float(report.decisions)}
        for each in report.values:
            metrics[f"value/{each.estimator}"] = each.value.value
            for name in ("value", "low", "high"):
                metrics[f"over_decided/{each.estimator}/{name}"] = getattr(each.difference, name)
        tags = {"bundle_sha256": report.bundle_sha256, "warnings": "; ".join(report.warnings) or "none"}
        tracking.log(run_id, metrics=metrics, tags=tags)
        encoded = msgspec.json.format(msgspec.json.encode(report), indent=1).decode()
        tracking.log_text(run_id, "shadow.json", encoded)
        if estimates:
            title = f"Version {report.version} in the shadow, over what was decided; {report.closed:,} decisions"
            tracking.log_figure(run_id, "figures/over_decided.png", forest_figure(title, estimates))
    return run_id
