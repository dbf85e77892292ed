"""One vocabulary: what each source calls an event or a property, and what it is called here.

Names of the Segment specification are known. Every other name is written in small letters and
underscores, and counts as unmapped until a source's entry in the catalogue says what it means. Money
is put into the catalogue's currency (`currencies`).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from decisioning.currencies import Currencies, is_unconverted
from decisioning.event_content import Source

# https://segment.com/docs/connections/spec/ecommerce/v2/ and .../ab-testing/
STANDARD_EVENTS: Mapping[str, str] = {
    "Products Searched": "products_searched",
    "Product List Viewed": "product_list_viewed",
    "Product Clicked": "product_clicked",
    "Product Viewed": "product_viewed",
    "Product Added": "cart_added",
    "Product Removed": "cart_removed",
    "Cart Viewed": "cart_viewed",
    "Checkout Started": "checkout_started",
    "Order Completed": "purchase",
    "Order Refunded": "order_refunded",
    "Order Cancelled": "order_cancelled",
    "Product Added to Wishlist": "wishlist_added",
    "Signed Up": "signed_up",
    "Signed In": "signed_in",
    "Experiment Viewed": "experiment_viewed",
}
# What comes first counts where a source sends several.
STANDARD_PROPERTIES: Mapping[str, str] = {"revenue": "value", "total": "value", "sku": "product_id"}
_NOT_OF_A_NAME = re.compile(r"\W+")


class Translated(NamedTuple):
    """An event in our vocabulary; `mapped` is whether anybody has said what its name and its money mean."""

    name: str
    properties: dict[str, Any]
    mapped: bool


class Vocabulary:
    """What the sources of a catalogue mean.

    >>> shop = Source(id="till", owner="ann", events={"sale": "purchase"}, properties={"amount": "value"})
    >>> vocabulary = Vocabulary([shop])
    >>> vocabulary.translate("till", "sale", {"amount": 9.5})
    Translated(name='purchase', properties={'value': 9.5}, mapped=True)
    >>> vocabulary.translate("web", "Order Completed", {"revenue": 20.0}).name
    'purchase'
    >>> vocabulary.translate("web", "Song Played", {})
    Translated(name='song_played', properties={}, mapped=False)
    """

    def __init__(self, sources: Iterable[Source] = (), currencies: Currencies | None = None) -> None:
        """Without `currencies`, money stays as it is said."""
        self._sources = {source.id: source for source in sources}
        self._currencies = currencies

    @property
    def names(self) -> frozenset[str]:
        """Every event name that somebody has given a meaning."""
        return frozenset(STANDARD_EVENTS.values()).union(*(s.events.values() for s in self._sources.values()))

    def source(self, name: str) -> Source | None:
        """The catalogue's entry for who sends under this name, if it has one."""
        return self._sources.get(name)

    def person_id(self, source: str, said: str | None) -> str | None:
        """Whom a source means by an id of theirs.

        >>> Vocabulary([Source(id="till", id_prefix="till-")]).person_id("till", "17")
        'till-17'
        """
        known = self._sources.get(source)
        return said if said is None or known is None else known.id_prefix + said

    def translate(
        self, source: str, event: str, properties: Mapping[str, Any], *, market: str | None = None
    ) -> Translated | None:
        """The event as rules, features and moments know it; None where its source says that it is not wanted.

        `market` is the customer's: what money is in where neither event nor source says so.
        """
        known = self._sources.get(source)
        if known is not None and event in known.ignored:
            return None
        meant = (known.events.get(event) if known else None) or STANDARD_EVENTS.get(event)
        given = dict(STANDARD_PROPERTIES) if known is None else {**STANDARD_PROPERTIES, **known.properties}
        products = known.products if known is not None else {}
        renamed = _of_products(_renamed(properties, given), products)
        lines = renamed.get("products")
        if isinstance(lines, list):
            renamed["products"] = [
                _of_products(_renamed(line, given), products) if isinstance(line, Mapping) else line for line in lines
            ]
        meant_in = known.currency if known is not None else None
        if meant_in is None and self._currencies is not None and market is not None:
            meant_in = self._currencies.of_markets.get(market)
        if meant_in is not None and not renamed.get("currency"):
            renamed["currency"] = meant_in
        if self._currencies is not None:
            renamed = self._currencies.converted(renamed)
        name = meant or _NOT_OF_A_NAME.sub("_", event).strip("_").lower()
        named = meant is not None or (known is not None and event in self.names)
        return Translated(name, renamed, named and not is_unconverted(renamed))


def _of_products(properties: dict[str, Any], products: Mapping[str, str]) -> dict[str, Any]:
    """With the product under our name."""
    if products and "product_id" in properties:
        said = properties["product_id"]
        properties["product_id"] = products.get(str(said), said)
    return properties


def _renamed(properties: Mapping[str, Any], meaning: Mapping[str, str]) -> dict[str, Any]:
    """Under our names; what bears our name already counts before what is called otherwise."""
    renamed = {name: value for name, value in properties.items() if name not in meaning}
    for said, name in meaning.items():
        if said in properties and name not in renamed:
            renamed[name] = properties[said]
    return renamed
