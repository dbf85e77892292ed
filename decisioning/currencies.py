"""Money of events in one currency: the catalogue's, whatever a source's or a market's till counts in."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

# What is money in an event and in the lines of an order, by the Segment specification.
MONEY = ("value", "price", "subtotal", "tax", "shipping", "discount")
ORIGINAL = "_original"
_PLACES = 6  # as in sums of prices: 19.9 * 1.05 is 20.895000000000003 in binary


class Currencies(NamedTuple):
    """What one unit of each currency in `rates` is worth in `reference`.

    `of_markets` is what is meant in a market where neither event nor source says a currency; elsewhere
    that is the reference, too.

    >>> shop = Currencies("EUR", rates={"CHF": 1.05})
    >>> shop.converted({"value": 20.0, "currency": "CHF"})
    {'value': 21.0, 'currency': 'EUR', 'value_original': 20.0, 'currency_original': 'CHF'}
    >>> shop.converted({"value": 20.0, "currency": "DKK"})
    {'value_original': 20.0, 'currency_original': 'DKK'}
    """

    reference: str
    rates: Mapping[str, float] = {}
    of_markets: Mapping[str, str] = {}

    def converted(self, properties: dict[str, Any]) -> dict[str, Any]:
        """The properties with their money in the reference, and beside it what was said (`value_original`).

        Money that no rate is known of is no money here: only what was said is kept of it. A line of an
        order (`products`) may have a currency of its own; else it is in that of the order.
        """
        said = properties.get("currency")
        known = self._in_reference(properties, said)
        lines = properties.get("products")
        if not isinstance(lines, list):
            return known
        own = [
            self._in_reference(each, each.get("currency") or said) if isinstance(each, dict) else each for each in lines
        ]
        return {**known, "products": own}

    def _in_reference(self, properties: dict[str, Any], currency: Any) -> dict[str, Any]:
        code = currency.strip().upper() if isinstance(currency, str) else currency
        if code is None or code in ("", self.reference):
            return properties
        names = [name for name in MONEY if name in properties]
        if not names:
            return properties
        rate = self.rates.get(code) if isinstance(code, str) else None
        kept = {name: value for name, value in properties.items() if name not in names and name != "currency"}
        worth = {name: _times(properties[name], rate) for name in names}
        kept |= {name: value for name, value in worth.items() if value is not None}
        if rate is not None:
            kept["currency"] = self.reference
        kept |= {name + ORIGINAL: properties[name] for name in names}
        return {**kept, "currency" + ORIGINAL: currency}


def is_unconverted(properties: Mapping[str, Any]) -> bool:
    """Whether an event's money, or that of a line of it, is in a currency that no rate is known of."""
    lines = properties.get("products")
    each = [properties, *(lines if isinstance(lines, list) else ())]
    return any("currency" + ORIGINAL in one and "currency" not in one for one in each if isinstance(one, Mapping))


def _times(amount: Any, rate: float | None) -> float | None:
    """The amount at this rate; None where it is no number."""
    if rate is None or isinstance(amount, bool) or not isinstance(amount, int | float):
        return None
    try:
        worth = float(amount) * rate
    except OverflowError:
        return None
    return round(worth, _PLACES) if math.isfinite(worth) else None
