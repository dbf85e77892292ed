"""Keeps the states of features over events complete: after a new declaration, and after hot state was lost."""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from serving.engine import Engine
from storage.hot_state.state_replay import open_states, replay_states
from storage.hot_state.states import SAY_IN_USE
from storage.released_features import released_features
from storage.settings import Settings

logger = logging.getLogger(__name__)


def _clock() -> datetime:
    return datetime.now(UTC)


class StateKeeper:
    """Looks again and again whether the states that the engine reads are complete, and else replays the ledger.

    Of several processes one does it; all look.
    """

    def __init__(self, engine: Engine, settings: Settings, *, clock: Callable[[], datetime] = _clock) -> None:
        self._engine = engine
        self._settings = settings
        self._states = open_states(settings)
        self._clock = clock
        self._warning: str | None = None
        self._said_at: dict[str, datetime] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="states", daemon=True)

    @property
    def warnings(self) -> list[str]:
        """That features are unknown yet, or cannot be known, for people."""
        return [self._warning] if self._warning else []

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait for it."""
        self._stopping.set()
        self._thread.join()

    def check(self) -> None:
        """Look once; replay what is missing."""
        features = self._engine.release.event_features
        if features is None:
            self._warning = None
            return
        digest = features.states.digest
        if not self._states.replayed(digest).complete:
            self._report(0)
            released = released_features(self._settings)
            if released is None or released.features.states.digest != digest:
                return  # about to be followed
            if not replay_states(self._settings, released, clock=self._clock, goes_on=self._report):
                return
            logger.warning("features over events are complete")
        self._warning = None
        self._tidy(digest)

    def _report(self, done: int) -> bool:
        self._warning = f"features over events are unknown until the ledger's events are replayed ({done:,} so far)"
        return not self._stopping.is_set()

    def _tidy(self, digest: str) -> None:
        """Now and then say what is in use, and drop what nobody says so of."""
        now = self._clock()
        if digest in self._said_at and now - self._said_at[digest] < SAY_IN_USE:
            return
        self._said_at = {digest: now}
        self._states.say_in_use(digest, now=now)
        for unused in self._states.unused(now=now):
            self._states.drop(unused)

    def _run(self) -> None:
        while True:
            try:
                self.check()
            except Exception as error:  # whatever it is, it must not end the thread that looks
                self._warning = f"features over events may be unknown: {error}"
                logger.error("the states of features over events cannot be completed: %s", error)
            if self._stopping.wait(self._settings.pointer_poll_seconds):
                return
