"""Whether groups of customers were treated alike, from what the ledger says that they got and did."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from decisioning.case import HOLDOUT
from decisioning.catalog import Catalog
from decisioning.errors import DataError
from decisioning.evaluation import Estimate
from decisioning.fairness import FOUR_FIFTHS, GroupRatio, Measured, group_ratios
from decisioning.record import DecisionRecord
from training.closed_decisions import Closed
from training.customer_groups import groups_of
from training.figures import ratio_figure
from training.tracking import Tracking

BOARD = "fairness"


class FairnessReport(msgspec.Struct, frozen=True, kw_only=True):
    """How groups fared.

    Attributes:
        by: The features that make the groups.
        exposure_of: What counts as being shown something; empty: any action.
        decisions: Of which `closed` had their attribution window closed: what responses and values rest on.
        ratios: Of each group and measure to the largest group.
        notes: What to keep in mind.
    """

    domain: str
    since: datetime
    until: datetime
    by: tuple[str, ...]
    exposure_of: tuple[str, ...]
    decisions: int
    closed: int
    ratios: tuple[GroupRatio, ...]
    notes: tuple[str, ...]

    @property
    def unequal(self) -> tuple[GroupRatio, ...]:
        """Those beyond four fifths, either way, and measurably so."""
        return tuple(each for each in self.ratios if each.lies_below(FOUR_FIFTHS) or each.lies_above(FOUR_FIFTHS))


def counts_as_exposure(catalog: Catalog, exposure_of: Sequence[str]) -> frozenset[str]:
    """The actions that these name, by their own ids or their groups'; without any, all but showing nothing.

    Raises:
        DataError: A name is neither's.
    """
    actions = catalog.actions
    known = {*actions, *(action.group for action in actions.values())}
    unknown = sorted(set(exposure_of) - known)
    if unknown:
        raise DataError(f"{', '.join(unknown)}: no action or group of actions is called so; see nextmove catalog show")
    return frozenset(
        action_id
        for action_id, action in actions.items()
        if not action.is_no_action and (not exposure_of or action_id in exposure_of or action.group in exposure_of)
    )


def fairness_report(
    records: Iterable[DecisionRecord],
    closed: Iterable[Closed],
    catalog: Catalog,
    *,
    by: Sequence[str],
    exposure_of: Sequence[str] = (),
    since: datetime,
    until: datetime,
) -> FairnessReport:
    """Exposure over all `records` but the holdout's; response and value over those of which all is told.

    Raises:
        DataError: There is no decision, or none has a feature that is named.
    """
    shown_of = counts_as_exposure(catalog, exposure_of)
    features: dict[str, list[Any]] = {name: [] for name in by}
    customers: list[str] = []
    exposed: list[bool] = []
    places: dict[str, int] = {}
    met: set[str] = set()
    for record in records:
        if record.reason == HOLDOUT:
            continue
        places[record.decision_id] = len(customers)
        customers.append(record.customer_id)
        exposed.append(any(slot.action_id in shown_of for slot in record.slots))
        for name, values in features.items():
            met.update([name] if name in record.features else [])
            values.append(record.features.get(name))
    if not customers:
        raise DataError(f"there is no decision since {since:%Y-%m-%d %H:%M}; choose a longer time with --since")
    missing = [name for name in by if name not in met]
    if missing:
        raise DataError(f"no decision has a feature {', '.join(missing)}; name customer features with --by", where="by")
    answered, success, told, earned = (np.zeros(len(customers)) for _ in range(4))
    for each in closed:
        place = places.get(each.record.decision_id)
        if place is not None:
            told[place], earned[place] = 1.0, each.earned
            if each.met and each.record.slots[0].action_id in shown_of:
                answered[place], success[place] = 1.0, float(each.earned > 0.0)
    measures = {
        "exposure": Measured(np.array(exposed, dtype=np.float64), np.ones(len(customers))),
        "response": Measured(success, answered),
        "value": Measured(earned, told, share=False),
    }
    ratios = group_ratios(
        {name: groups_of(values) for name, values in features.items()},
        {name: measured for name, measured in measures.items() if measured.denominator.any()},
        pd.factorize(pd.Series(customers, dtype=object))[0].astype(np.int64),
    )
    return FairnessReport(
        domain=catalog.content.domain,
        since=since,
        until=until,
        by=tuple(by),
        exposure_of=tuple(exposure_of),
        decisions=len(customers),
        closed=int(told.sum()),
        ratios=ratios,
        notes=_notes(ratios),
    )


def _notes(ratios: Sequence[GroupRatio]) -> tuple[str, ...]:
    compared = [each for each in ratios if each.ratio is not None]
    small = sorted({f"{each.attribute} '{each.group}'" for each in ratios if not each.judged})
    notes = []
    if compared:
        notes.append(
            f"{len(compared)} ratios are looked at together, so each has an interval at {compared[0].level:.2%}:"
            " all of them hold at 95 %"
        )
    if small:
        notes.append(f"too few customers to be judged: {', '.join(small)}")
    notes.append(
        "a ratio says that groups fared differently, not why: eligibility, consent and what people want differ, too"
    )
    return tuple(notes)


def log_fairness(tracking: Tracking, report: FairnessReport) -> str:
    """A run of the board `fairness`: ratios as metrics, the report as JSON, and a figure a measure; its id."""
    with tracking.run("fairness", board=BOARD, tags={"domain": report.domain}) as run_id:
        judged = [each for each in report.ratios if each.ratio is not None and each.high is not None]
        metrics = {_metric(each): each.ratio for each in judged if each.ratio is not None}
        tags = {"by": ", ".join(report.by), "unequal": str(len(report.unequal))}
        tracking.log(run_id, metrics={**metrics, "unequal": float(len(report.unequal))}, tags=tags)
        encoded = msgspec.json.format(msgspec.json.encode(report), indent=1).decode()
        tracking.log_text(run_id, "fairness.json", encoded)
        for measure in dict.fromkeys(each.measure for each in judged):
            lines = [
                (f"{each.attribute} {each.group}", Estimate(each.ratio, each.low, each.high, each.decisions, 0.0))
                for each in judged
                if each.measure == measure and each.ratio is not None and each.low is not None and each.high is not None
            ]
            title = f"{measure.capitalize()}, each group over the largest"
            tracking.log_figure(run_id, f"figures/{measure}.png", ratio_figure(title, lines, FOUR_FIFTHS))
    return run_id


def _metric(each: GroupRatio) -> str:
    name = f"{each.measure}/{each.attribute}/{each.group}"
    return "".join(c if c.isalnum() or c in "_-./ " else "_" for c in name)[:250]
