from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from decisioning import decision as funnel
from decisioning.catalog import Catalog
from decisioning.content import Journey, Stage, Transition
from decisioning.journey import stage_weight, stages_of
from decisioning.profile import Event, Facts, HotProfile
from decisioning.rules import RuleScope
from tests.builders import NOW, action, case, catalog


def stage(stage_id: str, **overrides: Any) -> Stage:
    return Stage(**({"id": stage_id, "name": stage_id} | overrides))


LIFE = Journey(
    id="life",
    stages=(
        stage("new", entry="customer.orders == 0.0", weights={"cards": 2.0}),
        stage("regular", entry="customer.orders > 0.0", weights={"cards": 3.0, "card": 0.5}),
        stage("loyal", entry="customer.orders > 9.0", exit="customer.orders < 0.0"),
        stage("lapsing", exit="customer.lapsed != true"),
    ),
    transitions=(
        Transition(source="new", target="regular", on="purchase"),
        Transition(source="regular", target="loyal", on="accept:card"),
        Transition(source="loyal", target="lapsing", on="complaint"),
    ),
)


def at(name: str, minutes: float = 0) -> Event:
    return Event(name, NOW + timedelta(minutes=minutes))


def shop(*journeys: Journey) -> Catalog:
    return catalog(
        action("card"),
        action("gold"),
        action("loan", group="loans"),
        journeys=journeys or (LIFE,),
        groups=("cards", "loans"),
    )


def stages(*events: Event, journeys: tuple[Journey, ...] = (), **features: Any) -> tuple[str, ...]:
    return stages_of(shop(*journeys), events, RuleScope(customer={"orders": None, "lapsed": None} | features, now=NOW))


@pytest.mark.parametrize(
    ("orders", "expected"), [(0.0, ("new",)), (1.0, ("regular",)), (10.0, ("loyal",)), (-1.0, ()), (None, ())]
)
def test_the_last_stage_whose_entry_holds_is_the_customers(orders: float | None, expected: tuple[str, ...]) -> None:
    assert stages(orders=orders) == expected


@pytest.mark.parametrize("events", list(permutations([at("purchase", 1), at("accept:card", 2), at("complaint", 3)])))
def test_events_in_any_order_of_arrival_lead_to_the_same_stage(events: tuple[Event, ...]) -> None:
    assert stages(*events, lapsed=True) == ("lapsing",)


def test_what_happened_before_its_stage_was_reached_moves_nobody() -> None:
    assert stages(at("purchase", 1), at("complaint", 2)) == ("regular",)


def test_a_customer_whom_an_event_finds_in_no_stage_is_taken_for_one_of_its_source() -> None:
    assert stages(at("accept:card")) == ("loyal",)
    assert stages(at("accept:card"), orders=0.0) == ("loyal",)


def test_events_at_one_instant_have_one_order() -> None:
    together = [at("purchase"), at("accept:card")]
    assert stages(*together) == stages(*reversed(together)) == ("loyal",)


def test_events_that_no_transition_names_move_nobody() -> None:
    assert stages(at("click"), at("accept:gold"), orders=0.0) == ("new",)


def test_who_must_leave_a_stage_is_where_the_entry_rules_say() -> None:
    went = (at("purchase", 1), at("accept:card", 2), at("complaint", 3))
    assert stages(*went, lapsed=False, orders=3.0) == ("regular",)
    assert stages(*went, lapsed=False) == ()
    assert stages(*went, lapsed=True, orders=3.0) == ("lapsing",)


def test_a_rule_that_errs_moves_nobody() -> None:
    broken = Journey(id="j", stages=(stage("a", entry="customer.orders > 0.0", exit="customer.lapsed > 1.0"),))
    assert stages(journeys=(broken,), orders=1.0) == ("a",)
    assert stages(journeys=(broken,)) == ()


def test_each_journey_has_a_stage_of_its_own() -> None:
    mood = Journey(id="mood", stages=(stage("happy", entry="true"),))
    assert stages(journeys=(LIFE, mood), orders=0.0) == ("new", "happy")
    assert stages(journeys=(LIFE, mood)) == ("happy",)


def test_a_stage_weighs_an_action_by_its_id_before_its_group() -> None:
    offered = shop()
    weights = {name: stage_weight(offered, ("regular",), offered.actions[name]) for name in ("card", "gold", "loan")}
    assert weights == {"card": 0.5, "gold": 3.0, "loan": 1.0}


def test_weights_of_several_journeys_multiply() -> None:
    mood = Journey(id="mood", stages=(stage("happy", entry="true", weights={"cards": 5.0}),))
    offered = shop(LIFE, mood)
    assert stage_weight(offered, ("new", "happy"), offered.actions["gold"]) == 10.0


@pytest.mark.parametrize(("orders", "kept"), [(0.0, True), (1.0, False), (None, False)])
def test_an_action_for_a_stage_is_for_nobody_else(orders: float | None, kept: bool) -> None:
    offered = catalog(action("card", stages=("new",)), journeys=(LIFE,), groups=("cards",))
    narrowed = funnel.narrow(case(offered), Facts(features={"orders": orders}))
    assert bool(narrowed.eligible) is kept
    assert kept or narrowed.dropped[0].reason == "STAGE"


def test_what_just_happened_counts_in_the_next_decision() -> None:
    offered = catalog(action("card", stages=("regular",)), journeys=(LIFE,), groups=("cards",))
    before, after = (
        Facts(features={"orders": 0.0}),
        Facts(features={"orders": 0.0}, hot=HotProfile(events=(at("purchase"),))),
    )
    assert not funnel.narrow(case(offered), before).eligible
    assert [e.context_weight for e in funnel.narrow(case(offered), after).eligible] == [0.5]
