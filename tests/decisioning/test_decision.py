from datetime import timedelta

import msgspec
import numpy as np
import pytest

from decisioning import decision as funnel
from decisioning.case import assigned, placement_of
from decisioning.catalog import Catalog
from decisioning.content import ContextWeight, FeatureTypes
from decisioning.content_types import NO_ACTION
from decisioning.decision import Narrowed
from decisioning.errors import RequestError, UnknownAction, UnknownPlacement
from decisioning.profile import Facts, HotProfile
from decisioning.record import Assignment
from decisioning.scores import Scores
from tests.builders import CONSENTED, NOW, action, case, catalog, contact, experiment, placement, request, weekly_cap


def narrowed(shop: Catalog, *, hot: HotProfile | None = CONSENTED, features: dict | None = None, **asked) -> Narrowed:
    return funnel.narrow(case(shop, **asked), Facts(features=features or {}, hot=hot))


def variants(shop: Catalog, facts: Facts = Facts(hot=CONSENTED), **asked) -> tuple[Assignment, ...]:  # noqa: B008
    return assigned(case(shop, **asked), facts).assignments


def kept(result: Narrowed) -> list[str]:
    return [candidate.proposal.action.id for candidate in result.eligible]


def why(result: Narrowed, action_id: str) -> tuple[str, str]:
    [drop] = [drop for drop in result.dropped if drop.action_id == action_id]
    return drop.step, drop.reason


def test_a_live_action_with_a_treatment_is_a_candidate() -> None:
    assert kept(narrowed(catalog())) == ["card", "loan", NO_ACTION]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "draft"}, "NOT_LIVE"),
        ({"status": "retired"}, "NOT_LIVE"),
        ({"valid_from": NOW + timedelta(seconds=1)}, "NOT_YET_VALID"),
        ({"valid_until": NOW}, "NO_LONGER_VALID"),
        ({"treatments": ()}, "NO_TREATMENT"),
    ],
)
def test_what_is_not_live_here_and_now_is_no_candidate(change: dict, reason: str) -> None:
    result = narrowed(catalog(action("card", **change), action("loan")))
    assert kept(result) == ["loan"]
    assert why(result, "card") == ("candidates", reason)


def test_an_action_is_valid_from_its_first_instant() -> None:
    assert kept(narrowed(catalog(action("card", valid_from=NOW)))) == ["card"]


def test_the_caller_can_restrict_and_exclude() -> None:
    result = narrowed(catalog(), actions=["card", "loan"], exclude=["loan"])
    assert kept(result) == ["card"]
    assert why(result, "loan") == ("candidates", "EXCLUDED")
    assert why(result, NO_ACTION) == ("candidates", "NOT_ASKED_FOR")


def test_without_consent_nothing_goes_out_by_email() -> None:
    result = narrowed(catalog(), hot=HotProfile(), placement="newsletter")
    assert kept(result) == [NO_ACTION]
    assert why(result, "card") == ("consent", "NO_CONSENT")


def test_a_rule_that_is_false_drops_and_names_its_part() -> None:
    result = narrowed(catalog(action("card", suitability="customer.age < 30")), features={"age": 41.0})
    assert why(result, "card") == ("engagement_policy", "SUITABILITY")


def test_a_rule_that_errs_drops_even_when_negated() -> None:
    result = narrowed(catalog(action("card", eligibility="!(customer.age < 18.0)")), features={"age": None})
    assert why(result, "card") == ("engagement_policy", "RULE_ERROR")


def test_a_list_that_is_not_known_is_empty_so_a_rule_over_it_can_be_judged() -> None:
    known = FeatureTypes(customer={"answers_for": "texts"}, account={"sites": "texts"})
    rule = "!('it' in customer.answers_for) && account.sites.size() < 2"
    shop = catalog(action("card", eligibility=rule), features=known)
    assert kept(narrowed(shop, features={"answers_for": None})) == ["card"]
    assert why(narrowed(shop, features={"answers_for": ("it",)}), "card") == ("engagement_policy", "ELIGIBILITY")


def test_a_rule_sees_the_action_it_belongs_to() -> None:
    rich = action("card", attributes={"margin": 3.0}, eligibility="action.margin > 2.0")
    poor = action("loan", attributes={"margin": 1.0}, eligibility="action.margin > 2.0")
    assert kept(narrowed(catalog(rich, poor))) == ["card"]


def test_context_weights_multiply_while_they_hold() -> None:
    weights = (ContextWeight("context.device == 'mobile'", 2.0), ContextWeight("customer.age > 90.0", 5.0))
    result = narrowed(
        catalog(action("card", context_weights=weights)), features={"age": 41.0}, context={"device": "mobile"}
    )
    assert result.eligible[0].context_weight == 2.0


