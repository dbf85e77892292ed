"""Where examples come from: a domain's own log, its features joined point-in-time, and our ledger."""

from collections.abc import Callable
from datetime import datetime

import pandas as pd

from decisioning.catalog import Catalog
from storage.ledger.reader import LedgerReader
from storage.settings import Settings
from training.domains import Domain
from training.examples import combined, ledger_examples, log_examples
from training.features import historical_features

Progress = Callable[[str], None]


def collect_examples(
    domain: Domain, settings: Settings, catalog: Catalog, *, now: datetime, progress: Progress = lambda _: None
) -> pd.DataFrame:
    """The domain's log and the ledger's closed decisions, in the order of their time.

    The log's rows get the features of their time from Feast. The ledger's keep those that were
    logged with the decision: a join would miss what the request supplied and add what came late.

    Raises:
        DataError: There is nothing to learn from, or the join lost rows.
        SetupError: The domain is not ingested.
    """
    log = domain.log()
    frames = []
    if len(log):
        progress(f"joining features to {len(log):,} logged decisions as of their time")
        entities = log[["row_id", "customer_id", "decided_at"]].rename(columns={"decided_at": "event_timestamp"})
        frames.append(log_examples(log, historical_features(settings, domain.name, entities), catalog))
    progress("reading the ledger's decisions whose attribution window has closed")
    reader = LedgerReader(settings)
    try:
        frames.append(ledger_examples(reader, catalog, now=now))
    finally:
        reader.close()
    return combined(*frames)
