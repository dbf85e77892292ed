from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import yaml
from feast.repo_config import load_repo_config

from storage.feature_store import open_feature_store, repo_config
from storage.settings import Settings
from training.domains.simulated import Simulated
from training.features import FEATURE_REPO, feature_names, historical_features
from training.ingest import ingest

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def domain() -> Simulated:
    return Simulated(seed=5, customers=150, decisions=200)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, domain: Simulated) -> Settings:
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    ingest(domain, settings, now=NOW, progress=lambda _: None, write_consents=lambda _: None)
    return settings


def online(settings: Settings, *customer_ids: str) -> pd.DataFrame:
    store = open_feature_store(settings)
    rows = [{"customer_id": customer_id} for customer_id in customer_ids]
    return pd.DataFrame(store.get_online_features(store.get_feature_service("simulated"), entity_rows=rows).to_dict())


def test_the_service_has_exactly_the_columns_of_the_domain_s_tables(settings: Settings, domain: Simulated) -> None:
    columns = [name for table in domain.tables().values() for name in table.columns[2:]]
    assert sorted(feature_names(settings, "simulated")) == sorted(columns)


def test_the_simulated_features_are_the_same_online_and_offline(settings: Settings, domain: Simulated) -> None:
    customers = domain.world.customers.ids
    frame = pd.DataFrame({"row_id": customers, "customer_id": customers, "event_timestamp": pd.Timestamp(NOW)})
    offline = historical_features(settings, "simulated", frame)
    served = online(settings, *customers)
    for name in feature_names(settings, "simulated"):
        assert served[name].isna().tolist() == offline[name].isna().tolist(), name
        assert served[name].dropna().tolist() == offline[name].dropna().tolist(), name


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
