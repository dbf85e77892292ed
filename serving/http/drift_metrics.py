"""Drift for Prometheus, as `nextmove drift` found it last."""

import time
from collections.abc import Iterator
from contextlib import closing, suppress

from prometheus_client.core import GaugeMetricFamily, Metric

from decisioning.errors import NextmoveError
from storage.blobs import BlobStore
from storage.drift_findings import last_drift
from storage.settings import Settings

_KEPT_SECONDS = 60.0  # it is looked for every few hours
MOST_FEATURES = 50  # those furthest from training: a label each


class DriftMetrics:
    """Read from the ledger's database at the time of a scrape, at most once a minute; nothing where it cannot be."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
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
        with closing(BlobStore(self._settings)) as blobs:
            found = last_drift(blobs, self._settings.domain)
        if found is None:
            return []
        said = "Population stability index of live values against training; above 0.25 it is much."
        psi = GaugeMetricFamily("nextmove_drift_psi", said, labels=("feature",))
        for name, value in sorted(found.psi.items(), key=lambda each: -each[1])[:MOST_FEATURES]:
            psi.add_metric((name,), value)
        said = "What is more than chance, of features, scores and calibration; nextmove drift names them."
        metrics: list[Metric] = [psi, GaugeMetricFamily("nextmove_drift_alarms", said, value=len(found.alarms))]
        said = "When drift was last looked for."
        metrics.append(GaugeMetricFamily("nextmove_drift_checked_timestamp_seconds", said, value=found.at.timestamp()))
        if found.calibration is not None:
            said = "Successes over those that propensities promised."
            metrics.append(GaugeMetricFamily("nextmove_drift_calibration_ratio", said, value=found.calibration))
        return metrics
