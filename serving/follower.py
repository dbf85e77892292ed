"""Follows the pointers to the live bundle and catalogue, and swaps in what they name."""

import logging
import threading
from collections.abc import Callable

from decisioning.bundle import Bundle, unmet
from decisioning.errors import BundleError, NextmoveError, StoreError
from decisioning.foretelling import Foreteller
from serving.adapters.onnx_scorer import OnnxScorer
from serving.engine import Engine
from storage.blobs import BlobStore
from storage.bundles import bundle_pointer, load_bundle, shadow_bundle, stages_pointer
from storage.catalog_files import catalog_pointer, decode_release
from storage.settings import Settings

logger = logging.getLogger(__name__)


class Follower:
    """Polls the keys and the pointers, and swaps in what the latter name, once it is verified.

    What is broken, or of another domain, is not taken: the last good one stays, `/readyz` and a metric
    say so. At the start, when no model is served yet, that is the newest in the pointer's history that loads.
    """

    def __init__(
        self,
        engine: Engine,
        blobs: BlobStore,
        settings: Settings,
        *,
        take_keys: Callable[[], None],
        on_failure: Callable[[str], None],
    ) -> None:
        """`take_keys` reads who may call, and lets that count."""
        self._engine = engine
        self._blobs = blobs
        self._domain = settings.domain
        self._seconds = settings.pointer_poll_seconds
        self._take_keys = take_keys
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
        """What could not be taken, and why; why the challenger in the shadow failed; what the model does not give."""
        failed, scorer = self._engine.shadow_problem, self._engine.scorer
        said = [f"shadow: failed on a decision, which stands without it: {failed}"] if failed else []
        lacking = unmet(scorer.manifest, self._engine.release.by_members) if scorer else None
        return [*self._failures.values(), *said, *([f"exploration: {lacking}"] if lacking else [])]

    def check(self) -> None:
        """Look once at the keys and at all pointers."""
        self._follow_keys()
        self._follow("bundle", bundle_pointer(self._domain), self._bundle_now, self._take_bundle)
        self._follow("next-stage model", stages_pointer(self._domain), self._stages_now, self._take_stages)
        self._follow("catalog", catalog_pointer(self._domain), self._catalog_now, self._take_catalog)
        self._follow_shadow()

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            self.check()

    def _follow_keys(self) -> None:
        try:
            self._take_keys()
            self._failures.pop("keys", None)
        except Exception as error:  # whatever it is, it must not end the thread that follows
            said = error.message if isinstance(error, NextmoveError) else repr(error)
            self._failures["keys"] = f"keys: {said}; those last known stay"
            self._on_failure("keys")
            logger.error("keys cannot be read, those last known stay: %s", said)

    def _follow(self, what: str, pointer: str, serving: Callable[[], str | None], take: Callable[[str], None]) -> None:
        try:
            named = self._blobs.pointer(pointer)
            if named is None or named == serving():
                self._failures.pop(what, None)
                self._refused.pop(what, None)  # should it be named again, it is tried again
            elif named != self._refused.get(what):
                self._refused[what] = named  # tried once; a broken one is not tried again until it changes
                take(named)
                self._failures.pop(what, None)
                logger.info("now serving %s %s", what, named[:12])
        except Exception as error:  # whatever it is, it must not end the thread that follows
            if isinstance(error, StoreError):
                self._refused.pop(what, None)  # not its fault: try again
            said = error.message if isinstance(error, NextmoveError) else repr(error)
            self._failures[what] = f"{what}: {said}"
            self._on_failure(what)
            logger.error("%s is not taken, the last good one stays: %s", what, said)
            if serving() is None:
                self._take_older(what, pointer, take)

    def _take_older(self, what: str, pointer: str, take: Callable[[str], None]) -> None:
        """Go back through what the pointer named until one can be taken."""
        try:
            before = dict.fromkeys(pointing.sha256 for pointing in reversed(self._blobs.history(pointer)))
        except Exception as error:
            logger.error("what the %s was before cannot be read: %s", what, error)
            return
        for sha256 in list(before)[1:]:
            try:
                take(sha256)
            except Exception as error:
                logger.error("%s %s is not taken either: %s", what, sha256[:12], error)
            else:
                self._failures[what] += f"; {what} {sha256[:12]}, released before, is served instead"
                logger.warning("now serving %s %s, released before", what, sha256[:12])
                return

    def _follow_shadow(self) -> None:
        """A challenger that cannot be taken scores nothing: no older one takes its place."""
        try:
            named = shadow_bundle(self._blobs, self._domain)
            scoring = self._engine.shadow.sha256 if self._engine.shadow else None
            if named == scoring:
                self._failures.pop("shadow", None)
                self._refused.pop("shadow", None)
            elif named is None:
                self._engine.shadow = None
                self._failures.pop("shadow", None)
            elif named != self._refused.get("shadow"):
                self._refused["shadow"] = named
                self._engine.shadow = None
                self._engine.shadow = OnnxScorer(self._own_bundle(named))
                self._failures.pop("shadow", None)
                logger.info("now in the shadow: %s", named[:12])
        except Exception as error:  # as above
            if isinstance(error, StoreError):
                self._refused.pop("shadow", None)
            said = error.message if isinstance(error, NextmoveError) else repr(error)
            self._failures["shadow"] = f"shadow: {said}; decisions are made without it"
            self._on_failure("shadow")
            logger.error("the challenger is not taken into the shadow: %s", said)

    def _bundle_now(self) -> str | None:
        return self._engine.scorer.sha256 if self._engine.scorer else None

    def _take_bundle(self, sha256: str) -> None:
        self._engine.scorer = OnnxScorer(self._own_bundle(sha256))

    def _own_bundle(self, sha256: str) -> Bundle:
        bundle = load_bundle(self._blobs, sha256)
        if bundle.manifest.domain != self._domain:
            raise BundleError(
                f"bundle {sha256[:12]} is of '{bundle.manifest.domain}', this service of '{self._domain}'"
            )
        return bundle

    def _stages_now(self) -> str | None:
        return self._engine.foreteller.bundle_sha256 if self._engine.foreteller else None

    def _take_stages(self, sha256: str) -> None:
        scorer = OnnxScorer(self._own_bundle(sha256))
        self._engine.foreteller = Foreteller(
            scorer.manifest, scorer.score, bundle_sha256=sha256, on_failure=logger.warning
        )

    def _catalog_now(self) -> str:
        return self._engine.release.version.removeprefix("sha256:")

    def _take_catalog(self, sha256: str) -> None:
        self._engine.release = decode_release(self._blobs.get(sha256), domain=self._domain)
