"""Whoever writes Feast's stores in bulk does so alone: what one read before must not undo what another deleted."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from storage.settings import Settings


@contextmanager
def alone_with_features(settings: Settings) -> Iterator[None]:
    """Alone among processes of this state directory; others wait."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (settings.home / "features.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
