"""The simulated shop as a data set, and its agreement with catalogue and feature definitions."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from decisioning.catalog import Catalog, Eligible
from decisioning.contact_history import HISTORY_FEATURES
from decisioning.content_types import NO_ACTION
from decisioning.continuity import NOTHING_OPEN
from decisioning.eligibility import engaged
from decisioning.errors import SetupError
from decisioning.journey import stages_of
from decisioning.profile import Contact, Facts
from decisioning.reasons import Drop
from decisioning.rules import RuleScope
from decisioning.trial import is_held_out
from storage.catalog_files import read_release
from training.domains import LOG_COLUMNS, open_domain
from training.domains.hillstrom import CANDIDATES, PLACEMENT
from training.domains.simulated import Simulated
from training.world import Visit
from training.world_actions import ALL_ACTIONS, BUSINESS, LATEST, PLACEMENTS, contract_value

CATALOG = Path(__file__).parents[2] / "catalog"
LATER = datetime(2026, 3, 2, 18, tzinfo=UTC)


@pytest.fixture(scope="module")
def domain() -> Simulated:
    return Simulated(seed=3, customers=2_000, decisions=6_000)


def catalog(domain: str) -> Catalog:
    return read_release(CATALOG / domain)[1].blueprint


def test_the_log_has_the_columns_of_every_log(domain: Simulated) -> None:
    log = domain.log()
    assert tuple(log.columns) == LOG_COLUMNS
    assert log["row_id"].is_unique
    assert log["decided_at"].is_monotonic_increasing
    assert str(log["decided_at"].dtype) == "datetime64[us, UTC]"


def test_the_log_s_policy_is_uniform_over_what_was_allowed(domain: Simulated) -> None:
    log = domain.log()
    assert all(row.action_id in row.candidates for row in log.itertuples())
    np.testing.assert_allclose(log["probability"], 1.0 / log["candidates"].map(len))
    web = log[(log["placement"] == "home_hero") & (log["candidates"].map(len) == 47)]  # consumers, or without a role
    shares = web["action_id"].value_counts(normalize=True)
    p = 1.0 / 47.0
    assert len(shares) == 47
    assert np.abs(shares - p).max() < 4.0 * np.sqrt(p * (1.0 - p) / len(web))


def test_whoever_did_not_consent_was_shown_nothing(domain: Simulated) -> None:
    granted = {(c.customer_id, c.channel) for c in domain.consents() if c.granted}
    inbox = domain.log().query("placement == 'app_inbox'")
    shown = inbox[inbox["action_id"] != NO_ACTION]
    refused = inbox[[(customer, "app") not in granted for customer in inbox["customer_id"]]]
    assert len(shown)
    assert len(refused)
    assert all((customer, "app") in granted for customer in shown["customer_id"])
    assert set(refused["action_id"]) == {NO_ACTION}


def test_contacts_are_what_the_log_showed_in_the_thirty_days_before(domain: Simulated) -> None:
    log = domain.log()
    groups = {action.id: action.group for action in ALL_ACTIONS}
    channels = {placement.id: placement.channel for placement in PLACEMENTS}
    row = log.iloc[log["contacts"].map(len).argmax()]
    before = log[
        (log["customer_id"] == row.customer_id)
        & (log["decided_at"] < row.decided_at)
        & (log["decided_at"] > row.decided_at - timedelta(days=30))
        & (log["action_id"] != NO_ACTION)
    ]
    assert row.contacts == [
        Contact(r.action_id, groups[r.action_id], channels[r.placement], r.decided_at.to_pydatetime())
        for r in before.itertuples()
    ]


def purchases(log: pd.DataFrame) -> list[dict[str, datetime]]:
    """What each row's customer had bought before it."""
    products = {action.id: action.product for action in ALL_ACTIONS}
    owned: dict[str, dict[str, datetime]] = {}
    before = []
    for row in log.itertuples():
        mine = owned.setdefault(row.customer_id, {})
        before.append(dict(mine))
        product = products[row.action_id]
        if row.success and product is not None:
            mine[product] = row.decided_at.to_pydatetime()
    return before


def test_nobody_buys_in_the_log_what_they_have() -> None:
    domain = Simulated(seed=3, customers=60, decisions=6_000)
    log, actions = domain.log(), {action.id: action for action in ALL_ACTIONS}
    again = 0
    for row, mine in zip(log.itertuples(), purchases(log), strict=True):
        action = actions[row.action_id]
        at = mine.get(action.product or "")
        if at is not None and (action.again_after is None or row.decided_at - at < action.again_after):
            again += 1
            assert row.success == 0
    assert again > 30


def test_the_log_offers_business_to_the_roles_that_it_is_for(domain: Simulated) -> None:
    roles = {action.id: action.roles for action in ALL_ACTIONS}
    contacts = domain.world.accounts.contacts.set_index("customer_id")["buying_role"]
    offered = {
        (contacts.get(row.customer_id), action_id)
        for row in domain.log().itertuples()
        for action_id in row.candidates
        if roles[action_id]
    }
    assert len(offered) == sum(map(len, roles.values()))
    assert all(role in roles[action_id] for role, action_id in offered)


