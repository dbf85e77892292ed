"""What customers did elsewhere: events in the one vocabulary that rules, features and moments speak."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

# Of the Segment specification, which every customer data platform and tag manager can send.
EventType = Literal["track", "identify", "page", "screen", "group", "alias"]
PURCHASE = "purchase"


class EventRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event, as the ledger keeps it.

    Attributes:
        event_id: `source/message id`: the same one told again is one event.
        source: Who told it: the name of the key that it came with.
        name: Of what is tracked, in our vocabulary (`purchase`); else the `type`.
        customer_id, anonymous_id: Who did it, as the source knows them; at least one is given.
        properties: Of a track, page or screen what it says; of an identify or group the traits.
        context: Where it happened, as far as anything uses it.
        group_id: Of a group, the account; `previous_id`: of an alias, what the customer was called.
        occurred_at: By the source's clock, corrected by when it sent it.
    """

    event_id: str
    source: str
    type: EventType
    name: str
    customer_id: str | None = None
    anonymous_id: str | None = None
    properties: Mapping[str, Any] = {}
    context: Mapping[str, Any] = {}
    group_id: str | None = None
    previous_id: str | None = None
    market: str | None = None
    occurred_at: datetime
    received_at: datetime

    @property
    def unit(self) -> str:
        """Whom hot state knows this customer or visitor as; see `DecisionRequest.unit`."""
        return self.customer_id if self.customer_id is not None else f"anonymous:{self.anonymous_id}"


def event_id_of(source: str, message_id: str) -> str:
    """What the ledger calls an event: no source's is another's, whatever signs their names have.

    >>> event_id_of("shop", "a/1"), event_id_of("shop/a", "1")
    ('shop/a/1', 'shop%2Fa/1')
    """
    return f"{source.replace('%', '%25').replace('/', '%2F')}/{message_id}"


class Happened(NamedTuple):
    """What the very next decision must know of an event: what was done last when, and what was bought."""

    unit: str
    name: str
    at: datetime
    products: tuple[str, ...] = ()


def happened(event: EventRecord) -> Happened | None:
    """What hot state is told of an event; of views and traits, nothing.

    >>> from datetime import UTC
    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> bought = EventRecord(event_id="shop/1", source="shop", type="track", name="purchase", customer_id="c-1",
    ...                      properties={"products": [{"product_id": "gold_card"}]}, occurred_at=at, received_at=at)
    >>> happened(bought).products
    ('gold_card',)
    """
    if event.type != "track":
        return None
    products = products_of(event.properties) if event.name == PURCHASE else ()
    return Happened(event.unit, event.name, event.occurred_at, products)


def latest(told: Iterable[Happened]) -> list[Happened]:
    """The same in as little work as can be: one product each, and nothing that something later makes needless.

    >>> day = [datetime(2026, 1, number) for number in (1, 2)]
    >>> [(each.products, each.at.day) for each in latest([
    ...     Happened("c-1", "purchase", day[1], ("a", "b")), Happened("c-1", "purchase", day[0], ("b", "c"))])]
    [(('a',), 2), (('b',), 2), (('c',), 1)]
    """
    found: dict[tuple[str, str, str | None], Happened] = {}
    for each in told:
        for product in each.products or (None,):
            before = found.get((each.unit, each.name, product))
            if before is None or each.at > before.at:
                alone = each._replace(products=() if product is None else (product,))
                found[each.unit, each.name, product] = alone
    return list(found.values())


def products_of(properties: Mapping[str, Any]) -> tuple[str, ...]:
    """Ids of the products that an event is about: its own, and those of its lines."""
    lines = properties.get("products")
    each = (
        [properties, *(line for line in lines if isinstance(line, Mapping))]
        if isinstance(lines, list)
        else [properties]
    )
    ids = (line.get("product_id") for line in each)
    return tuple(dict.fromkeys(str(found) for found in ids if isinstance(found, str | int) and str(found)))
