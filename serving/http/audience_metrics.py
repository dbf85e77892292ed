"""Sizes of audiences for Prometheus, as they were counted last, and how many of them are too small."""

from collections.abc import Callable
from datetime import UTC, datetime

from prometheus_client.core import GaugeMetricFamily, Metric

from decisioning.catalog import Release
from serving.http.kept_metrics import KeptMetrics
from storage.audience_warnings import audience_warnings
from storage.ledger.audience_sizes import last_sizes
from storage.settings import Settings

_KEPT_SECONDS = 600.0  # they are counted once a day


def audience_metrics(settings: Settings, release: Callable[[], Release]) -> KeptMetrics:
    """The gauges, read from the ledger."""

    def read() -> list[Metric]:
        sizes = GaugeMetricFamily(
            "nextmove_audience_customers", "Customers, as counted last.", labels=("market", "kind", "id")
        )
        for size in last_sizes(settings):
            sizes.add_metric(size.what, size.size)
        found = audience_warnings(settings, release(), now=datetime.now(UTC))
        said = "Audiences and actions that run dry or are too small; nextmove audience names them."
        return [sizes, GaugeMetricFamily("nextmove_audience_warnings", said, value=len(found))]

    return KeptMetrics(read, seconds=_KEPT_SECONDS)
