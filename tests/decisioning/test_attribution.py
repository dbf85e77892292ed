from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pytest

from decisioning.attribution import SAME_PURCHASE, attributed, ghost_of
from decisioning.catalog import Catalog
from decisioning.content_types import NO_ACTION
from decisioning.events import EventRecord
from decisioning.identity import Link, person_names
from decisioning.orders import orders_of
from decisioning.record import Candidate, DecisionRecord, OutcomeRecord
from decisioning.reward import counted, of_slot, reward
from tests.builders import NOW, action, candidate, catalog, placement, record, slot

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def shop() -> Catalog:
    actions = (
        action("mug", promotes=("mug",)),
        action("tea_set", promotes=("mug", "tea")),
        action("loan"),
        action(NO_ACTION, group="other"),
    )
    hero = placement(shown_by="decision", reward={"purchase": "value"}, attribution_window=timedelta(days=7))
    mail = placement("newsletter", channel="email", slots=1, shown_by="sent", reward={"purchase": "value"})
    return catalog(*actions, placements=(hero, mail))


def order(*products: str, ago: timedelta = HOUR, **overrides: Any) -> EventRecord:
    """A till's order of products at 10 each."""
    properties = {"order_id": "A-1", "products": [{"product_id": name, "price": 10.0} for name in products]}
    defaults: dict[str, Any] = {
        "event_id": "till/1", "source": "till", "type": "track", "name": "purchase", "customer_id": "c-1",
        "properties": properties | overrides.pop("properties", {}), "occurred_at": NOW - ago, "received_at": NOW,
    }  # fmt: skip
    return EventRecord(**(defaults | overrides))


def shown(decision_id: str, action_id: str, *, ago: timedelta, **overrides: Any) -> DecisionRecord:
    products = shop().actions[action_id].promotes
    made = slot(action_id=action_id, products=products, repeats=overrides.pop("repeats", None))
    defaults: dict[str, Any] = {"decision_id": decision_id, "decided_at": NOW - ago, "slots": (made,)}
    return record(**(defaults | overrides))


def nothing(decision_id: str, *candidates: Candidate, ago: timedelta) -> DecisionRecord:
    return record(
        decision_id=decision_id,
        decided_at=NOW - ago,
        slots=(slot(action_id=NO_ACTION, products=()),),
        candidates=(candidate(NO_ACTION, weight=0.5), *candidates),
    )


def told(decision_id: str, *, ago: timedelta = HOUR, kind: str = "purchase", **overrides: Any) -> OutcomeRecord:
    defaults: dict[str, Any] = {
        "outcome_id": f"o-{kind}-{decision_id}", "decision_id": decision_id, "action_id": None, "type": kind,
        "detail": None, "value": 10.0, "occurred_at": NOW - ago, "received_at": NOW,
    }  # fmt: skip
    return OutcomeRecord(**(defaults | overrides))


def earned(
    decisions: Sequence[DecisionRecord],
    *events: EventRecord,
    outcomes: Sequence[OutcomeRecord] = (),
    person: Callable[[str], str] = str,
) -> dict[str, float]:
    """What the first slot of each decision earned, where that is anything."""
    by_decision: dict[str, list[OutcomeRecord]] = {}
    for each in outcomes:
        by_decision.setdefault(each.decision_id, []).append(each)
    placements, promotes = shop().placements, shop().promotes
    found = attributed(
        by_decision, orders_of(events), decisions, placements=placements, promotes=promotes, person=person
    )
    rewards = {}
    for decision in decisions:
        place = shop().placements[decision.placement]
        within = counted(found.get(decision.decision_id, ()), decision, place)
        rewards[decision.decision_id] = reward(of_slot(decision, decision.slots[0], within), place)
    return {decision_id: amount for decision_id, amount in rewards.items() if amount}


def test_an_order_is_credited_to_the_last_contact_that_promotes_its_product_and_to_no_other() -> None:
    contacts = [shown("a", "mug", ago=3 * DAY), shown("b", "tea_set", ago=2 * DAY), shown("c", "loan", ago=DAY)]
    assert earned(contacts, order("mug")) == {"b": 10.0}


def test_an_orders_products_may_be_credited_to_different_contacts() -> None:
    contacts = [shown("a", "tea_set", ago=3 * DAY), shown("b", "mug", ago=2 * DAY)]
    assert earned(contacts, order("mug", "tea", "salt")) == {"a": 10.0, "b": 10.0}


@pytest.mark.parametrize(
    ("ago", "credited"),
    [
        (timedelta(days=7) + HOUR - timedelta(microseconds=1), True),
        (timedelta(days=7) + HOUR, False),  # the window is over at that instant
        (HOUR, True),  # at that very instant
        (HOUR - timedelta(microseconds=1), False),  # ordered before it was shown
    ],
)
def test_an_order_counts_from_the_contact_to_the_end_of_its_window(ago: timedelta, credited: bool) -> None:
    assert earned([shown("a", "mug", ago=ago)], order("mug")) == ({"a": 10.0} if credited else {})


def test_an_order_long_past_the_windows_of_all_contacts_but_one_is_that_ones() -> None:
    assert earned([shown("a", "mug", ago=9 * DAY), shown("b", "mug", ago=6 * DAY)], order("mug")) == {"b": 10.0}


def test_an_order_that_is_told_again_counts_once() -> None:
    same = order("mug"), order("mug", event_id="till/2", received_at=NOW + HOUR, properties={"value": 99.0})
    assert earned([shown("a", "mug", ago=DAY)], *same) == {"a": 10.0}


