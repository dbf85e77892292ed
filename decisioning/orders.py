"""What a customer bought, told by whoever took the order: a till, a shop, a CRM; it names no decision."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from decisioning.events import PURCHASE, EventRecord, products_of


class Order(NamedTuple):
    """One order.

    Attributes:
        order_id: As the source calls it; of an event that names none, the event's id.
        event_id: Of the event that told it.
        unit: Whose id it is; see `EventRecord.unit`.
        amounts: What was paid for each product, in the catalogue's currency; 0 where nobody said.
    """

    order_id: str
    event_id: str
    unit: str
    at: datetime
    received_at: datetime
    source: str
    amounts: Mapping[str, float]


def order_of(event: EventRecord) -> Order | None:
    """The order that an event tells; None where it tells none, or names no product.

    A line is worth its price times its quantity. What lines without a price share, evenly, is what is left of
    the order's own value.

    >>> from datetime import UTC
    >>> at = datetime(2026, 1, 1, tzinfo=UTC)
    >>> lines = [{"product_id": "mug", "price": 4.0, "quantity": 2}, {"product_id": "tea"}]
    >>> said = {"order_id": "A7", "value": 20.0, "products": lines}
    >>> told = EventRecord(event_id="till/1", source="till", type="track", name="purchase", customer_id="c-1",
    ...                    properties=said, occurred_at=at, received_at=at)
    >>> order_of(told).order_id, dict(order_of(told).amounts)
    ('A7', {'mug': 8.0, 'tea': 12.0})
    """
    if event.type != "track" or event.name != PURCHASE:
        return None
    products = products_of(event.properties)
    if not products:
        return None
    said = event.properties.get("order_id")
    named = isinstance(said, str | int) and str(said) != ""
    return Order(
        order_id=str(said) if named else event.event_id,
        event_id=event.event_id,
        unit=event.unit,
        at=event.occurred_at,
        received_at=event.received_at,
        source=event.source,
        amounts=_amounts(event.properties, products),
    )


def orders_of(events: Iterable[EventRecord]) -> list[Order]:
    """The orders that events tell, each once and in the order of time; told again, the first to arrive stands.

    What two sources call by one number is two orders.
    """
    first: dict[tuple[str, str, str], Order] = {}
    told = (order for event in events if (order := order_of(event)) is not None)
    for order in sorted(told, key=lambda o: (o.received_at, o.event_id)):
        first.setdefault((order.source, order.unit, order.order_id), order)
    return sorted(first.values(), key=lambda o: (o.at, o.event_id))


def _amounts(properties: Mapping[str, Any], products: tuple[str, ...]) -> dict[str, float]:
    lines = properties.get("products")
    each = [line for line in (lines if isinstance(lines, list) else []) if isinstance(line, Mapping)]
    amounts = dict.fromkeys(products, 0.0)
    priced: set[str] = set()
    for line in (properties, *each):
        product, price, quantity = line.get("product_id"), _number(line.get("price")), _number(line.get("quantity"))
        if product is not None and price is not None and str(product) in amounts:
            amounts[str(product)] += price * (1.0 if quantity is None else quantity)
            priced.add(str(product))
    value, unpriced = _number(properties.get("value")), [product for product in products if product not in priced]
    if value is not None and unpriced:
        left = max(0.0, value - sum(amounts.values()))
        amounts |= dict.fromkeys(unpriced, left / len(unpriced))
    return amounts


def _number(said: Any) -> float | None:
    return float(said) if isinstance(said, int | float) and not isinstance(said, bool) else None
