from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from decisioning.content_types import NO_ACTION
from decisioning.profile import Contact
from training.world import Memory, Report, Visit, World
from training.world_actions import ACTIONS, ALL_ACTIONS, BUSINESS, LATEST, contract_value


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=7, customers=3_000)


def visit(world: World, customer: int = 0, *, placement: str = "home_hero", days: float = 5.5, **context: str) -> Visit:
    now = world.log_start + timedelta(days=days)
    return Visit(customer, world.customers.ids[customer], placement, context, now)


def contact(action_id: str, at: Visit, *, ago: timedelta = timedelta(hours=1)) -> Contact:
    action = next(action for action in ACTIONS if action.id == action_id)
    return Contact(action_id, action.group, "web", at.now - ago)


def probability(world: World, at: Visit, action_id: str, *contacts: Contact) -> float:
    return float(world.response_probability([at], [contacts])[0, world.columns([action_id])[0]])


def some_visits(world: World, n: int, *, seed: int = 1) -> list[Visit]:
    return list(world.visits(np.random.default_rng(seed), n, start=world.log_start, per_day=500))


def best_placed(world: World, action_id: str) -> Visit:
    """The visit of the customer who is readiest for an action."""
    everyone = [visit(world, customer) for customer in range(len(world.customers.ids))]
    chances = world.response_probability(everyone, [()] * len(everyone))[:, world.columns([action_id])[0]]
    return everyone[int(chances.argmax())]


def test_the_same_seed_gives_the_same_world(world: World) -> None:
    twin = World(seed=7, customers=3_000)
    assert twin.customers.profile.equals(world.customers.profile)
    assert some_visits(twin, 50) == some_visits(world, 50)
    visits, silence = some_visits(world, 50), [()] * 50
    np.testing.assert_array_equal(
        twin.response_probability(visits, silence), world.response_probability(visits, silence)
    )


def test_another_seed_gives_another_world(world: World) -> None:
    assert not World(seed=8, customers=3_000).customers.profile.equals(world.customers.profile)


def consumer(world: World, where: NDArray[np.bool_]) -> int:
    """The first customer who buys for no company and for whom this holds."""
    return int(np.flatnonzero(where & (world.accounts.place < 0))[0])


def with_role(world: World, role: str, where: NDArray[np.bool_] | None = None) -> int:
    """The first customer with this role in an account's buying group."""
    fits = world.accounts.role == role
    return int(np.flatnonzero(fits if where is None else fits & where)[0])


def test_there_are_fifty_actions_in_four_groups_a_few_for_business_and_the_choice_of_none() -> None:
    groups = [action.group for action in ACTIONS]
    assert len(groups) - groups.count(BUSINESS) == 50
    assert len(set(groups)) == 5
    assert {action.id for action in ACTIONS if action.roles} == {a.id for a in ACTIONS if a.group == BUSINESS}
    assert {channel for action in ACTIONS for channel in action.channels} == {"web", "email", "app"}
    assert ALL_ACTIONS[-1].id == NO_ACTION


def test_consent_differs_by_channel(world: World) -> None:
    # Shares are of random propensities; four standard errors of 3,000 answers are .036.
    assert world.customers.email_consent.mean() == pytest.approx(0.55, abs=0.04)
    assert world.customers.app_consent.mean() == pytest.approx(0.39, abs=0.04)


def test_features_of_a_thing_that_is_not_there_are_missing(world: World) -> None:
    profile = world.customers.profile
    assert profile.loc[~world.customers.has_app, "app_sessions_30d"].isna().all()
    assert profile.loc[profile["orders_365d"] == 0, "avg_order_value"].isna().all()
    assert 0.08 < profile["age"].isna().mean() < 0.16


def test_what_customers_do_is_drawn_from_the_truth(world: World) -> None:
    at, rng, n = best_placed(world, "running_shoes"), np.random.default_rng(2), 3_000
    chance = probability(world, at, "running_shoes")
    bought = 0
    for number in range(n):
        reports = world.outcomes(at, ["running_shoes"], world.memory(), rng=rng, decision_id=f"d-{number}")
        bought += any(report.type == "purchase" for report in reports)
    assert bought / n == pytest.approx(chance, abs=4.0 * np.sqrt(chance * (1.0 - chance) / n))


