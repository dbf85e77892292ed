"""Features over events, of every domain whose catalogue declares any: one view each, and it is pushed.

A row is what a customer's features were at its `event_timestamp`; `nextmove ingest features` writes one of
everybody who did something since it ran last. Windows roll on while nothing happens, so a row is as old as
it says: decisions read the customer's state, and this is for whoever reads features of many customers at
once. Hence a service of its own, not the domain's.
"""

import os
from pathlib import Path

from entity import NEVER, customer, table
from feast import FeatureService, FeatureView, Field, PushSource
from feast.types import Float64, String

from storage.catalog_files import declared_event_features
from storage.settings import Settings, load_settings


def definitions(settings: Settings) -> tuple[FeatureView | FeatureService, ...]:
    """Views and services over the state directory of these settings."""
    found: list[FeatureView | FeatureService] = []
    for folder in sorted(settings.catalog_dir.iterdir()) if settings.catalog_dir.is_dir() else []:
        declared = declared_event_features(folder) if folder.is_dir() else ()
        kinds = {each.name: each.kind for feature in declared for each in feature.derived()}
        if not kinds:
            continue
        name = f"{folder.name}_events"
        view = FeatureView(
            name=name,
            entities=[customer],
            ttl=NEVER,
            schema=[Field(name="customer_id", dtype=String)]
            + [Field(name=each, dtype=String if kind == "text" else Float64) for each, kind in kinds.items()],
            source=PushSource(name=f"{name}_push", batch_source=table(settings, folder.name, "events", in_parts=True)),
        )
        found += [view, FeatureService(name=name, features=[view])]
    return tuple(found)


# Feast's own command looks for them among the names of the module.
for number, definition in enumerate(
    definitions(load_settings(os.environ, directory=Path(__file__).resolve().parents[1]))
):
    globals()[f"definition_{number}"] = definition
