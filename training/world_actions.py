"""What the simulated shop can propose, and what moves its customers: the world's fixed tables.

Ids, groups, channels, values and attributes are also in `catalog/simulated`, as they are in a real
company, where the catalogue says what an action is worth and only the customers know what it does.
The rest (appeal, age, traits, drift) is the hidden truth.
"""

from datetime import timedelta
from typing import NamedTuple

from decisioning.content_types import NO_ACTION

GROUPS = ("fashion", "home", "electronics", "services")
BUSINESS = "business"  # offers to those who buy for a company
NO_GROUP = "none"
CATEGORIES = {
    "fashion": ("shoes", "clothing", "accessories", "kids"),
    "home": ("living", "kitchen", "textiles", "garden"),
    "electronics": ("phones", "computers", "entertainment", "smart_home"),
    "services": ("payment", "protection", "delivery", "advice"),
}


class WorldPlacement(NamedTuple):
    """A placement, how often it is visited, and how much readier to respond people are there (logit)."""

    id: str
    channel: str
    slots: int
    traffic: float
    readiness: float


PLACEMENTS = (
    WorldPlacement("home_hero", "web", 3, traffic=0.42, readiness=0.0),
    WorldPlacement("product_page", "web", 1, traffic=0.23, readiness=0.25),
    WorldPlacement("newsletter", "email", 1, traffic=0.20, readiness=-0.25),
    WorldPlacement("app_inbox", "app", 2, traffic=0.15, readiness=0.1),
)
# The share of customers who look as far down as slot 1, 2, 3.
EXAMINATION = (1.0, 0.65, 0.45)
# No outcome of the world is later than this after its decision.
LATEST = timedelta(hours=44)

DEVICES = ("mobile", "desktop", "tablet")
DAYPARTS = ("night", "morning", "afternoon", "evening")  # six hours each, from midnight UTC
PAGES = ("home", "category", "product", "cart")
REFERRERS = ("direct", "search", "social", "newsletter")

# Logit by context (rows) and group (columns, as GROUPS).
DEVICE_EFFECT = ((0.20, -0.20, -0.10, 0.0), (-0.15, 0.15, 0.25, 0.10), (0.0, 0.20, -0.15, 0.0))
DAYPART_EFFECT = ((0.10, -0.30, 0.30, -0.20), (-0.15, 0.0, -0.10, 0.20), (0.0, 0.10, 0.0, 0.10), (0.20, 0.15, 0.0, 0.0))
PAGE_EFFECT = ((0.0, 0.0, 0.0, -0.1), (0.15, 0.15, 0.15, -0.1), (0.1, 0.1, 0.1, 0.15), (-0.25, -0.25, -0.25, 0.35))


class Drift(NamedTuple):
    """Slow change of an action's appeal (logit): `rise * tanh((day - middle) / 14) + swing * sin(...)`.

    The rise goes from `-rise` to `+rise`, so its sign changes on day `middle`.
    """

    rise: float = 0.0
    middle: float = 0.0
    swing: float = 0.0
    period: float = 42.0


class WorldAction(NamedTuple):
    """An action as the shop knows it, up to `discount_rate`; then what customers make of it.

    `value` is the margin of a success in euros, `age` the age at which it appeals most, `traits`
    the logit per unit of a customer's trait (`world_customers.TRAITS`).

    A success is a purchase of `product` where it has one, and an acceptance otherwise. Who has the
    product wants it no more: never again, or not before `again_after`. With `roles` it is for business
    customers alone, and only for those with one of these roles in their account's buying group.
    """

    id: str
    group: str
    category: str
    channels: tuple[str, ...]
    value: float
    price: float
    discount_rate: float = 0.0
    appeal: float = 0.0
    age: float | None = None
    traits: tuple[tuple[str, float], ...] = ()
    drift: Drift = Drift()
    product: str | None = None
    again_after: timedelta | None = None
    roles: tuple[str, ...] = ()


# The same thing under two names, and what people buy again: after a season, or when it is used up.
_PRODUCTS = {
    "smartphone_upgrade": "smartphone", "refurbished_phones": "smartphone", "laptop_student": "laptop",
    "sneaker_drop": "sneakers",
}  # fmt: skip
_SEASON, _MONTH, _USED_UP = timedelta(days=90), timedelta(days=30), timedelta(days=14)
_AGAIN_AFTER = {
    "running_shoes": _SEASON, "sneaker_drop": _SEASON, "summer_dresses": _SEASON, "denim_days": _MONTH,
    "kids_bundle": _SEASON, "outlet_fashion": _MONTH, "silk_scarves": _SEASON, "swimwear_preview": _SEASON,
    "jewellery_gifts": _SEASON, "bed_linen": _SEASON, "storage_boxes": _MONTH, "rug_sale": _SEASON,
    "candle_club": _USED_UP, "pet_corner": _USED_UP,
}  # fmt: skip


