"""Features over events in Feast are what the service would read, of everybody who did something."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from decisioning.errors import SetupError, StoreError
from decisioning.event_features import EventFeatures
from decisioning.event_state import EventState
from decisioning.events import EventRecord
from storage.catalog_files import declared_event_features
from storage.feature_store import open_feature_store
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.storage.kept import NOW, event
from training.event_table import with_event_features
from training.features import FEATURE_REPO
from training.ingest_features import FeaturesReport, ingest_features

HOUR = timedelta(hours=1)
DECLARED = """\
event_features:
  - {id: orders, event: purchase, compute: count, windows: [P1D, P7D]}
  - {id: last_country, event: purchase, compute: last, of: country}
  - {id: since_page, event: page, compute: recency}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    shutil.copytree(FEATURE_REPO.parent / "catalog", tmp_path / "catalog")
    declare(tmp_path, DECLARED)
    return Settings(home=tmp_path / "home", catalog_dir=tmp_path / "catalog")


def declare(directory: Path, said: str) -> None:
    (directory / "catalog" / "simulated" / "global" / "event_features.yaml").write_text(said)


def features_of(settings: Settings) -> EventFeatures:
    return EventFeatures(declared_event_features(settings.catalog_dir / "simulated"))


def keep(settings: Settings, *events: EventRecord) -> list[EventRecord]:
    with closing(Ledger(settings)) as ledger:
        asyncio.run(ledger.append_events([(each, each.event_id) for each in events]))
    return list(events)


def bought(number: int, customer: str | None = "c-1", *, ago: timedelta = HOUR, **fields: Any) -> EventRecord:
    properties = {"country": "CH", **fields.pop("properties", {})}
    return event(f"shop/{number}", customer_id=customer, occurred_at=NOW - ago, properties=properties, **fields)


def ingested(settings: Settings, *, later: timedelta = timedelta()) -> FeaturesReport:
    return ingest_features(settings, now=NOW + later, progress=lambda _: None)


def online(settings: Settings, *customers: str) -> list[dict[str, Any]]:
    store = open_feature_store(settings)
    asked = [{"customer_id": customer} for customer in customers]
    found = store.get_online_features(store.get_feature_service("simulated_events"), entity_rows=asked).to_dict()
    return [
        {name: None if found[name][place] != found[name][place] else found[name][place] for name in found}
        for place in range(len(customers))
    ]


def read(settings: Settings, events: list[EventRecord], customer: str, *, later: timedelta = timedelta()) -> Any:
    features, state = features_of(settings), EventState()
    for each in events:
        if each.customer_id == customer:
            features.add(state, each)
    return {"customer_id": customer, **features.read(state, now=NOW + later)}


def test_feast_has_of_everybody_what_the_service_reads(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.ingest_features.CUSTOMERS_TOGETHER", 2)
    events = keep(
        settings,
        *(bought(number, f"c-{number % 5}", ago=number * 3 * HOUR, properties={"n": 1}) for number in range(40)),
        bought(98, None, anonymous_id="v-1"),
        bought(99, "c-9", type="page", name="page"),
        bought(100, "c-10", name="search"),
    )
    report = ingested(settings)
    assert (report.customers, report.features) == (6, 4)
    customers = ["c-0", "c-1", "c-2", "c-3", "c-4", "c-9"]
    assert online(settings, *customers) == [read(settings, events, customer) for customer in customers]


def test_a_run_writes_those_alone_who_did_something_since(settings: Settings) -> None:
    events = keep(settings, bought(1), bought(2, "c-2"))
    assert ingested(settings).customers == 2
    assert ingested(settings, later=HOUR).customers == 0
    events += keep(settings, bought(3, ago=2 * HOUR))
    assert ingested(settings, later=2 * HOUR).customers == 1
    assert online(settings, "c-1", "c-2") == [
        read(settings, events, "c-1", later=2 * HOUR),
        read(settings, events, "c-2"),
    ]


def test_a_run_that_died_is_done_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.ingest_features.CUSTOMERS_TOGETHER", 1)
    events = keep(settings, bought(1), bought(2, "c-2"))
    with monkeypatch.context() as dying:
        dying.setattr("feast.FeatureStore.write_to_online_store", second_time_dies())
        with pytest.raises(StoreError, match="the online store cannot be written: gone"):
            ingested(settings)
    events += keep(settings, bought(3, "c-0"))
    assert ingested(settings).customers == 3
    assert online(settings, "c-2") == [read(settings, events, "c-2")]


def second_time_dies() -> Callable[..., None]:
    calls: list[int] = []

    def write(*_given: Any, **_named: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError("gone")

    return write


def test_other_declarations_begin_anew(settings: Settings) -> None:
    keep(settings, bought(1), bought(2, "c-2"))
    ingested(settings)
    declare(settings.home.parent, DECLARED.replace("id: orders", "id: bought"))
    assert ingested(settings).customers == 2
    assert online(settings, "c-1")[0]["bought_1d"] == 1.0


def test_a_ledger_that_was_replaced_is_read_from_its_begin(settings: Settings) -> None:
    keep(settings, bought(1), bought(2), bought(3))
    ingested(settings)
    for left in settings.home.glob("ledger.db*"):
        left.unlink()
    keep(settings, bought(4, "c-4"))
    assert ingested(settings).customers == 1


@pytest.mark.parametrize("offline", ["duckdb", "file"])
def test_the_past_can_be_joined_from_the_offline_store(settings: Settings, offline: str) -> None:
    settings = replace(settings, offline_store=offline)
    keep(settings, bought(1))
    ingested(settings)
    keep(settings, bought(2), bought(3, "c-3", type="page", name="page"))
    ingested(settings, later=2 * HOUR)
    store = open_feature_store(settings)
    asked = pd.DataFrame(
        {"customer_id": ["c-1", "c-1", "c-3"], "event_timestamp": [pd.Timestamp(NOW + n * HOUR) for n in (1, 3, 3)]}
    )
    service = store.get_feature_service("simulated_events")
    joined = store.get_historical_features(entity_df=asked, features=service).to_df()
    joined = joined.sort_values(["customer_id", "event_timestamp"])
    assert joined["orders_7d"].tolist() == [1.0, 2.0, 0.0]
    assert joined["last_country"].tolist()[:2] == ["CH", "CH"]


def test_a_catalogue_without_any_is_told(settings: Settings) -> None:
    declare(settings.home.parent, "event_features: []\n")
    with pytest.raises(SetupError, match="declares no event_features"):
        ingested(settings)


def test_history_that_others_decided_has_the_features_of_its_time(settings: Settings) -> None:
    keep(settings, bought(1, ago=30 * HOUR), bought(2, ago=2 * HOUR), bought(3, "c-2", ago=3 * HOUR))
    points = pd.DataFrame(
        {"customer_id": "c-1", "event_timestamp": [pd.Timestamp(NOW - hours * HOUR) for hours in (40, 20, 1)]}
    )
    joined = pd.DataFrame({"row_id": ["a", "b", "c"]}, index=[7, 8, 9])
    declared = declared_event_features(settings.catalog_dir / "simulated")
    found = with_event_features(joined, settings, declared, points)
    assert found.index.tolist() == [7, 8, 9]
    assert found["row_id"].tolist() == ["a", "b", "c"]
    assert found["orders_7d"].tolist()[1:] == [1.0, 2.0]
    assert found.loc[7].drop("row_id").isna().all(), "before the first event nothing is known"
    assert found["last_country"].tolist()[1:] == ["CH", "CH"]
    assert found["orders_1d"].dtype == float
    assert with_event_features(joined, settings, (), points) is joined
