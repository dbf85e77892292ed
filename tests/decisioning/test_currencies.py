from typing import Any

import pytest

from decisioning.catalog import Release
from decisioning.catalog_checks import mistakes
from decisioning.content_types import BLUEPRINT
from decisioning.currencies import Currencies, is_unconverted
from decisioning.event_content import Source
from decisioning.vocabulary import Vocabulary
from tests.builders import content

SHOP = Currencies("EUR", rates={"CHF": 1.05, "USD": 0.9}, of_markets={"ch": "CHF"})
TILL = Source(id="till", currency="USD")


def said(properties: dict[str, Any], *, source: str = "web", market: str | None = None) -> dict[str, Any]:
    translated = Vocabulary([TILL], SHOP).translate(source, "Order Completed", properties, market=market)
    assert translated is not None
    return translated.properties


def test_money_in_the_catalogue_s_currency_stays_as_it_is() -> None:
    assert said({"revenue": 20.0, "currency": "EUR"}) == {"value": 20.0, "currency": "EUR"}
    assert said({"revenue": 20.0}) == {"value": 20.0}


def test_money_in_another_currency_is_converted_and_what_was_said_is_kept() -> None:
    assert said({"revenue": 20.0, "tax": 2, "coupon": "x", "currency": "chf "}) == {
        "value": 21.0, "tax": 2.1, "coupon": "x", "currency": "EUR",
        "value_original": 20.0, "tax_original": 2, "currency_original": "chf ",
    }  # fmt: skip


def test_without_a_word_of_the_event_the_source_s_currency_counts_and_then_the_market_s() -> None:
    assert said({"value": 10.0}, source="till", market="ch")["value"] == 9.0
    assert said({"value": 10.0}, market="ch")["value"] == 10.5
    assert said({"value": 10.0, "currency": None}, market="ch")["value"] == 10.5
    assert said({"value": 19.9}, market="ch")["value"] == 20.895
    assert said({"value": 10.0}, market="de")["value"] == 10.0
    assert said({"value": 10.0, "currency": "EUR"}, source="till", market="ch")["value"] == 10.0


def test_lines_of_an_order_are_in_their_own_currency_or_in_that_of_the_order() -> None:
    lines = [{"price": 10.0}, {"price": 10.0, "currency": "USD"}, {"price": 10.0, "currency": "EUR"}, "odd", {"sku": 1}]
    converted = said({"value": 10.0, "currency": "CHF", "products": lines})
    assert converted["value"] == 10.5
    assert [line.get("price") for line in converted["products"] if isinstance(line, dict)] == [10.5, 9.0, 10.0, None]
    assert converted["products"][0] == {
        "price": 10.5, "currency": "EUR", "price_original": 10.0, "currency_original": "CHF"
    }  # fmt: skip
    assert converted["products"][3:] == ["odd", {"product_id": 1}]


@pytest.mark.parametrize("currency", ["DKK", 7, ["CHF"]])
def test_money_in_a_currency_without_a_rate_is_no_money_and_counts_as_unmapped(currency: Any) -> None:
    translated = Vocabulary([TILL], SHOP).translate("web", "Order Completed", {"value": 10.0, "currency": currency})
    assert translated is not None
    assert translated.properties == {"value_original": 10.0, "currency_original": currency}
    assert not translated.mapped
    assert is_unconverted({"products": [{"price_original": 1.0, "currency_original": "DKK"}]})
    assert Vocabulary([TILL], SHOP).translate("web", "Order Completed", {"value": 10.0, "currency": "CHF"}).mapped  # type: ignore[union-attr]


@pytest.mark.parametrize("amount", ["9.50", True, float("inf"), 10**400, 1.79e308])
def test_an_amount_that_cannot_be_converted_is_kept_and_is_no_money(amount: Any) -> None:
    assert said({"value": amount, "currency": "CHF"}) == {
        "currency": "EUR", "value_original": amount, "currency_original": "CHF"
    }  # fmt: skip


def test_an_event_without_money_stays_as_it_is_said() -> None:
    assert said({"colour": "red"}, market="ch") == {"colour": "red", "currency": "CHF"}
    assert said({"currency": "DKK"}) == {"currency": "DKK"}


def test_a_release_converts_by_the_blueprint_s_rates_and_each_market_s_currency() -> None:
    blueprint = content(rates={"CHF": 1.05}, sources=(Source(id="till", market="ch"),))
    swiss = content(rates={"CHF": 1.05}, market="ch", market_currency="CHF")
    release = Release({BLUEPRINT: blueprint, "ch": swiss}, version="sha256:test")
    for market, value in (("ch", 10.5), (None, 10.0)):
        translated = release.vocabulary.translate("web", "Order Completed", {"value": 10.0}, market=market)
        assert translated is not None
        assert translated.properties["value"] == value


def test_a_source_whose_currency_has_no_rate_is_a_mistake() -> None:
    [found] = mistakes(content(sources=(TILL,)))
    assert found == "sources[till].currency: rates lacks USD: what one unit is worth in EUR"
    assert mistakes(content(sources=(TILL,), rates={"USD": 0.9})) == []
