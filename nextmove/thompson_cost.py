"""What exact Thompson probabilities cost, beside counting draws, the other way to state them."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from decisioning.thompson import chances_of_largest

CANDIDATES, DRAWS, ROUNDS, CALLS = 50, 10_000, 15, 40


class ThompsonCost(NamedTuple):
    """CPU microseconds for 50 candidates, and how far the largest error of the counted chances is off."""

    exact: float
    counted: float
    counted_error: float


def thompson_cost(*, seed: int = 1) -> ThompsonCost:
    """Medians of rounds in which both are done in turns, on values whose doubts differ tenfold."""
    rng = np.random.default_rng(seed)
    means, sds = rng.random(CANDIDATES), 10.0 ** rng.uniform(-1.7, -0.7, CANDIDATES)

    def counted() -> np.ndarray:
        won = (means + sds * rng.standard_normal((DRAWS, CANDIDATES))).argmax(axis=1)
        return np.bincount(won, minlength=CANDIDATES) / DRAWS

    spent: dict[str, list[float]] = {"exact": [], "counted": []}
    for _ in range(ROUNDS):
        spent["exact"].append(_microseconds(lambda: chances_of_largest(means, sds), CALLS))
        spent["counted"].append(_microseconds(counted, 1))
    error = float(np.abs(counted() - chances_of_largest(means, sds)).max())
    return ThompsonCost(statistics.median(spent["exact"]), statistics.median(spent["counted"]), error)


def _microseconds(call: Callable[[], object], times: int) -> float:
    began = time.thread_time_ns()
    for _ in range(times):
        call()
    return (time.thread_time_ns() - began) / 1e3 / times
