"""Features of the MineThatData e-mail challenge: what was known of a customer before the campaign."""

import os
from pathlib import Path

from entity import NEVER, customer, table
from feast import FeatureService, FeatureView, Field
from feast.types import Float64, String

from storage.settings import Settings, load_settings

NUMBERS = ("recency", "history", "mens", "womens", "newbie")
CATEGORIES = ("history_segment", "zip_code", "purchase_channel")


def definitions(settings: Settings) -> tuple[FeatureView, FeatureService]:
    """View and service over the state directory of these settings."""
    profile = FeatureView(
        name="hillstrom_profile",
        entities=[customer],
        ttl=NEVER,
        schema=[Field(name="customer_id", dtype=String)]
        + [Field(name=name, dtype=Float64) for name in NUMBERS]
        + [Field(name=name, dtype=String) for name in CATEGORIES],
        source=table(settings, "hillstrom", "profile"),
    )
    return profile, FeatureService(name="hillstrom", features=[profile])


hillstrom_profile, hillstrom = definitions(load_settings(os.environ, directory=Path(__file__).resolve().parents[1]))
