"""The ledger's events as a table, and features over them at past times: for history that we did not decide."""

from contextlib import closing

import pandas as pd

from decisioning.event_content import EventFeature
from decisioning.event_features import EventFeatures
from storage.ledger.reader import LedgerReader
from storage.settings import Settings
from training.event_history import event_frame, replayed


def with_event_features(
    joined: pd.DataFrame, settings: Settings, declared: tuple[EventFeature, ...], points: pd.DataFrame
) -> pd.DataFrame:
    """The rows with a column for each of these features as it was then; as they are where nothing is declared.

    An id has its own events, whoever it turned out to be. Before the ledger's first event nothing is known.

    Args:
        joined: Rows in the order of `points`.
        settings: Where the ledger is.
        declared: The features.
        points: `customer_id` and `event_timestamp` (UTC).
    """
    if not declared:
        return joined
    features = EventFeatures(declared)
    with closing(LedgerReader(settings)) as reader:
        frame = event_frame(reader.events(settings.domain, names=features.events), features)
    found = replayed(features, frame, points, known_by="occurred")
    before = points["event_timestamp"] < frame["occurred_at"].min() if len(frame) else pd.Series(True, points.index)
    found = found.where(~before, None)
    numbers = {each.name: float for each in features.features if each.kind == "number"}
    return pd.concat([joined, found.astype(numbers).set_axis(joined.index)], axis=1)
