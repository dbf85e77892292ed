"""A service's parts, from opening to closing, and whether it is ready."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from decisioning.errors import SetupError
from serving.engine import Engine
from serving.http.guard import Readiness
from serving.http.metrics import Metrics
from storage.settings import Settings

if TYPE_CHECKING:
    from serving.follower import Follower
    from storage.blobs import BlobStore
    from storage.hot_state.rebuild import StoredHotState
    from storage.ledger.writer import Ledger


@dataclass(frozen=True, slots=True)
class _Opened:
    engine: Engine
    blobs: "BlobStore"
    ledger: "Ledger"
    hot_state: "StoredHotState"
    follower: "Follower"


class Runtime:
    """Everything that lives as long as the service does."""

    def __init__(self) -> None:
        self._opened: _Opened | None = None
        self.metrics = Metrics(lambda: self.engine, hot_state_lost=self._hot_state_lost)

    @property
    def engine(self) -> Engine:
        """The engine.

        Raises:
            SetupError: The service is not open.
        """
        if self._opened is None:
            raise SetupError("the service is not open yet; ask /readyz")
        return self._opened.engine

    def open(self, settings: Settings) -> None:
        """Open every store, load what is live, and begin to follow it.

        Raises:
            SetupError: Something that must be there before serving is not.
            CatalogError: The catalogue is wrong.
        """
        # BentoML's supervisor imports the service and never opens it; Feast takes seconds to import.
        from serving.bootstrap import open_contacts, open_engine, open_stores
        from serving.follower import Follower

        blobs, ledger = open_stores(settings)
        hot_state = open_contacts(settings)
        engine = open_engine(settings, blobs, ledger, hot_state)
        follower = Follower(engine, blobs, settings, on_failure=self._count_failure)
        follower.check()
        follower.start()
        self._opened = _Opened(engine, blobs, ledger, hot_state, follower)

    def close(self) -> None:
        """Stop following and close the stores.

        What waits for the ledger is written first, and leases of budgets are given back.
        """
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.follower.stop()
            opened.ledger.close()
            opened.hot_state.close()
            opened.blobs.close()

    def readiness(self) -> Readiness:
        """What `/readyz` says."""
        if self._opened is None:
            return Readiness(
                status="starting", model=None, bundle_sha256=None, catalog_version=None, problems=["still starting"]
            )
        engine = self._opened.engine
        scorer, lost = engine.scorer, self._opened.hot_state.problem
        return Readiness(
            status="ready" if scorer else "not_ready",
            model=scorer.manifest.version if scorer else None,
            bundle_sha256=scorer.sha256 if scorer else None,
            catalog_version=engine.release.version,
            problems=[] if scorer else ["no model is live; run: nextmove promote"],
            warnings=[*self._opened.follower.warnings(), *([lost] if lost else [])],
        )

    def _hot_state_lost(self) -> bool:
        return self._opened is not None and self._opened.hot_state.problem is not None

    def _count_failure(self, what: str) -> None:
        self.metrics.reload_failures.labels(what).inc()
