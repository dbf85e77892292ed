"""Hot state is opened here, whichever store it is in, and made anew from the ledger where it is lost."""

import fcntl
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta

from decisioning.errors import StoreError
from storage.hot_state import redis_rebuild, sqlite_rebuild
from storage.hot_state.redis import RedisHotState
from storage.hot_state.sqlite import SqliteHotState
from storage.ledger.reader import LedgerReader
from storage.settings import Settings, prepare_home

Progress = Callable[[str], None]
StoredHotState = SqliteHotState | RedisHotState

JUST_ARRIVED = timedelta(hours=1)


def open_hot_state(settings: Settings, *, now: datetime, progress: Progress | None = None) -> StoredHotState:
    """Hot state as `settings.hot_state` says, rebuilt first where needed, else with its newest outcomes made sure of.

    Raises:
        SetupError: The state directory, the ledger or the address of Redis cannot be used.
        StoreError: Hot state cannot be written.
    """
    if needs_rebuild(settings):
        _rebuild(settings, now, progress, anyway=False)
    else:
        _reapply(settings, now)
    return RedisHotState(settings) if settings.hot_state == "redis" else SqliteHotState(settings)


def needs_rebuild(settings: Settings) -> bool:
    """Whether hot state lacks what the ledger has.

    Raises:
        StoreError: Redis cannot be used.
    """
    return (redis_rebuild if settings.hot_state == "redis" else sqlite_rebuild).needs_rebuild(settings)


def rebuild(settings: Settings, *, now: datetime, progress: Progress | None = None) -> None:
    """Make hot state anew. A service that runs meanwhile sees the old one, then the new one.

    In SQLite that is every domain of the state directory, in Redis the one of the settings.

    Raises:
        SetupError: The state directory, the ledger or the address of Redis cannot be used.
        StoreError: Hot state cannot be written, or the ledger not be read.
    """
    _rebuild(settings, now, progress, anyway=True)


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


@contextmanager
def _sqlite_errors(settings: Settings) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"hot state {settings.hot_path} cannot be used: {error}") from error


def _silent(_message: str) -> None:
    """Report nothing."""
