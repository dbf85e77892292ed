import asyncio
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from feast.repo_config import load_repo_config

from decisioning.event_features import EventFeatures
from decisioning.event_state import EventState
from decisioning.events import EventRecord
from decisioning.profile import ConsentChange
from serving.adapters.feast_features import FeastFeatures
from storage.catalog_files import declared_event_features
from storage.feature_store import open_feature_store, repo_config
from storage.settings import Settings
from training.domains.simulated import Simulated
from training.features import FEATURE_REPO, feature_names, historical_features, offline_path
from training.ingest import ingest

LIST = pa.list_(pa.string())
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def domain() -> Simulated:
    return Simulated(seed=5, customers=150, decisions=200)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, domain: Simulated) -> Settings:
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    ingest(domain, settings, now=NOW, progress=lambda _: None, write_consents=lambda _: None)
    return settings


class Changed:
    """The domain, with one table changed."""

    def __init__(self, domain: Simulated) -> None:
        self.name, self.data_sha256, self._domain = domain.name, type(self).__name__, domain

    def tables(self) -> dict[str, pd.DataFrame]:
        return self.change(self._domain.tables())

    def change(self, tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        raise NotImplementedError

    def consents(self) -> list[ConsentChange]:
        return []

    def log(self) -> pd.DataFrame:
        raise AssertionError("ingesting reads no log")


class NobodyAnswers(Changed):
    def change(self, tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        contacts = tables["contacts"]
        # A table may say both: nothing, and not known.
        contacts["responsibilities"] = [None if row % 2 else [] for row in range(len(contacts))]
        return tables


class Grown(Changed):
    def change(self, tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        before = tables["accounts"]
        later = before.assign(event_timestamp=before["event_timestamp"] + timedelta(days=9), employees=9_999.0)
        tables["accounts"] = pd.concat([later, before], ignore_index=True)
        return tables


def served_by(settings: Settings) -> FeastFeatures:
    return FeastFeatures(open_feature_store(settings), "simulated")


def online(settings: Settings, *customer_ids: str) -> pd.DataFrame:
    store = open_feature_store(settings)
    rows = [{"customer_id": customer_id} for customer_id in customer_ids]
    return pd.DataFrame(store.get_online_features(store.get_feature_service("simulated"), entity_rows=rows).to_dict())


def test_the_service_has_exactly_the_columns_of_the_domain_s_tables(settings: Settings, domain: Simulated) -> None:
    tables = domain.tables()
    accounts = tables.pop("accounts")
    assert sorted(feature_names(settings, "simulated")) == sorted(n for t in tables.values() for n in t.columns[2:])
    store = open_feature_store(settings)
    [view] = store.get_feature_service("simulated_accounts").feature_view_projections
    assert sorted(feature.name for feature in view.features) == sorted(accounts.columns[2:])


def test_the_simulated_features_are_the_same_online_and_offline(settings: Settings, domain: Simulated) -> None:
    customers = domain.world.customers.ids
    frame = pd.DataFrame({"row_id": customers, "customer_id": customers, "event_timestamp": pd.Timestamp(NOW)})
    offline = historical_features(settings, "simulated", frame)
    served = online(settings, *customers)
    lists = ["responsibilities"]
    served[lists] = served[lists].map(lambda values: tuple(values or ()))
    assert len(set(served["responsibilities"])) > 3
    for name in feature_names(settings, "simulated"):
        assert served[name].isna().tolist() == offline[name].isna().tolist(), name
        assert served[name].dropna().tolist() == offline[name].dropna().tolist(), name


def test_lists_come_from_either_offline_store_as_they_were_written(settings: Settings, domain: Simulated) -> None:
    contacts = domain.world.accounts.contacts
    written = dict(zip(contacts["customer_id"], map(tuple, contacts["responsibilities"]), strict=True))
    customers = domain.world.customers.ids
    frame = pd.DataFrame({"row_id": customers, "customer_id": customers, "event_timestamp": pd.Timestamp(NOW)})
    assert () in written.values()
    for store in ("duckdb", "file"):
        joined = historical_features(replace(settings, offline_store=store), "simulated", frame)
        assert joined["responsibilities"].tolist() == [written.get(customer, ()) for customer in customers]


def test_a_list_that_is_empty_for_everybody_is_a_list(tmp_path: Path, domain: Simulated) -> None:
    settings = Settings(home=tmp_path)
    ingest(NobodyAnswers(domain), settings, now=NOW, progress=lambda _: None, write_consents=lambda _: None)
    [contact] = domain.world.accounts.contacts["customer_id"][:1]
    frame = pd.DataFrame({"row_id": ["r"], "customer_id": [contact], "event_timestamp": pd.Timestamp(NOW)})
    assert historical_features(settings, "simulated", frame)["responsibilities"].tolist() == [()]
    assert pq.read_schema(offline_path(settings, "simulated", "contacts")).field("responsibilities").type == LIST
    assert asyncio.run(served_by(settings).read(contact)).values["responsibilities"] == ()


def test_of_an_account_its_newest_row_is_served(tmp_path: Path, domain: Simulated) -> None:
    settings = Settings(home=tmp_path)
    ingest(Grown(domain), settings, now=NOW, progress=lambda _: None, write_consents=lambda _: None)
    [contact] = domain.world.accounts.contacts["customer_id"][:1]
    stored = asyncio.run(served_by(settings).read(contact))
    assert stored.account["employees"] == 9_999.0
    assert stored.as_of == domain.tables()["profile"]["event_timestamp"].min()


def test_ingested_accounts_are_reused_as_a_whole(settings: Settings, domain: Simulated) -> None:
    again = ingest(domain, settings, now=NOW, progress=lambda _: None, write_consents=lambda _: None)
    assert again.reused
    assert again.customers == 150
    offline_path(settings, "simulated", "accounts").unlink()
    again = ingest(domain, settings, now=NOW, progress=lambda _: None, write_consents=lambda _: None)
    assert not again.reused


def test_a_week_old_decision_is_joined_with_the_behaviour_of_that_week(settings: Settings, domain: Simulated) -> None:
    world = domain.world
    at = world.log_start + timedelta(days=16)
    frame = pd.DataFrame({"row_id": ["r"], "customer_id": ["c-00007"], "event_timestamp": pd.Timestamp(at)})
    joined = historical_features(settings, "simulated", frame)
    assert joined["visits_7d"].tolist() == [world.customers.recent.visits_7d[2, 6]]


def test_a_push_changes_what_the_next_decision_reads(settings: Settings) -> None:
    store = open_feature_store(settings)
    before = online(settings, "c-00001", "c-00002")
    pushed = {
        "customer_id": ["c-00001"], "event_timestamp": [pd.Timestamp(NOW)], "visits_7d": [41.0], "searches_7d": [2.0],
        "opens_30d": [float("nan")], "days_since_purchase": [0.0], "cart_value": [99.5], "last_category": ["phones"],
    }  # fmt: skip
    store.push("simulated_recent_push", pd.DataFrame(pushed))
    after = online(settings, "c-00001", "c-00002")
    assert after["visits_7d"].tolist() == [41.0, before["visits_7d"][1]]
    assert after["last_category"][0] == "phones"
    assert after["tenure_days"].tolist() == before["tenure_days"].tolist()


def test_feast_s_own_command_line_finds_the_default_state_directory() -> None:
    written = yaml.safe_load((FEATURE_REPO / "feature_store.yaml").read_text("utf-8"))
    ours = repo_config(Settings(home=FEATURE_REPO.parent / ".nextmove"))
    assert (FEATURE_REPO / written["registry"]["path"]).resolve() == Path(ours.registry.path)
    assert (FEATURE_REPO / written["online_store"]["path"]).resolve() == Path(ours.online_store.path)
    theirs = load_repo_config(FEATURE_REPO, FEATURE_REPO / "feature_store.yaml")
    for name in ("project", "provider", "entity_key_serialization_version"):
        assert getattr(theirs, name) == getattr(ours, name)
    assert theirs.offline_store.type == ours.offline_store.type
    assert theirs.registry.cache_ttl_seconds == ours.registry.cache_ttl_seconds


EVENT_FEATURES = """\
event_features:
  - {id: orders, event: purchase, compute: count, windows: [P1D, P7D]}
  - {id: last_country, event: purchase, compute: last, of: country}
"""


def test_features_over_events_are_a_view_that_is_pushed(tmp_path: Path, domain: Simulated) -> None:
    shutil.copytree(FEATURE_REPO.parent / "catalog", tmp_path / "catalog")
    (tmp_path / "catalog" / "simulated" / "global" / "event_features.yaml").write_text(EVENT_FEATURES)
    settings = Settings(home=tmp_path / "home", catalog_dir=tmp_path / "catalog")
    ingest(domain, settings, now=NOW, progress=lambda _: None, write_consents=lambda _: None)
    assert "orders_1d" not in feature_names(settings, "simulated")
    features = EventFeatures(declared_event_features(settings.catalog_dir / "simulated"))
    state = EventState()
    bought = EventRecord(
        event_id="s/1", source="s", type="track", name="purchase", customer_id="c-00001", occurred_at=NOW,
        received_at=NOW, properties={"country": "CH"},
    )  # fmt: skip
    features.add(state, bought)
    rows = [
        {"customer_id": who, "event_timestamp": pd.Timestamp(NOW), **features.read(kept, now=NOW)}
        for who, kept in (("c-00001", state), ("c-00002", EventState()))
    ]
    store = open_feature_store(settings)
    store.push("simulated_events_push", pd.DataFrame(rows))
    asked = [{"customer_id": row["customer_id"]} for row in rows]
    found = store.get_online_features(store.get_feature_service("simulated_events"), entity_rows=asked).to_dict()
    assert {name: found[name] for name in ("orders_1d", "orders_7d", "last_country")} == {
        "orders_1d": [1.0, 0.0], "orders_7d": [1.0, 0.0], "last_country": ["CH", None],
    }  # fmt: skip


def test_a_catalogue_that_is_wrong_defines_no_features_over_events(tmp_path: Path) -> None:
    folder = tmp_path / "shop" / "global"
    folder.mkdir(parents=True)
    (folder / "a.yaml").write_text(EVENT_FEATURES)
    assert len(declared_event_features(tmp_path / "shop")) == 2
    (folder / "a.yaml").write_text(EVENT_FEATURES.replace("compute: last", "compute: first"))
    assert declared_event_features(tmp_path / "shop") == ()
    assert declared_event_features(tmp_path / "gone") == ()
