"""What Prometheus scrapes: by route template and reason, never by id or customer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from serving.engine import Engine
from storage.ledger.moments import Open

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
disable_created_metrics()  # type: ignore[no-untyped-call]


class Feeds(Protocol):
    """What is known of who tells; `FeedWatch` is one."""

    @property
    def last_heard(self) -> Mapping[str, datetime]:
        """When each source was heard of last."""
        ...

    @property
    def silent(self) -> frozenset[str]:
        """Sources that have stopped, or one of whose feeds has."""
        ...


class Metrics:
    """The service's metrics; counts are those of all workers together."""

    def __init__(
        self,
        engine: Callable[[], Engine],
        *,
        hot_state_lost: Callable[[], bool],
        feeds: Callable[[], Feeds | None] = lambda: None,
        open_moments: Callable[[], Sequence[Open]] = tuple,
    ) -> None:
        own = CollectorRegistry()
        self.requests = Counter("nextmove_http_requests", "Requests answered.", ("route", "status"), registry=own)
        self.seconds = Histogram(
            "nextmove_http_request_seconds", "Time to answer.", ("route",), buckets=_BUCKETS, registry=own
        )
        self.decisions = Counter("nextmove_decisions", "Decisions.", ("placement", "reason"), registry=own)
        self.shadow = Counter(
            "nextmove_shadow_decisions", "Decisions that the challenger in the shadow was asked about.", ("result",),
            registry=own,
        )  # fmt: skip
        self.outcomes = Counter("nextmove_outcomes", "Outcomes reported.", ("status",), registry=own)
        self.events = Counter("nextmove_events", "Events told.", ("type", "status"), registry=own)
        self.unmapped_events = Counter(
            "nextmove_events_unmapped", "Events whose name or currency nobody has given a meaning.", registry=own
        )
        self.hook_items = Counter(
            "nextmove_hook_items", "What providers told, by what became of it.", ("hook", "status"), registry=own
        )
        self.moments = Counter(
            "nextmove_moments",
            "Moments that became decided, delivered, dead or ended.",
            ("moment", "state"),
            registry=own,
        )
        self.deliveries = Counter(
            "nextmove_moment_deliveries", "Attempts at delivering to a webhook.", ("target", "result"), registry=own
        )
        self.reload_failures = Counter(
            "nextmove_reload_failures", "Bundles, catalogues or keys that could not be taken.", ("what",), registry=own
        )
        self.unauthorized = Counter(
            "nextmove_unauthorized", "Calls refused since nobody could tell whose they were.", ("reason",), registry=own
        )
        # BentoML makes all workers count in one directory; the worker that is scraped answers for all.
        shared = values.ValueClass is not values.MutexValue
        self._registry = CollectorRegistry() if shared else own
        if shared:
            MultiProcessCollector(self._registry)  # type: ignore[no-untyped-call]
        self._registry.register(_EngineCollector(engine, hot_state_lost, open_moments))
        self._more = _More()
        self._registry.register(self._more)
        self._registry.register(_FeedCollector(feeds))

    def show(self, gauges: Callable[[], Iterator[Metric]]) -> None:
        """Show these too, instead of those of the last call."""
        self._more.gauges = gauges

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self._registry)


class _EngineCollector:
    """What the worker that is asked serves now, what it lacks, and where its decisions' time goes."""

    def __init__(
        self,
        engine: Callable[[], Engine],
        hot_state_lost: Callable[[], bool],
        open_moments: Callable[[], Sequence[Open]],
    ) -> None:
        self._engine = engine
        self._hot_state_lost = hot_state_lost
        self._open_moments = open_moments

    def describe(self) -> Iterator[Metric]:
        """Nothing: the engine is not there yet when this is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read at the time of the scrape."""
        engine = self._engine()
        stages = GaugeMetricFamily("nextmove_stage_cpu_microseconds", "Mean CPU time of a stage.", labels=("stage",))
        for stage, microseconds in engine.timers.microseconds().items():
            stages.add_metric((stage,), microseconds)
        yield stages
        serving = GaugeMetricFamily("nextmove_serving", "1 for what is served.", labels=("model", "version", "catalog"))
        manifest = engine.scorer.manifest if engine.scorer else None
        model = (manifest.name, manifest.version) if manifest else ("none", "none")
        serving.add_metric((*model, engine.release.version), 1)
        yield serving
        said = "1 while hot state has lost what it knew and is rebuilt, as this worker last met it."
        yield GaugeMetricFamily("nextmove_hot_state_lost", said, value=int(self._hot_state_lost()))
        count = GaugeMetricFamily("nextmove_moments_open", "Moments that have not ended.", labels=("state",))
        overdue = GaugeMetricFamily(
            "nextmove_moments_overdue_seconds", "How long ago the oldest of them was due.", labels=("state",)
        )
        for each in self._open_moments():
            count.add_metric((each.state,), each.number)
            age = (datetime.now(UTC) - each.oldest_due_at).total_seconds()
            overdue.add_metric((each.state,), max(age, 0.0))
        yield from (count, overdue)


class _More:
    """What needs an open service."""

    def __init__(self) -> None:
        self.gauges: Callable[[], Iterator[Metric]] = lambda: iter(())

    def describe(self) -> Iterator[Metric]:
        """Nothing, as above."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read at the time of the scrape."""
        return self.gauges()


class _FeedCollector:
    """Who was heard of when, whichever worker heard it, and who has stopped."""

    def __init__(self, feeds: Callable[[], Feeds | None]) -> None:
        self._feeds = feeds

    def describe(self) -> Iterator[Metric]:
        """Nothing: the feeds are not there yet when this is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read at the time of the scrape."""
        feeds = self._feeds()
        if feeds is None:
            return
        said = "Seconds since a source was last heard of, 5 too many at most."
        ages = GaugeMetricFamily("nextmove_feed_last_event_age_seconds", said, labels=("source",))
        said = "1 for a source that is silent against its rhythm, or one of whose feeds is."
        silent = GaugeMetricFamily("nextmove_feed_silent", said, labels=("source",))
        now, stopped = datetime.now(UTC), feeds.silent
        for source, at in feeds.last_heard.items():
            ages.add_metric((source,), max(0.0, (now - at).total_seconds()))
            silent.add_metric((source,), int(source in stopped))
        yield ages
        yield silent
