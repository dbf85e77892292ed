"""How long successes take to arrive, by placement, as the ledger tells it."""

from collections import defaultdict
from datetime import datetime

import msgspec
import numpy as np

from decisioning.catalog import Catalog
from decisioning.delays import DelayDistribution, learn_delays
from decisioning.record import ShownSlot
from decisioning.reward import counted, credited, of_slot, opens_at, succeeded_at
from training.examples import A_REPEAT, LEDGER_WINDOW, DecisionReader, Repeating


class _Awaited(msgspec.Struct):
    """What of a decision its delay needs."""

    decision_id: str
    decided_at: datetime
    domain: str
    placement: str
    slots: tuple[ShownSlot, ...]
    contact_at: datetime | None = None


def response_delays(reader: DecisionReader, catalog: Catalog, *, now: datetime) -> dict[str, DelayDistribution]:
    """By placement, the delays of what was decided in the last 180 days; the default where nothing succeeded."""
    since = now - LEDGER_WINDOW
    repeating = reader.all_decisions(Repeating, since=since, until=now, containing=A_REPEAT)
    outcomes = credited(reader.outcomes(since=since, until=now), repeating)
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for decided in reader.all_decisions(_Awaited, since=since, until=now):
        reported = outcomes.get(decided.decision_id)
        placement = catalog.placements.get(decided.placement)
        if not reported or placement is None or decided.domain != catalog.content.domain:
            continue
        within = counted(reported, decided, placement)
        for slot in decided.slots:
            at = succeeded_at(of_slot(decided, slot, within), placement)
            if slot.repeats is None and at is not None and at <= now:
                opens = opens_at(decided)
                found[placement.id].append(((at - opens).total_seconds(), (now - opens).total_seconds()))
    return {
        placement.id: learn_delays(*np.array(found[placement.id]).reshape(-1, 2).T, window=placement.attribution_window)
        for placement in catalog.content.placements
    }