def test_the_log_s_successes_follow_the_truth(domain: Simulated) -> None:
    log, world = domain.log(), domain.world
    places = {customer_id: index for index, customer_id in enumerate(world.customers.ids)}
    visits = [
        Visit(places[r.customer_id], r.customer_id, r.placement, r.context, r.decided_at.to_pydatetime())
        for r in log.itertuples()
    ]
    chances = world.response_probability(visits, log["contacts"].tolist(), purchases(log))
    p = chances[np.arange(len(log)), world.columns(log["action_id"].tolist())]
    assert (log["success"] - p).sum() == pytest.approx(0.0, abs=4.0 * np.sqrt((p * (1.0 - p)).sum()))
    assert ((log["reward"] > 0) == (log["success"] == 1)).all()


def test_fatigue_shows_in_the_log() -> None:
    # Same truth, contacts forgotten: what the log's customers would have done when rested.
    domain = Simulated(seed=3, customers=200, decisions=6_000)
    log, world = domain.log(), domain.world
    places = {customer_id: index for index, customer_id in enumerate(world.customers.ids)}
    visits = [
        Visit(places[r.customer_id], r.customer_id, r.placement, r.context, r.decided_at.to_pydatetime())
        for r in log.itertuples()
    ]
    tired = world.response_probability(visits, log["contacts"].tolist())[:, :-1].mean()
    rested = world.response_probability(visits, [()] * len(visits))[:, :-1].mean()
    assert tired < 0.9 * rested


def test_the_same_seed_gives_the_same_data_and_hash(domain: Simulated) -> None:
    twin = Simulated(seed=3, customers=2_000, decisions=6_000)
    assert twin.data_sha256 == domain.data_sha256
    assert twin.log().equals(domain.log())
    assert Simulated(seed=4, customers=2_000, decisions=6_000).data_sha256 != domain.data_sha256


def test_a_domain_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(SetupError, match="hillstrom, simulated"):
        open_domain("shop")


def test_world_and_catalogue_agree_on_every_action() -> None:
    told = {action.id: action for action in catalog("simulated").content.actions}
    assert set(told) == {action.id for action in ALL_ACTIONS}
    for action in ALL_ACTIONS:
        entry = told[action.id]
        assert (entry.group, entry.status) == (action.group, "live")
        assert entry.attributes == {
            "category": action.category,
            "price": float(action.price),
            "discount_rate": float(action.discount_rate),
        }
        assert entry.promotes == ((action.product,) if action.product else ())
        assert entry.again_after == action.again_after
        assert entry.buying_roles == action.roles
        if not entry.is_no_action:
            assert tuple(dict.fromkeys(treatment.channel for treatment in entry.treatments)) == action.channels
        if action.id != "framework_contract":
            assert entry.value == action.value


def test_the_shop_knows_what_a_framework_contract_earns() -> None:
    told = catalog("simulated")
    proposal = told.proposal("framework_contract", told.placements["home_hero"])
    assert proposal is not None
    assert proposal.value_rule is not None
    for employees, value in ((None, 60.0), (0.0, contract_value(0.0)), (500.0, contract_value(500.0))):
        scope = RuleScope(account={"employees": employees}, now=LATER)
        assert proposal.value_rule.number(scope) == pytest.approx(value)


def test_world_and_catalogue_agree_on_every_placement_that_customers_visit() -> None:
    told = catalog("simulated")
    visited = {(p.id, p.channel, p.slots) for p in PLACEMENTS}
    assert {(p.id, p.channel, p.slots) for p in told.content.placements} == {*visited, ("app_push", "app", 1)}
    assert {c.id: c.requires_consent for c in told.content.channels} == {
        "web": None,
        "email": "marketing",
        "app": "marketing",
    }


def test_the_world_s_outcomes_come_within_the_catalogue_s_attribution_windows() -> None:
    assert all(placement.attribution_window > LATEST for placement in catalog("simulated").content.placements)


def test_a_name_means_one_thing_among_everything_a_model_sees(domain: Simulated) -> None:
    tables = domain.tables().values()
    customer = {name for table in tables if "customer_id" in table.columns for name in table.columns[2:]}
    context = {name for values in domain.log()["context"] for name in values}
    action = {name for entry in catalog("simulated").content.actions for name in entry.attributes}
    taken = {"action_id", "group", "goal", "value", "placement", "channel"}
    names = [*customer, *context, *action, *HISTORY_FEATURES, *taken]
    assert len(customer) == 47
    assert len(names) == len(set(names))


