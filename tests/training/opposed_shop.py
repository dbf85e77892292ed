"""A shop where those who buy anyway are not those whom showing something moves, and both are known.

`keen` raises the chance of a success without anything shown and lowers what a coupon adds; a flyer adds
the same to everyone. What is shown hangs on the customer, as it does once a model decides.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.catalog import Catalog
from decisioning.content_types import NO_ACTION
from tests.builders import action, catalog, placement
from training.examples import combined, log_examples

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=400)
ACTIONS = ("coupon", "flyer", NO_ACTION)
FLYER = 0.05


class Opposed(NamedTuple):
    """Examples, and by how much deciding for a coupon truly changes the chance of a success, `(n,)`."""

    examples: pd.DataFrame
    by_coupon: NDArray[np.float64]


def opposed_catalog(*, rank_by: str = "uplift") -> Catalog:
    hero = placement(slots=1, shown_by="decision", reward={"purchase": "value"}, attribution_window=timedelta(days=2))
    return catalog(
        action("coupon", group="cards", value=10.0, rank_by=rank_by, attributes={"price": 1.0}),
        action("flyer", group="loans", value=10.0, rank_by=rank_by, attributes={"price": 0.1}),
        action(NO_ACTION, group="other", value=1.0),
        domain="opposed",
        placements=(hero,),
    )


def opposed_shop(n: int = 6000, *, seed: int = 0, met: float = 1.0) -> Opposed:
    """`n` decisions, five minutes apart, of `n / 2` customers; coupons go to the keen.

    `met` is how likely somebody who is not keen meets what is shown; the keenest always do. Who does not
    meet it buys as if nothing were shown.
    """
    rng = np.random.default_rng(seed)
    customer = rng.integers(0, n // 2, n)
    keen = rng.random(n // 2)[customer]
    noise = rng.random((n // 2, 4))[customer]
    meets = met + (1.0 - met) * keen
    by_coupon = 0.4 * (1.0 - keen) ** 2
    anyway = 0.05 + 0.5 * keen
    is_met = rng.random(n) < meets
    true = np.stack([anyway + is_met * by_coupon, anyway + is_met * FLYER, anyway], axis=1)
    chance = np.stack([0.15 + 0.5 * keen, np.full(n, 0.2), 0.65 - 0.5 * keen], axis=1)
    shown = (chance.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, 2)
    each = np.arange(n)
    success = (rng.random(n) < true[each, shown]).astype(int)
    log = pd.DataFrame(
        {
            "row_id": [f"r-{place:06d}" for place in each],
            "customer_id": [f"c-{code}" for code in customer],
            "decided_at": pd.to_datetime([START + timedelta(minutes=5 * place) for place in each.tolist()], utc=True),
            "placement": "home_hero",
            "action_id": [ACTIONS[code] for code in shown],
            "probability": chance[each, shown],
            "candidates": [list(ACTIONS)] * n,
            "context": [{}] * n,
            "contacts": [[]] * n,
            "reward": success.astype(float),
            "success": success,
        }
    ).astype({"decided_at": "datetime64[us, UTC]"})
    features = pd.DataFrame({"row_id": log["row_id"], "keen": keen, **{f"noise_{k}": noise[:, k] for k in range(4)}})
    examples = combined(log_examples(log, features, opposed_catalog()))
    examples["met"] = is_met | (shown == ACTIONS.index(NO_ACTION))
    return Opposed(examples, meets * by_coupon)
