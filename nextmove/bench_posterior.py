"""Whether the online posterior follows what changes and leaves what stays, and what it costs."""

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from decisioning.exploration import Policy, SquareCB, Thompson
from nextmove.bench_posterior_cost import ACTIONS, CANDIDATES, DECISIONS_EACH, measured_cost
from nextmove.console import print_json, print_table, step
from nextmove.moving_responses import METHODS, follow, introduce, outcomes_until_right

RATES = (50.0, 500.0, 5_000.0)  # outcomes of the action a day
BEFORE, WITHIN = 2_000, 500
STABLE, SETTLED = 0.3, 1_000
DECISIONS = 2_000
WINDOW = 100
PLANNED: dict[str, Policy] = {"thompson": Thompson(), "squarecb, gamma 200": SquareCB(gamma=200.0)}
SCALE = 0.2


class Following(NamedTuple):
    """How many outcomes of an action it took to see that its response had changed its sign."""

    method: str
    per_day: float
    runs: int
    median: float
    p95: float
    within: float  # share of runs that saw it within `WITHIN`


class Staying(NamedTuple):
    """How far off a method is on a response that stays as it is."""

    method: str
    per_day: float
    runs: int
    error: float  # root mean square, of log-odds
    wrong_sign: float  # share of looks


class Newcomer(NamedTuple):
    """How soon a new action that is better than all others had half of the share that it deserves."""

    policy: str
    learns: bool
    runs: int
    deserved: float
    reached: float  # share of runs, within `DECISIONS`
    median: float  # decisions until then, of those
    share: float  # over the last `WINDOW` decisions, mean


def run_posterior(*, seeds: int, decisions: int, as_json: bool) -> None:
    """Simulate, measure and print."""
    with step("changes of sign") as progress:
        following = changes_of_sign(seeds, progress)
    with step("what stays") as progress:
        staying = what_stays(seeds, progress)
    with step("new actions") as progress:
        newcomers = new_actions(seeds, progress)
    with step("cost"):
        cost = measured_cost(decisions)
    if as_json:
        parts: dict[str, list[Any]] = {"following": following, "staying": staying, "newcomers": newcomers}
        print_json(
            {**{name: [each._asdict() for each in rows] for name, rows in parts.items()}, "cost": cost._asdict()}
        )
        return
    print_table(
        f"Outcomes of an action until a change of its shift, from +1 to -1 or back, is seen for good; {2 * seeds} runs",
        ["method", "outcomes a day", "median", "95 % within", f"seen within {WITHIN}, %"],
        [(each.method, each.per_day, each.median, each.p95, 100.0 * each.within) for each in following],
    )
    print_table(
        f"A shift of +{STABLE} that stays, after {SETTLED:,} outcomes; {seeds} runs",
        ["method", "outcomes a day", "error of log-odds", "looks with the wrong sign, %"],
        [(each.method, each.per_day, each.error, 100.0 * each.wrong_sign) for each in staying],
    )
    print_table(
        f"A new action, better than nine known ones: half of its deserved share within {DECISIONS:,} decisions",
        ["policy", "posterior", "deserved", "reached, % of runs", "decisions, median", "share at the end"],
        [
            (each.policy, "yes" if each.learns else "no", each.deserved, 100.0 * each.reached, each.median, each.share)
            for each in newcomers
        ],
    )
    print_table(
        f"Cost; CPU, medians, {cost.cells:,} cells of {ACTIONS} actions",
        ["what", "figure"],
        [
            ("count 1,000 decisions with their outcomes, ms", cost.counted_ms_per_1000),
            (f"count an order of a customer with {DECISIONS_EACH} decisions, ms", cost.order_ms),
            ("fit, ms", cost.fit_ms),
            (f"look up and correct {CANDIDATES} candidates, us", cost.lookup_us),
            (f"beside it, squarecb's probabilities of {CANDIDATES}, us", cost.plan_us),
            ("a rebuild says the same, to the bit", "yes" if cost.rebuilt_equals_live else "no"),
        ],
    )


def changes_of_sign(seeds: int, progress: Callable[[str], None] = lambda _said: None) -> list[Following]:
    """Each method on the same responses, which change their sign after `BEFORE` outcomes."""
    found = []
    for per_day in RATES:
        took: dict[str, list[float]] = {method: [] for method in METHODS}
        for seed in range(seeds):
            for sign in (1.0, -1.0):
                rng = np.random.default_rng([seed, int(per_day), int(sign > 0)])
                truth = [-sign] * BEFORE + [sign] * (2 * WITHIN)
                followed = follow(rng, truth, per_day=per_day, looks_from=BEFORE)
                for method in METHODS:
                    took[method].append(outcomes_until_right(followed, method, change=BEFORE, sign=sign))
            progress(f"{per_day:,.0f} outcomes a day: {seed + 1} of {seeds}")
        found += [
            Following(
                method,
                per_day,
                len(runs),
                float(np.median(runs)),
                float(np.quantile(runs, 0.95, method="higher")),
                float(np.mean([each <= WITHIN for each in runs])),
            )
            for method, runs in took.items()
        ]
    return found


def what_stays(seeds: int, progress: Callable[[str], None] = lambda _said: None) -> list[Staying]:
    """Each method on the same responses, which stay as they are."""
    found = []
    for per_day in RATES:
        errors: dict[str, list[Any]] = {method: [] for method in METHODS}
        for seed in range(seeds):
            rng = np.random.default_rng([seed, int(per_day), 2])
            followed = follow(rng, [STABLE] * (2 * BEFORE), per_day=per_day, looks_from=SETTLED)
            for method in METHODS:
                errors[method].append(followed.shifts[method] - STABLE)
            progress(f"{per_day:,.0f} outcomes a day: {seed + 1} of {seeds}")
        for method, runs in errors.items():
            off = np.concatenate(runs)
            wrong = float((off <= -STABLE).mean())
            found.append(Staying(method, per_day, seeds, float(np.sqrt((off**2).mean())), wrong))
    return found


def new_actions(seeds: int, progress: Callable[[str], None] = lambda _said: None) -> list[Newcomer]:
    """Each policy with the posterior and without it, at 500 decisions a day."""
    found = []
    for name, policy in PLANNED.items():
        for learns in (True, False):
            took, shares, deserved = [], [], 0.0
            for seed in range(seeds if learns else 1):  # without it every run is the same
                rng = np.random.default_rng([seed, 3])
                share = introduce(rng, policy, decisions=DECISIONS, per_day=500.0, scale=SCALE, learns=learns)
                means = np.convolve(share.chosen, np.full(WINDOW, 1.0 / WINDOW), mode="valid")
                reached = np.flatnonzero(means >= share.deserved / 2.0)
                took.append(float(reached[0] + WINDOW) if len(reached) else float("inf"))
                shares.append(float(means[-1]))
                deserved = share.deserved
                progress(f"{name}: {seed + 1} of {seeds}")
            within = [each for each in took if each <= DECISIONS]
            median = statistics.median(within) if within else float("inf")
            found.append(
                Newcomer(name, learns, len(took), deserved, len(within) / len(took), median, statistics.fmean(shares))
            )
    return found
