"""Hot state is opened here, whichever store it is in, and made anew from the ledger where it is lost.

Redis may lose it while a service runs. Whichever replica notices fills it again in the background, one at
a time (`redis_rebuild`); all of them answer with fallbacks meanwhile.
"""

import fcntl
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

from decisioning.errors import StoreError
from decisioning.state_change import StateChange
from storage.hot_state import redis_rebuild, sqlite_rebuild
from storage.hot_state.history import NEWEST_EVENTS
from storage.hot_state.redis import RedisHotState
from storage.hot_state.sqlite import SqliteHotState
from storage.hot_state.state_replay import open_states, replay_states
from storage.ledger.reader import LedgerReader
from storage.posterior_counting import recount
from storage.released_features import released_features
from storage.settings import Settings, prepare_home

Progress = Callable[[str], None]
StoredHotState = SqliteHotState | RedisHotState

JUST_ARRIVED = timedelta(hours=1)
EVENTS_BETWEEN_WORDS = 10_000
# Between two attempts to fill a Redis that has lost what it knew.
TRY_AGAIN = timedelta(seconds=5)
logger = logging.getLogger(__name__)


def _clock() -> datetime:
    return datetime.now(UTC)


def open_hot_state(
    settings: Settings,
    *,
    now: datetime,
    progress: Progress | None = None,
    clock: Callable[[], datetime] = _clock,
) -> StoredHotState:
    """Hot state as `settings.hot_state` says, rebuilt first where needed, else with its newest outcomes made sure of.

    `clock` is the server's, beside the `now` of requests.

    Raises:
        SetupError: The state directory, the ledger or the address of Redis cannot be used.
        StoreError: Hot state cannot be written.
    """
    if needs_rebuild(settings):
        _rebuild(settings, now, progress, anyway=False)
    else:
        _reapply(settings, now)
    if settings.hot_state == "sqlite":
        return SqliteHotState(settings, clock=clock)
    return RedisHotState(settings, clock=clock, on_loss=_Refill(settings, clock, progress or _silent))


def needs_rebuild(settings: Settings) -> bool:
    """Whether hot state lacks what the ledger has.

    Raises:
        StoreError: Redis cannot be used.
    """
    return (redis_rebuild if settings.hot_state == "redis" else sqlite_rebuild).needs_rebuild(settings)


def rebuild(settings: Settings, *, now: datetime, progress: Progress | None = None) -> None:
    """Make hot state anew. A service that runs meanwhile sees the old one, then the new one.

    In SQLite that is every domain of the state directory, in Redis the one of the settings. Features over
    events and the online posterior are of the one of the settings; meanwhile they are unknown.

    Raises:
        SetupError: The state directory, the ledger or the address of Redis cannot be used.
        StoreError: Hot state cannot be written, or the ledger not be read.
    """
    _rebuild(settings, now, progress, anyway=True)
    released = released_features(settings)
    if released is not None:
        replay_states(settings, released, clock=lambda: now, anew=True, goes_on=_said_to(progress or _silent))
    posterior = recount(settings, now=now)
    if posterior is not None and progress is not None:
        progress(f"the online posterior is counted anew, of {len(posterior.beliefs)} actions and channels")


class _Refill:
    """Fills a Redis that has lost what it knew, in a thread of its own, one at a time."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime], progress: Progress) -> None:
        self._settings = settings
        self._clock = clock
        self._progress = progress
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._not_before = float("-inf")

    def __call__(self) -> None:
        """Begin, unless it is under way or has just failed."""
        with self._lock:
            if (self._thread is None or not self._thread.is_alive()) and time.monotonic() >= self._not_before:
                self._not_before = time.monotonic() + TRY_AGAIN.total_seconds()
                self._thread = threading.Thread(target=self._run, name="hot state", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        try:
            _rebuild(self._settings, self._clock(), self._progress, anyway=False)
        except Exception as error:  # the next one who asks tries again
            logger.error("hot state could not be rebuilt: %s", error)


@contextmanager
def not_during_rebuild(settings: Settings) -> Iterator[None]:
    """Alone among processes: a change that is in the ledger but not yet in hot state would be lost."""
    with (settings.home / "hot.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _rebuild(settings: Settings, now: datetime, progress: Progress | None, *, anyway: bool) -> None:
    prepare_home(settings)
    with closing(LedgerReader(settings)) as reader, _sqlite_errors(settings), not_during_rebuild(settings):
        if settings.hot_state == "redis":
            redis_rebuild.rebuild(settings, reader, now=now, progress=progress or _silent, anyway=anyway)
        else:
            sqlite_rebuild.rebuild(settings, reader, now=now, progress=progress or _silent)


def _reapply(settings: Settings, now: datetime) -> None:
    """Outcomes and pauses are durable first and applied second; a process may have died in between."""
    with closing(LedgerReader(settings)) as reader, _sqlite_errors(settings):
        newest = reader.last_arrival(settings.domain)
        since = min(now, newest or now) - JUST_ARRIVED
        store = redis_rebuild if settings.hot_state == "redis" else sqlite_rebuild
        store.reapply(settings, reader, now=now, received_since=since)
        released = released_features(settings)
        if released is not None:
            names = released.features.events
            events = reader.events(settings.domain, names=names, received_since=since, newest=NEWEST_EVENTS)
            open_states(settings).change(StateChange(released.features, events, now=now))


@contextmanager
def _sqlite_errors(settings: Settings) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"hot state {settings.hot_path} cannot be used: {error}") from error


def _said_to(progress: Progress) -> Callable[[int], bool]:
    said = 0

    def goes_on(done: int) -> bool:
        nonlocal said
        if done >= said + EVENTS_BETWEEN_WORDS:
            said = done
            progress(f"{done:,} events into the states of features")
        return True

    return goes_on


def _silent(_message: str) -> None:
    """Report nothing."""
