"""Features of the simulated retail world.

Of customers: a nightly profile, recent behaviour that is pushed, and, of those who buy for a company,
what they do there. Of accounts, the companies: what is known of them as a whole.
"""

import os
from pathlib import Path

from entity import NEVER, account, customer, table
from feast import FeatureService, FeatureView, Field, PushSource
from feast.types import Array, Bool, Float64, String

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
# `reports_to` and `referred_by` name other customers. `buying_role` is the role in the account's buying
# group: decision_maker, champion, user, finance or none.
CONTACT_TEXTS = ("account_id", "job_title", "buying_role", "reports_to", "referred_by")
# What names a customer is cleared when that customer is erased.
NAMES = {name: {"names": "customer"} for name in ("reports_to", "referred_by")}
CONTACT_LISTS = ("responsibilities",)
CONTACT_NUMBERS = ("referrals",)
# `penetration_...` is the share of the account's contacts who have the product.
ACCOUNT_NUMBERS = (
    "employees", "open_opportunities", "annual_spend", "penetration_laptop", "penetration_smartphone",
    "penetration_coffee_machine",
)  # fmt: skip


def definitions(settings: Settings) -> tuple[FeatureView | FeatureService, ...]:
    """Views and services over the state directory of these settings."""
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
    contact = FeatureView(
        name="simulated_contact",
        entities=[customer],
        ttl=NEVER,
        schema=[Field(name="customer_id", dtype=String)]
        + [Field(name=name, dtype=String, tags=NAMES.get(name, {})) for name in CONTACT_TEXTS]
        + [Field(name=name, dtype=Array(String)) for name in CONTACT_LISTS]
        + [Field(name=name, dtype=Float64) for name in CONTACT_NUMBERS],
        source=table(settings, "simulated", "contacts"),
    )
    company = FeatureView(
        name="simulated_account",
        entities=[account],
        ttl=NEVER,
        schema=[Field(name="account_id", dtype=String), Field(name="industry", dtype=String)]
        + [Field(name=name, dtype=Float64) for name in ACCOUNT_NUMBERS]
        + [Field(name="sites", dtype=Array(String)), Field(name="buying_group_complete", dtype=Bool)],
        source=table(settings, "simulated", "accounts"),
    )
    return (
        profile,
        recent,
        contact,
        company,
        FeatureService(name="simulated", features=[profile, recent, contact]),
        FeatureService(name="simulated_accounts", features=[company]),
    )


(simulated_profile, simulated_recent, simulated_contact, simulated_account, simulated, simulated_accounts) = (
    definitions(load_settings(os.environ, directory=Path(__file__).resolve().parents[1]))
)
