"""Drift for Prometheus, as `nextmove drift` found it last."""

from contextlib import closing

from prometheus_client.core import GaugeMetricFamily, Metric

from serving.http.kept_metrics import KeptMetrics
from storage.blobs import BlobStore
from storage.drift_findings import last_drift
from storage.settings import Settings

_KEPT_SECONDS = 60.0  # it is looked for every few hours
MOST_FEATURES = 50  # those furthest from training: a label each


def drift_metrics(settings: Settings) -> KeptMetrics:
    """The gauges, read from the ledger's database; none where nobody has looked."""

    def read() -> list[Metric]:
        with closing(BlobStore(settings)) as blobs:
            found = last_drift(blobs, settings.domain)
        if found is None:
            return []
        said = "Population stability index of live values against training; above 0.25 it is much."
        psi = GaugeMetricFamily("nextmove_drift_psi", said, labels=("feature",))
        for name, value in sorted(found.psi.items(), key=lambda each: -each[1])[:MOST_FEATURES]:
            psi.add_metric((name,), value)
        metrics: list[Metric] = [psi]
        for name, said, number in (
            ("alarms", "What is more than chance, of features, scores and calibration.", len(found.alarms)),
            ("checked_timestamp_seconds", "When drift was last looked for.", found.at.timestamp()),
            ("calibration_ratio", "Successes over those that propensities promised.", found.calibration),
        ):
            if number is not None:
                metrics.append(GaugeMetricFamily(f"nextmove_drift_{name}", said, value=number))
        return metrics

    return KeptMetrics(read, seconds=_KEPT_SECONDS)
