"""How long successes take to arrive, by placement, as the ledger tells it."""

from collections import defaultdict
from datetime import datetime

import msgspec
import numpy as np

from decisioning.catalog import Catalog
from decisioning.delays import DelayDistribution, learn_delays
from decisioning.record import ShownSlot
from decisioning.reward import counted, of_slot, opens_at, succeeded_at
from storage.ledger.earned import EarningReader, earned
from training.examples import LEDGER_WINDOW


class _Awaited(msgspec.Struct):
    """What of a decision its delay needs."""

    decision_id: str
    decided_at: datetime
    placement: str
    slots: tuple[ShownSlot, ...]
    contact_at: datetime | None = None


def response_delays(reader: EarningReader, catalog: Catalog, *, now: datetime) -> dict[str, DelayDistribution]:
    """By placement, the delays of what was decided in the last 180 days; the default where nothing succeeded."""
    since = now - LEDGER_WINDOW
    outcomes = earned(reader, catalog, since=since, until=now)
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for decided in reader.all_decisions(_Awaited, domain=catalog.content.domain, since=since, until=now):
        reported = outcomes.get(decided.decision_id)
        placement = catalog.placements.get(decided.placement)
        if not reported or placement is None:
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
