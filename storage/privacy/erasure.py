"""Erases a person from every store: one request, step by step, each of which can be done again.

A request is swept twice. Decisions and events that were under way when it was made may be kept after the first
sweep was past them; by the second, all of them have ended.
"""

import fcntl
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import Engine

from decisioning.errors import StoreError
from storage.feature_lock import alone_with_features
from storage.hot_state.erasing import erase_hot
from storage.hot_state.rebuild import not_during_rebuild
from storage.id_digests import id_digests
from storage.instants import to_microseconds
from storage.known_customers import forget_customers
from storage.privacy.feature_rows import FeatureRows
from storage.privacy.files import NamingFiles
from storage.privacy.ledger_rows import LedgerRows
from storage.privacy.requests import PrivacyRequest, note
from storage.privacy.scrubbing import emptied
from storage.settings import Settings

# No call of the service takes as long.
GRACE = timedelta(seconds=60)
Reached = Callable[[str], None]


def _silent(_step: str) -> None:
    """Nobody follows."""


def is_due(request: PrivacyRequest, *, now: datetime) -> bool:
    """Whether there is something to do for this request now."""
    swept = request.progress.swept_at
    return request.state == "pending" and (swept is None or now - swept >= GRACE)


def advance(
    settings: Settings, engine: Engine, request: PrivacyRequest, *, now: datetime, reached: Reached = _silent
) -> PrivacyRequest:
    """Sweep once; after the second sweep the request is done, and names nobody.

    `reached` is called after each step.

    Raises:
        StoreError: A store cannot be used now; do it again.
    """
    counts = Counter(request.progress.counts)
    counts += sweep(settings, engine, request, reached=reached)
    first = request.progress.swept_at is None
    progress = msgspec.structs.replace(
        request.progress, counts=dict(counts), swept_at=now if first else request.progress.swept_at, problem=None
    )
    request = msgspec.structs.replace(request, progress=progress)
    if not first:
        request = msgspec.structs.replace(request, state="done", completed_at=now, units=())
    note(engine, request)
    if not first:
        emptied(settings.ledger_path)  # of the request's own subject
    return request


def sweep(settings: Settings, engine: Engine, request: PrivacyRequest, *, reached: Reached = _silent) -> Counter[str]:
    """Delete all that is held on the person, wherever it is, and how much there was.

    Raises:
        StoreError: A store cannot be used now.
    """
    units = request.units
    rows = LedgerRows(engine, settings.domain, units)
    done: Counter[str] = Counter()
    with alone_with_features(settings):
        features = FeatureRows(settings, units)
        done += features.erase()
    forget_customers(settings, units)
    reached("features")
    # Nobody makes hot state anew from rows that are about to go.
    with not_during_rebuild(settings):
        linked = rows.linked()
        try:
            done["hot_state"] += erase_hot(settings, units, linked=linked, decisions=rows.decision_ids())
        except sqlite3.Error as error:
            raise StoreError(f"hot state {settings.hot_path} cannot be used: {error}") from error
        reached("hot state")
        at = to_microseconds(request.requested_at)
        done += rows.erase(id_digests(settings), at=at, naming=features.naming, reached=reached)
        for leftover in settings.home.glob("hot.db.new*"):
            leftover.unlink(missing_ok=True)
    done += NamingFiles(settings, units).erase()
    reached("files")
    emptied(settings.ledger_path)
    emptied(settings.hot_path)
    return +done


@contextmanager
def erasing_alone(settings: Settings, *, wait: bool) -> Iterator[bool]:
    """Alone among processes; yields whether it is, which without `wait` it may not be."""
    with (settings.home / "privacy.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
