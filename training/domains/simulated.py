"""The simulated shop as a data set: four feature tables, consents, and 60 days of random decisions."""

import hashlib
from datetime import timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from decisioning.profile import ConsentChange, Contact
from training.domains import LOG_COLUMNS
from training.world import LOG_DAYS, World, owned
from training.world_actions import ALL_ACTIONS

DECISIONS = 60_000
CONSENTED_BEFORE = timedelta(days=30)  # before the log begins


class Simulated:
    """`training.world` seen from the data side.

    The log's policy is uniform over what placement, consent and the role in an account allow; it
    fills one slot, and knows neither caps nor what was bought, so that fatigue shows, and that
    nobody buys what they have. Its outcomes are complete.
    """

    name = "simulated"

    def __init__(self, *, seed: int = 1, customers: int = 20_000, decisions: int = DECISIONS) -> None:
        self.seed = seed
        self._customers = customers
        self._decisions = decisions

    @cached_property
    def world(self) -> World:
        """The world that the data come from, with its truth."""
        return World(self.seed, self._customers)

    @cached_property
    def data_sha256(self) -> str:
        """Hash of what determines the data: sizes, seed, and the world's own code."""
        digest = hashlib.sha256(f"{self.seed}/{self._customers}/{self._decisions}/{np.__version__}".encode())
        for source in sorted([Path(__file__), *Path(__file__).parents[1].glob("world*.py")]):
            digest.update(source.read_bytes())
        return digest.hexdigest()

    def tables(self) -> dict[str, pd.DataFrame]:
        """A nightly profile (one version), recent behaviour (one a week), business contacts, and their accounts."""
        customers, accounts = self.world.customers, self.world.accounts
        return {
            "profile": customers.profile.copy(),
            "recent": customers.recent.frame(customers.ids),
            "contacts": accounts.contacts.copy(),
            "accounts": accounts.accounts.copy(),
        }

    def consents(self) -> list[ConsentChange]:
        """Marketing by e-mail was asked of everyone, in the app of those who have it."""
        customers, at = self.world.customers, self.world.log_start - CONSENTED_BEFORE
        asked = (
            ("email", np.ones(len(customers.ids), dtype=bool), customers.email_consent),
            ("app", customers.has_app, customers.app_consent),
        )
        return [
            ConsentChange(
                customer_id=customers.ids[index],
                purpose="marketing",
                channel=channel,
                granted=bool(granted[index]),
                at=at,
                source="sign_up",
            )
            for channel, were_asked, granted in asked
            for index in np.flatnonzero(were_asked)
        ]

    def log(self) -> pd.DataFrame:
        """See `Domain.log`."""
        return self._log.copy()

    @cached_property
    def _log(self) -> pd.DataFrame:
        world = self.world
        rng = np.random.default_rng([self.seed, 3])
        visits = list(
            world.visits(rng, self._decisions, start=world.log_start, per_day=1.02 * self._decisions / LOG_DAYS)
        )
        memory = world.memory()
        ids = np.array(world.action_ids, dtype=object)
        candidates: dict[tuple[bool, ...], list[str]] = {}
        rows = []
        for visit, lot in zip(visits, rng.random(len(visits)).tolist(), strict=True):
            allowed = world.available(visit)
            names = candidates.setdefault(tuple(allowed.tolist()), ids[allowed].tolist())
            chosen = names[int(lot * len(names))]
            contacts = memory.contacts(visit.customer_id, now=visit.now)
            column = int(world.columns([chosen])[0])
            memory.show(
                visit.customer_id,
                Contact(chosen, ALL_ACTIONS[column].group, world.placements[visit.placement].channel, visit.now),
            )
            rows.append((chosen, column, names, contacts))
        chosen_column = np.array([column for _, column, _, _ in rows])
        chances = world.response_probability(visits, [contacts for _, _, _, contacts in rows])
        success = rng.random(len(visits)) < chances[np.arange(len(visits)), chosen_column]
        for row in np.flatnonzero(success):  # the few who would buy may have it already
            visit, column = visits[row], chosen_column[row]
            product = ALL_ACTIONS[column].product
            if owned(memory.purchases(visit.customer_id, now=visit.now), now=visit.now)[column]:
                success[row] = False
            elif product is not None:
                memory.buy(visit.customer_id, product, visit.now)
        worth = world.worth(visits)[np.arange(len(visits)), chosen_column]
        worth = (worth * rng.gamma(16.0, 1.0 / 16.0, len(visits))).round(2)
        decided_at = pd.to_datetime([visit.now for visit in visits], utc=True).as_unit("us")
        return pd.DataFrame(
            {
                "row_id": [f"simulated-{number:06d}" for number in range(len(visits))],
                "customer_id": [visit.customer_id for visit in visits],
                "decided_at": decided_at,
                "placement": [visit.placement for visit in visits],
                "action_id": [chosen for chosen, _, _, _ in rows],
                "probability": [1.0 / len(names) for _, _, names, _ in rows],
                "candidates": [names for _, _, names, _ in rows],
                "context": [dict(visit.context) for visit in visits],
                "contacts": [contacts for _, _, _, contacts in rows],
                "reward": np.where(success, worth, 0.0),
                "success": success.astype(np.int64),
            }
        )[list(LOG_COLUMNS)]
