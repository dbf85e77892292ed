from datetime import timedelta
from typing import Any

import pytest

from decisioning import decision as funnel
from decisioning.catalog import Catalog
from decisioning.content import ContactPolicy, ContextWeight, CoolDown, QuietHours
from decisioning.content_types import NO_ACTION
from decisioning.decision import Narrowed
from decisioning.profile import Consent, Facts, HotProfile, Purchase
from tests.builders import CONSENTED, NOW, action, case, catalog, contact, placement

DAY, INSTANT = timedelta(days=1), timedelta(microseconds=1)


def narrowed(
    shop: Catalog,
    *,
    hot: HotProfile | None = CONSENTED,
    features: Any = None,
    paused: tuple[str, ...] = (),
    elsewhere: tuple[str, ...] = (),
    **asked: Any,
) -> Narrowed:
    facts = Facts(features=features or {}, hot=hot, paused=paused)
    return funnel.narrow(case(shop, **asked)._replace(elsewhere=elsewhere), facts)


def kept(result: Narrowed) -> list[str]:
    return [eligible.proposal.action.id for eligible in result.eligible]


def why(result: Narrowed) -> dict[str, tuple[str, str]]:
    return {drop.action_id: (drop.step, drop.reason) for drop in result.dropped}


def detail(result: Narrowed, action_id: str = "card") -> str:
    [found] = [drop.detail for drop in result.dropped if drop.action_id == action_id]
    return found


@pytest.mark.parametrize(
    ("change", "is_kept"),
    [
        ({"valid_from": NOW}, True),
        ({"valid_from": NOW + INSTANT}, False),
        ({"valid_until": NOW}, False),
        ({"valid_until": NOW + INSTANT}, True),
    ],
)
def test_validity_includes_its_first_instant_and_not_its_last(change: dict, is_kept: bool) -> None:
    assert kept(narrowed(catalog(action("card", **change)))) == (["card"] if is_kept else [])


@pytest.mark.parametrize(
    ("paused", "is_kept"), [("card", False), ("global/card", False), ("de/card", True), ("loan", True)]
)
def test_a_paused_action_is_no_candidate_in_its_market(paused: str, is_kept: bool) -> None:
    result = narrowed(catalog(action()), paused=(paused,))
    assert why(result) == ({} if is_kept else {"card": ("candidates", "PAUSED")})


def test_what_was_paused_stays_so_while_hot_state_is_away() -> None:
    assert why(narrowed(catalog(action()), hot=None, paused=("card",))) == {"card": ("candidates", "PAUSED")}


def test_what_another_placement_of_the_request_shows_is_not_shown_twice() -> None:
    assert why(narrowed(catalog(action()), elsewhere=("card",))) == {"card": ("candidates", "SHOWN_ELSEWHERE")}


def test_approved_actions_are_in_previews_only() -> None:
    shop = catalog(action(status="approved"))
    assert kept(narrowed(shop, mode="preview")) == ["card"]
    assert why(narrowed(shop)) == {"card": ("candidates", "NOT_LIVE")}


@pytest.mark.parametrize(
    ("change", "asked", "reason"),
    [
        ({"valid_until": NOW}, {}, "NO_LONGER_VALID"),
        ({"valid_from": NOW + INSTANT}, {}, "NOT_YET_VALID"),
        ({}, {"actions": ["loan"]}, "NOT_ASKED_FOR"),
        ({}, {"exclude": ["card"]}, "EXCLUDED"),
    ],
)
def test_a_preview_of_an_approved_action_asks_what_is_asked_of_a_live_one(
    change: dict, asked: dict, reason: str
) -> None:
    shop = catalog(action("card", status="approved", **change), action("loan"))
    assert why(narrowed(shop, mode="preview", **asked))["card"] == ("candidates", reason)


def test_a_suppressed_channel_gets_nothing_though_it_needs_no_consent() -> None:
    shop = catalog(action(), action(NO_ACTION))
    result = narrowed(shop, hot=HotProfile(suppressed=("web",)))
    assert kept(result) == [NO_ACTION]
    assert why(result) == {"card": ("consent", "SUPPRESSED")}


@pytest.mark.parametrize(
    ("consents", "suppressed", "reason"),
    [
        ((Consent("marketing", "email"),), (), None),
        ((Consent("marketing", "sms"),), (), "NO_CONSENT"),
        ((Consent("personalisation", "email"),), (), "NO_CONSENT"),
        ((Consent("marketing", "email"),), ("email",), "SUPPRESSED"),
    ],
)
def test_consent_is_to_one_purpose_on_one_channel(consents: Any, suppressed: Any, reason: str | None) -> None:
    hot = HotProfile(consents=consents, suppressed=suppressed)
    result = narrowed(catalog(action()), hot=hot, placement="newsletter")
    assert why(result) == ({} if reason is None else {"card": ("consent", reason)})


@pytest.mark.parametrize(
    ("again_after", "bought_ago", "is_kept"),
    [(None, 9 * DAY, False), (9 * DAY, 9 * DAY - INSTANT, False), (9 * DAY, 9 * DAY, True)],
)
def test_who_bought_the_product_is_not_offered_it_or_not_yet(again_after: Any, bought_ago: Any, is_kept: bool) -> None:
    shop = catalog(action(promotes=("p1", "p2"), again_after=again_after))
    result = narrowed(shop, hot=HotProfile(purchases=(Purchase("p2", NOW - bought_ago),)))
    assert kept(result) == (["card"] if is_kept else [])
    assert is_kept or why(result) == {"card": ("engagement_policy", "ALREADY_BOUGHT")}


