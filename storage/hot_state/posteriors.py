"""Where hot state keeps the online posterior: counts with the ledger's place they reach, and what they say.

Both are written in one step, and only over what they were worked out from (`Kept.revision`). So a row of the
ledger counts once, whoever counts it and whenever they die: what was not kept is counted again from the place
that stands. The lease saves replicas from doing the same work; nothing that is right hangs on it.
"""

from datetime import timedelta
from typing import Protocol

from storage.hot_state.kept_posterior import Kept
from storage.hot_state.redis_posterior import RedisPosterior
from storage.hot_state.sqlite_posterior import SqlitePosterior
from storage.settings import Settings

# Who counts says at least this often that they still do.
LEASED_FOR = timedelta(seconds=30)


class PosteriorStore(Protocol):
    """A domain's posterior, not for the event loop. Each call raises `StoreError` where it fails."""

    def revision(self) -> str | None:
        """Which state is kept; None without one."""
        ...

    def kept(self) -> Kept | None:
        """All that is kept."""
        ...

    def keep(self, counted: bytes, fitted: bytes, *, over: str | None) -> str | None:
        """The revision under which this is kept from now on; None, and nothing is done, if `over` no longer stands."""
        ...

    def lease(self, holder: str, *, duration: timedelta) -> bool:
        """Whether `holder` is the one to count, for so long from now on."""
        ...

    def forget(self) -> None:
        """As if nothing had ever been kept."""
        ...


def open_posterior(settings: Settings) -> PosteriorStore:
    """The domain's, where `settings.hot_state` says."""
    return RedisPosterior(settings) if settings.hot_state == "redis" else SqlitePosterior(settings)