def test_a_lower_slot_is_seen_by_fewer(world: World) -> None:
    at, rng, n = best_placed(world, "outlet_fashion"), np.random.default_rng(3), 2_000
    taken = [0, 0]
    for number in range(n):
        shown = ["denim_days", "outlet_fashion"] if number % 2 else ["outlet_fashion", "denim_days"]
        reports = world.outcomes(at, shown, world.memory(), rng=rng, decision_id=f"d-{number}")
        taken[number % 2] += any(r.type == "purchase" and r.action_id == "outlet_fashion" for r in reports)
    assert taken[1] < 0.85 * taken[0]


@pytest.fixture(scope="module")
def reported(world: World) -> list[tuple[Visit, Report]]:
    """Every report of 4,000 visits that were answered at random."""
    rng, memory = np.random.default_rng(4), world.memory()
    found = []
    for number, at in enumerate(some_visits(world, 4_000)):
        allowed = np.flatnonzero(world.available(at))
        action_id = world.action_ids[rng.choice(allowed)]
        found += [(at, r) for r in world.outcomes(at, [action_id], memory, rng=rng, decision_id=f"d-{number}")]
    return found


def test_outcomes_come_late_twice_or_never(reported: list[tuple[Visit, Report]]) -> None:
    copies = np.array([report.copies for _, report in reported])
    for count, share in ((0, 0.02), (2, 0.03)):
        assert (copies == count).mean() == pytest.approx(share, abs=4.0 * np.sqrt(share / len(copies)))
    delays = np.array([(report.occurred_at - at.now) / timedelta(minutes=1) for at, report in reported])
    successes = delays[[report.value is not None for _, report in reported]]
    assert delays.min() > 0
    assert successes.max() <= LATEST / timedelta(minutes=1)
    assert 0.1 < (successes > 60.0).mean() < 0.4
    assert all(report.reported_at >= report.occurred_at for _, report in reported)


def test_outcome_ids_are_unique(reported: list[tuple[Visit, Report]]) -> None:
    ids = [report.outcome_id for _, report in reported]
    assert len(ids) == len(set(ids))


def test_a_success_is_worth_the_action_s_value_on_average(world: World, reported: list[tuple[Visit, Report]]) -> None:
    ratios = np.array(
        [
            (report.value or 0.0) / world.worth([at])[0, world.columns([report.action_id])[0]]
            for at, report in reported
            if report.value is not None
        ]
    )
    assert ratios.mean() == pytest.approx(1.0, abs=4.0 * 0.25 / np.sqrt(len(ratios)))


def test_a_contact_tires_and_most_for_the_same_action(world: World) -> None:
    at = visit(world)
    fresh = probability(world, at, "running_shoes")
    other, group, same = (
        probability(world, at, "running_shoes", contact(shown, at))
        for shown in ("coffee_machine", "denim_days", "running_shoes")
    )
    assert fresh > other > group > same


def test_customers_recover_and_after_seven_days_have_forgotten(world: World) -> None:
    at = visit(world, days=20.0)
    fresh = probability(world, at, "running_shoes")
    after = [
        probability(world, at, "running_shoes", contact("running_shoes", at, ago=timedelta(days=days)))
        for days in (0.1, 2.0, 6.9)
    ]
    assert after[0] < after[1] < after[2] < fresh
    assert probability(world, at, "running_shoes", contact("running_shoes", at, ago=timedelta(days=7))) == fresh


def test_showing_nothing_tires_nobody(world: World) -> None:
    at = visit(world)
    assert probability(world, at, NO_ACTION, contact("denim_days", at)) == probability(world, at, NO_ACTION)
    memory = Memory()
    memory.show(at.customer_id, Contact(NO_ACTION, "none", "web", at.now))
    assert memory.contacts(at.customer_id, now=at.now) == []


