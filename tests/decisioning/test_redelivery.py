"""How long what could not be delivered waits."""

from datetime import timedelta

import numpy as np
import pytest

from decisioning.redelivery import FIRST, LONGEST, MOST_ATTEMPTS, pause_after


def pauses(seed: int) -> list[timedelta]:
    rng = np.random.default_rng(seed)
    return [pause for n in range(1, MOST_ATTEMPTS) if (pause := pause_after(n, rng=rng)) is not None]


def test_the_bound_doubles_up_to_its_longest_and_every_pause_is_drawn_below_it() -> None:
    drawn = np.array([[pause / timedelta(seconds=1) for pause in pauses(seed)] for seed in range(300)])
    bounds = [min(FIRST * 2**n, LONGEST) / timedelta(seconds=1) for n in range(MOST_ATTEMPTS - 1)]
    assert (drawn < bounds).all()
    error = 4 * np.array(bounds) / np.sqrt(12 * 300)
    assert (abs(drawn.mean(axis=0) - np.array(bounds) / 2) < error).all()


def test_all_attempts_together_take_about_three_days() -> None:
    days = [sum(pauses(seed), timedelta()) / timedelta(days=1) for seed in range(300)]
    assert np.mean(days) == pytest.approx(2.9, abs=0.2)


def test_after_the_last_attempt_there_is_none() -> None:
    assert pause_after(MOST_ATTEMPTS, rng=np.random.default_rng(1)) is None


@pytest.mark.parametrize(
    ("asked_for", "waited"), [(timedelta(hours=1), timedelta(hours=1)), (timedelta(days=9), LONGEST)]
)
def test_what_the_receiver_asks_for_is_waited_for_within_bounds(asked_for: timedelta, waited: timedelta) -> None:
    assert pause_after(1, rng=np.random.default_rng(1), asked_for=asked_for) == waited
    assert pause_after(1, rng=np.random.default_rng(1), asked_for=timedelta(0)) > timedelta(0)
