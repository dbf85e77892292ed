"""What Prometheus scrapes: by route template and reason, never by id or customer."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.engine import Engine

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The service's metrics, in a registry of their own."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "nextmove_http_requests", "Requests answered.", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "nextmove_http_request_seconds", "Time to answer.", ("route",), buckets=_BUCKETS, registry=self.registry
        )
        self.decisions = Counter("nextmove_decisions", "Decisions.", ("placement", "reason"), registry=self.registry)
        self.outcomes = Counter("nextmove_outcomes", "Outcomes reported.", ("status",), registry=self.registry)
        self._stages = Gauge(
            "nextmove_stage_cpu_microseconds",
            "Mean CPU time of a decision's stage.",
            ("stage",),
            registry=self.registry,
        )
        self.serving = Gauge(
            "nextmove_serving", "1 for what is being served.", ("model", "version", "catalog"), registry=self.registry
        )
        self.reload_failures = Counter(
            "nextmove_reload_failures",
            "Bundles or catalogues that could not be taken.",
            ("what",),
            registry=self.registry,
        )

    def render(self) -> bytes:
        """The exposition text."""
        for stage, microseconds in self._engine().timers.microseconds().items():
            self._stages.labels(stage).set(microseconds)
        self.serving.clear()
        engine = self._engine()
        manifest = engine.scorer.manifest if engine.scorer else None
        self.serving.labels(
            manifest.name if manifest else "none",
            manifest.version if manifest else "none",
            engine.catalog.version,
        ).set(1)
        return generate_latest(self.registry)
