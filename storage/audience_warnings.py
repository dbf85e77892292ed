"""Which audiences run dry, by the sizes that were kept last."""

from datetime import datetime, timedelta

from decisioning.catalog import Release
from decisioning.running_dry import PAST, warnings
from storage.ledger.audience_sizes import kept_sizes, last_sizes
from storage.settings import Settings

# Longer than a week, since once a week is often enough for some.
STALE = timedelta(days=8)


def audience_warnings(settings: Settings, release: Release, *, now: datetime) -> list[str]:
    """A sentence on each audience and action that is far smaller than usual, or too small, in any market.

    And one where nobody has counted for long, which only who counts at all is told.

    Raises:
        StoreError: The ledger cannot be read.
    """
    last = last_sizes(settings)
    if not last:
        return []
    past = kept_sizes(settings, since=min(size.at for size in last) - PAST)
    found = []
    for market, catalog in release.markets.items():
        sizes = [size for size in last if size.market == market]
        found += warnings(sizes, past, catalog.content)
    counted = max(size.at for size in last)
    if now - counted > STALE:
        found.append(f"audiences were counted last {(now - counted).days} days ago; run: nextmove audience")
    return found
