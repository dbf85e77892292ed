"""A world in which models are exactly as good as they are made to be, to ask the promotion gate about.

Customers belong to segments. In each, half of the actions are worth 1 a decision and half 0.4; a model knows an
action by segment, and errs in so many of them: two models that err equally often are worth the same to the last
bit, and choose differently. Visits recur by customer, rewards are rare and log-normal, some customers respond
twice as often as others, and the log follows the champion half of the time.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from decisioning.evaluation import Floats, Log

Ints = NDArray[np.int64]
Kind = Literal["alike", "rare and large"]
SEGMENTS, ACTIONS, GOOD = 20, 6, 3
CHAMPION_ERRS = 5
WORTH, WORTHLESS = 1.0, 0.4
VISITS_OF_CUSTOMER = 5.0  # on average; the most active come often


class Visits(NamedTuple):
    """Logged visits in the order of time, `(n,)` each but `q_hat`, `(n, ACTIONS)`."""

    customer: Ints
    segment: Ints
    action: Ints
    probability: Floats
    reward: Floats
    q_hat: Floats

    def log(self) -> Log:
        """As off-policy evaluation wants them."""
        available = np.ones((len(self.reward), ACTIONS), dtype=bool)
        return Log(self.reward, self.action, self.probability, self.customer, available)

    def terms(self) -> Floats:
        """What each visit adds to the doubly robust estimate of always choosing an action, `(n, ACTIONS)`."""
        rows, terms = np.arange(len(self.reward)), self.q_hat.copy()
        terms[rows, self.action] += (self.reward - self.q_hat[rows, self.action]) / self.probability
        return terms


def value_of(errs: int) -> float:
    """What a model that errs in so many segments truly earns a decision."""
    return WORTH - (WORTH - WORTHLESS) * errs / SEGMENTS


def good_actions() -> NDArray[np.bool_]:
    """Which actions are worth 1, `(SEGMENTS, ACTIONS)`: others in each segment, so that no constant is as good."""
    return (np.arange(ACTIONS) - np.arange(SEGMENTS)[:, None]) % ACTIONS < GOOD


def champion(kind: Kind, rng: np.random.Generator) -> Ints:
    """Its action by segment; in the world of rare and large rewards it is drawn to those."""
    return models(kind, rng, 1, errs=CHAMPION_ERRS, loves_rare=kind == "rare and large")[0]


def models(kind: Kind, rng: np.random.Generator, count: int, *, errs: int, loves_rare: bool = False) -> Ints:
    """Models that err in so many segments, whichever those are: their actions, `(count, SEGMENTS)`."""
    first = np.arange(SEGMENTS)  # the first good action of each segment
    within = rng.integers(0, GOOD, (count, SEGMENTS))
    if kind == "rare and large":
        within = np.zeros_like(within) if loves_rare else rng.integers(1, GOOD, (count, SEGMENTS))
    wrong = rng.random((count, SEGMENTS)).argsort(axis=1) < errs
    within[wrong] = rng.integers(GOOD, ACTIONS, (count, SEGMENTS))[wrong]
    chosen: Ints = (first + within) % ACTIONS
    return chosen


def improved(served: Ints, rng: np.random.Generator, count: int, *, errs: int) -> Ints:
    """Models that do as the served one but in some segments where it errs, `(count, SEGMENTS)`; `errs` are left."""
    wrong = np.flatnonzero(~good_actions()[np.arange(SEGMENTS), served])
    better = np.repeat(served[None, :], count, axis=0)
    mended = rng.random((count, len(wrong))).argsort(axis=1) < len(wrong) - errs
    right = (wrong + rng.integers(0, GOOD, (count, len(wrong)))) % ACTIONS
    better[:, wrong] = np.where(mended, right, served[wrong])
    return better


def visits(kind: Kind, rng: np.random.Generator, n: int, served: Ints) -> Visits:
    """So many visits of new customers, logged by a policy that follows the served model half of the time."""
    customers = max(SEGMENTS, round(n / VISITS_OF_CUSTOMER))
    activity = rng.lognormal(0.0, 1.0, customers)
    customer = rng.choice(customers, size=n, p=activity / activity.sum())
    segment = rng.integers(0, SEGMENTS, customers)[customer]
    eagerness = rng.uniform(0.0, 2.0, customers)[customer]
    explored = rng.random(n) < 0.6
    action = np.where(explored, rng.integers(0, ACTIONS, n), served[segment])
    probability = np.where(action == served[segment], 0.5, 0.1)
    worth = np.where(good_actions(), WORTH, WORTHLESS)
    chance = np.full((SEGMENTS, ACTIONS), 0.2)
    if kind == "rare and large":
        chance[:] = 0.3
        chance[np.arange(SEGMENTS), np.arange(SEGMENTS) % ACTIONS] = 0.02
    paid = rng.random(n) < chance[segment, action] * eagerness
    size = worth[segment, action] / chance[segment, action] * rng.lognormal(-0.5, 1.0, n)
    return Visits(customer, segment, action, probability, paid * size, 0.6 * worth[segment])
