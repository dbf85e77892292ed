"""A service's parts, from opening to closing, and whether it is ready."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from decisioning.errors import SetupError
from serving.engine import Engine
from serving.http.audience_metrics import AudienceMetrics
from serving.http.callers import Callers
from serving.http.guard import Access, Readiness
from serving.http.metrics import Metrics
from serving.http.signing_keys import SigningKeys
from serving.http.tokens import Tokens
from storage.hook_secrets import read_hook_secrets
from storage.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine as Database

    from serving.erasures import Erasures
    from serving.feed_watch import FeedWatch
    from serving.follower import Follower
    from serving.privacy import Privacy
    from serving.state_keeper import StateKeeper
    from storage.blobs import BlobStore
    from storage.hot_state.rebuild import StoredHotState
    from storage.keys import ApiKey, KeyStore
    from storage.ledger.writer import Ledger

logger = logging.getLogger(__name__)
_ACCESS: dict[Access, str] = {
    "loopback": "this machine only, since there are no keys",
    "authenticated": "callers with a key or token only",
}


@dataclass(frozen=True, slots=True)
class _Opened:
    engine: Engine
    blobs: "BlobStore"
    ledger: "Ledger"
    hot_state: "StoredHotState"
    keys: "KeyStore"
    signing_keys: SigningKeys | None
    follower: "Follower"
    keeper: "StateKeeper"
    feeds: "FeedWatch"
    privacy: "Privacy"
    erasures: "Erasures"
    database: "Database"


class Runtime:
    """Everything that lives as long as the service does."""

    def __init__(self) -> None:
        self._opened: _Opened | None = None
        self.callers = Callers()
        self.hook_secrets: Mapping[str, str] = {}
        self.metrics = Metrics(lambda: self.engine, hot_state_lost=self._hot_state_lost, feeds=self._feeds)

    @property
    def engine(self) -> Engine:
        """The engine.

        Raises:
            SetupError: The service is not open.
        """
        if self._opened is None:
            raise SetupError("the service is not open yet; ask /readyz")
        return self._opened.engine

    @property
    def privacy(self) -> "Privacy":
        """Takes requests for erasure and for what is held.

        Raises:
            SetupError: The service is not open.
        """
        if self._opened is None:
            raise SetupError("the service is not open yet; ask /readyz")
        return self._opened.privacy

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
        from serving.privacy import Privacy
        from serving.state_keeper import StateKeeper
        from storage.keys import KeyStore
        from storage.ledger.database import open_ledger
        from storage.ledger.feed_counts import FeedCounts

        self.hook_secrets = read_hook_secrets(settings)
        keys = KeyStore(settings)
        self.callers.take(keys.all())
        signing_keys = self._follow_issuer(settings)
        blobs, ledger = open_stores(settings)
        hot_state = open_contacts(settings)
        engine = open_engine(settings, blobs, ledger, hot_state)
        follower = Follower(
            engine,
            blobs,
            settings,
            take_keys=lambda: self._take(keys.all()),
            on_failure=self._count_failure,
        )
        follower.check()
        follower.start()
        self.metrics.show(AudienceMetrics(settings, lambda: engine.release))
        keeper = StateKeeper(engine, settings)
        keeper.start()
        feeds = FeedWatch(
            engine.feeds, FeedCounts(settings), time_zone=lambda: engine.release.blueprint.content.time_zone
        )
        feeds.start()
        database = open_ledger(settings)
        erasures = Erasures(settings, database)
        erasures.start()
        privacy = Privacy(settings, database, features=engine.features, hot_state=hot_state, wake=erasures.wake)
        self._opened = _Opened(
            engine, blobs, ledger, hot_state, keys, signing_keys, follower, keeper, feeds, privacy, erasures, database
        )
        logger.warning("serving %s", _ACCESS[self._access])

    def close(self) -> None:
        """Stop following and close the stores.

        What waits for the ledger is written first, and leases of budgets are given back.
        """
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.follower.stop()
            opened.keeper.stop()
            opened.feeds.stop()
            opened.erasures.stop()
            opened.database.dispose()
            if opened.signing_keys is not None:
                opened.signing_keys.stop()
            opened.keys.close()
            opened.ledger.close()
            opened.hot_state.close()
            opened.blobs.close()

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

    def _follow_issuer(self, settings: Settings) -> SigningKeys | None:
        """Take the tokens of the issuer that is set, if one is."""
        if settings.jwt_jwks is None:
            return None
        assert settings.jwt_issuer is not None  # they are set together
        assert settings.jwt_audience is not None
        signing_keys = SigningKeys(settings.jwt_jwks)
        signing_keys.check()
        signing_keys.start()
        self.callers.take_tokens(
            Tokens(issuer=settings.jwt_issuer, audience=settings.jwt_audience, key_of=signing_keys.find)
        )
        return signing_keys

    def _hot_state_lost(self) -> bool:
        return self._opened is not None and self._opened.hot_state.problem is not None

    def _feeds(self) -> "FeedWatch | None":
        return self._opened.feeds if self._opened is not None else None

    def _count_failure(self, what: str) -> None:
        self.metrics.reload_failures.labels(what).inc()
