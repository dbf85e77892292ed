"""The log of decisions as a data frame, for whoever wants to look or to learn in their own way."""

# Nothing heavy is imported before it is asked for: every command imports this package.
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from decisioning.errors import DataError, SetupError

if TYPE_CHECKING:
    import pandas as pd

    from storage.settings import Settings


def load_log(
    since: datetime, until: datetime | None = None, *, settings: "Settings | None" = None, now: datetime | None = None
) -> "pd.DataFrame":
    """Decisions from `since` (included) to `until` (excluded), by time, each joined with what it earned so far.

    One row is a slot that the customer met, or a first slot that was drawn. The columns are those of
    `training.examples` (`probability`, `reward`, `candidates`, `customer.<feature>` as it was, `decided_at` in
    UTC ...), and `closed`: whether the attribution window is over, so that the reward is the last word.
    Training and evaluation use closed rows alone. `attrs["left_out"]` says how many decisions are missing
    because their outcomes were not told.

    Args:
        since: With a time zone, as `until`.
        until: Up to now when absent.
        settings: From the environment and `nextmove.toml` when absent.
        now: The present when absent.

    Raises:
        DataError: A time has no zone.
        SetupError: No catalogue is released, so nobody can say what an outcome is worth.
    """
    import os
    from pathlib import Path

    from storage.settings import load_settings

    if since.tzinfo is None or (until is not None and until.tzinfo is None):
        raise DataError("a time of the log has no zone; write datetime(2026, 3, 1, tzinfo=UTC)")
    settings = settings or load_settings(os.environ, directory=Path.cwd())
    now = now or datetime.now(UTC)
    return _read(settings, since, min(until or now, now), now)


def _read(settings: "Settings", since: datetime, until: datetime, now: datetime) -> "pd.DataFrame":
    from storage.blobs import BlobStore
    from storage.catalog_files import catalog_pointer, decode_release
    from storage.ledger.feed_counts import read_untold
    from storage.ledger.reader import LedgerReader
    from training.examples import ledger_examples

    with closing(BlobStore(settings)) as blobs:
        sha256 = blobs.pointer(catalog_pointer(settings.domain))
        if sha256 is None:
            raise SetupError(
                f"no catalogue of '{settings.domain}' is released in {settings.home}; run: nextmove catalog release"
            )
        catalog = decode_release(blobs.get(sha256)).everywhere
    untold = read_untold(settings, catalog.content, since=since, now=now)
    with closing(LedgerReader(settings)) as reader:
        rows = ledger_examples(reader, catalog, now=now, untold=untold, since=since, until=until, only_closed=False)
    if rows.empty:
        return rows
    return rows.sort_values(["decided_at", "row_id"], kind="stable", ignore_index=True)
