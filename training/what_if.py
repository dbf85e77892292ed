"""What would have been decided under another catalogue or policy, and what that would have earned.

How much changes is exact, since both policies state probabilities for the first slot;
what it earns is off-policy evaluation over what was shown.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
import pandas as pd

from decisioning.content import Placement
from decisioning.errors import DataError
from decisioning.evaluation import Estimate
from decisioning.feeds import Gap, Untold, left_out_lines
from decisioning.record import DecisionRecord, OutcomeRecord
from decisioning.reward import closes_at, counted, credited, of_slot, reward
from training.example_sources import Progress, silent
from training.examples import FEATURES_UNAVAILABLE
from training.figures import shift_figure
from training.redecide import Redecision, Shift, market_of
from training.scores_again import LeftOut
from training.tracking import Tracking
from training.what_if_reward import Earned, earned_by

BOARD = "what-if"
SAID_EVERY = 5_000


def shortened(change: str) -> str:
    """A catalogue's version as people tell it from others; a policy in full.

    >>> shortened("sha256:" + 64 * "5")
    'sha256:555555555555'
    """
    return change[:19] if change.startswith("sha256:") else change


class ActionShift(msgspec.Struct, frozen=True):
    """How many first slots an action had, and would have had: sums of probabilities."""

    action_id: str
    before: float
    after: float


class AudienceShift(msgspec.Struct, frozen=True):
    """An audience of the new catalogue: its decisions, how many would change, and who gains and loses most."""

    audience: str
    decisions: int
    changed: float
    gains: str
    loses: str


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison.

    Attributes:
        change: The version of the new catalogue, or the new exploration policy as JSON.
        decisions: That were compared; `left_out` says how many were not, by why.
        changed: Decisions whose first slot would be another: the least expected number, that is the
            sum of the total variation between both distributions.
        changed_draws: Of `draws` decisions whose secret is at hand, how many of the engine's own
            draws come out otherwise; a longer list of candidates shifts the noise too.
        learnable: Decisions that a reward can be estimated from: drawn, their attribution window
            closed, whether or not the customer met them.
    """

    domain: str
    market: str | None
    since: datetime | None
    until: datetime
    catalogs: dict[str, int]
    change: str
    decisions: int
    left_out: dict[str, int]
    changed: float
    draws: int
    changed_draws: int
    actions: tuple[ActionShift, ...]
    audiences: tuple[AudienceShift, ...]
    learnable: int
    earned: Earned | None
    warnings: tuple[str, ...]


def what_if(
    records: Iterable[DecisionRecord],
    outcomes: Mapping[str, Sequence[OutcomeRecord]],
    comparison: Redecision,
    *,
    now: datetime,
    since: datetime | None = None,
    market: str | None = None,
    untold: Untold | None = None,
    seed: int = 1,
    progress: Progress = silent,
) -> WhatIf:
    """Compare the decisions (of one market, if it is named) with what they would have been.

    `outcomes` are by the decision that they were reported of. No reward is estimated from decisions whose
    outcomes were not told (`untold`): a warning says how many those are.

    Raises:
        DataError: No decision can be compared.
    """
    left_out: Counter[str] = Counter()
    catalogs: Counter[str] = Counter()
    shifts: list[Shift] = []
    markets: Counter[str] = Counter()
    repeating: list[DecisionRecord] = []
    for number, record in enumerate(records, start=1):
        if number % SAID_EVERY == 0:
            progress(f"{number:,} decisions decided again")
        markets[market_of(record)] += 1
        if any(slot.repeats is not None for slot in record.slots):
            repeating.append(record)
        if market not in (None, market_of(record)):
            continue
        try:
            shift = comparison.shift(record)
        except LeftOut as reason:
            left_out[str(reason)] += 1
            continue
        catalogs[record.catalog_version] += 1
        shifts.append(shift)
    if not shifts and not left_out and markets:
        raise DataError(
            f"no decision of the window is of the market '{market}', they are of"
            f" {', '.join(f'{name} ({count:,})' for name, count in sorted(markets.items()))}; name one of these with"
            " --market, or choose a longer window with --since",
            where="market",
        )
    if not shifts:
        why = "; ".join(f"{count:,}: {reason}" for reason, count in left_out.items()) or "the ledger has none"
        raise DataError(f"no decision of the window can be compared ({why}); choose a longer one with --since")
    earned_of = credited(outcomes, repeating)
    learnable: list[tuple[Shift, float]] = []
    untold, silent_for = untold or Untold(), Counter[Gap]()
    for shift in shifts:
        record = shift.record
        placement = comparison.catalog_of(record).placements[record.placement]
        if record.drawn and record.reason != FEATURES_UNAVAILABLE and closes_at(record, placement) <= now:
            gap = untold.gap(record, placement)
            if gap is not None:
                silent_for[gap] += 1
                continue
            learnable.append((shift, _reward(record, placement, earned_of.get(record.decision_id, ()))))
    progress(f"{len(shifts):,} decisions compared; estimating what {len(learnable):,} of them would have earned")
    earned, warnings = earned_by(learnable, comparison, seed)
    warnings = [*(f"of the estimate, {line}" for line in left_out_lines(silent_for)), *warnings]
    if comparison.assumed_full:
        names = ", ".join(sorted(comparison.assumed_full))
        warnings.append(f"the log knows nothing of the budgets {names}: taken as unspent at every decision")
    drawn = [shift.drawn for shift in shifts if shift.drawn is not None]
    return WhatIf(
        domain=comparison.domain,
        market=market,
        since=since,
        until=now,
        catalogs=dict(catalogs),
        change=comparison.change,
        decisions=len(shifts),
        left_out=dict(left_out),
        changed=sum(shift.changed for shift in shifts),
        draws=len(drawn),
        changed_draws=sum(before != after for before, after in drawn),
        actions=_actions(shifts),
        audiences=_audiences(shifts),
        learnable=len(learnable),
        earned=earned,
        warnings=tuple(warnings),
    )


