"""Features over events in decisions: what was told is known to the very next one, exactly, or not at all."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from decisioning.content import FeatureTypes
from decisioning.event_content import EventFeature
from decisioning.event_state import MARGIN
from decisioning.events import EventRecord
from decisioning.profile import Consent, HotProfile
from decisioning.record import DecisionRecord
from serving.events import Reported
from tests.builders import NOW, action, catalog, request
from tests.serving.test_engine import Shop, shown

DECLARED = (
    EventFeature(id="orders", event="purchase", compute="count", windows=(timedelta(days=7),)),
    EventFeature(id="since_page", event="page", compute="recency"),
)
UNKNOWN = {"orders_7d": None, "since_page": None}
RULE = "customer.orders_7d != null && customer.orders_7d >= 2.0"


def shop_with(*, hot: HotProfile | None = None, **overrides: Any) -> Shop:
    actions = (action("card", eligibility=RULE), action("loan"))
    known = FeatureTypes(customer={"age": "number", "city": "text", "account_id": "text"})
    given = {"event_features": DECLARED, "features": known, "personalisation": "default", **overrides}
    return Shop(catalog(*actions, **given), **({} if hot is None else {"hot": hot}))


@pytest.fixture
def shop() -> Shop:
    return shop_with()


def tell(shop: Shop, message: str, **fields: Any) -> None:
    given = {"type": "track", "name": "purchase", "customer_id": "c-1", "occurred_at": NOW, "received_at": NOW}
    event = EventRecord(event_id=f"shop/{message}", source="shop", **(given | fields))
    asyncio.run(shop.engine.record_events([Reported(event, "a")]))


def decide(shop: Shop, *, stored_first: bool = False, **fields: Any) -> DecisionRecord:
    [record] = asyncio.run(shop.engine.decide_placements(request(**fields), now=NOW, stored_first=stored_first))
    return record


def over_events(record: DecisionRecord) -> dict[str, Any]:
    return {name: record.features[name] for name in UNKNOWN}


def test_a_rule_counts_what_was_told_a_moment_ago(shop: Shop) -> None:
    tell(shop, "1")
    assert "card" not in shown(decide(shop))
    tell(shop, "2")
    record = decide(shop)
    assert "card" in shown(record)
    assert over_events(record) == {"orders_7d": 2.0, "since_page": None}
    assert record.features["city"] == "ulm"


def test_what_is_no_purchase_is_told_to_features_that_look_at_it(shop: Shop) -> None:
    tell(shop, "1", type="page", name="page", occurred_at=NOW - timedelta(hours=3))
    assert decide(shop).features["since_page"] == 3.0


def test_the_same_event_told_again_counts_once(shop: Shop) -> None:
    tell(shop, "1")
    tell(shop, "1")
    assert decide(shop).features["orders_7d"] == 1.0


def test_until_the_history_is_in_the_states_features_are_unknown_and_not_zero(shop: Shop) -> None:
    tell(shop, "1")
    shop.hot_state.complete = False
    record = decide(shop)
    assert over_events(record) == UNKNOWN
    assert "card" not in shown(record)


def test_a_request_supplies_a_feature_over_events_by_its_name(shop: Shop) -> None:
    record = decide(shop, context={"orders_7d": 5})
    assert (record.features["orders_7d"], record.overridden) == (5.0, ("orders_7d",))
    assert "card" in shown(record)


@pytest.mark.parametrize("lose", [lambda shop: None, lambda shop: setattr(shop.hot_state, "complete", False)])
def test_a_page_supplies_no_feature_that_is_known_or_of_which_nobody_can_tell(shop: Shop, lose: Any) -> None:
    lose(shop)
    record = decide(shop, context={"orders_7d": 5}, stored_first=True)
    assert record.overridden == ()
    assert "card" not in shown(record)


def test_who_must_not_be_known_has_none() -> None:
    shop = shop_with(personalisation="consent", hot=HotProfile())
    tell(shop, "1")
    tell(shop, "2")
    record = decide(shop)
    assert (record.personal, over_events(record)) == (False, UNKNOWN)
    assert "card" not in shown(record)


def test_a_visitor_has_features_of_that_visitor_alone_and_the_customer_those_of_both() -> None:
    shop = shop_with(hot=HotProfile(consents=(Consent("personalisation", "web"),)))
    tell(shop, "1", customer_id=None, anonymous_id="v")
    tell(shop, "2")
    tell(shop, "login", type="identify", name="identify", anonymous_id="v")
    assert decide(shop, customer_id=None, anonymous_id="v").features["orders_7d"] == 1.0
    assert decide(shop).features["orders_7d"] == 2.0


def test_without_hot_state_nothing_is_known_of_events(shop: Shop) -> None:
    tell(shop, "1")
    shop.hot_state.down = True
    assert over_events(decide(shop)) == UNKNOWN


def test_of_long_ago_states_have_forgotten_what_they_need_no_more(shop: Shop) -> None:
    tell(shop, "1", occurred_at=NOW - timedelta(days=2))
    just = decide(shop, now=(NOW - MARGIN).isoformat())
    assert over_events(just) == {"orders_7d": 1.0, "since_page": None}
    longer = (NOW - MARGIN - timedelta(seconds=1)).isoformat()
    assert over_events(decide(shop, now=longer)) == UNKNOWN
    assert over_events(decide(shop, customer_id="c-2", now=longer)) == UNKNOWN, "of whom all may be forgotten"


def test_a_decision_with_features_over_events_comes_out_again_from_its_record(shop: Shop) -> None:
    tell(shop, "1")
    tell(shop, "2")
    record = decide(shop)
    tell(shop, "3")
    assert asyncio.run(shop.engine.replay(record.decision_id)).identical


def test_a_release_that_declares_none_costs_nothing() -> None:
    shop = Shop()
    asked: list[Any] = []
    read = shop.hot_state.read

    async def reading(*given: Any, **named: Any) -> HotProfile:
        asked.append(named["states"])
        return await read(*given, **named)

    shop.hot_state.read = reading  # type: ignore[method-assign]
    tell(shop, "1", type="page", name="page")
    assert "orders_7d" not in shop.decide().features
    assert (asked, shop.hot_state.states) == ([None], {})
