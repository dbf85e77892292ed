"""Shifts fitted to simulated responses whose truth is known."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import exp, floor, sqrt

import numpy as np
import pytest

from decisioning.delays import DelayDistribution, default_delays, learn_delays
from decisioning.feeds import Gap, Untold
from decisioning.posterior import Belief
from decisioning.response_counts import BAND, UNIT, Cell, Counts, Exposure, Tally, add, coarsened
from decisioning.response_shifts import HALF_LIFE, Priors, fitted
from tests.builders import NOW, placement

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HOME = placement("home", attribution_window=HOUR)
SLOW = placement("slow", attribution_window=7 * DAY)
PLACEMENTS = {"home": HOME, "slow": SLOW}
WIDE = Priors({}, 1.0, 1.0)


def respond(
    rng: np.random.Generator,
    shifts: Sequence[float],
    *,
    until: datetime,
    lasting: timedelta,
    action_id: str = "card",
    at: str = "home",
    delays: DelayDistribution | None = None,
    spread: float = 0.5,
) -> Counts:
    """An exposure for each of these shifts, evenly over the time before `until`; scores lie around 0.05.

    With `delays` a success has arrived by `until` with the chance that they say.
    """
    counts: Counts = {}
    step = lasting / len(shifts)
    for number, shift in enumerate(shifts):
        when = until - lasting + (number + 0.5) * step
        log_odds = -3.0 + spread * rng.standard_normal()
        chance = 1.0 / (1.0 + exp(-log_odds - shift))
        if delays is not None:
            chance *= float(delays.arrived_by(np.array([(until - when).total_seconds()]))[0])
        cell = Cell("", action_id, "web", at, int(when.timestamp()) // 60, 1, floor(log_odds / BAND))
        add(counts, Exposure(cell, Tally(1, int(rng.random() < chance), round(log_odds / UNIT))))
    return coarsened(counts, now=until)


def belief(
    counts: Counts,
    *,
    now: datetime = NOW + HOUR,
    priors: Priors = WIDE,
    delays: Mapping[str, DelayDistribution] | None = None,
    untold: Untold | None = None,
    half_life: timedelta = HALF_LIFE,
) -> Belief:
    [card] = fitted(
        counts, priors=priors, placements=PLACEMENTS, delays=delays or {}, now=now, untold=untold, half_life=half_life
    )
    return card.belief


@pytest.mark.parametrize("truth", [-1.5, -0.5, 0.0, 0.7, 1.5])
def test_a_constant_shift_is_found_within_its_own_doubt(truth: float) -> None:
    found = belief(respond(np.random.default_rng(1), [truth] * 4_000, until=NOW, lasting=10 * DAY))
    assert abs(found.shift - truth) < 4.0 * found.sd
    assert found.sd < 0.25


def test_shifts_over_many_runs_are_unbiased_and_their_doubt_is_honest() -> None:
    runs = [
        belief(respond(np.random.default_rng(seed), [0.6] * 1_000, until=NOW, lasting=5 * DAY)) for seed in range(40)
    ]
    errors = np.array([each.shift - 0.6 for each in runs])
    sds = np.array([each.sd for each in runs])
    assert abs(errors.mean()) < 4.0 * errors.std() / sqrt(len(errors)) + 0.02  # and what the prior pulls to 0
    assert 0.7 < np.sqrt(np.mean((errors / sds) ** 2)) < 1.3


def test_pooled_scores_that_differ_do_not_pull_the_shift() -> None:
    found = [
        belief(respond(np.random.default_rng(seed), [1.0] * 2_000, until=NOW, lasting=5 * DAY, spread=1.3)).shift
        for seed in range(10)
    ]
    assert abs(np.mean(found) - 1.0) < 4.0 * np.std(found) / sqrt(10) + 0.02


def test_a_change_of_sign_is_followed_and_what_stays_is_not_forgotten() -> None:
    rng = np.random.default_rng(3)
    changed = [1.0] * 2_000 + [-1.0] * 500
    followed = belief(respond(rng, changed, until=NOW, lasting=5 * DAY))
    assert followed.shift < -0.5
    stays = belief(respond(rng, [1.0] * 2_500, until=NOW, lasting=5 * DAY))
    assert stays.sd < 0.12
    assert abs(stays.shift - 1.0) < 4.0 * stays.sd


def test_without_exposures_belief_fades_with_the_half_life() -> None:
    counts = respond(np.random.default_rng(4), [1.0] * 4_000, until=NOW, lasting=5 * DAY)
    fresh, later = belief(counts), belief(counts, now=NOW + HOUR + HALF_LIFE)
    assert later.shift == pytest.approx(fresh.shift / 2.0, rel=0.01)
    assert later.sd > 0.7


def test_a_known_action_needs_more_to_move_than_a_new_one() -> None:
    counts = respond(np.random.default_rng(5), [0.5] * 150, until=NOW, lasting=DAY)
    known = belief(counts, priors=Priors({"card": 0.1}, 1.0, 1.0))
    new = belief(counts)
    assert abs(known.shift) < abs(new.shift)
    assert known.sd < new.sd


def test_early_response_is_read_as_it_is_only_with_the_delays() -> None:
    slowly = default_delays(SLOW.attribution_window)
    truth = [0.5] * 2_000
    found, naive = [], []
    for seed in range(10):
        counts = respond(np.random.default_rng(seed), truth, until=NOW, lasting=DAY, at="slow", delays=slowly)
        found.append(belief(counts, now=NOW, delays={"slow": slowly}).shift)
        at_once = learn_delays(np.full(5_000, 1.0), np.full(5_000, 1e7), window=SLOW.attribution_window)
        naive.append(belief(counts, now=NOW, delays={"slow": at_once}).shift)
    error = np.std(found) / sqrt(len(found))
    assert abs(np.mean(found) - 0.5) < 4.0 * error + 0.02
    assert np.mean(naive) < 0.5 - 8.0 * error


def test_one_early_answer_does_not_read_as_certain() -> None:
    minute = int((NOW - timedelta(minutes=2)).timestamp()) // 60
    counts = {Cell("", "card", "web", "slow", minute, 1, -6): Tally(3, 1, -3 * 3_072)}
    found = belief(counts, now=NOW)
    assert 0.0 < found.shift < 2.0
    assert found.sd > 0.7


def test_what_a_silent_feed_did_not_tell_is_left_out_until_it_is_told() -> None:
    counts = respond(np.random.default_rng(6), [0.0] * 1_000 + [-6.0] * 1_000, until=NOW, lasting=10 * DAY)
    stopped = Untold([Gap("till", "outcome:accept", NOW - 5 * DAY - HOUR, None)])
    assert belief(counts).shift < -2.0
    assert abs(belief(counts, untold=stopped).shift) < 0.5


def test_actions_channels_and_variants_are_each_on_their_own() -> None:
    rng = np.random.default_rng(7)
    counts = respond(rng, [1.0] * 800, until=NOW, lasting=3 * DAY)
    other = respond(rng, [-1.0] * 800, until=NOW, lasting=3 * DAY)
    mixed = {**counts, **{cell._replace(variants="hero=b"): tally for cell, tally in other.items()}}
    mixed |= {cell._replace(action_id="loan", channel="email"): tally for cell, tally in other.items()}
    alone = fitted(counts, priors=WIDE, placements=PLACEMENTS, delays={}, now=NOW + HOUR)
    together = fitted(mixed, priors=WIDE, placements=PLACEMENTS, delays={}, now=NOW + HOUR)
    assert [each[:3] for each in together] == [("", "email", "loan"), ("", "web", "card"), ("hero=b", "web", "card")]
    assert together[1].belief.shift == pytest.approx(alone[0].belief.shift, abs=1e-12)
    assert together[0].belief.shift < 0.0 < together[1].belief.shift


def test_the_order_of_cells_decides_nothing() -> None:
    counts = respond(np.random.default_rng(8), [0.3] * 500, until=NOW, lasting=3 * DAY)
    turned = dict(reversed(counts.items()))
    priors, now = WIDE, NOW + HOUR
    assert fitted(counts, priors=priors, placements=PLACEMENTS, delays={}, now=now) == fitted(
        turned, priors=priors, placements=PLACEMENTS, delays={}, now=now
    )


def test_of_nothing_and_of_places_that_are_gone_nothing_is_believed() -> None:
    gone = {Cell("", "card", "web", "elsewhere", 1, 1, -6): Tally(10, 1, -30_000)}
    for counts in ({}, gone):
        assert fitted(counts, priors=WIDE, placements=PLACEMENTS, delays={}, now=NOW) == ()
