"""Sizes of audiences for Prometheus, as they were counted last, and how many of them are too small."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

from prometheus_client.core import GaugeMetricFamily, Metric

from decisioning.catalog import Release
from decisioning.errors import NextmoveError
from storage.audience_warnings import audience_warnings
from storage.ledger.audience_sizes import last_sizes
from storage.settings import Settings

_KEPT_SECONDS = 600.0  # they are counted once a day


class AudienceMetrics:
    """Read from the ledger at the time of a scrape, at most every 10 minutes; nothing where it cannot be read."""

    def __init__(self, settings: Settings, release: Callable[[], Release]) -> None:
        self._settings = settings
        self._release = release
        self._read_at = float("-inf")
        self._metrics: list[Metric] = []

    def __call__(self) -> Iterator[Metric]:
        """The gauges."""
        if time.monotonic() - self._read_at >= _KEPT_SECONDS:
            self._metrics = []
            with suppress(NextmoveError):
                self._metrics = self._read()
            self._read_at = time.monotonic()
        return iter(self._metrics)

    def _read(self) -> list[Metric]:
        sizes = GaugeMetricFamily(
            "nextmove_audience_customers", "Customers, as counted last.", labels=("market", "kind", "id")
        )
        for size in last_sizes(self._settings):
            sizes.add_metric(size.what, size.size)
        found = audience_warnings(self._settings, self._release(), now=datetime.now(UTC))
        said = "Audiences and actions that run dry or are too small; nextmove audience names them."
        return [sizes, GaugeMetricFamily("nextmove_audience_warnings", said, value=len(found))]
