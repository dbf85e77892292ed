"""Whom actions reach when nobody has asked: as decisions would, but for what says when."""

from datetime import timedelta
from typing import Any

import pytest

from decisioning.content import Channel, QuietHours
from decisioning.preferences import Preferences, Topics
from decisioning.profile import Consent, Facts, HotProfile, Purchase
from decisioning.reach import Reach, askable, channel_reaches, reach_of
from tests.builders import NOW, action, catalog, contact, placement, weekly_cap

EMAIL = Consent("marketing", "email")
BY_EMAIL = placement("newsletter", channel="email", slots=1, shown_by="sent")


def reach(shop: Any = None, *, features: dict[str, Any] | None = None, **hot: Any) -> Reach:
    facts = Facts(features=features or {}, hot=HotProfile(**hot), paused=hot.get("paused", ()))
    return reach_of(shop or catalog(), "c-1", facts, now=NOW)


def test_an_action_is_open_on_any_placement_that_a_decision_could_show_it_on() -> None:
    assert {"card", "loan"} <= reach().actions
    only_email = catalog(action(), placements=(BY_EMAIL,))
    assert reach(only_email).actions == frozenset()
    assert reach(only_email, consents=(EMAIL,)).actions == {"card"}
    assert reach(only_email, consents=(EMAIL,), suppressed=("email",)).actions == frozenset()


@pytest.mark.parametrize(
    ("shop", "hot"),
    [
        ({"eligibility": "customer.age > 30.0"}, {"features": {"age": 20.0}}),
        ({"promotes": ("rug",)}, {"purchases": (Purchase("rug", NOW),)}),
        ({}, {"paused": ("card",)}),
        ({}, {"preferences": Preferences(topics=Topics(exclude=("cards",)))}),
    ],
)
def test_rules_purchases_wishes_and_pauses_close_it(shop: dict[str, Any], hot: dict[str, Any]) -> None:
    made = catalog(action(**shop), topics=("cards",))
    assert reach(made, **hot).actions == frozenset()
    assert reach(made, features={"age": 40.0}).actions == {"card"}


def test_caps_and_quiet_hours_say_when_and_not_who() -> None:
    whole_day = QuietHours(id="q", begin="00:00", end="24:00")
    shop = catalog(action(), contact_policies=(weekly_cap(1),), quiet_hours=(whole_day,))
    assert reach(shop, contacts=(contact(),), consents=(EMAIL,)).actions == {"card"}


def test_without_consent_to_personalisation_stored_features_open_nothing() -> None:
    shop = catalog(action(eligibility="customer.age > 30.0"), personalisation="consent")
    assert reach(shop, features={"age": 40.0}).actions == frozenset()
    agreed = (Consent("personalisation", "web"),)
    assert reach(shop, features={"age": 40.0}, consents=agreed).actions == {"card"}


def test_of_a_rule_that_needs_the_request_nobody_can_say() -> None:
    shop = catalog(action(applicability="context.page == 'cart'"))
    assert reach(shop) == Reach(frozenset(), frozenset({"card"}))


def test_what_nobody_could_be_shown_now_has_no_size() -> None:
    shop = catalog(
        action("card"),
        action("draft", status="draft"),
        action("later", valid_from=NOW + timedelta(days=1)),
        action("bare", treatments=()),
        action("stopped"),
        action("no_action", group="other"),
    )
    assert askable(shop, paused=("stopped",), now=NOW) == ("card",)


def test_a_channel_reaches_who_consents_and_neither_objects_nor_is_suppressed() -> None:
    shop = catalog(channels=(Channel("web"), Channel("email")))
    assert channel_reaches(shop, "email", HotProfile())
    assert not channel_reaches(shop, "email", HotProfile(withdrawn=(EMAIL,)))
    assert channel_reaches(shop, "web", HotProfile(withdrawn=(Consent("marketing", "web"),)))
    assert not channel_reaches(shop, "email", HotProfile(suppressed=("email",)))
    assert not channel_reaches(catalog(), "email", HotProfile())
    assert channel_reaches(catalog(), "email", HotProfile(consents=(EMAIL,)))
