"""A log of past decisions of one's own, by a mapping; and what is said where it is wrong or incomplete."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from decisioning.errors import DataError, SetupError
from nextmove.starter_catalog import starter, write_starter
from storage.catalog_files import read_release
from tests.training.own_data import Shop
from training.domains import LOG_COLUMNS
from training.features import declared_features

CUSTOMERS = ("c-1,31,Bern,yes", "c-2,45,Basel,no")
FIRST, SECOND = "d-1,c-1,2026-01-02T10:00:00,shoes,0.5,20", "d-2,c-2,2026-01-01T10:00:00,hats,0.25,0"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    shop.customers(*CUSTOMERS)
    shop.decisions(FIRST, SECOND)
    return shop


def log(shop: Shop, **decisions: Any) -> pd.DataFrame:
    shop.mapping(decisions=decisions)
    shop.ingest()
    return shop.domain().log()


def test_a_log_has_what_every_domain_s_log_has_in_order_of_time(shop: Shop) -> None:
    found = log(shop)
    assert list(found.columns) == list(LOG_COLUMNS)
    assert found["row_id"].tolist() == ["d-2", "d-1"]
    assert found["probability"].tolist() == [0.25, 0.5]
    assert found["candidates"].tolist() == [["hats", "shoes"]] * 2
    assert found["reward"].tolist() == [0.0, 20.0]
    assert found["success"].tolist() == [0, 1]
    assert found["decided_at"].iloc[1] == datetime(2026, 1, 2, 10, tzinfo=UTC)
    assert set(found["placement"]) == {"home"}


def test_a_domain_without_a_log_has_an_empty_one(shop: Shop) -> None:
    shop.mapping()
    assert shop.domain().log().empty


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("d-1,c-1,2026-01-03T10:00:00,shoes,0.5,0", "row 4, column id: the id 'd-1' stands in row 2 too"),
        ("d-3,c-1,2026-01-03T10:00:00,shoes,1.5,0", "row 4, column p: is '1.5', must be above 0 and at most 1"),
        ("d-3,c-1,2026-01-03T10:00:00,shoes,0,0", "row 4, column p: is '0', must be above 0 and at most 1"),
        (
            "d-3,c-1,31/01/2026,shoes,0.5,0",
            "row 4, column at: is '31/01/2026', must be a time like 2026-11-21T18:00:00",
        ),
        ("d-3,c-1,2026-01-03T10:00:00,,0.5,0", "row 4, column offer: is empty, must be an id of"),
        ("d-3,c-1,2026-01-03T10:00:00,shoes,0.5,", "row 4, column paid: is empty, must say what the decision earned"),
        ("d-3,,2026-01-03T10:00:00,shoes,0.5,0", "row 4, column client: is empty, must say whose row this is"),
        ("d-3,c-1", "row 4: has 2 values, the header has 6 columns"),
    ],
)
def test_mistakes_are_named_by_file_row_and_column(shop: Shop, line: str, mistake: str) -> None:
    shop.decisions(FIRST, SECOND, line)
    shop.mapping(decisions={})
    shop.ingest()
    domain = shop.domain()
    assert domain.log()["row_id"].tolist() == ["d-2", "d-1"]
    assert shop.told[0].startswith(f"decisions.csv {mistake}")
    [kept] = (shop.settings.home / "ingested" / "decisions-shop.rejected.jsonl").read_text().splitlines()
    assert json.loads(kept)["_row"] == 4


def test_actions_are_called_as_the_catalogue_calls_them_and_others_refused(shop: Shop) -> None:
    shop.decisions(FIRST, SECOND, "d-3,c-1,2026-01-03T10:00:00,boots,0.5,0")
    names = {"column": "offer", "names": {"shoes": "red_shoes", "hats": "no_action"}}
    assert log(shop, action=names)["action_id"].tolist() == ["no_action", "red_shoes"]
    domain = shop.domain()
    domain.log()
    assert shop.told[0] == "decisions.csv row 4, column offer: is 'boots', must be one of hats, shoes"


def test_what_was_not_a_candidate_was_not_chosen(shop: Shop) -> None:
    shop.mapping(decisions={"candidates": ["shoes", "boots"]})
    shop.ingest()
    domain = shop.domain()
    assert domain.log()["candidates"].tolist() == [["shoes", "boots"]]
    assert (
        shop.told[0] == "decisions.csv row 3, column offer: is 'hats', which is not among the candidates shoes, boots"
    )


def test_candidates_may_stand_in_a_column(shop: Shop) -> None:
    header = "id,client,at,offer,p,paid,could"
    shop.decisions(FIRST + ",shoes|boots", SECOND + ",hats", header=header)
    found = log(shop, candidates={"column": "could", "separator": "|"}, probability="uniform")
    assert found["candidates"].tolist() == [["hats"], ["shoes", "boots"]]
    assert found["probability"].tolist() == [1.0, 0.5]


def test_without_a_probability_none_is_made_up(shop: Shop) -> None:
    assert all(math.isnan(p) for p in log(shop, probability=None)["probability"])


def test_a_row_that_says_no_probability_has_none(shop: Shop) -> None:
    shop.decisions(FIRST, "d-2,c-2,2026-01-01T10:00:00,hats,,0")
    found = log(shop)["probability"].tolist()
    assert math.isnan(found[0])
    assert found[1] == 0.5


def test_empirical_probabilities_are_how_often_each_action_stands_in_the_log(shop: Shop) -> None:
    shop.decisions(FIRST, SECOND, "d-3,c-1,2026-01-03T10:00:00,shoes,,0", "d-4,c-1,2026-01-04T10:00:00,shoes,,0")
    assert log(shop, probability="empirical")["probability"].tolist() == [0.25, 0.75, 0.75, 0.75]


def test_rows_without_a_time_are_spread_between_two_days(shop: Shop) -> None:
    found = log(shop, time=None, between=["2026-01-01", "2026-01-03"])
    assert found["row_id"].tolist() == ["d-1", "d-2"]
    assert found["decided_at"].tolist() == [pd.Timestamp(datetime(2026, 1, day, tzinfo=UTC)) for day in (1, 2)]


def test_a_reward_may_be_a_word(shop: Shop) -> None:
    assert log(shop, reward={"column": "paid", "success": [20]})["reward"].tolist() == [0.0, 1.0]


def test_context_is_what_is_not_empty_with_the_kind_that_it_has(shop: Shop) -> None:
    shop.decisions(FIRST + ",mobile,3", SECOND + ",,4", header="id,client,at,offer,p,paid,device,items")
    found = log(shop, context={"device": "device", "items": "items"})["context"].tolist()
    assert found == [{"items": 4.0}, {"items": 3.0, "device": "mobile"}]


def test_decisions_of_strangers_and_those_before_anything_was_known_are_counted(shop: Shop) -> None:
    shop.decisions(FIRST, "d-2,c-9,2026-01-01T10:00:00,hats,0.25,0", "d-3,c-1,2024-01-01T10:00:00,hats,0.25,0")
    shop.mapping(decisions={})
    shop.ingest()
    shop.domain().log()
    assert shop.told == [
        "1 of 3 logged decisions are of customers who are not ingested",
        "1 of 3 logged decisions are earlier than the customer's first row",
    ]


def test_a_log_of_strangers_alone_is_refused(shop: Shop) -> None:
    shop.decisions("d-2,c-9,2026-01-01T10:00:00,hats,0.25,0")
    shop.mapping(decisions={})
    shop.ingest()
    with pytest.raises(DataError, match=r"of none of the 1 logged decisions .* see `id`, `time` and `since`"):
        shop.domain().log()


def test_a_log_without_a_row_that_can_be_used_is_refused(shop: Shop) -> None:
    shop.decisions("d-2,c-1,yesterday,hats,0.25,0")
    shop.mapping(decisions={})
    shop.ingest()
    with pytest.raises(DataError, match=r"no row of decisions\.csv could be used"):
        shop.domain().log()


def test_a_log_before_its_customers_says_what_to_do(shop: Shop) -> None:
    shop.mapping(decisions={})
    with pytest.raises(SetupError, match="nextmove ingest customers"):
        shop.domain().log()


def test_of_customers_and_decisions_in_the_same_rows_what_happened_is_no_feature(shop: Shop) -> None:
    shop.customers("c-1,31,shoes,1", header="client,age,offer,paid")
    same = {"from": None, "id": None, "time": None, "between": ["2026-01-01", "2026-01-03"], "probability": None}
    shop.mapping(decisions=same)
    assert shop.ingest().features == {"age": "number"}
    assert shop.domain().log()["action_id"].tolist() == ["shoes"]


def test_the_first_catalogue_is_a_good_one_and_is_written_once(shop: Shop) -> None:
    found = log(shop)
    domain = shop.domain()
    folder = shop.folder / "catalog" / "shop"
    written = write_starter(folder, domain.mapping, found)
    assert written == folder / "global" / "catalog.yaml"
    release = read_release(folder, features=declared_features("shop", shop.settings))[1]
    actions = release.everywhere.actions
    assert {name: action.value for name, action in actions.items()} == {"hats": 1.0, "shoes": 20.0, "no_action": 0.0}
    assert list(release.everywhere.placements) == ["home"]
    written.write_text("# mine\n")
    assert write_starter(folder, domain.mapping, found) is None
    assert written.read_text() == "# mine\n"


def test_consents_that_are_mapped_bind_the_first_catalogue_s_channels(shop: Shop) -> None:
    email = {"column": "email_ok", "purpose": "marketing", "channel": "email", "source": "crm", "since": "2025-02-01"}
    shop.mapping(consents=[email, {**email, "purpose": "personalisation", "channel": "web"}])
    said = starter(shop.domain().mapping, shop.domain().log())
    assert "personalisation: default" not in said
    assert "- id: email\n  requires_consent: marketing" in said
