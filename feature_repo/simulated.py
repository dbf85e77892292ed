"""Features of the simulated retail world: a nightly profile, and recent behaviour that is pushed."""

import os
from pathlib import Path

from entity import NEVER, customer, table
from feast import FeatureService, FeatureView, Field, PushSource
from feast.types import Float64, String

from storage.settings import Settings, load_settings

PROFILE_NUMBERS = (
    "age", "household_size", "tenure_days", "orders_365d", "spend_365d", "avg_order_value", "basket_size",
    "reorder_interval_days", "return_rate", "discount_share", "gift_orders_365d", "fashion_share", "home_share",
    "electronics_share", "services_share", "loyalty_points", "wishlist_items", "reviews_written",
    "support_tickets_365d", "nps_score", "email_open_rate", "email_click_rate", "app_sessions_30d", "mobile_share",
    "evening_share", "store_distance_km",
)  # fmt: skip
PROFILE_CATEGORIES = (
    "country", "city_type", "housing", "style", "loyalty_tier", "payment_method", "acquisition_channel",
    "favourite_brand",
)  # fmt: skip
RECENT_NUMBERS = ("visits_7d", "searches_7d", "opens_30d", "days_since_purchase", "cart_value")
RECENT_CATEGORIES = ("last_category",)


def definitions(settings: Settings) -> tuple[FeatureView, FeatureView, FeatureService]:
    """Views and service over the state directory of these settings."""
    profile = FeatureView(
        name="simulated_profile",
        entities=[customer],
        ttl=NEVER,
        schema=[Field(name="customer_id", dtype=String)]
        + [Field(name=name, dtype=Float64) for name in PROFILE_NUMBERS]
        + [Field(name=name, dtype=String) for name in PROFILE_CATEGORIES],
        source=table(settings, "simulated", "profile"),
    )
    recent = FeatureView(
        name="simulated_recent",
        entities=[customer],
        ttl=NEVER,
        schema=[Field(name="customer_id", dtype=String)]
        + [Field(name=name, dtype=Float64) for name in RECENT_NUMBERS]
        + [Field(name=name, dtype=String) for name in RECENT_CATEGORIES],
        source=PushSource(name="simulated_recent_push", batch_source=table(settings, "simulated", "recent")),
    )
    return profile, recent, FeatureService(name="simulated", features=[profile, recent])


simulated_profile, simulated_recent, simulated = definitions(
    load_settings(os.environ, directory=Path(__file__).resolve().parents[1])
)