def test_appeal_drifts_and_changes_sign(world: World) -> None:
    # The 6th and the 62nd day know different recent behaviour, so the two actions are compared.
    chances = {
        (name, days): probability(world, visit(world, days=days), name)
        for name in ("winter_coats", "summer_dresses")
        for days in (0.5, 62.5)
    }
    early = chances["winter_coats", 0.5] / chances["summer_dresses", 0.5]
    late = chances["winter_coats", 62.5] / chances["summer_dresses", 62.5]
    assert late > 8.0 * early


def test_personalising_beats_the_best_constant_action_which_beats_uniform(world: World) -> None:
    visits = some_visits(world, 4_000)
    allowed = np.array([world.available(at) for at in visits])
    earned = world.expected_reward(visits, [()] * len(visits))
    uniform = (np.where(allowed, earned, 0.0).sum(axis=1) / allowed.sum(axis=1)).mean()
    constant = np.where(allowed, earned, earned[:, -1:]).mean(axis=0).max()
    oracle = np.where(allowed, earned, -np.inf).max(axis=1).mean()
    assert 1.3 < constant / uniform < 2.2
    assert oracle / constant > 1.6


def test_successes_are_as_rare_as_in_a_shop(world: World) -> None:
    chances = world.response_probability(visits := some_visits(world, 2_000), [()] * len(visits))
    chances = chances[:, [action.group not in (BUSINESS, "none") for action in ALL_ACTIONS]]
    assert 0.02 < chances.mean() < 0.08
    assert chances.min() > 0.0
    assert chances.max() < 0.4


def test_marketing_needs_consent_where_it_is_pushed(world: World) -> None:
    refuses = consumer(world, ~world.customers.email_consent)
    agrees = consumer(world, world.customers.email_consent)
    assert world.available(visit(world, refuses, placement="newsletter")).sum() == 1
    assert world.available(visit(world, agrees, placement="newsletter")).sum() == 37
    assert world.available(visit(world, refuses, placement="home_hero")).sum() == 47


def test_whoever_unsubscribed_is_left_alone(world: World) -> None:
    at = visit(world, int(np.flatnonzero(world.customers.email_consent)[0]), placement="newsletter")
    memory = world.memory()
    memory.withdraw(at.customer_id, "email")
    assert world.available(at, memory).sum() == 1


def test_visits_are_in_order_and_as_many_a_day_as_asked_for(world: World) -> None:
    visits = some_visits(world, 3_000)
    times = [at.now for at in visits]
    assert times == sorted(times)
    days = (times[-1] - world.log_start) / timedelta(days=1)
    assert days == pytest.approx(6.0, abs=0.35)  # four standard errors of 3,000 gaps, and the time of day