def log_what_if(tracking: Tracking, report: WhatIf) -> str:
    """A run on the board `what-if`: numbers, tables, a figure, the report as JSON; its id."""
    tags = {"domain": report.domain, "change": report.change, "warnings": "; ".join(report.warnings)}
    with tracking.run(f"what if {shortened(report.change)}", board=BOARD, tags=tags) as run_id:
        metrics = {
            "decisions": report.decisions,
            "changed": report.changed,
            "changed_share": report.changed / report.decisions,
            "changed_draws": report.changed_draws,
            "learnable": report.learnable,
        }
        estimates: list[tuple[str, Estimate]] = []
        if report.earned is not None:
            estimates = [(name, getattr(report.earned, name)) for name in ("logged", "new", "difference")]
            metrics["estimable"] = report.earned.estimable
            for name, estimate in estimates:
                metrics |= {
                    f"{name}_reward": estimate.value,
                    f"{name}_low": estimate.low,
                    f"{name}_high": estimate.high,
                }
        tracking.log(
            run_id,
            parameters={
                "market": report.market or "all",
                "since": report.since.isoformat() if report.since else "the beginning",
                "catalogs": ", ".join(report.catalogs),
                "change": report.change,
            },
            metrics=metrics,
        )
        for name, rows in (("actions", report.actions), ("audiences", report.audiences)):
            if rows:
                tracking.log_table(run_id, f"what_if/{name}", pd.DataFrame(msgspec.to_builtins(rows)))
        encoded = msgspec.json.format(msgspec.json.encode(report), indent=1).decode()
        tracking.log_text(run_id, "what_if/report.json", encoded)
        masses = [(shift.action_id, shift.before, shift.after) for shift in report.actions]
        tracking.log_figure(run_id, "figures/what_if.png", shift_figure(masses, estimates))
    return run_id


def _reward(record: DecisionRecord, placement: Placement, outcomes: Sequence[OutcomeRecord]) -> float:
    """What the first slot earned; where the customer never met it, usually nothing."""
    return reward(of_slot(record, record.slots[0], counted(outcomes, record, placement)), placement)


def _actions(shifts: Sequence[Shift]) -> tuple[ActionShift, ...]:
    before, after = _sums(shifts)
    order = sorted({*before, *after}, key=lambda name: (-abs(after[name] - before[name]), name))
    return tuple(ActionShift(name, before[name], after[name]) for name in order)


def _audiences(shifts: Sequence[Shift]) -> tuple[AudienceShift, ...]:
    found = []
    for audience in sorted({name for shift in shifts for name in shift.audiences}):
        members = [shift for shift in shifts if audience in shift.audiences]
        before, after = _sums(members)
        gain = {name: after[name] - before[name] for name in {*before, *after}}
        most, least = max(gain, key=lambda n: (gain[n], n)), min(gain, key=lambda n: (gain[n], n))
        found.append(
            AudienceShift(
                audience,
                len(members),
                sum(shift.changed for shift in members),
                most if gain[most] > 0.0 else "",
                least if gain[least] < 0.0 else "",
            )
        )
    return tuple(found)


def _sums(shifts: Sequence[Shift]) -> tuple[Counter[str], Counter[str]]:
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for shift in shifts:
        before.update(shift.before)
        after.update(shift.after)
    return before, after
