"""A shop small enough to know what a model must learn: umbrellas sell in the rain, sunglasses in the sun.

Age helps, a recent contact with the same action hurts, colour means nothing.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.catalog import Catalog
from decisioning.content import Action
from decisioning.content_types import NO_ACTION
from decisioning.profile import Contact
from tests.builders import action, catalog, placement
from training.examples import combined, log_examples

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=400)
ACTIONS = ("umbrella", "sunglasses", NO_ACTION)
VALUE = 10.0


def tiny_catalog(*more: Action, **changes: Any) -> Catalog:
    actions = (
        action("umbrella", group="cards", value=VALUE, attributes={"fits": "wet", "price": 20.0}),
        action("sunglasses", group="loans", value=VALUE, attributes={"fits": "dry", "price": 60.0}),
        action(NO_ACTION, group="other", value=1.0),
        *more,
    )
    hero = placement(slots=1, shown_by="decision", reward={"purchase": "value"}, attribution_window=timedelta(days=2))
    return catalog(*actions, **{"domain": "tiny", "placements": (hero,), **changes})


def chance(weather: NDArray[Any], age: NDArray[Any], worn: NDArray[Any], shown: str) -> NDArray[np.float64]:
    """How likely a success truly is, `(n,)`."""
    if shown == NO_ACTION:
        return np.full(len(age), 0.02)
    fits = weather == ("rain" if shown == "umbrella" else "sun")
    return np.where(fits, 0.45, 0.05) * (0.4 + age / 100.0) * np.where(worn, 0.3, 1.0)


def tiny_log(n: int = 3000, *, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A uniform log of `n` decisions, five minutes apart, and its features; customers come back."""
    rng = np.random.default_rng(seed)
    customer = rng.integers(0, n // 3, n)
    age = (20.0 + 50.0 * np.random.default_rng(1).random(n // 3))[customer]
    colour = np.random.default_rng(2).choice(["red", "blue", "green", None], n // 3)[customer]
    weather = rng.choice(["rain", "sun"], n)
    worn = rng.random(n) < 0.3
    shown = rng.integers(0, 3, n)
    true = np.stack([chance(weather, age, worn & (shown == place), name) for place, name in enumerate(ACTIONS)], axis=1)
    success = (rng.random(n) < true[np.arange(n), shown]).astype(int)
    at = [START + timedelta(minutes=5 * place) for place in range(n)]
    group = {"umbrella": "cards", "sunglasses": "loans", NO_ACTION: "other"}
    log = pd.DataFrame(
        {
            "row_id": [f"r-{place:06d}" for place in range(n)],
            "customer_id": [f"c-{code}" for code in customer],
            "decided_at": pd.Series(pd.to_datetime(at, utc=True)).astype("datetime64[us, UTC]"),
            "placement": "home_hero",
            "action_id": [ACTIONS[code] for code in shown],
            "probability": 1.0 / 3.0,
            "candidates": [list(ACTIONS)] * n,
            "context": [{"weather": value} for value in weather],
            "contacts": [
                [Contact(ACTIONS[code], group[ACTIONS[code]], "web", when - timedelta(days=1))] if tired else []
                for code, tired, when in zip(shown, worn, at, strict=True)
            ],
            "reward": success * np.where(shown == 2, 1.0, VALUE),
            "success": success,
        }
    )
    features = pd.DataFrame({"row_id": log["row_id"], "age": age, "colour": colour})
    return log, features


def tiny_examples(n: int = 3000, *, seed: int = 0, **changes: Any) -> pd.DataFrame:
    """Examples of the tiny shop; `changes` replace columns."""
    log, features = tiny_log(n, seed=seed)
    return combined(log_examples(log, features, tiny_catalog())).assign(**changes)


def misled(examples: pd.DataFrame, *, until: float = 0.75) -> pd.DataFrame:
    """The same rows, but the first part of them says that the wrong action sells."""
    wrong = examples.copy()
    first = np.arange(len(wrong)) < until * len(wrong)
    swap = {"umbrella": "sunglasses", "sunglasses": "umbrella", NO_ACTION: NO_ACTION}
    wrong.loc[first, "action_id"] = wrong.loc[first, "action_id"].map(swap)
    wrong["contacts"] = [()] * len(wrong)
    return wrong
