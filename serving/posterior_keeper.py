"""Keeps the online posterior up to date beside a running service, and gives it to the engine.

Of several processes one counts; all take up what it says. Decisions wait for neither.
"""

import logging
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from decisioning.feeds import Untold
from serving.engine import Engine
from storage.hot_state.posteriors import LEASED_FOR, open_posterior
from storage.ledger.arrivals import Arrivals, Place
from storage.ledger.feed_counts import read_untold
from storage.posterior_counting import Counting, Scoring, fitted_in
from storage.settings import Settings

logger = logging.getLogger(__name__)
# How often new rows are counted; and how often what is counted is fitted anew, since time alone changes what it says.
COUNT_EVERY = timedelta(seconds=5)
FIT_EVERY = timedelta(minutes=1)
JUDGE_FEEDS_EVERY = timedelta(hours=1)
BETWEEN_PARTS = timedelta(milliseconds=10)


def _clock() -> datetime:
    return datetime.now(UTC)


class PosteriorKeeper:
    """Looks again and again: counts where it is this process's turn, and takes up what is believed by now."""

    def __init__(self, engine: Engine, settings: Settings, *, clock: Callable[[], datetime] = _clock) -> None:
        """Open the ledger.

        Raises:
            SetupError: It cannot be used.
        """
        self._engine = engine
        self._settings = settings
        self._clock = clock
        self._store = open_posterior(settings)
        self._arrivals = Arrivals(settings)
        self._counting = Counting(self._store, self._arrivals)
        self._holder = secrets.token_hex(8)
        self._taken: tuple[str | None, str] | None = None  # which revision, for which bundle
        self._counted: tuple[datetime, Place, str] | None = None
        self._untold: tuple[datetime, str, Untold] | None = None
        self._warning: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="posterior", daemon=True)

    @property
    def warnings(self) -> list[str]:
        """That what customers do is not followed, for people."""
        return [self._warning] if self._warning else []

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and let go of the ledger."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._arrivals.close()

    def check(self) -> None:
        """Look once.

        Raises:
            StoreError: A store cannot be used.
        """
        scorer = self._engine.scorer
        if scorer is None:
            return
        if self._is_due(scorer.sha256) and self._store.lease(self._holder, duration=LEASED_FOR):
            catalog = self._engine.release.everywhere
            self._count(Scoring(scorer.sha256, scorer.manifest, catalog.placements, catalog.promotes))
        self._take(scorer.sha256)

    def _is_due(self, bundle_sha256: str) -> bool:
        if self._counted is None:
            return True
        at, place, of = self._counted
        elapsed = self._clock() - at
        if of != bundle_sha256 or elapsed >= FIT_EVERY:
            return True
        return elapsed >= COUNT_EVERY and self._arrivals.end() != place

    def _count(self, live: Scoring) -> None:
        now = self._clock()
        end = self._arrivals.end()
        said = self._counting.go_on(live, now=now, untold=self._untold_since(live, now), goes_on=self._still_leads)
        if said is not None:
            self._counted = now, end, live.bundle_sha256
            self._engine.take_posterior(said)
            self._taken = self._counting.revision, live.bundle_sha256

    def _still_leads(self) -> bool:
        """Asked after each part; in between, decisions have their turn."""
        stopping = self._stopping.wait(BETWEEN_PARTS.total_seconds())
        return not stopping and self._store.lease(self._holder, duration=LEASED_FOR)

    def _take(self, bundle_sha256: str) -> None:
        """What another process counted, if it is new here."""
        revision = self._store.revision()
        if (revision, bundle_sha256) == self._taken:
            return
        kept = self._store.kept()
        self._engine.take_posterior(fitted_in(kept.fitted) if kept is not None else None)
        self._taken = kept.revision if kept is not None else None, bundle_sha256

    def _untold_since(self, live: Scoring, now: datetime) -> Untold:
        """Which outcomes were not told; judged once an hour."""
        judged = self._untold
        if judged is None or judged[1] != live.bundle_sha256 or now - judged[0] >= JUDGE_FEEDS_EVERY:
            content = self._engine.release.blueprint.content
            found = read_untold(self._settings, content, since=live.manifest.trained_until, now=now)
            judged = self._untold = now, live.bundle_sha256, found
        return judged[2]

    def _run(self) -> None:
        while True:
            try:
                self.check()
                self._warning = None
            except Exception as error:  # whatever it is, it must not end the thread that looks
                self._warning = f"the online posterior stands still: {error}"
                logger.error("the online posterior cannot be counted: %s", error)
            if self._stopping.wait(self._settings.pointer_poll_seconds):
                return
