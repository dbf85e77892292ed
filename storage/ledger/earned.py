"""What decisions earned, from all that the ledger was told: one way for whatever learns or evaluates."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Protocol, TypeVar

import msgspec

from decisioning.attribution import attributed
from decisioning.catalog import Catalog
from decisioning.events import PURCHASE, EventRecord
from decisioning.identity import LINKING, links_of, person_names
from decisioning.orders import orders_of
from decisioning.record import Candidate, OutcomeRecord, ShownSlot
from decisioning.reward import credited

Kind = TypeVar("Kind")
_A_REPEAT = b'"repeats":"'  # in the JSON of a record with a slot that repeats


class _Repeating(msgspec.Struct):
    """What of a decision says which earlier one its outcomes count for."""

    decision_id: str
    slots: tuple[ShownSlot, ...]


class _Creditable(msgspec.Struct):
    """What of a decision an order needs."""

    decision_id: str
    customer_id: str
    decided_at: datetime
    placement: str
    slots: tuple[ShownSlot, ...]
    candidates: tuple[Candidate, ...]
    contact_at: datetime | None = None


class EarningReader(Protocol):
    """What is read of the ledger; `storage.ledger.reader.LedgerReader` is one."""

    def all_decisions(
        self,
        kind: type[Kind],
        *,
        domain: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        containing: bytes = b"",
    ) -> Iterator[Kind]:
        """Of every decision of the domain, or of all, whose JSON contains these bytes, the fields of `kind`."""
        ...

    def outcomes(
        self, *, since: datetime | None = None, until: datetime | None = None
    ) -> dict[str, list[OutcomeRecord]]:
        """Outcomes by decision id."""
        ...

    def events(
        self,
        domain: str,
        *,
        types: Collection[str] | None = None,
        names: Collection[str] | None = None,
        received_since: datetime | None = None,
    ) -> Iterator[EventRecord]:
        """The domain's events in the order of arrival."""
        ...


def earned(
    reader: EarningReader, catalog: Catalog, *, since: datetime, until: datetime
) -> dict[str, list[OutcomeRecord]]:
    """Outcomes by the decision that earned them, of decisions from `since` (included) to `until` (excluded).

    What is told of a reload is the first decision's (`reward.credited`); an order that names no decision is
    the last contact's that promotes its product (`attribution.attributed`).

    Raises:
        StoreError: The ledger cannot be read.
    """
    repeating = reader.all_decisions(_Repeating, since=since, until=until, containing=_A_REPEAT)
    told = credited(reader.outcomes(since=since, until=until), repeating)
    domain = catalog.content.domain
    bought = reader.events(domain, types=("track",), names=(PURCHASE,), received_since=since)
    orders = [order for order in orders_of(bought) if order.at >= since]
    if not orders:
        return told
    links = (link for event in reader.events(domain, types=LINKING) for link in links_of(event))
    decided = reader.all_decisions(_Creditable, domain=domain, since=since, until=until)
    return attributed(
        told,
        orders,
        decided,
        placements=catalog.placements,
        promotes=catalog.promotes,
        person=person_names(links),
    )
