"""How often an apprentice agrees with the caller whose order is served, and what it says that it would earn."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec
import numpy as np
from numpy.typing import NDArray

from decisioning.errors import DataError
from decisioning.evaluation import Bootstrap, Estimate, Ratio, Terms, mean_of
from training.closed_decisions import Closed
from training.figures import trend_figure
from training.first_slots import FirstSlots, first_slots
from training.tracking import Tracking

BOARD = "apprentice"
LIMITS = (
    "the caller always decides alone, so nothing tells what other actions would have earned: the policy's value is"
    " the model's word, scaled to what the caller's choices earned, and its interval does not say how wrong the"
    " model may be; to know, let the placement decide and explore"
)
LEVEL_SHARE = 1e-12  # chances that differ by less are level


class Period(msgspec.Struct, frozen=True):
    """A day's decisions: how many, and how often the policy would have drawn what the caller chose."""

    begins: datetime
    decisions: int
    match_rate: float


class Apprenticeship(msgspec.Struct, frozen=True, kw_only=True):
    """One placement.

    Attributes:
        match_rate: Chance with which the policy would have drawn the caller's choice.
        by_chance: What that is for a policy that draws anything.
        agreement: Share in which the caller's choice is the model's own first one.
        earned: What the caller's choices earned a decision.
        earned_in_agreement: The same of those in which the model agrees; None where it never does.
        estimated: What the policy would earn, by the model alone. `gain` is over what the caller's choices are
            expected to earn by the same model.
        trend: By day.
    """

    placement: str
    decisions: int
    customers: int
    match_rate: Estimate
    by_chance: float
    agreement: Estimate
    earned: Estimate
    earned_in_agreement: Estimate | None
    estimated: Estimate
    gain: Estimate
    trend: tuple[Period, ...]


class ApprenticeReport(msgspec.Struct, frozen=True, kw_only=True):
    """Every placement whose model is an apprentice; `limits` says what the figures do not."""

    domain: str
    since: datetime
    until: datetime
    placements: tuple[Apprenticeship, ...]
    limits: str = LIMITS


def apprentice_report(
    closed: Iterable[Closed], *, domain: str, since: datetime, until: datetime, seed: int = 1
) -> ApprenticeReport:
    """The report on the apprentices' decisions among these.

    Raises:
        DataError: There is none that a model has scored.
    """
    found: dict[str, list[Closed]] = defaultdict(list)
    for each in closed:
        if each.record.apprentice and all(c.propensity is not None for c in each.record.candidates):
            found[each.record.placement].append(each)
    if not found:
        raise DataError(
            f"no decision of an apprentice since {since:%Y-%m-%d %H:%M} has its attribution window closed; write"
            " `apprentice: true` into a placement, let callers ask, or choose a longer time with --since"
        )
    return ApprenticeReport(
        domain=domain,
        since=since,
        until=until,
        placements=tuple(_of(name, first_slots(of), seed=seed) for name, of in sorted(found.items())),
    )


def _of(placement: str, logged: FirstSlots, *, seed: int) -> Apprenticeship:
    rows, ones = np.arange(len(logged.records)), np.ones(len(logged.records))
    match = logged.policy[rows, logged.action]
    best = logged.policy >= logged.policy.max(axis=1, keepdims=True) - LEVEL_SHARE
    agrees = np.where(best[rows, logged.action], 1.0 / best.sum(axis=1), 0.0)
    expected = logged.expected
    terms = {
        "match": mean_of(match, ones),
        "agreement": mean_of(agrees, ones),
        "earned": mean_of(logged.earned, ones),
        "policy": mean_of((logged.policy * expected).sum(axis=1), ones),
        "caller": mean_of(expected[rows, logged.action], ones),
    }
    if agrees.any():
        terms["agreed"] = Terms((Ratio(agrees * logged.earned, agrees),), agrees)
    bootstrap = Bootstrap(terms, logged.customer, rng=np.random.default_rng(seed))
    return Apprenticeship(
        placement=placement,
        decisions=len(rows),
        customers=len(np.unique(logged.customer)),
        match_rate=bootstrap.estimate("match"),
        by_chance=float((1.0 / logged.available.sum(axis=1)).mean()),
        agreement=bootstrap.estimate("agreement"),
        earned=bootstrap.estimate("earned"),
        earned_in_agreement=bootstrap.estimate("agreed") if agrees.any() else None,
        estimated=bootstrap.estimate("policy"),
        gain=bootstrap.difference("policy", "caller"),
        trend=_trend(logged, match),
    )


def _trend(logged: FirstSlots, match: NDArray[np.float64]) -> tuple[Period, ...]:
    days: dict[datetime, list[float]] = defaultdict(list)
    for record, chance in zip(logged.records, match.tolist(), strict=True):
        days[record.decided_at.replace(hour=0, minute=0, second=0, microsecond=0)].append(chance)
    return tuple(Period(day, len(found), float(np.mean(found))) for day, found in sorted(days.items()))


def log_apprentices(tracking: Tracking, report: ApprenticeReport) -> str:
    """A run of the board `apprentice`: metrics, the report as JSON, and the trend as a figure; its id."""
    with tracking.run("apprentices", board=BOARD, tags={"domain": report.domain}) as run_id:
        metrics = {
            f"{name}/{each.placement}": getattr(each, name).value
            for each in report.placements
            for name in ("match_rate", "agreement", "earned", "estimated", "gain")
        }
        tracking.log(run_id, metrics=metrics, tags={"limits": report.limits})
        encoded = msgspec.json.format(msgspec.json.encode(report), indent=1).decode()
        tracking.log_text(run_id, "apprentices.json", encoded)
        lines = [
            (each.placement, [period.begins + timedelta(hours=12) for period in each.trend],
             [period.match_rate for period in each.trend])
            for each in report.placements
        ]  # fmt: skip
        figure = trend_figure("How often the policy would have drawn the caller's choice", "match rate", lines)
        tracking.log_figure(run_id, "figures/match_rate.png", figure)
    return run_id
