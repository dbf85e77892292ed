"""Features of customers that came by a mapping: of each such domain one view, as `nextmove ingest` found them."""

import os
from pathlib import Path

from entity import NEVER, customer
from feast import FeatureService, FeatureView, Field, FileSource
from feast.data_format import ParquetFormat
from feast.types import Array, Bool, Float64, String

from storage.customer_schema import read_schemas
from storage.settings import Settings, load_settings

TYPES = {"number": Float64, "text": String, "truth": Bool, "texts": Array(String)}


def definitions(settings: Settings) -> tuple[FeatureView | FeatureService, ...]:
    """Views and services over the state directory of these settings."""
    found: list[FeatureView | FeatureService] = []
    for schema in read_schemas(settings):
        view = FeatureView(
            name=f"{schema.domain}_customers",
            entities=[customer],
            ttl=NEVER,
            schema=[Field(name="customer_id", dtype=String)]
            + [Field(name=name, dtype=TYPES[each.type]) for name, each in schema.features.items()],
            source=FileSource(
                name=f"{schema.domain}_customers_file",
                path=str(settings.feast_dir / "offline" / schema.domain / "customers.parquet"),
                file_format=ParquetFormat(),
                timestamp_field="event_timestamp",
                # Of two versions of the same time, the one that was read later counts.
                created_timestamp_column="ingested_at",
            ),
        )
        found += [view, FeatureService(name=schema.domain, features=[view])]
    return tuple(found)


# Feast's own command looks for them among the names of the module.
for number, definition in enumerate(
    definitions(load_settings(os.environ, directory=Path(__file__).resolve().parents[1]))
):
    globals()[f"definition_{number}"] = definition
