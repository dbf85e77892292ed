from typing import Any

import pytest

from decisioning.catalog_checks import mistakes
from decisioning.content import Journey, Stage, Transition
from decisioning.event_content import Source
from decisioning.vocabulary import Vocabulary
from tests.builders import content

TILL = Source(
    id="till",
    owner="ann",
    currency="CHF",
    events={"sale": "purchase", "Order Completed": "till_closed"},
    properties={"amount": "value", "article": "product_id"},
    ignored=("heartbeat",),
)


def test_a_source_s_own_meaning_comes_before_the_specification_s() -> None:
    vocabulary = Vocabulary([TILL])
    assert vocabulary.translate("till", "Order Completed", {}).name == "till_closed"
    assert vocabulary.translate("web", "Order Completed", {}).name == "purchase"


def test_properties_are_renamed_those_of_lines_too() -> None:
    translated = Vocabulary([TILL]).translate(
        "till", "sale", {"amount": 3.0, "products": [{"article": "rug"}, {"sku": "x", "product_id": "sofa"}, "odd"]}
    )
    assert translated.properties == {
        "value": 3.0,
        "products": [{"product_id": "rug"}, {"product_id": "sofa"}, "odd"],
        "currency": "CHF",
    }


def test_what_bears_our_name_counts_before_what_is_called_otherwise() -> None:
    assert Vocabulary().translate("web", "x", {"value": 1.0, "revenue": 2.0, "total": 3.0}).properties == {"value": 1.0}
    assert Vocabulary().translate("web", "x", {"total": 3.0, "revenue": 2.0}).properties == {"value": 2.0}
    said = Vocabulary([TILL]).translate("till", "sale", {"currency": "EUR"})
    assert said.properties == {"currency": "EUR"}


def test_what_is_ignored_is_nothing_and_what_nobody_mapped_says_so() -> None:
    vocabulary = Vocabulary([TILL])
    assert vocabulary.translate("till", "heartbeat", {}) is None
    unmapped = vocabulary.translate("till", "Größe  gewählt!", {})
    assert (unmapped.name, unmapped.mapped) == ("größe_gewählt", False)
    assert vocabulary.translate("till", "purchase", {}).mapped


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"events": {"x": "click"}}, "sources[s].events: 'x' is called click, which only outcomes of decisions are"),
        ({"events": {"x": "Sale"}}, "sources[s].events: 'x' is called 'Sale', must be small letters"),
        ({"events": {"x": "sale"}, "ignored": ("x",)}, "sources[s].ignored: 'x' has a meaning in events too"),
    ],
)
def test_wrong_meanings_are_named(source: dict[str, Any], said: str) -> None:
    [found] = mistakes(content(sources=(Source(id="s", **source),)))
    assert found.startswith(said)


def test_a_journey_moves_by_what_sources_tell_and_by_nothing_else() -> None:
    def found(on: str) -> list[str]:
        stages = (Stage(id="new", name="New"), Stage(id="shopping", name="Shopping"))
        moved = Journey(id="j", stages=stages, transitions=(Transition(source="new", target="shopping", on=on),))
        return mistakes(content(journeys=(moved,), sources=(TILL,), rates={"CHF": 1.05}))

    assert found("cart_added") == found("till_closed") == []
    assert found("cart_added:card")[0].startswith("journeys[j].transitions[0].on: 'cart_added' is not defined")
    assert found("sale")[0].startswith("journeys[j].transitions[0].on: 'sale' is not defined")


def test_products_and_people_go_by_our_ids() -> None:
    till = Source(
        id="till", owner="omar", properties={"article": "product_id"}, products={"4711": "sofa"}, id_prefix="till-"
    )
    vocabulary = Vocabulary([till])
    translated = vocabulary.translate(
        "till", "sale", {"article": 4711, "products": [{"article": "4711"}, {"article": "12"}]}
    )
    assert translated is not None
    assert translated.properties == {"product_id": "sofa", "products": [{"product_id": "sofa"}, {"product_id": "12"}]}
    assert [vocabulary.person_id(source, "17") for source in ("till", "web")] == ["till-17", "17"]
    assert vocabulary.person_id("till", None) is None