def test_purchases_of_other_products_do_not_matter() -> None:
    bought = HotProfile(purchases=(Purchase("p9", NOW),))
    assert kept(narrowed(catalog(action(promotes=("p1",)), action("loan")), hot=bought)) == ["card", "loan"]


def test_an_accepted_action_is_followed_up() -> None:
    shop = catalog(action(follow_up="loan"), action("loan"), continuity=DAY)
    result = narrowed(shop, hot=HotProfile(contacts=(contact(ago=DAY, accepted_at=NOW - INSTANT),)))
    assert why(result) == {"card": ("engagement_policy", "FOLLOWED_UP")}
    assert "loan" in detail(result)


@pytest.mark.parametrize(("role", "is_kept"), [("champion", True), ("user", False), (None, False)])
def test_an_action_for_buying_roles_is_for_nobody_else(role: str | None, is_kept: bool) -> None:
    result = narrowed(catalog(action(buying_roles=("decision_maker", "champion"))), features={"buying_role": role})
    assert bool(result.eligible) is is_kept
    assert is_kept or why(result) == {"card": ("engagement_policy", "BUYING_ROLE")}


@pytest.mark.parametrize("part", ["eligibility", "applicability", "suitability"])
def test_the_first_part_that_does_not_hold_is_named_with_the_rule_as_it_was_written(part: str) -> None:
    shop = catalog(action(**{part: "customer.age > 50.0"}))
    result = narrowed(shop, features={"age": 41.0})
    assert why(result) == {"card": ("engagement_policy", part.upper())}
    assert detail(result) == "customer.age > 50.0"


@pytest.mark.parametrize("part", ["eligibility", "applicability", "suitability"])
def test_an_error_in_any_part_drops_the_action(part: str) -> None:
    result = narrowed(catalog(action(**{part: "!(customer.age > 50.0)"})), features={"age": None})
    assert why(result) == {"card": ("engagement_policy", "RULE_ERROR")}


def test_an_error_in_a_later_part_does_not_hide_that_an_earlier_one_is_false() -> None:
    shop = catalog(action(eligibility="false", suitability="customer.age > 50.0"))
    assert why(narrowed(shop, features={"age": None})) == {"card": ("engagement_policy", "ELIGIBILITY")}
    shop = catalog(action(eligibility="customer.age > 50.0", suitability="false"))
    assert why(narrowed(shop, features={"age": None})) == {"card": ("engagement_policy", "RULE_ERROR")}


def test_an_error_in_a_context_weight_drops_the_action_and_no_other() -> None:
    weight = ContextWeight("customer.age > 50.0", 2.0)
    result = narrowed(catalog(action(context_weights=(weight,)), action("loan")), features={"age": None})
    assert kept(result) == ["loan"]
    assert why(result) == {"card": ("engagement_policy", "RULE_ERROR")}


@pytest.mark.parametrize(
    ("value", "age", "expected"),
    [
        ("customer.age * 2.0", 20.0, 40.0),
        ("customer.age * 2.0", None, None),
        ("0.0 - customer.age", 20.0, None),
        ("customer.age / 0.0", 20.0, None),
        ("0.0 * customer.age", 20.0, 0.0),
    ],
)
def test_a_value_by_rule_is_a_finite_number_of_at_least_0(value: str, age: Any, expected: float | None) -> None:
    result = narrowed(catalog(action(value=value)), features={"age": age})
    assert [eligible.value for eligible in result.eligible] == ([] if expected is None else [expected])
    assert expected is not None or why(result) == {"card": ("engagement_policy", "RULE_ERROR")}


def test_a_value_by_rule_is_converted_into_the_catalogues_currency() -> None:
    shop = catalog(action(value="customer.age", currency="CHF"), rates={"CHF": 1.5})
    assert [eligible.value for eligible in narrowed(shop, features={"age": 20.0}).eligible] == [30.0]


def test_a_cool_down_drops_what_was_rejected() -> None:
    shop = catalog(action(), action("loan"), cool_downs=(CoolDown(id="no", after="reject", lasting=9 * DAY),))
    result = narrowed(shop, hot=HotProfile(contacts=(contact(rejected_at=NOW - DAY),)))
    assert why(result) == {"card": ("contact_policy", "COOL_DOWN")}
    assert detail(result) == "no: after reject, until 2026-03-10T12:00+00:00"


def test_showing_nothing_is_not_capped_and_meets_no_quiet_hours_and_needs_no_consent() -> None:
    shop = catalog(
        action(),
        action(NO_ACTION),
        contact_policies=(ContactPolicy("never", limit=0, within=DAY),),
        quiet_hours=(QuietHours(id="noon", begin="11:00", end="13:00"),),
        placements=(placement("newsletter", channel="email", shown_by="sent"),),
    )
    for hot in (HotProfile(), CONSENTED, None):
        assert kept(narrowed(shop, hot=hot, placement="newsletter")) == [NO_ACTION]