def test_an_action_at_its_cap_is_suppressed() -> None:
    shop = catalog(contact_policies=(weekly_cap(2),))
    result = narrowed(shop, hot=HotProfile(contacts=(contact(), contact(ago=timedelta(days=2)))))
    assert kept(result) == [NO_ACTION]
    assert why(result, "card") == ("contact_policy", "CAP_REACHED")


def test_a_contact_exactly_one_window_old_no_longer_counts() -> None:
    shop = catalog(contact_policies=(weekly_cap(1),))
    assert "card" in kept(narrowed(shop, hot=HotProfile(contacts=(contact(ago=timedelta(days=7)),))))


@pytest.mark.parametrize(
    ("cap", "left"),
    [
        ({"per": "any"}, [NO_ACTION]),
        ({"per": "group"}, ["loan", NO_ACTION]),
        ({"per": "action"}, ["gold", "loan", NO_ACTION]),
        ({"per": "channel"}, [NO_ACTION]),
        ({"per": "channel", "only": "email"}, ["card", "gold", "loan", NO_ACTION]),
        ({"per": "group", "only": "cards"}, ["loan", NO_ACTION]),
    ],
)
def test_a_cap_counts_what_it_says(cap: dict, left: list[str]) -> None:
    actions = (action("card"), action("gold"), action("loan", group="loans"), action(NO_ACTION, group="other"))
    shop = catalog(*actions, contact_policies=(weekly_cap(1, **cap),))
    assert kept(narrowed(shop, hot=HotProfile(contacts=(contact("card"),)))) == left


def test_unreadable_hot_state_closes_what_needs_consent_or_a_cap() -> None:
    capped = catalog(contact_policies=(weekly_cap(5, per="group", only="cards"),))
    assert kept(narrowed(capped, hot=None)) == ["loan", NO_ACTION]
    assert kept(narrowed(catalog(), hot=None, placement="newsletter")) == [NO_ACTION]


def test_unreadable_suppression_closes_what_is_pushed_though_it_requires_no_consent() -> None:
    mailed = placement("newsletter", channel="web", shown_by="sent")
    shop = catalog(placements=(placement(), mailed))
    assert kept(narrowed(shop, hot=None, placement="newsletter")) == [NO_ACTION]
    assert kept(narrowed(shop, hot=None)) == ["card", "loan", NO_ACTION]
    assert why(narrowed(shop, hot=None, placement="newsletter"), "card") == ("consent", "CONSENT_UNKNOWN")


def test_a_unit_keeps_its_variant_and_sees_its_payload() -> None:
    shop = catalog(experiments=(experiment(), experiment(id="off", status="stopped")))
    first, second = variants(shop), variants(shop)
    assert first == second
    assert [assignment.experiment for assignment in first] == ["hero_copy"]
    assert first[0].probability == 0.5


def test_an_experiment_runs_on_its_placements_only() -> None:
    shop = catalog(experiments=(experiment(placements=("newsletter",)),))
    assert variants(shop) == ()


def test_priority_is_propensity_times_weight_times_value_times_lever() -> None:
    shop = catalog(action("card", value=10.0, lever=2.0, context_weights=(ContextWeight("true", 3.0),)))
    result = narrowed(shop)
    planned = funnel.plan(case(shop), result, Scores(np.array([0.1])), key=b"key")
    assert planned.candidates[0].priority == pytest.approx(0.1 * 3 * 10 * 2)


def test_the_same_decision_id_draws_the_same_order_again() -> None:
    result, scores = narrowed(catalog()), np.array([0.3, 0.2, 0.1])
    orders = {funnel.plan(case(), result, Scores(scores), key=b"key").order for _ in range(3)}
    assert len(orders) == 1


def test_candidates_lost_at_the_reservation_are_named() -> None:
    result = narrowed(catalog())
    planned = funnel.plan(case(), result, Scores(np.array([0.3, 0.2, 0.1])), key=b"key")
    dropped = funnel.lost(planned, [funnel.FilledSlot(chosen=1, available=(1, 2))])
    assert [drop[:3] for drop in map(msgspec.structs.astuple, dropped)] == [("card", "reservation", "TAKEN_MEANWHILE")]


@pytest.mark.parametrize(
    ("asked", "error", "where"),
    [
        ({"placement": "hero"}, UnknownPlacement, "placement"),
        ({"actions": ["card", "gold"]}, UnknownAction, "actions[1]"),
        ({"exclude": ["gold"]}, UnknownAction, "exclude[0]"),
    ],
)
def test_names_that_the_catalogue_lacks_are_refused_with_their_place(asked: dict, error: type, where: str) -> None:
    with pytest.raises(error) as raised:
        placement_of(catalog(), request(**asked))
    assert raised.value.where == where


def test_a_request_without_any_id_is_refused() -> None:
    with pytest.raises(RequestError, match="customer_id and anonymous_id"):
        _ = request(customer_id=None).unit
