"""Where examples come from: a domain's own log, its features joined point-in-time, and our ledger."""

from collections.abc import Callable
from datetime import datetime

import pandas as pd

from decisioning.catalog import Catalog
from storage.ledger.feed_counts import read_untold
from storage.ledger.reader import LedgerReader
from storage.settings import Settings
from training.domains import Domain
from training.examples import LEDGER_WINDOW, LEFT_OUT, combined, ledger_examples, log_examples
from training.without_erased import rows_of_others

Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Progress that nobody follows."""


def examples_of(
    source: Domain | pd.DataFrame,
    settings: Settings,
    catalog: Catalog,
    *,
    now: datetime,
    progress: Progress = silent,
) -> pd.DataFrame:
    """The domain's log and the ledger's closed decisions, in order of time; a frame is returned as it is.

    Raises:
        DataError: There is nothing to learn from, or the join lost rows.
        SetupError: The domain is not ingested.
    """
    if isinstance(source, pd.DataFrame):
        return source
    logged = logged_examples(source, settings, catalog, progress=progress)
    progress("reading the ledger's decisions whose attribution window has closed")
    reader = LedgerReader(settings)
    try:
        unjoined = reader.counts().unjoined_outcomes
        if unjoined:
            progress(f"{unjoined:,} outcomes name a decision that is not in the ledger; they teach nothing until it is")
        untold = read_untold(settings, catalog.content, since=now - LEDGER_WINDOW, now=now)
        own = ledger_examples(reader, catalog, now=now, untold=untold)
    finally:
        reader.close()
    for line in own.attrs[LEFT_OUT]:
        progress(line)
    examples = combined(logged, own)
    examples.attrs[LEFT_OUT] = own.attrs[LEFT_OUT]
    return examples


def logged_examples(
    domain: Domain, settings: Settings, catalog: Catalog, *, progress: Progress = silent
) -> pd.DataFrame:
    """The domain's log with the features of its time, from Feast and the ledger's events; empty without a log.

    The ledger's decisions are not joined: they keep the features that were logged with them. A join
    would miss what the request supplied, and add what came late.

    Raises:
        DataError: The join lost rows.
        SetupError: The domain is not ingested.
    """
    from training.event_table import with_event_features
    from training.features import historical_features  # brings Feast, seconds to import

    log = rows_of_others(settings, domain.log())
    if log.empty:
        return pd.DataFrame()
    progress(f"joining features to {len(log):,} logged decisions as of their time")
    entities = log[["row_id", "customer_id", "decided_at"]].rename(columns={"decided_at": "event_timestamp"})
    joined = historical_features(settings, domain.name, entities)
    return log_examples(log, with_event_features(joined, settings, catalog.content.event_features, entities), catalog)
