"""A shop whose customers change their minds: the simulated world, with drift added of which all is known.

Two months of visits, however many rounds they are. To the world's own seasons is added, of every
action, an appeal that rises and falls, and of a third of them a taste that turns into its
opposite: whoever liked it for what they are now dislikes it for that. Nobody tires or owns
anything, so that visits and candidates are the same whatever is shown.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from decisioning.catalog import Catalog
from decisioning.content_types import NO_ACTION
from nextmove.bandit_protocol import Floats, Problem
from storage.catalog_files import read_release
from training.examples import CUSTOMER
from training.model_input import encode_pairs, learn_features
from training.world import Visit, World
from training.world_customers import START, WEEK, WEEKS
from training.world_truth import CEILING

DAYS = 60
TICK = 50
# Of the visits, some may see nothing at all; so many more are drawn.
_SPARE = 1.3
SWING, WAVES = (0.3, 1.0), (0.5, 1.5)  # of an action's appeal (logit), and how often it comes and goes
TURNING, TASTE, SUDDENNESS = 1 / 3, 0.8, 0.03  # share of actions, logit per unit of a trait, share of the run


class Shop(NamedTuple):
    """The problem, and what our own learning needs beside its numbers.

    Attributes:
        visits: The rounds as examples without an action, see `training.examples`.
        worth: What a success is worth, `(n_rounds, n_actions)`.
        action_ids: The columns.
    """

    problem: Problem
    visits: pd.DataFrame
    worth: Floats
    action_ids: tuple[str, ...]
    catalog: Catalog


def drifting_shop(catalog_folder: Path, *, rounds: int, seed: int) -> Shop:
    """So many visits."""
    world = World(seed)
    rng = np.random.default_rng([seed, 11])
    wanted = int(_SPARE * rounds)
    drawn = list(world.visits(rng, wanted, start=world.log_start, per_day=wanted / DAYS))
    available = np.array([world.available(visit) for visit in drawn])
    chosen = np.flatnonzero(available.sum(axis=1) > 1)[:rounds]
    visits, candidates = [drawn[place] for place in chosen], available[chosen]
    chances = drifted(world, visits, np.random.default_rng([seed, 12]))
    worth = world.worth(visits)
    succeeds = rng.random(len(visits))[:, None] < chances
    amounts = worth * rng.gamma(16.0, 1.0 / 16.0, len(visits))[:, None]
    catalog = read_release(catalog_folder)[1].everywhere
    frame = _frame(world, visits)
    problem = Problem(
        features=_numbers(frame, catalog),
        candidates=candidates,
        expected=chances * worth,
        rewards=np.where(succeeds, amounts, 0.0),
        tick=TICK,
    )
    return Shop(problem, frame, worth, world.action_ids, catalog)


def drifted(world: World, visits: list[Visit], rng: np.random.Generator) -> Floats:
    """Chance of a success by visit and action, `(n_visits, n_actions)`, the drift included."""
    chances = world.response_probability(visits, [()] * len(visits))
    n_actions = chances.shape[1] - 1  # showing nothing does not drift
    run = np.linspace(0.0, 1.0, len(visits))[:, None]
    swing, waves, phase = rng.uniform(*SWING, n_actions), rng.uniform(*WAVES, n_actions), rng.random(n_actions)
    shift = swing * np.sin(2.0 * np.pi * (waves * run + phase))
    traits = world.customers.traits[[visit.customer for visit in visits]]
    likes = np.clip(traits[:, rng.integers(0, traits.shape[1], n_actions)], -2.0, 2.0)
    turns = np.tanh((rng.uniform(0.3, 0.8, n_actions) - run) / SUDDENNESS)
    shift += np.where(rng.random(n_actions) < TURNING, TASTE * turns * likes, 0.0)
    shown = chances[:, :-1] / CEILING
    odds = shown / (1.0 - shown) * np.exp(shift)
    chances[:, :-1] = CEILING * odds / (1.0 + odds)
    return chances


def _frame(world: World, visits: list[Visit]) -> pd.DataFrame:
    """What is known of each visit, in the columns of examples."""
    customers, accounts = world.customers, world.accounts
    recent = customers.recent.frame(customers.ids)
    at = pd.to_datetime([visit.now for visit in visits], utc=True).as_unit("us")
    week = np.clip([(visit.now - START) // WEEK for visit in visits], 0, WEEKS - 1)
    place = np.array([visit.customer for visit in visits])
    person = pd.DataFrame({"customer_id": customers.ids}).merge(accounts.contacts, "left", on="customer_id")
    business = person.merge(accounts.accounts, "left", on="account_id", suffixes=("", "_account"))
    columns = (
        customers.profile.iloc[place].reset_index(drop=True),
        recent.iloc[week * len(customers.ids) + place].reset_index(drop=True),
        business.iloc[place].reset_index(drop=True),
    )
    features = pd.concat(columns, axis=1).drop(columns=["customer_id", *_TIMES]).add_prefix(CUSTOMER)
    facts = pd.DataFrame(
        {
            "row_id": [f"round-{number:06d}" for number in range(len(visits))],
            "customer_id": [visit.customer_id for visit in visits],
            "decided_at": at,
            "placement": [visit.placement for visit in visits],
            "channel": [world.placements[visit.placement].channel for visit in visits],
            "slot": 1,
            "context": [dict(visit.context) for visit in visits],
            "contacts": [()] * len(visits),
        }
    )
    return pd.concat([facts, features], axis=1)


_TIMES = ("event_timestamp", "event_timestamp_account")


def _numbers(frame: pd.DataFrame, catalog: Catalog) -> Floats:
    """The same for learners that know numbers alone: categories one-hot, numbers standardised, what is missing marked.

    Numbers are squashed to within 3 standard deviations; the last column is 1.
    """
    shown = frame.assign(action_id=NO_ACTION)
    features = [each for each in learn_features(shown, catalog) if each.source in ("customer", "context")]
    nobody = np.zeros(len(frame), dtype=np.int64)
    rows = encode_pairs(features, shown, catalog, np.arange(len(frame)), [NO_ACTION], nobody).astype(np.float64)
    columns = []
    for feature, values in zip(features, rows.T, strict=True):
        if feature.kind == "category":
            columns += [(values == code).astype(np.float64) for code in np.unique(values[~np.isnan(values)])]
            continue
        is_missing = np.isnan(values)
        spread = max(float(np.nanstd(values)), 1e-9)
        columns.append(np.where(is_missing, 0.0, np.clip((values - np.nanmean(values)) / spread, -3.0, 3.0)))
        if is_missing.any():
            columns.append(is_missing.astype(np.float64))
    return np.column_stack([*columns, np.ones(len(frame))])