def _goods(action: WorldAction) -> WorldAction:
    """With the product that it sells; services are accepted, not bought."""
    if action.group == "services":
        return action
    return action._replace(product=_PRODUCTS.get(action.id, action.id), again_after=_AGAIN_AFTER.get(action.id))


_W, _E, _A = "web", "email", "app"
_WE, _WA, _EA, _ALL = (_W, _E), (_W, _A), (_E, _A), (_W, _E, _A)

_CONSUMER: tuple[WorldAction, ...] = (
    # fashion
    WorldAction("running_shoes", "fashion", "shoes", _WA, 24, 110, 0, 0.3, 33, (("sporty", 0.9),)),
    WorldAction("sneaker_drop", "fashion", "shoes", _WA, 30, 140, 0, 0.2, 23, (("trendy", 0.8), ("digital", 0.3))),
    WorldAction("winter_coats", "fashion", "clothing", _WE, 38, 180, 0, 0.0, None, (), Drift(0.9, 38)),
    WorldAction("summer_dresses", "fashion", "clothing", _WE, 19, 70, 0, 0.3, 35, (), Drift(-0.9, 32)),
    WorldAction("denim_days", "fashion", "clothing", _ALL, 16, 80, 0.2, 0.4, 30),
    WorldAction("business_suits", "fashion", "clothing", _WE, 66, 320, 0, -0.3, 45, (("classic", 0.9),)),
    WorldAction("kids_bundle", "fashion", "kids", _ALL, 15, 60, 0.1, 0.0, 38, (("family", 1.5),)),
    WorldAction("designer_bags", "fashion", "accessories", _WE, 78, 420, 0, -0.5, 40, (("loyal", 0.5),)),
    WorldAction("yoga_set", "fashion", "clothing", _WA, 18, 65, 0, 0.2, 34, (("sporty", 0.7), ("urban", 0.2))),
    WorldAction("outlet_fashion", "fashion", "clothing", _ALL, 7, 35, 0.5, 0.5, None, (("thrifty", 0.5),)),
    WorldAction("silk_scarves", "fashion", "accessories", _WE, 17, 55, 0, 0.0, 58, (("gifts", 0.5), ("classic", 0.4))),
    WorldAction("swimwear_preview", "fashion", "clothing", _WA, 15, 50, 0, 0.2, 29, (), Drift(-0.7, 45)),
    WorldAction(
        "jewellery_gifts", "fashion", "accessories", _EA, 46, 150, 0, -0.1, 44, (("gifts", 0.9),), Drift(0.5, 50)
    ),
    # home
    WorldAction("sofa_week", "home", "living", _WE, 92, 900, 0.15, -0.7, 42, (("owner", 0.7),)),
    WorldAction("garden_furniture", "home", "garden", _WE, 52, 350, 0, -0.4, 52, (("owner", 0.9),), Drift(-0.6, 36)),
    WorldAction("bed_linen", "home", "textiles", _ALL, 20, 75, 0.1, 0.2),
    WorldAction("coffee_machine", "home", "kitchen", _ALL, 42, 260, 0, 0.0, 37, (("urban", 0.4),)),
    WorldAction("cookware_set", "home", "kitchen", _WE, 28, 120, 0, 0.1, 48, (("family", 0.4),)),
    WorldAction("lamp_collection", "home", "living", _WA, 23, 90, 0, 0.1, None, (("minimal", 0.8),)),
    WorldAction("storage_boxes", "home", "living", _ALL, 8, 30, 0.2, 0.5, None, (("thrifty", 0.3), ("family", 0.4))),
    WorldAction("nursery_set", "home", "living", _WE, 56, 280, 0, -0.5, 32, (("family", 1.3),)),
    WorldAction("rug_sale", "home", "textiles", _WE, 21, 140, 0.3, 0.2, 50, (("owner", 0.3),)),
    WorldAction("candle_club", "home", "living", _EA, 10, 25, 0, 0.3, None, (("refill", 0.8),), Drift(0.5, 40)),
    WorldAction("tool_kit", "home", "garden", _WE, 25, 110, 0, 0.0, 47, (("owner", 0.9),)),
    WorldAction("pet_corner", "home", "garden", _WA, 13, 45, 0, 0.0, None, (("refill", 1.0),)),
    # electronics
    WorldAction("smartphone_upgrade", "electronics", "phones", _ALL, 62, 700, 0, -0.2, 28, (("digital", 0.5),)),
    WorldAction("wireless_earbuds", "electronics", "phones", _ALL, 25, 120, 0, 0.3, 27, (("sporty", 0.3),)),
    WorldAction(
        "gaming_console",
        "electronics",
        "entertainment",
        _WA,
        44,
        450,
        0,
        0.0,
        22,
        (("evening", 0.5),),
        Drift(swing=0.4),
    ),
    WorldAction("laptop_student", "electronics", "computers", _WE, 58, 800, 0.1, -0.1, 21),
    WorldAction("smart_tv", "electronics", "entertainment", _WE, 54, 650, 0.1, -0.1, 46, (("family", 0.3),)),
    WorldAction("fitness_watch", "electronics", "phones", _ALL, 40, 220, 0, 0.1, 36, (("sporty", 0.8),)),
    WorldAction("e_reader", "electronics", "computers", _WE, 23, 130, 0, 0.2, 58, (("evening", 0.3),)),
    WorldAction("robot_vacuum", "electronics", "smart_home", _ALL, 60, 380, 0, -0.2, 43, (("owner", 0.4),)),
    WorldAction("smart_lights", "electronics", "smart_home", _WA, 21, 90, 0, 0.2, 34, (("digital", 0.4),)),
    WorldAction("camera_kit", "electronics", "entertainment", _WE, 70, 550, 0, -0.4, 50, (("loyal", 0.3),)),
    WorldAction("refurbished_phones", "electronics", "phones", _WA, 28, 250, 0.35, 0.2, None, (("thrifty", 0.6),)),
    WorldAction("tablet_family", "electronics", "computers", _WE, 37, 330, 0, -0.1, 39, (("family", 1.0),)),
    # services
    WorldAction("delivery_pass", "services", "delivery", _ALL, 24, 40, 0, -0.5, None, (("frequent", 0.8),)),
    WorldAction("extended_warranty", "services", "protection", _WE, 31, 60, 0, -0.1, 55, (("loyal", 0.3),)),
    WorldAction("store_card", "services", "payment", _ALL, 30, 20, 0, -0.9, 40, (("loyal", 0.7), ("frequent", 0.4))),
    WorldAction("installment_plan", "services", "payment", _WA, 28, 300, 0, -0.2, 29, (("thrifty", 0.5),)),
    WorldAction(
        "gift_card", "services", "payment", _EA, 11, 50, 0, 0.3, None, (("gifts", 1.0),), Drift(swing=0.35, period=28)
    ),
    WorldAction("double_points", "services", "advice", _EA, 9, 20, 0, 0.5, None, (("loyal", 0.9),)),
    WorldAction("style_advisor", "services", "advice", _WA, 22, 30, 0, 0.0, 48, (("classic", 0.5), ("minimal", 0.3))),
    WorldAction("home_installation", "services", "delivery", _WE, 34, 90, 0, -0.2, 60, (("owner", 0.6),)),
    WorldAction("trade_in", "services", "advice", _WA, 24, 20, 0, 0.0, 31, (("digital", 0.4),)),
    WorldAction("gadget_insurance", "services", "protection", _ALL, 27, 50, 0, -0.1, 35, (("digital", 0.3),)),
    WorldAction("app_download", "services", "advice", _WE, 6, 10, 0, 0.4, None, (("has_app", -2.5),)),
    WorldAction("repair_service", "services", "protection", _WA, 17, 45, 0, 0.0, 52, (("owner", 0.3),)),
    WorldAction("free_shipping", "services", "delivery", _WA, 8, 10, 0, 0.3, None, (("thrifty", 0.5),)),
)
# Category, price and so on of these say how the shop files them; what moves their customers is the
# account and what somebody does there (`world_truth.business_logit`).
_BUSINESS: tuple[WorldAction, ...] = (
    # Its value, 60, is for an account of whose size nothing is known; see `contract_value`.
    WorldAction(
        "framework_contract", BUSINESS, "contracts", _WE, 60, 0, 0.05, -0.4,
        product="framework_contract", roles=("decision_maker",),
    ),
    WorldAction(
        "site_rollout", BUSINESS, "contracts", _WE, 75, 4000, 0.1, -0.2,
        product="site_rollout", again_after=timedelta(days=180), roles=("decision_maker", "champion"),
    ),
    WorldAction("account_review", BUSINESS, "contacts", _WE, 14, 0, 0, 0.2, roles=("decision_maker", "finance")),
    WorldAction("invoice_payment", BUSINESS, "billing", _ALL, 9, 0, 0, 0.4, roles=("finance",)),
    WorldAction("refer_a_colleague", BUSINESS, "contacts", _ALL, 12, 0, 0, 0.0, roles=("champion", "user")),
)  # fmt: skip


def contract_value(employees: float) -> float:
    """What a framework contract earns, in euros: the bigger the company, the more."""
    return 40.0 + 0.2 * employees


# Organic response: what happens when nothing is shown.
NOTHING = WorldAction(NO_ACTION, NO_GROUP, "none", ("web", "email", "app"), 4, 0)
ACTIONS: tuple[WorldAction, ...] = (*(_goods(action) for action in _CONSUMER), *_BUSINESS)
ALL_ACTIONS: tuple[WorldAction, ...] = (*ACTIONS, NOTHING)
