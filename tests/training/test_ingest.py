import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from decisioning.errors import DataError, SetupError, StoreError
from decisioning.profile import ConsentChange
from serving.adapters.feast_features import FeastFeatures
from storage.feature_store import open_feature_store
from storage.settings import Settings
from training.features import feature_names, historical_features, offline_path
from training.ingest import IngestReport, ingest

DAY = timedelta(days=1)
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
LATER = MONDAY + 30 * DAY
CONSENT = ConsentChange(
    customer_id="h-1", purpose="marketing", channel="email", granted=True, at=MONDAY, source="sign_up"
)


def profile(customer_id: str = "h-1", at: datetime = MONDAY, **overrides: Any) -> dict[str, Any]:
    values = {
        "customer_id": customer_id, "event_timestamp": at, "recency": 3.0, "history": 120.5, "mens": 1.0,
        "womens": 0.0, "newbie": 0.0, "history_segment": "2) $100 - $200", "zip_code": "Urban",
        "purchase_channel": "Web",
    }  # fmt: skip
    return values | overrides


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows))
    frame["event_timestamp"] = pd.to_datetime(frame["event_timestamp"], utc=True).dt.as_unit("us")
    return frame


@dataclass
class FakeDomain:
    """A domain of a few rows; `hillstrom` in name, so that its feature view fits."""

    frame: pd.DataFrame = field(default_factory=lambda: table(profile()))
    data_sha256: str = "first"
    name: str = "hillstrom"
    read: int = 0

    def tables(self) -> dict[str, pd.DataFrame]:
        self.read += 1
        return {"profile": self.frame}

    def consents(self) -> list[ConsentChange]:
        return [CONSENT]

    def log(self) -> pd.DataFrame:
        raise AssertionError("ingesting reads no log")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def run(
    domain: FakeDomain, settings: Settings, write: Callable[[list[ConsentChange]], None] | None = None
) -> IngestReport:
    return ingest(domain, settings, now=LATER, progress=lambda _: None, write_consents=write or (lambda _: None))


def online(settings: Settings, *customer_ids: str, domain: str = "hillstrom") -> pd.DataFrame:
    store = open_feature_store(settings)
    rows = [{"customer_id": customer_id} for customer_id in customer_ids]
    values = store.get_online_features(store.get_feature_service(domain), entity_rows=rows).to_dict()
    return pd.DataFrame(values)[["customer_id", *feature_names(settings, domain)]]


def asked(*rows: tuple[str, datetime]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row_id": [f"r-{number}" for number in range(len(rows))],
            "customer_id": [customer_id for customer_id, _ in rows],
            "event_timestamp": pd.to_datetime([at for _, at in rows], utc=True),
        }
    )


def test_ingestion_says_what_it_did_and_hands_on_the_consents(settings: Settings) -> None:
    written: list[ConsentChange] = []
    report = run(FakeDomain(), settings, written.extend)
    assert report == IngestReport(
        domain="hillstrom", data_sha256="first", customers=1, features=8, consents=1, reused=False
    )
    assert written == [CONSENT]


def test_a_second_run_over_the_same_data_reuses_the_first(settings: Settings) -> None:
    domain, written = FakeDomain(), list[ConsentChange]()
    run(domain, settings)
    assert run(domain, settings, written.extend).reused
    assert domain.read == 1
    assert written == []


def test_other_data_replace_what_is_there(settings: Settings) -> None:
    run(FakeDomain(), settings)
    changed = FakeDomain(table(profile(at=MONDAY + DAY, recency=9.0)), data_sha256="second")
    assert not run(changed, settings).reused
    assert online(settings, "h-1")["recency"].tolist() == [9.0]


def test_a_run_that_was_cut_off_is_completed_by_the_next(settings: Settings) -> None:
    def power_cut(_: list[ConsentChange]) -> None:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        run(FakeDomain(), settings, power_cut)
    offline_path(settings, "hillstrom", "profile").with_suffix(".parquet.part").write_bytes(b"half a file")
    written: list[ConsentChange] = []
    assert not run(FakeDomain(), settings, written.extend).reused
    assert written == [CONSENT]
    assert run(FakeDomain(), settings).reused


def test_a_damaged_marker_counts_as_none(settings: Settings) -> None:
    run(FakeDomain(), settings)
    (settings.feast_dir / "hillstrom.ingested.json").write_bytes(b'{"report":')
    assert not run(FakeDomain(), settings).reused


def test_a_lost_online_store_is_filled_again(settings: Settings) -> None:
    run(FakeDomain(), settings)
    (settings.feast_dir / "online.db").unlink()
    assert not run(FakeDomain(), settings).reused
    assert online(settings, "h-1")["recency"].tolist() == [3.0]