def test_two_orders_of_a_customer_count_both() -> None:
    second = order("mug", event_id="till/2", properties={"order_id": "A-2"})
    assert earned([shown("a", "mug", ago=DAY)], order("mug"), second) == {"a": 20.0}


@pytest.mark.parametrize("apart", [timedelta(0), SAME_PURCHASE, -SAME_PURCHASE])
def test_an_order_that_was_told_of_a_decision_too_is_that_decisions_alone(apart: timedelta) -> None:
    contacts = [shown("a", "mug", ago=5 * DAY), shown("b", "mug", ago=4 * DAY)]
    assert earned(contacts, order("mug", ago=2 * DAY), outcomes=[told("a", ago=2 * DAY - apart)]) == {"a": 10.0}


def test_an_order_that_bears_the_outcomes_id_is_the_same_whenever_it_was() -> None:
    contacts = [shown("a", "mug", ago=6 * DAY)]
    same = told("a", ago=5 * DAY, outcome_id="A-1")
    assert earned(contacts, order("mug", "tea"), outcomes=[same]) == {"a": 10.0}


def test_a_told_purchase_stands_for_one_order_and_the_next_is_credited() -> None:
    contacts = [shown("a", "mug", ago=DAY)]
    second = order("mug", event_id="till/2", ago=3 * HOUR, properties={"order_id": "A-2"})
    assert earned(contacts, order("mug"), second, outcomes=[told("a")]) == {"a": 20.0}


def test_a_purchase_long_ago_is_another() -> None:
    contacts = [shown("a", "mug", ago=6 * DAY)]
    earlier = told("a", ago=HOUR + SAME_PURCHASE + timedelta(microseconds=1))
    assert earned(contacts, order("mug"), outcomes=[earlier]) == {"a": 20.0}


@pytest.mark.parametrize(("kinds", "credited"), [((), False), (("sent",), True), (("sent", "bounce"), False)])
def test_what_was_not_sent_or_came_back_earns_no_order(kinds: tuple[str, ...], credited: bool) -> None:
    mailed = shown("a", "mug", ago=DAY, placement="newsletter", channel="email")
    found = earned([mailed], order("mug"), outcomes=[told("a", kind=kind, ago=DAY) for kind in kinds])
    assert found == ({"a": 10.0} if credited else {})


def test_an_order_by_any_id_of_a_person_is_credited_to_what_another_id_saw() -> None:
    seen = shown("a", "mug", ago=DAY, customer_id="anonymous:v-1")
    names = person_names([Link("c-1", "anonymous:v-1", NOW - 2 * HOUR)])
    assert earned([seen], order("mug"), person=names) == {"a": 10.0}
    assert earned([seen], order("mug")) == {}


def test_a_reload_earns_no_order_its_first_decision_does() -> None:
    contacts = [shown("a", "mug", ago=2 * DAY), shown("b", "mug", ago=DAY, repeats="a")]
    assert earned(contacts, order("mug")) == {"a": 10.0}


def test_showing_nothing_earns_what_the_action_in_its_place_would_have_and_takes_it_from_nobody() -> None:
    ghostly = candidate("mug", weight=0.4), candidate("loan", weight=0.1)
    before, control = shown("a", "mug", ago=3 * DAY), nothing("b", *ghostly, ago=2 * DAY)
    assert earned([before, control], order("mug")) == {"a": 10.0, "b": 10.0}
    # A later contact would have taken it from the ghost, too.
    assert earned([before, control, shown("c", "mug", ago=DAY)], order("mug")) == {"c": 10.0}
    assert earned([before, control], order("tea")) == {}


def test_the_ghost_is_what_the_policy_was_likeliest_to_choose_instead() -> None:
    mug, loan = candidate("mug", weight=0.2), candidate("loan", weight=0.3)
    assert ghost_of(nothing("a", mug, loan, ago=DAY)) == "loan"
    assert ghost_of(nothing("a", ago=DAY)) is None
    assert ghost_of(shown("a", "mug", ago=DAY)) is None


def test_an_action_that_changes_nothing_earns_no_more_than_showing_nothing() -> None:
    """Customers buy mugs whenever they like; without ghosts, the action would seem to sell every one."""
    rng = np.random.default_rng(5)
    decisions, events = [], []
    for customer in range(1_200):
        name = f"c-{customer}"
        for number, hours in enumerate(np.sort(rng.uniform(0.0, 20 * 24.0, 6))[::-1]):
            made = (
                shown(f"{name}-{number}", "mug", ago=hours * HOUR)
                if rng.random() < 0.5
                else nothing(f"{name}-{number}", candidate("mug", weight=0.5), ago=hours * HOUR)
            )
            decisions.append(msgspec.structs.replace(made, customer_id=name))
        for number in range(rng.poisson(1.0)):
            ago = float(rng.uniform(0.0, 20 * 24.0)) * HOUR
            number_of = {"order_id": f"{name}-{number}"}
            events.append(
                order("mug", ago=ago, event_id=f"till/{name}-{number}", customer_id=name, properties=number_of)
            )
    amounts = earned(decisions, *events)
    by_choice: dict[str, list[float]] = {"mug": [], NO_ACTION: []}
    for made in decisions:
        by_choice[made.slots[0].action_id].append(amounts.get(made.decision_id, 0.0))
    acted, control = (np.array(by_choice[name]) for name in ("mug", NO_ACTION))
    error = np.sqrt(acted.var() / len(acted) + control.var() / len(control))
    assert abs(acted.mean() - control.mean()) < 4.0 * error
    assert acted.mean() > 10.0 * error  # what the action would seem to be worth over a control that earns nothing
