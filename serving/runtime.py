"""A service's parts, from opening to closing, and whether it is ready."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from decisioning.errors import SetupError
from serving.engine import Engine
from serving.http.audience_metrics import audience_metrics
from serving.http.callers import Callers
from serving.http.drift_metrics import drift_metrics
from serving.http.guard import Access, Readiness
from serving.http.metrics import Metrics
from serving.http.signing_keys import SigningKeys
from serving.http.tokens import Tokens
from serving.moments import Moments, undeliverable
from storage.hook_secrets import read_hook_secrets
from storage.settings import Settings
from storage.webhook_targets import WebhookTarget, read_webhooks

if TYPE_CHECKING:
    from serving.adapters.webhooks import SignedWebhooks
    from serving.erasures import Erasures
    from serving.feed_watch import FeedWatch
    from serving.follower import Follower
    from serving.moment_worker import MomentWorker
    from serving.posterior_keeper import PosteriorKeeper
    from serving.privacy import Privacy
    from serving.state_keeper import StateKeeper
    from storage.hot_state.rebuild import StoredHotState
    from storage.keys import ApiKey
    from storage.ledger.moments import MomentStore, Open

logger = logging.getLogger(__name__)
_ACCESS: dict[Access, str] = {
    "loopback": "this machine only, since there are no keys",
    "authenticated": "callers with a key or token only",
}


@dataclass(frozen=True, slots=True)
class _Opened:
    """What answers, what runs beside it, and how all of it is closed."""

    engine: Engine
    privacy: "Privacy"
    moments: Moments
    moment_store: "MomentStore"
    webhooks: Mapping[str, WebhookTarget]
    hot_state: "StoredHotState"
    signing_keys: SigningKeys | None
    follower: "Follower"
    keeper: "StateKeeper"
    posterior: "PosteriorKeeper"
    feeds: "FeedWatch"
    erasures: "Erasures"
    closing: ExitStack


@dataclass(frozen=True, slots=True)
class _Started:
    """What runs on the event loop that answers."""

    worker: "MomentWorker"
    webhooks: "SignedWebhooks"


class Runtime:
    """Everything that lives as long as the service does."""

    def __init__(self) -> None:
        self._opened: _Opened | None = None
        self._started: _Started | None = None
        self.callers = Callers()
        self.hook_secrets: Mapping[str, str] = {}
        self.metrics = Metrics(
            lambda: self.engine,
            hot_state_lost=self._hot_state_lost,
            open_moments=self._open_moments,
            feeds=self._feeds,
        )

    @property
    def engine(self) -> Engine:
        """The engine.

        Raises:
            SetupError: The service is not open; likewise of `moments` and `privacy`.
        """
        return self._parts.engine

    @property
    def moments(self) -> Moments:
        """What events asked for."""
        return self._parts.moments

    @property
    def privacy(self) -> "Privacy":
        """Takes requests for erasure and for what is held."""
        return self._parts.privacy

    @property
    def _parts(self) -> _Opened:
        if self._opened is None:
            raise SetupError("the service is not open yet; ask /readyz")
        return self._opened

    def open(self, settings: Settings) -> None:
        """Open every store, load what is live, and begin to follow it.

        Raises:
            SetupError: Something that must be there before serving is not.
            CatalogError: The catalogue is wrong.
        """
        # BentoML's supervisor imports the service and never opens it; Feast takes seconds to import.
        from serving.bootstrap import open_contacts, open_engine, open_stores
        from serving.erasures import Erasures
        from serving.feed_watch import FeedWatch
        from serving.follower import Follower
        from serving.posterior_keeper import PosteriorKeeper
        from serving.privacy import Privacy
        from serving.state_keeper import StateKeeper
        from storage.keys import KeyStore
        from storage.ledger.database import open_ledger
        from storage.ledger.feed_counts import FeedCounts
        from storage.ledger.moments import MomentStore

        self.hook_secrets = read_hook_secrets(settings)
        webhooks = read_webhooks(settings)
        with ExitStack() as closing:  # the other way round: first what runs, then what it stands on
            keys = KeyStore(settings)
            closing.callback(keys.close)
            self.callers.take(keys.all())
            signing_keys = self._follow_issuer(settings, closing)
            blobs, ledger = open_stores(settings)
            closing.callback(blobs.close)
            closing.callback(ledger.close)
            hot_state = open_contacts(settings)
            closing.callback(hot_state.close)
            engine = open_engine(settings, blobs, ledger, hot_state)
            engine.on_shadow = lambda result: self.metrics.shadow.labels(result).inc()
            database = open_ledger(settings)
            closing.callback(database.dispose)
            moment_store = MomentStore(settings)
            closing.callback(moment_store.close)
            follower = Follower(
                engine,
                blobs,
                settings,
                take_keys=lambda: self._take(keys.all()),
                on_failure=self._count_failure,
            )
            keeper = StateKeeper(engine, settings)
            posterior = PosteriorKeeper(engine, settings)
            feeds = FeedWatch(
                engine.feeds, FeedCounts(settings), time_zone=lambda: engine.release.blueprint.content.time_zone
            )
            erasures = Erasures(settings, database)
            follower.check()
            for beside in (erasures, feeds, keeper, posterior, follower):
                beside.start()
                closing.callback(beside.stop)
            audiences, drift = audience_metrics(settings, lambda: engine.release), drift_metrics(settings)
            self.metrics.show(lambda: chain(audiences(), drift()))
            self._opened = _Opened(
                engine=engine,
                privacy=Privacy(settings, database, features=engine.features, hot_state=hot_state, wake=erasures.wake),
                moments=Moments(engine, hot_state, moment_store, count=self._count_moment),
                moment_store=moment_store,
                webhooks=webhooks,
                hot_state=hot_state,
                signing_keys=signing_keys,
                follower=follower,
                keeper=keeper,
                posterior=posterior,
                feeds=feeds,
                erasures=erasures,
                closing=closing.pop_all(),
            )
        logger.warning("serving %s", _ACCESS[self._access])

    def start(self) -> None:
        """Begin to decide moments that are due, on the event loop that is running."""
        from serving.adapters.webhooks import SignedWebhooks
        from serving.deliveries import Deliveries
        from serving.moment_worker import MomentWorker

        opened = self._opened
        assert opened is not None
        webhooks = SignedWebhooks(opened.webhooks)
        deliveries = Deliveries(
            opened.moments,
            opened.moment_store,
            webhooks,
            rng=np.random.default_rng(),
            clock=_clock,
            count=lambda target, result: self.metrics.deliveries.labels(target, result).inc(),
        )
        worker = MomentWorker(opened.engine, opened.moments, deliveries, opened.moment_store, clock=_clock)
        worker.start()
        self._started = _Started(worker, webhooks)

    async def stop(self) -> None:
        """Let go of what `start` began; what it was at is taken up by whoever is next."""
        started, self._started = self._started, None
        if started is not None:
            await started.worker.stop()
            await started.webhooks.close()

    def close(self) -> None:
        """Stop what runs, give back leases of budgets, write what waits for the ledger, and close the stores."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.closing.close()

    def readiness(self) -> Readiness:
        """What `/readyz` says."""
        if self._opened is None:
            return Readiness(
                status="starting",
                access=self._access,
                model=None,
                bundle_sha256=None,
                catalog_version=None,
                problems=["still starting"],
            )
        engine, signing_keys = self._opened.engine, self._opened.signing_keys
        scorer, lost = engine.scorer, self._opened.hot_state.problem
        untold = signing_keys.problem if signing_keys else None
        return Readiness(
            status="ready" if scorer else "not_ready",
            access=self._access,
            model=scorer.manifest.version if scorer else None,
            bundle_sha256=scorer.sha256 if scorer else None,
            catalog_version=engine.release.version,
            problems=[] if scorer else ["no model is live; run: nextmove promote"],
            warnings=[
                *self._opened.follower.warnings(),
                *self._opened.keeper.warnings,
                *self._opened.posterior.warnings,
                *undeliverable(engine.release, self._opened.webhooks),
                *(said for said in (lost, untold, self._opened.erasures.problem) if said),
            ],
        )

    @property
    def _access(self) -> Access:
        return "authenticated" if self.callers.must_say else "loopback"

    def _take(self, keys: list["ApiKey"]) -> None:
        before = self._access
        self.callers.take(keys)
        if self._access != before:
            logger.warning("from now on serving %s", _ACCESS[self._access])

    def _follow_issuer(self, settings: Settings, closing: ExitStack) -> SigningKeys | None:
        """Take the tokens of the issuer that is set, if one is."""
        if settings.jwt_jwks is None:
            return None
        assert settings.jwt_issuer is not None  # they are set together
        assert settings.jwt_audience is not None
        signing_keys = SigningKeys(settings.jwt_jwks)
        signing_keys.check()
        signing_keys.start()
        closing.callback(signing_keys.stop)
        self.callers.take_tokens(
            Tokens(issuer=settings.jwt_issuer, audience=settings.jwt_audience, key_of=signing_keys.find)
        )
        return signing_keys

    def _hot_state_lost(self) -> bool:
        return self._opened is not None and self._opened.hot_state.problem is not None

    def _feeds(self) -> "FeedWatch | None":
        return self._opened.feeds if self._opened is not None else None

    def _open_moments(self) -> "Sequence[Open]":
        return self._started.worker.open if self._started is not None else ()

    def _count_moment(self, moment: str, state: str) -> None:
        self.metrics.moments.labels(moment, state).inc()

    def _count_failure(self, what: str) -> None:
        self.metrics.reload_failures.labels(what).inc()


def _clock() -> datetime:
    return datetime.now(UTC)
