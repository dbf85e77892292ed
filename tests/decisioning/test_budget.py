from datetime import timedelta
from typing import Any

import pytest

from decisioning import decision as funnel
from decisioning.budget import BudgetRoom, left, period_of, released, spent_on_contacts
from decisioning.content import Budget
from decisioning.profile import BudgetLeft, Facts, HotProfile
from tests.builders import NOW, action, case, catalog, contact

WEEK, INSTANT = timedelta(days=7), timedelta(microseconds=1)


def weekly(**overrides: Any) -> Budget:
    return Budget(**({"id": "promo", "amount": 70.0, "period": WEEK, "starts": NOW} | overrides))


def charged(budget_id: str | None = "promo", cost: float = 5.0, **overrides: Any) -> Any:
    return contact(budget=budget_id, cost=cost, **overrides)


@pytest.mark.parametrize(
    ("since", "released_by_then"), [(-INSTANT, 0.0), (timedelta(0), 70.0), (WEEK - INSTANT, 70.0), (WEEK, 70.0)]
)
def test_without_pacing_the_whole_amount_is_there_from_the_first_instant(
    since: timedelta, released_by_then: float
) -> None:
    assert released(weekly(), now=NOW + since) == released_by_then


@pytest.mark.parametrize(
    ("since", "released_by_then"),
    [(-INSTANT, 0.0), (timedelta(0), 0.0), (WEEK / 2, 35.0), (WEEK, 0.0), (WEEK * 2.5, 35.0)],
)
def test_even_pacing_releases_nothing_at_first_and_begins_anew_with_each_period(
    since: timedelta, released_by_then: float
) -> None:
    assert released(weekly(pacing="even"), now=NOW + since) == pytest.approx(released_by_then)


def test_a_period_includes_its_begin_and_not_its_end() -> None:
    assert period_of(weekly(), now=NOW) == (NOW, NOW + WEEK)
    assert period_of(weekly(), now=NOW + WEEK - INSTANT) == (NOW, NOW + WEEK)
    assert period_of(weekly(), now=NOW + WEEK) == (NOW + WEEK, NOW + 2 * WEEK)
    assert period_of(weekly(), now=NOW - INSTANT) is None


def test_what_is_left_is_never_less_than_nothing() -> None:
    assert left(weekly(), 30.0, now=NOW) == 40.0
    assert left(weekly(), 80.0, now=NOW) == 0.0
    assert left(weekly(), 0.0, now=NOW - INSTANT) == 0.0


def test_spending_counts_the_periods_own_contacts_of_that_budget() -> None:
    seen = [
        charged(ago=timedelta(0)),
        charged(ago=INSTANT),  # of the period before
        charged("other", ago=timedelta(0)),
        charged(None, ago=timedelta(0)),
        charged(ago=-timedelta(days=1)),  # planned
    ]
    assert spent_on_contacts(weekly(), seen, now=NOW) == 10.0
    assert spent_on_contacts(weekly(), seen, now=NOW - INSTANT) == 0.0


def test_a_contact_costs_its_money_or_counts_as_one() -> None:
    def cost(counts: str, **given: Any) -> float:
        offered = catalog(action(**given), budgets=(weekly(counts=counts),))
        proposal = offered.proposal("card", offered.placements["home_hero"])
        assert proposal is not None
        return proposal.cost

    assert cost("money", budget="promo", cost=3.0) == 3.0
    assert cost("contacts", budget="promo", cost=3.0) == 1.0
    assert cost("money", cost=3.0) == 0.0


@pytest.mark.parametrize(("of", "left_for_this_customer"), [("customer", 65.0), ("account", 60.0)])
def test_an_accounts_budget_is_spent_by_colleagues_too(of: str, left_for_this_customer: float) -> None:
    profile = HotProfile(contacts=(charged(ago=timedelta(0)),), account_contacts=(charged(ago=timedelta(0)),))
    room = BudgetRoom({"promo": weekly(of=of)}, profile, now=NOW)
    assert room.left("promo") == left_for_this_customer


def test_everyones_budget_is_what_hot_state_says_and_nothing_where_it_says_nothing() -> None:
    profile = HotProfile(contacts=(charged(ago=timedelta(0)),), budgets=(BudgetLeft("promo", 4.0),))
    assert BudgetRoom({"promo": weekly()}, profile, now=NOW).left("promo") == 4.0
    assert BudgetRoom({"promo": weekly()}, HotProfile(), now=NOW).left("promo") == 0.0


def test_a_charge_of_exactly_what_is_left_fits_also_after_adding_up_cents() -> None:
    room = BudgetRoom({}, HotProfile(budgets=(BudgetLeft("promo", 0.3),)), now=NOW)
    for _ in range(3):
        assert room.fits("promo", 0.1)
        room.take("promo", 0.1)
    assert not room.fits("promo", 0.1)
    assert room.fits(None, 100.0)


@pytest.mark.parametrize(
    ("hot", "reason"),
    [
        (HotProfile(budgets=(BudgetLeft("promo", 2.9),)), "BUDGET_SPENT"),
        (HotProfile(), "BUDGET_SPENT"),
        (None, "BUDGET_UNKNOWN"),
        (HotProfile(budgets=(BudgetLeft("promo", 3.0),)), None),
    ],
)
def test_an_action_needs_room_for_its_cost(hot: HotProfile | None, reason: str | None) -> None:
    shop = catalog(action(budget="promo", cost=3.0), budgets=(weekly(),))
    narrowed = funnel.narrow(case(shop), Facts(hot=hot))
    assert [drop.reason for drop in narrowed.dropped] == ([reason] if reason else [])
    assert len(narrowed.eligible) == (reason is None)


def test_a_budget_has_nothing_before_it_starts() -> None:
    later = weekly(of="customer", starts=NOW + INSTANT)
    narrowed = funnel.narrow(case(catalog(action(budget="promo", cost=3.0), budgets=(later,))), Facts())
    assert [(drop.step, drop.reason) for drop in narrowed.dropped] == [("budget", "BUDGET_SPENT")]


def test_what_is_planned_for_the_next_period_is_not_spent_in_this_one() -> None:
    day = Budget(id="b", amount=2.0, period=timedelta(days=1), starts=NOW, of="customer")
    today, tomorrow = (contact(ago=-timedelta(hours=hours), budget="b", cost=1.0) for hours in (1, 24))
    assert spent_on_contacts(day, [today, tomorrow], now=NOW) == 1.0
