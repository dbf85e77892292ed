"""Live decisions whose attribution window has closed, with what their first slot earned."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from decisioning.catalog import Catalog
from decisioning.feeds import Untold
from decisioning.record import DecisionRecord
from decisioning.reward import closes_at, counted, credited, of_slot, reward, was_shown
from training.examples import FEATURES_UNAVAILABLE, DecisionReader, Repeating

_A_REPEAT = b'"repeats":"'  # in the JSON of a record with a slot that repeats


class Closed(NamedTuple):
    """A decision of which all is told; `met` and `earned` are of its first slot."""

    record: DecisionRecord
    met: bool
    earned: float


def closed_decisions(
    reader: DecisionReader, catalog: Catalog, *, since: datetime, now: datetime, untold: Untold | None = None
) -> Iterator[Closed]:
    """Those from `since` on that showed anything, as far as their outcomes were told.

    As with examples to learn from, none is there whose stored features could not be read, whose first
    slot repeats an earlier contact, or whose placement the catalogue no longer has.
    """
    untold = untold or Untold()
    repeating = reader.all_decisions(Repeating, since=since, until=now, containing=_A_REPEAT)
    outcomes = credited(reader.outcomes(since=since, until=now), repeating)
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
