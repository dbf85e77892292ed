"""Where the model is an apprentice, the caller's own order is served, and the model only says what it would do."""

from datetime import timedelta
from typing import Any

import pytest

from decisioning.catalog import Catalog
from decisioning.content_types import NO_ACTION
from decisioning.experiment_content import Holdout
from decisioning.explain import explain
from decisioning.profile import HotProfile
from decisioning.record import DecisionRecord
from decisioning.replay import replay
from tests.builders import CONSENTED, action, catalog, contact, placement, weekly_cap
from tests.serving.test_engine import Shop, shown


def apprentices(*actions: Any, slots: int = 2, **overrides: Any) -> Catalog:
    hero = placement(slots=slots, apprentice=True)
    return catalog(*actions, **({"placements": (hero,)} | overrides))


def decided(shop: Catalog | None = None, *, hot: HotProfile = CONSENTED, **asked: Any) -> DecisionRecord:
    return Shop(shop or apprentices(), hot=hot).decide(**asked)


def test_the_callers_order_is_served_whatever_the_model_says() -> None:
    assert shown(decided(actions=["loan", "card"])) == ["loan", "card"]
    assert shown(decided(actions=["card", "loan"])) == ["card", "loan"]


def test_nothing_was_drawn_so_nothing_has_a_probability() -> None:
    record = decided(actions=["loan", "card"])
    assert record.apprentice
    assert not record.drawn
    assert [slot.probability for slot in record.slots] == [None, None]


def test_candidates_say_what_the_policy_would_have_done() -> None:
    record, live = decided(actions=["loan", "card"]), Shop(catalog()).decide(actions=["loan", "card"])
    assert record.candidates == live.candidates
    assert all(candidate.priority is not None for candidate in record.candidates)


def test_without_an_order_of_the_callers_the_catalogues_is_served_and_showing_nothing_comes_last() -> None:
    shop = apprentices(action(NO_ACTION, group="other"), action("loan"), action("card"), slots=1)
    assert shown(decided(shop)) == ["loan"]


def test_the_caller_may_choose_to_show_nothing() -> None:
    assert shown(decided(actions=[NO_ACTION, "card"])) == [NO_ACTION]


def test_an_action_that_is_named_twice_stands_where_it_is_named_first() -> None:
    assert shown(decided(actions=["loan", "card", "loan"])) == ["loan", "card"]


@pytest.mark.parametrize(
    ("shop", "hot"),
    [
        (apprentices(contact_policies=(weekly_cap(limit=1, per="action"),)), HotProfile(contacts=(contact("loan"),))),
        (apprentices(action("card"), action("loan", eligibility="customer.age > 60.0")), CONSENTED),
        (apprentices(action("card"), action("loan", status="retired")), CONSENTED),
        (apprentices(), HotProfile(paused=("loan",))),
    ],
    ids=["cap", "rule", "retired", "paused"],
)
def test_what_the_customer_may_not_get_is_not_served_though_the_caller_wants_it(shop: Catalog, hot: HotProfile) -> None:
    assert shown(decided(shop, hot=hot, actions=["loan", "card"])) == ["card"]


def test_an_apprentice_does_not_go_on_from_what_was_shown_before() -> None:
    shop = apprentices(continuity=timedelta(days=3))
    hot = HotProfile(contacts=(contact("card", ago=timedelta(hours=2), placement="home_hero"),))
    assert shown(decided(shop, hot=hot, actions=["loan", "card"])) == ["loan", "card"]


def test_the_control_keeps_the_status_quo_which_is_the_callers_order() -> None:
    record = decided(apprentices(holdout=Holdout(share=1.0)), actions=["loan", "card"])
    assert (record.reason, shown(record)) == ("HOLDOUT", ["loan", "card"])
    assert [drop for drop in record.dropped if drop.step == "fallback"] == []


def test_without_a_model_the_callers_order_is_served_unscored() -> None:
    shop = Shop(apprentices())
    shop.engine.scorer = None
    record = shop.decide(actions=["loan", "card"])
    assert (record.reason, shown(record), record.apprentice) == ("FALLBACK_MODEL_UNAVAILABLE", ["loan", "card"], True)


def test_without_hot_state_nobody_can_say_what_is_allowed_so_fallbacks_alone_are_served() -> None:
    shop = Shop(apprentices(action("card"), action("loan", fallback=True)))
    shop.hot_state.down = True
    record = shop.decide(actions=["card", "loan"])
    assert (shown(record), record.apprentice) == (["loan"], False)


def test_it_replays_bit_for_bit() -> None:
    shop = Shop(apprentices())
    record = shop.decide(actions=["loan", "card"])
    assert replay(record, shop.engine.release.blueprint, key=b"0123456789abcdef").verdict == "identical"


def test_it_is_explained_as_the_callers_choice() -> None:
    explained = explain(decided(actions=["loan", "card"]))
    assert "caller's own order" in explained.how
    assert explained.shown[0].why.startswith("the caller's choice; the policy would have drawn it with probability")
    assert explained.losers == ()
