"""The simulated shop as a data set, and its agreement with catalogue and feature definitions."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from decisioning.catalog import NO_ACTION, Catalog
from decisioning.errors import SetupError
from decisioning.profile import HISTORY_FEATURES, Contact
from decisioning.rules import RuleScope
from storage.catalog_files import read_catalog
from training.domains import LOG_COLUMNS, open_domain
from training.domains.hillstrom import CANDIDATES, PLACEMENT
from training.domains.simulated import Simulated
from training.world import Visit
from training.world_actions import ALL_ACTIONS, LATEST, PLACEMENTS

CATALOG = Path(__file__).parents[2] / "catalog"


@pytest.fixture(scope="module")
def domain() -> Simulated:
    return Simulated(seed=3, customers=2_000, decisions=6_000)


def catalog(domain: str) -> Catalog:
    return read_catalog(CATALOG / domain)[1]


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
    web = log[log["placement"] == "home_hero"]
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


def test_contacts_are_what_the_log_showed_in_the_seven_days_before(domain: Simulated) -> None:
    log = domain.log()
    groups = {action.id: action.group for action in ALL_ACTIONS}
    channels = {placement.id: placement.channel for placement in PLACEMENTS}
    row = log.iloc[log["contacts"].map(len).argmax()]
    before = log[
        (log["customer_id"] == row.customer_id)
        & (log["decided_at"] < row.decided_at)
        & (log["decided_at"] > row.decided_at - timedelta(days=7))
        & (log["action_id"] != NO_ACTION)
    ]
    assert row.contacts == [
        Contact(r.action_id, groups[r.action_id], channels[r.placement], r.decided_at.to_pydatetime())
        for r in before.itertuples()
    ]


def test_the_log_s_successes_follow_the_truth(domain: Simulated) -> None:
    log, world = domain.log(), domain.world
    places = {customer_id: index for index, customer_id in enumerate(world.customers.ids)}
    visits = [
        Visit(places[r.customer_id], r.customer_id, r.placement, r.context, r.decided_at.to_pydatetime())
        for r in log.itertuples()
    ]
    chances = world.response_probability(visits, log["contacts"].tolist())
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
        assert (entry.group, entry.value, entry.status) == (action.group, action.value, "live")
        assert entry.attributes == {
            "category": action.category,
            "price": float(action.price),
            "discount_rate": float(action.discount_rate),
        }
        if not entry.is_no_action:
            assert tuple(treatment.channel for treatment in entry.treatments) == action.channels


def test_world_and_catalogue_agree_on_every_placement() -> None:
    told = catalog("simulated")
    assert {(p.id, p.channel, p.slots) for p in told.content.placements} == {
        (p.id, p.channel, p.slots) for p in PLACEMENTS
    }
    assert {c.id: c.requires_consent for c in told.content.channels} == {
        "web": None,
        "email": "marketing",
        "app": "marketing",
    }


def test_the_world_s_outcomes_come_within_the_catalogue_s_attribution_windows() -> None:
    assert all(placement.attribution_window > LATEST for placement in catalog("simulated").content.placements)


def test_a_name_means_one_thing_among_everything_a_model_sees(domain: Simulated) -> None:
    customer = {name for table in domain.tables().values() for name in table.columns[2:]}
    context = {name for values in domain.log()["context"] for name in values}
    action = {name for entry in catalog("simulated").content.actions for name in entry.attributes}
    taken = {"action_id", "group", "goal", "value", "placement", "channel"}
    names = [*customer, *context, *action, *HISTORY_FEATURES, *taken]
    assert len(customer) == 40
    assert len(names) == len(set(names))


def test_the_shop_s_rules_can_be_judged_for_every_customer_even_one_without_values(domain: Simulated) -> None:
    told = catalog("simulated")
    tables = domain.tables()
    newest = tables["recent"].drop_duplicates("customer_id", keep="last").set_index("customer_id")
    rows = tables["profile"].set_index("customer_id").join(newest, rsuffix="_recent").iloc[:60]
    customers = [
        {name: None if value != value else value for name, value in row.items()}
        for row in rows.drop(columns=["event_timestamp", "event_timestamp_recent"]).to_dict("records")
    ]
    customers.append(dict.fromkeys(customers[0]))
    for values in customers:
        scope = RuleScope(customer=values, context={"daypart": "evening"}, now=domain.world.log_end)
        live = [
            action
            for action in told.content.actions
            if all(
                told.rule(rule).holds(scope, action.scope())
                for rule in (action.eligibility, action.applicability, action.suitability)
            )
        ]
        for weight in (w for action in told.content.actions for w in action.context_weights):
            told.rule(weight.when).holds(scope)
        assert len(live) > 35


def test_the_e_mail_challenge_has_its_three_arms_and_asks_for_no_consent() -> None:
    told = catalog("hillstrom")
    assert set(told.actions) == set(CANDIDATES)
    assert {action.value for action in told.content.actions} == {1.0}
    assert told.placements[PLACEMENT].reward == {"click": 1}
    assert [channel.requires_consent for channel in told.content.channels] == [None]
