"""Live decisions whose attribution window has closed, with what their first slot earned."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple, Protocol

from decisioning.case import FEATURES_UNAVAILABLE
from decisioning.catalog import Catalog
from decisioning.feeds import Untold
from decisioning.record import DecisionRecord
from decisioning.reward import closes_at, counted, of_slot, reward, was_shown
from storage.ledger.earned import EarningReader, earned


class ClosedReader(EarningReader, Protocol):
    """What is read of the ledger; `storage.ledger.reader.LedgerReader` is one."""

    def decisions(
        self, domain: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[DecisionRecord]:
        """Decisions by `decided_at`."""
        ...


class Closed(NamedTuple):
    """A decision of which all is told; `met` and `earned` are of its first slot."""

    record: DecisionRecord
    met: bool
    earned: float


def closed_decisions(
    reader: ClosedReader, catalog: Catalog, *, since: datetime, now: datetime, untold: Untold | None = None
) -> Iterator[Closed]:
    """Those from `since` on that showed anything, as far as their outcomes were told.

    As with examples to learn from, none is there whose stored features could not be read, whose first
    slot repeats an earlier contact, or whose placement the catalogue no longer has.
    """
    untold = untold or Untold()
    outcomes = earned(reader, catalog, since=since, until=now)
    for record in reader.decisions(catalog.content.domain, since=since, until=now):
        placement = catalog.placements.get(record.placement)
        if placement is None or not record.slots or record.slots[0].repeats is not None:
            continue
        if record.reason == FEATURES_UNAVAILABLE or closes_at(record, placement) > now:
            continue
        if untold.gap(record, placement) is not None:
            continue
        first = record.slots[0]
        own = of_slot(record, first, counted(outcomes.get(record.decision_id, ()), record, placement))
        yield Closed(record, was_shown(first.action_id, own, placement), reward(own, placement))
