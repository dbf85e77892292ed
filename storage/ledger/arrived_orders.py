"""Orders by arrival: those of the persons whom something new concerns, and what earned them by a place.

Persons are those of the links up to the same place. So a link that arrives after an order moves it as a count of
the whole ledger has it: what any id of the person saw may have earned it.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, and_, or_, select

from decisioning.attribution import Told, attributed
from decisioning.content import Placement
from decisioning.erased import visitor_ids
from decisioning.events import PURCHASE, EventRecord
from decisioning.identity import LINKING, is_visitor, links_of
from decisioning.orders import orders_of
from decisioning.record import DecisionRecord, OutcomeRecord
from storage.instants import to_microseconds
from storage.ledger.linked_ids import LinkedIds
from storage.ledger.parts import parts
from storage.ledger.rows import event_of
from storage.ledger.tables import events

_IS_ORDER = and_(events.c.type == "track", events.c.name == PURCHASE)


class Crediting(NamedTuple):
    """By which rules orders are credited.

    Attributes:
        placements, promotes: Of the catalogue; see `attribution.attributed`.
        since: Earlier decisions and orders are left aside.
    """

    placements: Mapping[str, Placement]
    promotes: Mapping[str, Collection[str]]
    since: datetime

    @property
    def rewards_orders(self) -> bool:
        """Whether an order can be a success anywhere."""
        return any(PURCHASE in placement.reward for placement in self.placements.values())


def heard_behind(
    connection: Connection, domain: str, crediting: Crediting, *, after: int, rows: int
) -> tuple[list[int], set[str]]:
    """The places of at most so many of the domain's orders and links behind one, and the ids that they name."""
    if not crediting.rewards_orders:
        return [], set()
    c = events.c
    # Not by the domain's index: that would sort all that there is.
    wanted = and_(c.seq > after, c.domain.concat("") == domain, or_(_IS_ORDER, c.type.in_(LINKING)))
    found = connection.execute(select(c.seq, c.record).where(wanted).order_by(c.seq).limit(rows)).all()
    named: set[str] = set()
    for row in found:
        event = event_of(row.record)
        if event.type not in LINKING:
            named.add(event.unit)
        for link in links_of(event):
            if link.other is not None:
                named |= {link.customer_id, link.other}
    return [row.seq for row in found], named


class Orders:
    """The orders of whoever was one person with one of a few ids by one of two places (`seq` of events).

    Attributes:
        buyers: All ids of those of them who ordered.
    """

    def __init__(
        self, connection: Connection, domain: str, units: Iterable[str], crediting: Crediting, *, at: Collection[int]
    ) -> None:
        """Read them, in a transaction of the caller's; without any where no placement rewards them."""
        self._crediting = crediting
        self._linked = LinkedIds(connection, domain)
        concerned = self._linked.together(units, at=at) if crediting.rewards_orders else set()
        self._told = _told(connection, domain, concerned, crediting.since, upto=max(at))
        self.buyers = self._linked.together({event.unit for _, event in self._told}, at=at)

    def credited(self, told: Told, decisions: Iterable[DecisionRecord], *, at: int) -> dict[str, list[OutcomeRecord]]:
        """What decisions earned by a place, orders included; of the buyers all must be given, of others any may be."""
        placements, promotes, since = self._crediting
        return attributed(
            told,
            orders_of(event for place, event in self._told if place <= at),
            (decision for decision in decisions if decision.decided_at >= since),
            placements=placements,
            promotes=promotes,
            person=self._linked.names(self.buyers, at=at),
        )


def _told(
    connection: Connection, domain: str, units: Collection[str], since: datetime, *, upto: int
) -> list[tuple[int, EventRecord]]:
    """The orders of these ids that were since, and their places."""
    c = events.c
    query = select(c.seq, c.record).where(
        c.domain == domain, _IS_ORDER, c.seq <= upto, c.occurred_at >= to_microseconds(since)
    )
    known = [unit for unit in units if not is_visitor(unit)]
    queries = [query.where(c.customer_id.in_(part)) for part in parts(known)]
    alone = query.where(c.customer_id.is_(None))
    queries += [alone.where(c.anonymous_id.in_(part)) for part in parts(visitor_ids(units))]
    return [(row.seq, event_of(row.record)) for each in queries for row in connection.execute(each)]