def everybody(domain: Simulated) -> list[Facts]:
    """What is known of the first customers, of every business contact, and of somebody unknown."""
    tables = domain.tables()
    newest = tables["recent"].drop_duplicates("customer_id", keep="last")
    rows = tables["profile"].merge(newest, on="customer_id", suffixes=("", "_recent"))
    rows = rows.merge(tables["contacts"], on="customer_id", how="left", suffixes=("", "_contacts"))
    rows = rows.drop(columns=[name for name in rows.columns if name.startswith("event_timestamp")])
    accounts = tables["accounts"].set_index("account_id").drop(columns="event_timestamp").to_dict("index")
    known = []
    for row in pd.concat([rows.iloc[:60], rows[rows["account_id"].notna()]]).to_dict("records"):
        lists = {"responsibilities": tuple(row["responsibilities"]) if row["account_id"] == row["account_id"] else ()}
        values = {name: plain(value) for name, value in row.items() if name not in lists} | lists
        account = accounts.get(values["account_id"], {})
        account = {name: tuple(v) if isinstance(v, list) else plain(v) for name, v in account.items()}
        known.append(Facts(features=values, account_id=values["account_id"], account=account))
    nobody = dict.fromkeys(known[0].features) | {"responsibilities": ()}
    return [*known, Facts(features=nobody)]


def plain(value: Any) -> Any:
    return None if value != value else value


def judged(told: Catalog, facts: Facts, placement: str) -> tuple[list[Eligible], list[Drop], tuple[str, ...]]:
    """Who passes the shop's rules here, who does not, and the journey stage."""
    scope = told.scope(now=LATER, customer=facts.features, account=facts.account, context={"daypart": "evening"})
    stages = stages_of(told, (), scope)
    offered = told.offered(told.placements[placement])
    screened = offered.screened(scope.customer, scope.account, scope.context)
    kept, dropped = engaged(offered.live, screened, told, facts, scope, NOTHING_OPEN, stages, now=LATER)
    return kept, dropped, stages


def test_the_shop_s_rules_can_be_judged_for_every_customer_even_one_without_values(domain: Simulated) -> None:
    told, everyone = catalog("simulated"), everybody(domain)
    assert len(everyone) > 300
    for facts in everyone:
        for placement, least in (("home_hero", 33), ("newsletter", 25), ("app_inbox", 20)):
            kept, dropped, stages = judged(told, facts, placement)
            assert len(kept) >= least
            assert len(stages) == 1
            assert [drop for drop in dropped if drop.reason == "RULE_ERROR"] == []


def test_somebody_of_whom_nothing_is_known_is_looking_around(domain: Simulated) -> None:
    assert judged(catalog("simulated"), everybody(domain)[-1], "home_hero")[2] == ("discover",)


def test_every_stage_of_the_journey_has_customers(domain: Simulated) -> None:
    told = catalog("simulated")
    met = {judged(told, facts, "home_hero")[2] for facts in everybody(domain)}
    assert met == {("discover",), ("first_order",), ("regular",), ("loyal",), ("lapsing",)}


def test_every_business_action_is_offered_to_somebody_and_to_no_consumer(domain: Simulated) -> None:
    told = catalog("simulated")
    offered: dict[str, set[bool]] = {}
    for facts in everybody(domain):
        for eligible in judged(told, facts, "home_hero")[0]:
            if eligible.proposal.action.group == BUSINESS:
                offered.setdefault(eligible.proposal.action.id, set()).add(facts.account_id is not None)
    assert offered == {action.id: {True} for action in ALL_ACTIONS if action.group == BUSINESS}


def test_the_readme_s_customer_is_not_in_the_control() -> None:
    content = catalog("simulated").content
    assert content.holdout.share == 0.05
    assert not is_held_out(content.holdout, "c-00001")


def test_the_control_gets_something_where_everybody_may_be_shown_something() -> None:
    told = catalog("simulated")
    fallbacks = [p for p in told.offered(told.placements["home_hero"]).live if p.action.fallback]
    assert len(fallbacks) == told.placements["home_hero"].slots
    assert all(p.action.budget is None and not p.engagement and not p.action.buying_roles for p in fallbacks)


def test_the_shop_s_markets_say_what_is_different_there() -> None:
    markets = read_release(CATALOG / "simulated")[1].markets
    assert set(markets) == {"global", "de", "ch"}
    worth = {name: told.proposal("store_card", told.placements["home_hero"]) for name, told in markets.items()}
    assert {name: p.value for name, p in worth.items() if p} == {"global": 30.0, "de": 30.0, "ch": 33.0 * 1.05}
    assert {name: told.content.language for name, told in markets.items()} == {"global": "en", "de": "de", "ch": "de"}
    assert {name: told.actions["delivery_pass"].status for name, told in markets.items()}["ch"] == "retired"


def test_the_e_mail_challenge_holds_nobody_out_and_continues_nothing() -> None:
    content = catalog("hillstrom").content
    assert content.holdout.share == 0.0
    assert content.continuity == timedelta(0)


def test_the_e_mail_challenge_has_its_three_arms_and_asks_for_no_consent() -> None:
    told = catalog("hillstrom")
    assert set(told.actions) == set(CANDIDATES)
    assert {action.value for action in told.content.actions} == {1.0}
    assert told.placements[PLACEMENT].reward == {"click": 1}
    assert [channel.requires_consent for channel in told.content.channels] == [None]
