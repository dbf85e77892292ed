"""What Prometheus sees of audiences: the sizes that were counted last."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import values

from decisioning.running_dry import Size
from serving.http.audience_metrics import audience_metrics
from serving.http.metrics import Metrics
from storage.ledger.audience_sizes import keep_sizes
from storage.settings import Settings
from tests.builders import release
from tests.serving.test_engine import Shop


def size(count: int, *, ago: int = 0) -> Size:
    return Size("global", "audience", "loyal", datetime.now(UTC) - timedelta(days=ago), count, 900)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def scraped(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Metrics:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    shop = Shop()
    metrics = Metrics(lambda: shop.engine, hot_state_lost=lambda: False)
    metrics.show(audience_metrics(settings, release))
    return metrics


def test_the_sizes_counted_last_are_shown_and_how_many_are_too_small(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_sizes(settings, [*(size(500, ago=n) for n in range(1, 10)), size(20)])
    shown = scraped(settings, monkeypatch).render().decode()
    assert 'nextmove_audience_customers{id="loyal",kind="audience",market="global"} 20.0' in shown
    assert "nextmove_audience_warnings 1.0" in shown


def test_where_nobody_counted_there_is_no_size(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = scraped(settings, monkeypatch).render().decode()
    assert "nextmove_audience_customers{" not in shown
    assert "nextmove_audience_warnings 0.0" in shown


def test_a_ledger_that_cannot_be_read_hides_these_metrics_alone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = scraped(settings, monkeypatch)
    settings.home.mkdir()
    settings.ledger_path.write_bytes(b"not a database, and longer than that" * 40)
    shown = metrics.render().decode()
    assert "nextmove_audience" not in shown
    assert "nextmove_serving" in shown
