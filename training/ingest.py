"""From a domain's tables to features that can be read: offline parquet, Feast's registry, online store.

`ingest` can be repeated and interrupted. What a step leaves behind is complete or absent (files are
renamed into place), every step can be done again over its own result, and a marker with the data's
hash is written last: with the same hash there is nothing to do, without it everything is.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa
from feast.type_map import feast_value_type_to_pa
from feast.types import Array

from decisioning.errors import DataError, StoreError
from decisioning.profile import ConsentChange
from storage.feature_lock import alone_with_features
from storage.feature_store import open_feature_store
from storage.privacy.scrubbing import replaced
from storage.settings import Settings
from training.domains import TabledDomain
from training.features import (
    FEATURE_REPO,
    apply_feature_repo,
    domain_service,
    domain_views,
    feature_names,
    offline_path,
)
from training.without_erased import consents_of_others, tables_of_others

Progress = Callable[[str], None]

# Feast holds a batch as protocol buffers: 40 values a customer, about 15 KB.
CHUNK = 5_000
CUSTOMER_KEY = "customer_id"


class IngestReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `ingest` did; `reused` where an earlier run had done all of it."""

    domain: str
    data_sha256: str
    customers: int
    features: int
    consents: int
    reused: bool = False


class _Marker(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished run worked on: data, definitions, and the stores that it filled.

    `witness` is one of the customers: while its features can be read online, the store stands.
    """

    report: IngestReport
    witness: str
    definitions_sha256: str
    online_store: str


def ingest(
    domain: TabledDomain,
    settings: Settings,
    *,
    now: datetime,
    progress: Progress,
    write_consents: Callable[[list[ConsentChange]], None],
) -> IngestReport:
    """Make a domain's features and consents readable.

    Of each customer, the newest row as of `now` goes to the online store. It overwrites what was
    pushed since, so a new version of the data must hold that too.

    Raises:
        DataError: A table lacks a column that its view in `feature_repo` names, or has no rows yet.
        SetupError: `feature_repo` has no service for the domain.
        StoreError: A store could not be written.
    """
    with alone_with_features(settings):
        return _ingest(domain, settings, now=now, progress=progress, write_consents=write_consents)


def _ingest(
    domain: TabledDomain,
    settings: Settings,
    *,
    now: datetime,
    progress: Progress,
    write_consents: Callable[[list[ConsentChange]], None],
) -> IngestReport:
    settings.feast_dir.mkdir(parents=True, exist_ok=True)
    marker = settings.feast_dir / f"{domain.name}.ingested.json"
    done = _read(marker)
    if done is not None and done == _marker(done.report, done.witness, domain, settings) and _stands(done, settings):
        progress(f"'{domain.name}': {done.report.customers:,} customers were ingested before and are reused")
        return msgspec.structs.replace(done.report, reused=True)
    marker.unlink(missing_ok=True)

    progress(f"'{domain.name}': reading the data")
    store = open_feature_store(settings)
    apply_feature_repo(store, settings)
    views = domain_views(store, domain.name)
    naming = [feature.name for view in views for feature in view.features if feature.tags.get("names") == "customer"]
    tables = tables_of_others(settings, domain.tables(), naming=naming)
    newest = {view.name: _newest(view, tables, now=now) for view in views}
    for name, table in tables.items():
        progress(f"'{domain.name}': writing {len(table):,} rows of {name} to the offline store")
        _write_parquet(table, offline_path(settings, domain.name, name), lists=_lists(name, views))
    for view in views:
        rows = newest[view.name]
        for start in range(0, len(rows), CHUNK):
            progress(
                f"'{domain.name}': {view.name} to the online store, {start:,} of {len(rows):,} {view.entities[0]}s"
            )
            try:
                store.write_to_online_store(view.name, rows.iloc[start : start + CHUNK])
            except Exception as error:  # whatever a store's client raises
                raise StoreError(f"the online store cannot be written: {error}") from error
    consents = consents_of_others(settings, domain.consents())
    progress(f"'{domain.name}': writing {len(consents):,} consents")
    write_consents(consents)
    report = IngestReport(
        domain=domain.name,
        data_sha256=domain.data_sha256,
        customers=max(table[CUSTOMER_KEY].nunique() for table in tables.values() if CUSTOMER_KEY in table.columns),
        features=len(feature_names(settings, domain.name)),
        consents=len(consents),
    )
    witness = str(newest[views[0].name][CUSTOMER_KEY].iloc[0])
    encoded = msgspec.json.encode(_marker(report, witness, domain, settings))
    replaced(marker, lambda path: path.write_bytes(encoded))
    return report


def _marker(report: IngestReport, witness: str, domain: TabledDomain, settings: Settings) -> _Marker:
    definitions = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(FEATURE_REPO.glob("*.py"))))
    online = settings.redis_url if settings.online_store == "redis" else "sqlite"
    return _Marker(
        report=msgspec.structs.replace(report, data_sha256=domain.data_sha256),
        witness=witness,
        definitions_sha256=definitions.hexdigest(),
        # A hash, since the address may hold a password.
        online_store=hashlib.sha256(online.encode()).hexdigest(),
    )


def _stands(done: _Marker, settings: Settings) -> bool:
    """Whether what an earlier run wrote is still there: registry, offline files, online store."""
    try:
        store = open_feature_store(settings)
        service = domain_service(store, done.report.domain)
        views = domain_views(store, done.report.domain)
        answer = store.get_online_features(service, entity_rows=[{CUSTOMER_KEY: done.witness}]).to_dict()
    except Exception:  # whatever is wrong with a store, writing it again is the remedy
        return False
    values = [value[0] for name, value in answer.items() if name != CUSTOMER_KEY]
    return any(value is not None for value in values) and all(Path(view.batch_source.path).is_file() for view in views)


def _read(marker: Path) -> _Marker | None:
    try:
        return msgspec.json.decode(marker.read_bytes(), type=_Marker)
    except (FileNotFoundError, msgspec.DecodeError, msgspec.ValidationError):
        return None


def _newest(view: Any, tables: dict[str, pd.DataFrame], *, now: datetime) -> pd.DataFrame:
    """The newest row of each customer or account as of `now`, with the view's columns, checked on the way."""
    name = Path(view.batch_source.path).stem
    if name not in tables:
        raise DataError(
            f"the view {view.name} reads the table '{name}', the domain has {', '.join(tables)}", where=view.name
        )
    table = tables[name]
    [key] = view.join_keys
    columns = [key, "event_timestamp", *(feature.name for feature in view.features)]
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(f"the table '{name}' lacks {', '.join(missing)}, which the view {view.name} names", where=name)
    past = table.loc[table["event_timestamp"] <= pd.Timestamp(now), columns]
    if past.empty:
        raise DataError(f"the table '{name}' has no row up to {now.isoformat()}", where=name)
    return past.sort_values("event_timestamp", kind="stable").drop_duplicates(key, keep="last")


def _lists(table: str, views: Sequence[Any]) -> dict[str, pa.DataType]:
    """Features of a table that are lists, with their types: where all are empty, no value says what they hold."""
    return {
        feature.name: feast_value_type_to_pa(feature.dtype.to_value_type())
        for view in views
        if Path(view.batch_source.path).stem == table
        for feature in view.features
        if isinstance(feature.dtype, Array)
    }


def _write_parquet(table: pd.DataFrame, path: Path, *, lists: Mapping[str, pa.DataType]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.Schema.from_pandas(table, preserve_index=False)
    for name, kind in lists.items():
        schema = schema.set(schema.get_field_index(name), pa.field(name, kind))
    # DuckDB 2 cannot cast nanoseconds when Feast asks it to.
    replaced(path, lambda part: table.to_parquet(part, index=False, coerce_timestamps="us", schema=schema))
