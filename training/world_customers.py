"""The simulated shop's customers: their features, as the feature store will know them, and their traits.

Traits are the complete truth that the response depends on; features are what a company measures of
it, so a feature can be missing where the trait is not.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.world_actions import CATEGORIES, GROUPS

START = datetime(2025, 9, 1, tzinfo=UTC)  # a Monday
WEEK = timedelta(days=7)
WEEKS = 9  # snapshots of recent behaviour: at START and every week after, the last one stays
PROFILE_AT = START - timedelta(days=1)

TRAITS = (
    "family", "owner", "thrifty", "loyal", "frequent", "digital", "has_app", "gifts", "evening", "refill",
    "urban", "sporty", "trendy", "classic", "minimal",
)  # fmt: skip
STYLES = ("sporty", "trendy", "classic", "minimal")
ALL_CATEGORIES = tuple(category for group in GROUPS for category in CATEGORIES[group])

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recent:
    """Recent behaviour by weekly snapshot; arrays are `(WEEKS, n_customers)`, NaN or -1 missing.

    `last_category` is a place in `ALL_CATEGORIES`.
    """

    visits_7d: Floats
    searches_7d: Floats
    opens_30d: Floats
    days_since_purchase: Floats
    cart_value: Floats
    last_category: NDArray[np.int64]

    def frame(self, customer_ids: list[str]) -> pd.DataFrame:
        """All snapshots as one table, oldest first, `(WEEKS * n_customers, 8)`."""
        names = np.array([*ALL_CATEGORIES, None], dtype=object)
        at = [pd.Timestamp(START + week * WEEK) for week in range(WEEKS)]
        return pd.DataFrame(
            {
                "customer_id": customer_ids * WEEKS,
                "event_timestamp": pd.DatetimeIndex(at).as_unit("us").repeat(len(customer_ids)),
                "visits_7d": self.visits_7d.ravel(),
                "searches_7d": self.searches_7d.ravel(),
                "opens_30d": self.opens_30d.ravel(),
                "days_since_purchase": self.days_since_purchase.ravel(),
                "cart_value": self.cart_value.ravel(),
                "last_category": names[self.last_category.ravel()],
            }
        )


@dataclass(frozen=True, slots=True)
class Customers:
    """Everyone in the world.

    Attributes:
        ids: `c-00001` and so on.
        profile: One row a customer: `customer_id`, `event_timestamp` and 34 features.
        recent: Six features of recent behaviour, week by week.
        traits: `(n_customers, n_traits)`, columns as `TRAITS`, about 0 on average where signed.
        affinity: `(n_customers, n_groups)`, standardised, hidden; shares of orders follow it.
        age: Years, complete.
        budget: What an order usually costs, in euros, complete.
        email_consent: Marketing by e-mail was agreed to. Likewise `app_consent`.
        activity: How often someone visits, relative to others; sums to 1.
    """

    ids: list[str]
    profile: pd.DataFrame
    recent: Recent
    traits: Floats
    affinity: Floats
    age: Floats
    budget: Floats
    email_consent: NDArray[np.bool_]
    app_consent: NDArray[np.bool_]
    has_app: NDArray[np.bool_]
    activity: Floats


def draw_customers(rng: np.random.Generator, n: int) -> Customers:
    """`n` customers."""
    age = np.clip(rng.normal(43.0, 14.0, n), 18.0, 88.0).round()
    wealth = rng.normal(0.0, 1.0, n) + 0.6 * np.exp(-(((age - 52.0) / 15.0) ** 2)) - 0.3
    household = 1.0 + rng.poisson(0.5 + 1.4 * np.exp(-(((age - 39.0) / 10.0) ** 2)), n)
    owner = rng.random(n) < _sigmoid(0.06 * (age - 42.0) + 0.8 * wealth + 0.4 * (household > 2.0))
    urban = rng.choice(3, n, p=(0.4, 0.35, 0.25))  # urban, suburban, rural
    style = rng.integers(0, len(STYLES), n)
    style = np.where((age > 52.0) & (rng.random(n) < 0.4), STYLES.index("classic"), style)
    style = np.where((age < 30.0) & (rng.random(n) < 0.3), STYLES.index("trendy"), style)

    affinity = rng.normal(0.0, 1.0, (n, len(GROUPS)))
    affinity[:, 0] += np.where(style == STYLES.index("trendy"), 0.5, 0.0)
    affinity[:, 1] += np.where(owner, 0.4, -0.2)
    affinity[:, 2] += np.clip((38.0 - age) / 25.0, -0.8, 0.6)
    affinity = (affinity - affinity.mean(axis=0)) / affinity.std(axis=0)

    frequency = np.exp(rng.normal(0.0, 0.9, n))
    orders = rng.poisson(3.2 * frequency).astype(np.float64)
    bought = orders > 0
    tenure = np.minimum(rng.exponential(900.0, n), 4000.0).round()
    budget = np.exp(4.6 + 0.55 * wealth + rng.normal(0.0, 0.25, n))
    thrift = np.clip(rng.beta(2.0, 3.0, n) - 0.06 * wealth, 0.0, 1.0)
    digital = _sigmoid((40.0 - age) / 14.0 + rng.normal(0.0, 0.9, n))
    has_app = rng.random(n) < 0.35 + 0.5 * digital
    gifts = rng.poisson(0.5 + 0.08 * orders).astype(np.float64)
    evening = rng.beta(2.5, 3.0, n)
    points = (orders * budget * 0.2 * rng.uniform(0.5, 1.5, n)).round()
    tier = np.digitize(points, (1.0, 60.0, 160.0, 400.0))
    refill = np.clip(frequency * rng.uniform(0.3, 1.3, n), 0.0, 3.0) / 3.0
    email_consent = rng.random(n) < _sigmoid(0.2 + 0.25 * np.log(frequency) + 0.2 * (tier - 1.5))
    app_consent = has_app & (rng.random(n) < 0.66)

    def unknown(values: NDArray[np.floating], where: NDArray[np.bool_] | float) -> Floats:
        hidden = rng.random(n) < where if isinstance(where, float) else where
        return np.where(hidden, np.nan, values)

    def label(levels: tuple[str | None, ...], codes: NDArray[np.int64], missing: float = 0.0) -> NDArray[np.object_]:
        return np.array([*levels, None], dtype=object)[np.where(rng.random(n) < missing, len(levels), codes)]

    shares = np.exp(1.1 * affinity + rng.normal(0.0, 0.25, affinity.shape))
    shares /= shares.sum(axis=1, keepdims=True)
    ids = [f"c-{number:05d}" for number in range(1, n + 1)]
    open_rate = np.clip(rng.beta(2.0, 5.0, n) + 0.03 * tier, 0.0, 1.0)
    profile = pd.DataFrame(
        {
            "customer_id": ids,
            "event_timestamp": pd.DatetimeIndex([pd.Timestamp(PROFILE_AT)]).as_unit("us").repeat(n),
            "age": unknown(age, 0.12),
            "household_size": unknown(household, 0.25),
            "tenure_days": tenure,
            "orders_365d": orders,
            "spend_365d": (orders * budget * rng.uniform(0.85, 1.15, n)).round(2),
            "avg_order_value": unknown((budget * rng.uniform(0.9, 1.1, n)).round(2), ~bought),
            "basket_size": unknown((1.0 + rng.gamma(2.0, 0.7, n)).round(2), ~bought),
            "reorder_interval_days": unknown((365.0 / np.maximum(orders, 1.0)).round(1), orders < 2),
            "return_rate": unknown(rng.beta(1.2, 6.0, n).round(3), ~bought),
            "discount_share": unknown(np.clip(thrift + rng.normal(0.0, 0.06, n), 0.0, 1.0).round(3), ~bought),
            "gift_orders_365d": gifts,
            **{f"{group}_share": unknown(shares[:, i].round(3), ~bought) for i, group in enumerate(GROUPS)},
            "loyalty_points": points,
            "wishlist_items": rng.poisson(1.5 * frequency**0.5).astype(np.float64),
            "reviews_written": rng.poisson(0.15 * orders).astype(np.float64),
            "support_tickets_365d": rng.poisson(0.1 + 0.05 * orders).astype(np.float64),
            "nps_score": unknown(np.clip(rng.normal(7.4, 2.1, n), 0.0, 10.0).round(), 0.8),
            "email_open_rate": unknown(open_rate.round(3), ~email_consent),
            "email_click_rate": unknown((open_rate * rng.beta(2.0, 9.0, n)).round(4), ~email_consent),
            "app_sessions_30d": unknown(rng.poisson(1.0 + 9.0 * digital).astype(np.float64), ~has_app),
            "mobile_share": np.clip(digital * 0.8 + rng.normal(0.1, 0.08, n), 0.0, 1.0).round(3),
            "evening_share": evening.round(3),
            "store_distance_km": unknown(rng.gamma(1.5, 5.0 + 12.0 * (urban == 2)).round(1), 0.08),
            "country": label(("de", "at", "ch", "nl"), rng.choice(4, n, p=(0.62, 0.15, 0.13, 0.1))),
            "city_type": label(("urban", "suburban", "rural"), urban, 0.05),
            "housing": label(("rent", "own"), owner.astype(np.int64), 0.2),
            "style": label(STYLES, style, 0.25),
            "loyalty_tier": label(("none", "bronze", "silver", "gold", "platinum"), tier),
            "payment_method": label(
                ("card", "paypal", "invoice", "transfer"), rng.choice(4, n, p=(0.4, 0.3, 0.2, 0.1))
            ),
            "acquisition_channel": label(("search", "social", "referral", "store"), rng.integers(0, 4, n), 0.1),
            "favourite_brand": label(
                tuple(f"brand_{number:02d}" for number in range(1, 25)), np.minimum(rng.geometric(0.12, n) - 1, 23), 0.3
            ),
        }
    )
    visiting = np.minimum(frequency**1.6, 20.0)
    traits = {
        "family": np.minimum(household - 1.0, 3.0) / 3.0 - 0.35,
        "owner": owner - 0.5,
        "thrifty": (thrift - 0.4) / 0.2,
        "loyal": (tier - 2.0) / 1.4,
        "frequent": np.tanh(np.log(frequency)),
        "digital": (digital - 0.45) / 0.25,
        "has_app": has_app - 0.5,
        "gifts": np.minimum(gifts, 3.0) / 3.0 - 0.25,
        "evening": (evening - 0.45) / 0.2,
        "refill": refill * 2.0 - 0.6,
        "urban": (urban == 0) - 0.4,
        **{name: (style == code) - 0.25 for code, name in enumerate(STYLES)},
    }
    return Customers(
        ids=ids,
        profile=profile,
        recent=_draw_recent(rng, frequency, affinity, budget, email_consent, bought),
        traits=np.column_stack([traits[name] for name in TRAITS]),
        affinity=affinity,
        age=age,
        budget=budget,
        email_consent=email_consent,
        app_consent=app_consent,
        has_app=has_app,
        activity=visiting / visiting.sum(),
    )


def _draw_recent(
    rng: np.random.Generator,
    frequency: Floats,
    affinity: Floats,
    budget: Floats,
    email_consent: NDArray[np.bool_],
    bought: NDArray[np.bool_],
) -> Recent:
    shape = (WEEKS, len(frequency))
    visits = rng.poisson(np.broadcast_to(0.9 * frequency, shape)).astype(np.float64)
    since = np.empty(shape)
    since[0] = np.minimum(rng.exponential(110.0 / frequency), 600.0).round()
    for week in range(1, WEEKS):
        purchase = rng.random(shape[1]) < 1.0 - np.exp(-0.07 * frequency)
        since[week] = np.where(purchase, rng.integers(0, 7, shape[1]), since[week - 1] + 7.0)
    interest = affinity[None] + rng.gumbel(0.0, 0.8, (*shape, len(GROUPS)))
    group = interest.argmax(axis=2)
    category = group * len(CATEGORIES[GROUPS[0]]) + rng.integers(0, len(CATEGORIES[GROUPS[0]]), shape)
    has_cart = rng.random(shape) < 1.0 - np.exp(-0.35 * visits)
    return Recent(
        visits_7d=visits,
        searches_7d=rng.poisson(0.7 * visits).astype(np.float64),
        opens_30d=np.where(email_consent, rng.poisson(1.2 + 0.8 * np.minimum(frequency, 3.0), shape), np.nan),
        days_since_purchase=np.where(bought, since, np.nan),
        cart_value=np.where(has_cart, (budget * rng.gamma(2.0, 0.5, shape)).round(2), 0.0),
        last_category=np.where(visits > 0, category, -1),
    )


def _sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-x))