def test_few_visit_by_night(world: World) -> None:
    hours = np.array([at.now.hour for at in some_visits(world, 3_000)])
    assert (hours < 5).mean() < 0.08
    assert all(at.context["daypart"] == ("night", "morning", "afternoon", "evening")[at.now.hour // 6]
               for at in some_visits(world, 100))  # fmt: skip


def test_a_context_that_nobody_knows_changes_nothing(world: World) -> None:
    assert probability(world, visit(world, device="fridge"), "smart_tv") == probability(world, visit(world), "smart_tv")


def bought(product: str, at: Visit, *, ago: timedelta = timedelta(days=1)) -> Memory:
    memory = Memory()
    memory.buy(at.customer_id, product, at.now - ago)
    return memory


def may_show(world: World, at: Visit, memory: Memory, action_id: str) -> bool:
    return bool(world.available(at, memory)[world.columns([action_id])[0]])


def earns(world: World, at: Visit, memory: Memory, action_id: str) -> float:
    owned = memory.purchases(at.customer_id, now=at.now)
    return float(world.expected_reward([at], [()], [owned])[0, world.columns([action_id])[0]])


def test_nobody_buys_what_they_have_under_whatever_name(world: World) -> None:
    at = visit(world)
    memory = bought("smartphone", at)
    for action_id in ("smartphone_upgrade", "refurbished_phones"):
        assert not may_show(world, at, memory, action_id)
        assert earns(world, at, memory, action_id) == 0.0
        assert earns(world, at, Memory(), action_id) > 0.0
    assert earns(world, at, memory, "wireless_earbuds") == earns(world, at, Memory(), "wireless_earbuds")


def test_what_is_used_up_is_bought_again(world: World) -> None:
    at = visit(world, days=20.0)
    for days, again in ((13.9, False), (14.0, True)):
        memory = bought("pet_corner", at, ago=timedelta(days=days))
        assert may_show(world, at, memory, "pet_corner") == again
        assert (earns(world, at, memory, "pet_corner") > 0.0) == again


def test_a_purchase_of_tonight_is_not_one_of_this_morning(world: World) -> None:
    at = visit(world)
    memory = bought("sofa_week", at, ago=timedelta(hours=-1))
    assert may_show(world, at, memory, "sofa_week")
    assert memory.purchases(at.customer_id, now=at.now + timedelta(hours=1)) == {
        "sofa_week": at.now + timedelta(hours=1)
    }


def test_of_two_purchases_the_later_one_counts(world: World) -> None:
    at = visit(world)
    memory = bought("candle_club", at, ago=timedelta(days=2))
    memory.buy(at.customer_id, "candle_club", at.now - timedelta(days=9))
    assert memory.purchases(at.customer_id, now=at.now) == {"candle_club": at.now - timedelta(days=2)}


def test_what_may_be_shown_earns_something_and_what_was_bought_earns_nothing() -> None:
    small = World(seed=7, customers=100)
    rng, memory, barred = np.random.default_rng(6), small.memory(), 0
    on_the_web = [at for at in some_visits(small, 1_500) if at.placement in ("home_hero", "product_page")]
    for number, at in enumerate(on_the_web):  # where nobody can unsubscribe
        allowed, whoever = small.available(at, memory), small.available(at)
        owned = memory.purchases(at.customer_id, now=at.now)
        earned = small.expected_reward([at], [()], [owned])[0]
        assert (earned[allowed] > 0.0).all()
        assert (earned[whoever & ~allowed] == 0.0).all()
        barred += int((whoever & ~allowed).sum())
        shown = small.action_ids[rng.choice(np.flatnonzero(allowed))]
        small.outcomes(at, [shown], memory, rng=rng, decision_id=f"d-{number}")
    assert barred > 30


def test_a_purchase_is_remembered_from_the_moment_at_which_it_is_made(world: World) -> None:
    at, rng, memory = best_placed(world, "running_shoes"), np.random.default_rng(2), world.memory()
    purchase = None
    while purchase is None:
        reports = world.outcomes(at, ["running_shoes"], memory, rng=rng, decision_id="d")
        purchase = next((report for report in reports if report.type == "purchase"), None)
    assert memory.purchases(at.customer_id, now=purchase.occurred_at) == {"running_shoes": purchase.occurred_at}
    assert memory.purchases(at.customer_id, now=purchase.occurred_at - timedelta(seconds=1)) == {}


def test_about_a_seventh_of_the_customers_buy_for_a_company(world: World) -> None:
    sizes = np.bincount(world.accounts.place[world.accounts.place >= 0])
    assert (world.accounts.place >= 0).mean() == pytest.approx(0.15, abs=0.001)
    assert len(sizes) == len(world.accounts.accounts)
    assert sizes.min() >= 2
    assert sizes.max() <= 40
    assert len(sizes) > 30


def test_accounts_change_nothing_for_anybody_else(world: World) -> None:
    at = visit(world, consumer(world, world.customers.has_app))
    assert world.available(at).sum() == 47
    business = [action.id for action in ACTIONS if action.group == BUSINESS]
    assert world.response_probability([at], [()])[0, world.columns(business)].tolist() == [0.0] * 5


def test_relations_are_between_colleagues(world: World) -> None:
    contacts = world.accounts.contacts.set_index("customer_id")
    assert (contacts["account_id"].groupby(contacts["account_id"]).size() >= 2).all()
    for relation in ("reports_to", "referred_by"):
        named = contacts[contacts[relation].notna()]
        assert len(named) > 30
        assert (contacts.loc[named[relation], "account_id"].to_numpy() == named["account_id"].to_numpy()).all()
        assert (named[relation] != named.index).all()
    counted = contacts["referred_by"].value_counts()
    assert contacts["referrals"].to_dict() == {**dict.fromkeys(contacts.index, 0.0), **counted.astype(float).to_dict()}


def test_a_buying_group_is_complete_when_every_role_is_filled(world: World) -> None:
    roles = world.accounts.contacts.groupby("account_id")["buying_role"].agg(set)
    complete = world.accounts.accounts.set_index("account_id")["buying_group_complete"]
    wanted = {"decision_maker", "champion", "user", "finance"}
    assert {name: wanted <= filled for name, filled in roles.items()} == complete.to_dict()
    assert 0.1 < complete.mean() < 0.9


def test_penetration_is_a_share_of_the_account_s_contacts(world: World) -> None:
    accounts = world.accounts.accounts.set_index("account_id")
    size = world.accounts.contacts.groupby("account_id").size()
    for name in ("penetration_laptop", "penetration_smartphone", "penetration_coffee_machine"):
        owners = accounts[name] * size
        assert np.abs(owners - owners.round()).max() < 0.03  # shares have three digits
        assert 0.2 < accounts[name].mean() < 0.6


def test_business_actions_are_shown_to_the_roles_that_they_are_for(world: World) -> None:
    finance = visit(world, with_role(world, "finance"))
    assert may_show(world, finance, Memory(), "invoice_payment")
    assert not may_show(world, finance, Memory(), "framework_contract")
    others = visit(world, with_role(world, "none"))
    assert world.available(others).sum() == 47


def test_a_role_and_what_somebody_answers_for_decide_the_response(world: World) -> None:
    purchasing = world.accounts.answers_for[:, 0]
    everyone = [visit(world, customer) for customer in range(len(world.customers.ids))]
    chances = world.response_probability(everyone, [()] * len(everyone))[:, world.columns(["framework_contract"])[0]]
    decides = world.accounts.role == "decision_maker"
    uses = world.accounts.role == "user"
    assert chances[decides & purchasing].mean() > 1.5 * chances[decides & ~purchasing].mean()
    assert chances[decides].mean() > 3.0 * chances[uses].mean() > 0.0


def test_the_account_decides_as_well(world: World) -> None:
    accounts = world.accounts
    leads = np.flatnonzero(np.isin(accounts.role, ("decision_maker", "champion")))
    company = accounts.accounts.iloc[accounts.place[leads]]
    chances = world.response_probability([visit(world, int(c)) for c in leads], [()] * len(leads))
    rollout = chances[:, world.columns(["site_rollout"])[0]]
    spread_out = (company["sites"].map(len) >= 3).to_numpy()
    assert rollout[spread_out].mean() > 1.2 * rollout[~spread_out].mean()
    equipped = (company["penetration_laptop"] > 0.5).to_numpy()
    assert rollout[equipped].mean() < 0.8 * rollout[~equipped].mean()


def test_a_framework_contract_is_worth_more_in_a_bigger_company(world: World) -> None:
    customer = with_role(world, "decision_maker")
    employees = float(world.accounts.accounts["employees"].iloc[world.accounts.place[customer]])
    column = world.columns(["framework_contract"])[0]
    assert world.worth([visit(world, customer)])[0, column] == contract_value(employees)
    assert world.worth([visit(world, consumer(world, world.customers.has_app))])[0, column] == 60.0


def test_the_same_seed_gives_the_same_accounts(world: World) -> None:
    twin = World(seed=7, customers=3_000).accounts
    assert twin.contacts.equals(world.accounts.contacts)
    assert twin.accounts.equals(world.accounts.accounts)
