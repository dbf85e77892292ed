"""Live decisions whose attribution window has closed, with what their first slot earned."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from decisioning.case import FEATURES_UNAVAILABLE
from decisioning.catalog import Catalog
from decisioning.feeds import Untold
from decisioning.record import DecisionRecord, OutcomeRecord, ShownSlot
from decisioning.reward import closes_at, counted, credited, of_slot, reward, was_shown

Kind = TypeVar("Kind")
_A_REPEAT = b'"repeats":"'  # in the JSON of a record with a slot that repeats


class ClosedReader(Protocol):
    """What is read of the ledger; `storage.ledger.reader.LedgerReader` is one."""

    def decisions(
        self, domain: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[DecisionRecord]:
        """Decisions by `decided_at`."""
        ...

    def all_decisions(
        self,
        kind: type[Kind],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        containing: bytes = b"",
    ) -> Iterator[Kind]:
        """Of every decision whose JSON contains these bytes, the fields of `kind`."""
        ...

    def outcomes(
        self, *, since: datetime | None = None, until: datetime | None = None
    ) -> dict[str, list[OutcomeRecord]]:
        """Outcomes by decision id."""
        ...


class _Repeating(msgspec.Struct):
    """What of a decision says which earlier one its outcomes count for."""

    decision_id: str
    slots: tuple[ShownSlot, ...]


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
    repeating = reader.all_decisions(_Repeating, since=since, until=now, containing=_A_REPEAT)
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