def test_a_table_that_lacks_a_feature_is_refused_before_anything_is_written(settings: Settings) -> None:
    with pytest.raises(DataError, match=r"lacks zip_code, which the view hillstrom_profile names"):
        run(FakeDomain(table(profile()).drop(columns="zip_code")), settings)
    assert not offline_path(settings, "hillstrom", "profile").exists()


def test_a_table_with_nothing_but_the_future_is_refused(settings: Settings) -> None:
    with pytest.raises(DataError, match="has no row up to"):
        run(FakeDomain(table(profile(at=LATER + DAY))), settings)


def test_a_domain_without_features_is_refused(settings: Settings) -> None:
    run(FakeDomain(), settings)
    with pytest.raises(SetupError, match="no feature service 'toys'"):
        feature_names(settings, "toys")


def test_the_newest_row_that_is_not_of_the_future_is_online(settings: Settings) -> None:
    rows = [profile(at=MONDAY + 2 * DAY, recency=2.0), profile(recency=1.0), profile(at=LATER + DAY, recency=5.0)]
    run(FakeDomain(table(*rows)), settings)
    assert online(settings, "h-1")["recency"].tolist() == [2.0]


@pytest.fixture(params=["duckdb", "file"])
def with_versions(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A customer whose recency was 1 on Monday and 2 from Wednesday on."""
    settings = Settings(home=tmp_path, offline_store=request.param)
    run(FakeDomain(table(profile(recency=1.0), profile(at=MONDAY + 2 * DAY, recency=2.0))), settings)
    return settings


def test_history_knows_what_was_true_then_and_nothing_later(with_versions: Settings) -> None:
    wednesday, instant = MONDAY + 2 * DAY, timedelta(microseconds=1)
    times = [MONDAY - instant, MONDAY, wednesday - instant, wednesday, LATER]
    joined = historical_features(with_versions, "hillstrom", asked(*(("h-1", at) for at in times)))
    np.testing.assert_array_equal(joined["recency"], [np.nan, 1.0, 1.0, 2.0, 2.0])


def test_rows_that_repeat_customer_and_time_all_come_back(with_versions: Settings) -> None:
    frame = asked(("h-1", LATER), ("h-1", MONDAY), ("h-1", LATER), ("nobody", LATER))
    joined = historical_features(with_versions, "hillstrom", frame)
    assert joined["row_id"].tolist() == ["r-0", "r-1", "r-2", "r-3"]
    np.testing.assert_array_equal(joined["recency"], [2.0, 1.0, 2.0, np.nan])


def test_history_has_the_features_in_the_service_s_order(with_versions: Settings) -> None:
    joined = historical_features(with_versions, "hillstrom", asked(("h-1", LATER)))
    assert list(joined.columns[3:]) == feature_names(with_versions, "hillstrom")
    assert list(joined.columns[:3]) == ["row_id", "customer_id", "event_timestamp"]


def test_a_row_id_that_repeats_is_refused(with_versions: Settings) -> None:
    frame = asked(("h-1", LATER), ("h-1", MONDAY)).assign(row_id="same")
    with pytest.raises(DataError, match="'same' stands for several rows"):
        historical_features(with_versions, "hillstrom", frame)


def test_online_and_offline_give_the_same_values(settings: Settings) -> None:
    rows = [profile("h-1"), profile("h-2", history=float("nan"), zip_code=None), profile("h-3", history=0.1 + 0.2)]
    run(FakeDomain(table(*rows)), settings)
    customers = ["h-1", "h-2", "h-3", "nobody"]
    offline = historical_features(settings, "hillstrom", asked(*((name, LATER) for name in customers)))
    served = online(settings, *customers)
    for name in feature_names(settings, "hillstrom"):
        assert served[name].isna().tolist() == offline[name].isna().tolist()
        assert served[name].dropna().tolist() == offline[name].dropna().tolist()


def test_the_marker_of_one_online_store_says_nothing_about_another(settings: Settings) -> None:
    run(FakeDomain(), settings)
    elsewhere = replace(settings, online_store="redis", redis_url="redis://127.0.0.1:1/0")
    with pytest.raises(StoreError, match=r"online store cannot be written.*127\.0\.0\.1:1"):
        run(FakeDomain(), elsewhere)


def test_a_lost_offline_file_is_written_again(settings: Settings) -> None:
    run(FakeDomain(), settings)
    offline_path(settings, "hillstrom", "profile").unlink()
    assert not run(FakeDomain(), settings).reused
    assert offline_path(settings, "hillstrom", "profile").exists()


def test_a_domain_without_accounts_serves_customers_alone(settings: Settings) -> None:
    run(FakeDomain(), settings)
    features = FeastFeatures(open_feature_store(settings), "hillstrom")
    stored = asyncio.run(features.read("h-1"))
    assert stored is not None
    assert (stored.account_id, stored.account) == (None, {})
    named = asyncio.run(features.read("h-1", account_id="a-1"))
    assert named is not None
    assert (named.account_id, named.account, named.values) == ("a-1", {}, stored.values)
