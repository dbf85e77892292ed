"""Features over events to Feast, in batches: of every customer who did something since the last run.

Rows are computed from the ledger by the declaration that the service goes by, as of now. A run notes how
far into the ledger it came when all its rows are written; one that died is done again. So a row may be
written twice, never be missing. The offline store gets a file a batch, which nothing changes later.
"""

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import msgspec
import pandas as pd
import pyarrow as pa
from feast import FeatureStore
from feast.errors import FeastObjectNotFoundException

from decisioning.errors import SetupError, StoreError
from decisioning.event_content import EventFeature
from decisioning.event_features import EventFeatures
from storage.catalog_files import declared_event_features
from storage.feature_lock import alone_with_features
from storage.feature_store import open_feature_store
from storage.ledger.reader import LedgerReader
from storage.privacy.scrubbing import replaced
from storage.settings import Settings
from training.event_history import event_frame, replayed
from training.features import apply_feature_repo, offline_path
from training.ingest import CUSTOMER_KEY

CUSTOMERS_TOGETHER = 1_000
_TIME = "event_timestamp"


class FeaturesReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did."""

    domain: str
    customers: int
    features: int


class _Reached(msgspec.Struct, frozen=True):
    """How far into the ledger's events (by `seq`) rows are written, by these declarations."""

    declared: str
    upto: int


def ingest_features(settings: Settings, *, now: datetime, progress: Callable[[str], None]) -> FeaturesReport:
    """Write a row of every customer with events since the last run; of all, after a change of declarations.

    Raises:
        SetupError: The catalogue's files declare no feature over events.
        StoreError: A store cannot be read or written; do it again.
    """
    declared = declared_event_features(settings.catalog_dir / settings.domain)
    if not declared:
        raise SetupError(
            f"the catalogue in {settings.catalog_dir / settings.domain} declares no event_features; docs/catalogue.md"
            " has an example"
        )
    features, view = EventFeatures(declared), f"{settings.domain}_events"
    with _alone(settings), alone_with_features(settings), closing(LedgerReader(settings)) as reader:
        marker = settings.feast_dir / f"{settings.domain}.events.json"
        folder = offline_path(settings, settings.domain, "events").parent / "events"
        reached, store = _read(marker, declared), open_feature_store(settings)
        end, customers = reader.customers_behind(settings.domain, after=reached.upto, names=features.events)
        if reached.upto > end or not _knows(store, view):
            reached = msgspec.structs.replace(reached, upto=0)
            end, customers = reader.customers_behind(settings.domain, after=0, names=features.events)
        if reached.upto == 0:
            shutil.rmtree(folder, ignore_errors=True)  # of other declarations: other columns
            apply_feature_repo(store, settings)
        folder.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(customers), CUSTOMERS_TOGETHER):
            progress(f"{start:,} of {len(customers):,} customers")
            some = customers[start : start + CUSTOMERS_TOGETHER]
            rows = _rows(reader, settings.domain, features, some, now)
            try:
                store.write_to_online_store(view, rows)
            except Exception as error:  # whatever a store's client raises
                raise StoreError(f"the online store cannot be written: {error}") from error
            _write(rows, features, folder / f"{reached.upto:012d}-{start:09d}.parquet")
        encoded = msgspec.json.encode(_Reached(reached.declared, end))
        replaced(marker, lambda path: path.write_bytes(encoded))
    return FeaturesReport(domain=settings.domain, customers=len(customers), features=len(features.features))


def _knows(store: FeatureStore, view: str) -> bool:
    try:
        store.get_feature_view(view)
    except FeastObjectNotFoundException:
        return False
    return True


def _rows(
    reader: LedgerReader, domain: str, features: EventFeatures, customers: list[str], now: datetime
) -> pd.DataFrame:
    events = event_frame(reader.events_of(domain, customers, names=features.events), features)
    points = pd.DataFrame({CUSTOMER_KEY: customers, _TIME: pd.Timestamp(now).as_unit("us")})
    return pd.concat([points, replayed(features, events, points, known_by="occurred")], axis=1)


def _write(rows: pd.DataFrame, features: EventFeatures, path: Path) -> None:
    kinds = {each.name: pa.string() if each.kind == "text" else pa.float64() for each in features.features}
    schema = pa.schema({CUSTOMER_KEY: pa.string(), _TIME: pa.timestamp("us", "UTC"), **kinds})
    replaced(path, lambda part: rows.to_parquet(part, index=False, schema=schema))


def _read(marker: Path, declared: tuple[EventFeature, ...]) -> _Reached:
    said = hashlib.sha256(msgspec.json.encode(declared)).hexdigest()
    try:
        reached = msgspec.json.decode(marker.read_bytes(), type=_Reached)
    except (OSError, msgspec.MsgspecError):
        return _Reached(said, 0)
    return reached if reached.declared == said else _Reached(said, 0)


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Alone among processes."""
    settings.feast_dir.mkdir(parents=True, exist_ok=True)
    with (settings.feast_dir / f"{settings.domain}.events.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
