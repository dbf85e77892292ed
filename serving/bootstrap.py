"""Puts a running service together: stores, catalogue, model, engine; and follows what is live.

The one place in `serving` that knows which adapter stands behind which port.
"""

import logging
import os
import secrets
import threading
from collections.abc import Callable

from storage.blobs import BlobStore
from storage.bundles import bundle_pointer, load_bundle
from storage.catalog_files import catalog_pointer, decode_catalog
from storage.hot_state.rebuild import needs_rebuild, rebuild
from storage.hot_state.sqlite import SqliteHotState
from storage.ledger.migrate import migrate

from decisioning.bundle import Bundle
from decisioning.catalog import Catalog
from decisioning.errors import NextmoveError, SetupError, StoreError
from serving.adapters.feast_features import FeastFeatures
from serving.adapters.onnx_scorer import OnnxScorer
from serving.engine import DrawKey, Engine
from serving.http.guard import Readiness
from serving.http.metrics import Metrics
from storage.feature_store import open_feature_store
from storage.ledger.writer import Ledger
from storage.settings import Settings, prepare_home

logger = logging.getLogger(__name__)


class Runtime:
    """A service's parts, from `open` to `close`."""

    def __init__(self) -> None:
        self.metrics = Metrics(lambda: self.engine)
        self._engine: Engine | None = None
        self._ledger: Ledger | None = None
        self._follower: Follower | None = None

    @property
    def engine(self) -> Engine:
        """The engine.

        Raises:
            SetupError: The service is not open.
        """
        if self._engine is None:
            raise SetupError("the service is not open yet; ask /readyz")
        return self._engine

    def open(self, settings: Settings) -> None:
        """Open every store, load what is live, and begin to follow it.

        Raises:
            SetupError: Something that must be there before serving is not.
            CatalogError: The catalogue is wrong.
        """
        prepare_home(settings)
        migrate(settings)
        if needs_rebuild(settings):
            logger.warning("hot state is missing: rebuilding it from the ledger")
            rebuild(settings)
        blobs = BlobStore(settings)
        self._ledger = Ledger(settings)
        self._engine = Engine(
            catalog=live_catalog(blobs, settings),
            features=FeastFeatures(open_feature_store(settings), settings.domain),
            hot_state=SqliteHotState(settings),
            ledger=self._ledger,
            scorer=None,
            draw_key=draw_key(settings),
        )
        self._follower = Follower(self._engine, blobs, settings, on_failure=self._count_failure)
        self._follower.check()
        self._follower.start()

    def close(self) -> None:
        """Stop following and close the stores."""
        if self._follower is not None:
            self._follower.stop()
        if self._ledger is not None:
            self._ledger.close()
        self._engine = None

    def readiness(self) -> Readiness:
        """What `/readyz` says."""
        engine, problems = self._engine, []
        if engine is None:
            return Readiness(
                status="starting", model=None, bundle_sha256=None, catalog_version=None, problems=["still starting"]
            )
        if engine.scorer is None:
            problems.append("no model is live; run: nextmove promote")
        warnings = self._follower.warnings() if self._follower else []
        return Readiness(
            status="not_ready" if problems else "ready",
            model=engine.scorer.manifest.version if engine.scorer else None,
            bundle_sha256=engine.scorer.sha256 if engine.scorer else None,
            catalog_version=engine.catalog.version,
            problems=problems,
            warnings=warnings,
        )

    def _count_failure(self, what: str) -> None:
        self.metrics.reload_failures.labels(what).inc()


class Follower:
    """Polls the pointers and swaps in what they name, once it is verified.

    What is broken is not taken: the last good one stays, `/readyz` and a metric say so.
    """

    def __init__(
        self, engine: Engine, blobs: BlobStore, settings: Settings, *, on_failure: Callable[[str], None]
    ) -> None:
        self._engine = engine
        self._blobs = blobs
        self._domain = settings.domain
        self._seconds = settings.pointer_poll_seconds
        self._on_failure = on_failure
        self._failures: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Follow until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for it."""
        self._stopping.set()
        self._thread.join()

    def warnings(self) -> list[str]:
        """What could not be taken, and why."""
        return list(self._failures.values())

    def check(self) -> None:
        """Look once at both pointers."""
        self._follow("bundle", bundle_pointer(self._domain), self._bundle_now, self._take_bundle)
        self._follow("catalog", catalog_pointer(self._domain), self._catalog_now, self._take_catalog)

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            self.check()

    def _follow(self, what: str, pointer: str, serving: Callable[[], str | None], take: Callable[[str], None]) -> None:
        try:
            named = self._blobs.pointer(pointer)
            if named is None or named == serving():
                self._failures.pop(what, None)
            elif named != self._refused.get(what):
                self._refused[what] = named  # tried once; a broken one is not tried again until it changes
                take(named)
                self._failures.pop(what, None)
                logger.info("now serving %s %s", what, named[:12])
        except NextmoveError as error:
            if isinstance(error, StoreError):
                self._refused.pop(what, None)  # not its fault: try again
            self._failures[what] = f"{what}: {error.message}"
            self._on_failure(what)
            logger.error("%s is not taken, the last good one stays: %s", what, error.message)

    def _bundle_now(self) -> str | None:
        return self._engine.scorer.sha256 if self._engine.scorer else None

    def _take_bundle(self, sha256: str) -> None:
        self._engine.scorer = OnnxScorer(load_bundle(self._blobs, sha256))

    def _catalog_now(self) -> str:
        return self._engine.catalog.version.removeprefix("sha256:")

    def _take_catalog(self, sha256: str) -> None:
        self._engine.catalog = decode_catalog(self._blobs.get(sha256))


def live_catalog(blobs: BlobStore, settings: Settings) -> Catalog:
    """The released catalogue.

    Raises:
        SetupError: None was ever released.
        CatalogError: It is wrong.
    """
    released = blobs.pointer(catalog_pointer(settings.domain))
    if released is None:
        raise SetupError(
            f"no catalogue of '{settings.domain}' is released in {settings.home}; run: nextmove catalog release"
        )
    return decode_catalog(blobs.get(released))


def live_bundle(blobs: BlobStore, settings: Settings) -> Bundle:
    """The promoted bundle, its hashes verified.

    Raises:
        SetupError: None was ever promoted.
        BundleError: It is damaged.
    """
    promoted = blobs.pointer(bundle_pointer(settings.domain))
    if promoted is None:
        raise SetupError(f"no model of '{settings.domain}' is promoted in {settings.home}; run: nextmove quickstart")
    return load_bundle(blobs, promoted)


def draw_key(settings: Settings) -> DrawKey:
    """The secret behind every draw: the setting, or one made once and kept in the state directory."""
    if settings.draw_secret is not None:
        return DrawKey(settings.draw_secret.encode())
    path = settings.home / "draw.key"
    try:
        # Exclusive and private: two services that start at once must agree on one secret.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(32))
    secret = path.read_bytes()
    if len(secret) != 32:
        raise SetupError(f"{path} has {len(secret)} bytes, must have 32; restore it from a backup or delete it")
    return DrawKey(secret)
