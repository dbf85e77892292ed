"""Responses that change, as the online posterior meets them: simulated, so that the truth is known.

Counting, fit and policies are the product's own; around them stands no service. A response comes at once or
not at all: what delays do is another matter, and tested (`tests/decisioning/test_response_shifts.py`).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import exp, floor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from decisioning.content import Placement
from decisioning.exploration import Estimates, Policy
from decisioning.posterior import Believed, Fitted, Posterior
from decisioning.response_counts import BAND, UNIT, Cell, Counts, Exposure, Tally, add, coarsened
from decisioning.response_shifts import Priors, fitted
from decisioning.scores import Scores
from decisioning.slots import distribution

Floats = NDArray[np.float64]

START = datetime(2026, 1, 1, tzinfo=UTC)
AT_ONCE = timedelta(minutes=2)
HOME = Placement(id="home", channel="web", reward={"accept": 1.0}, priority_scale=1.0, attribution_window=AT_ONCE)
KNOWN_SD, NEW_SD = 0.2, 1.0
# Half-lives, in days, of plain decay: what the posterior is compared with.
DECAYS = {"decay, half-life 1 day": 1.0, "decay, half-life 7 days": 7.0, "no decay": float("inf")}
POSTERIOR = "online posterior"
METHODS = (POSTERIOR, *DECAYS)
LOG_ODDS, SPREAD = -3.0, 0.5  # of the model's scores: about 0.05
OUTCOMES_PER_LOOK = 20


class Followed(NamedTuple):
    """What each of `METHODS` believed of an action's shift after so many of its outcomes, `(n_looks,)` each."""

    outcomes: NDArray[np.int64]
    shifts: dict[str, Floats]


class Share(NamedTuple):
    """How often a policy chose the new action, `(n_decisions,)`, and how often it would have, knowing the truth."""

    chosen: Floats
    deserved: float


def follow(rng: np.random.Generator, truth: Sequence[float], *, per_day: float, looks_from: int) -> Followed:
    """An action's responses, one an outcome with this true shift, so many a day, believed again and again."""
    counts: Counts = {}
    at, shifts = [], {method: list[float]() for method in METHODS}
    for number, shift in enumerate(truth):
        when = START + timedelta(days=number / per_day)
        _expose(counts, rng, "card", LOG_ODDS + SPREAD * rng.standard_normal(), shift, when)
        if number >= looks_from and number % OUTCOMES_PER_LOOK == OUTCOMES_PER_LOOK - 1:
            now = when + 2 * AT_ONCE
            counts = coarsened(counts, now=now)
            at.append(number + 1)
            [believed] = _fitted(counts, {"card": KNOWN_SD}, now)
            shifts[POSTERIOR].append(believed.belief.shift)
            for name, half_life in DECAYS.items():
                shifts[name].append(_decayed(counts, half_life, now))
    return Followed(np.array(at), {name: np.array(each) for name, each in shifts.items()})


def outcomes_until_right(followed: Followed, method: str, *, change: int, sign: float) -> float:
    """How many outcomes after the change a method says the new sign for good; infinite if it never does."""
    after = followed.outcomes > change
    wrong = np.flatnonzero(followed.shifts[method][after] * sign <= 0.0)
    looks = followed.outcomes[after] - change
    last = int(wrong[-1]) + 1 if len(wrong) else 0
    return float(looks[last]) if last < len(looks) else float("inf")


def introduce(
    rng: np.random.Generator, policy: Policy, *, decisions: int, per_day: float, scale: float, learns: bool
) -> Share:
    """Ten actions of which the model knows nine; the tenth, scored as they are on average, is better than all.

    The known ones respond as scored, 3 to 8 in a hundred, the new one 13. Without `learns` nothing is believed.
    """
    names = [f"action {number}" for number in range(9)] + ["new"]
    scores = np.array([*np.linspace(0.03, 0.08, 9), 0.05])
    truth = np.array([*scores[:9], 0.13])
    log_odds = np.log(scores / (1.0 - scores))
    shifts = np.log(truth / (1.0 - truth)) - log_odds
    sds = dict.fromkeys(names[:9], KNOWN_SD)
    counts: Counts = {}
    posterior = Posterior(sds, NEW_SD)
    chosen = np.empty(decisions)
    chances = _probabilities(policy, posterior, names, scores, scale)
    for number in range(decisions):
        when = START + timedelta(days=number / per_day)
        place = int(rng.choice(10, p=chances))
        chosen[number] = chances[9]
        _expose(counts, rng, names[place], float(log_odds[place]), float(shifts[place]), when)
        if learns and number % OUTCOMES_PER_LOOK == OUTCOMES_PER_LOOK - 1:
            now = when + 2 * AT_ONCE
            counts = coarsened(counts, now=now)
            posterior = Posterior(sds, NEW_SD, Fitted("", "now", _fitted(counts, sds, now)))
            chances = _probabilities(policy, posterior, names, scores, scale)
    deserved = _first(policy, Estimates.known(np.minimum(truth / scale, 1.0)))
    return Share(chosen, float(deserved[9]))


def _probabilities(policy: Policy, posterior: Posterior, names: list[str], scores: Floats, scale: float) -> Floats:
    """As the funnel states them: values and doubt of what every success is worth the same (`decision.plan`)."""
    believed = posterior.corrected(Scores(scores), names, variants="", channel="web")
    corrected = believed.corrected
    assert believed.sds is not None
    estimates = Estimates(np.minimum(corrected / scale, 1.0), corrected * (1.0 - corrected) * believed.sds / scale)
    return _first(policy, estimates)


def _first(policy: Policy, estimates: Estimates) -> Floats:
    """The chance of each to be drawn first, `(n_actions,)`."""
    spread = distribution(policy, estimates)
    chances: Floats = np.where(spread.tiers == 0, spread.weights, 0.0)
    return chances / chances.sum()


def _expose(
    counts: Counts, rng: np.random.Generator, action_id: str, log_odds: float, shift: float, when: datetime
) -> None:
    success = int(rng.random() < 1.0 / (1.0 + exp(-log_odds - shift)))
    minute = int(when.timestamp()) // 60
    cell = Cell("", action_id, "web", "home", minute, 1, floor(log_odds / BAND))
    add(counts, Exposure(cell, Tally(1, success, round(log_odds / UNIT))))


def _fitted(counts: Counts, sds: Mapping[str, float], now: datetime) -> tuple[Believed, ...]:
    return fitted(counts, priors=Priors(sds, NEW_SD, NEW_SD), placements={"home": HOME}, delays={}, now=now)


def _decayed(counts: Counts, half_life: float, now: datetime) -> float:
    """The most likely shift where every exposure counts half as much a half-life later, around 0 as a new action's."""
    cells = np.array([(cell.begin + cell.width / 2, *tally) for cell, tally in counts.items()])
    age = (now.timestamp() / 60.0 - cells[:, 0]) / 1_440.0
    weight = 2.0 ** (-age / half_life)
    trials, successes, offsets = weight * cells[:, 1], weight * cells[:, 2], UNIT * cells[:, 3] / cells[:, 1]
    shift = 0.0
    for _ in range(25):
        chance = 1.0 / (1.0 + np.exp(-offsets - shift))
        slope = float((successes - trials * chance).sum()) - shift / NEW_SD**2
        shift += float(np.clip(slope / ((trials * chance * (1.0 - chance)).sum() + 1.0 / NEW_SD**2), -1.0, 1.0))
    return shift
