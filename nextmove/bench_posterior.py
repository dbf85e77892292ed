"""Whether the online posterior follows what changes and leaves what stays, and what it costs."""

import asyncio
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from decisioning.bundle import Manifest
from decisioning.exploration import Estimates, Policy, SquareCB, Thompson
from decisioning.posterior import Posterior
from decisioning.record import Candidate, DecisionRecord, ModelVersion, OutcomeRecord, PolicyVersion, ShownSlot
from decisioning.request import DecisionRequest
from decisioning.response_counts import Cell, Exposure, Tally, add, coarsened
from decisioning.scores import Scores
from decisioning.slots import distribution
from nextmove.console import print_json, print_table, step
from nextmove.moving_responses import HOME, METHODS, START, follow, introduce, outcomes_until_right
from storage.hot_state.posteriors import open_posterior
from storage.hot_state.rebuild import open_hot_state
from storage.ledger.arrivals import Arrivals
from storage.ledger.writer import Ledger
from storage.posterior_counting import Counting, Scoring, fit
from storage.settings import Settings

RATES = (50.0, 500.0, 5_000.0)  # outcomes of the action a day
BEFORE, WITHIN = 2_000, 500
STABLE, SETTLED = 0.3, 1_000
DECISIONS = 2_000
WINDOW = 100
PLANNED: dict[str, Policy] = {"thompson": Thompson(), "squarecb, gamma 200": SquareCB(gamma=200.0)}
SCALE = 0.2
ACTIONS, CANDIDATES = 200, 50
BUNDLE = "f" * 64


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


class Cost(NamedTuple):
    """Of counting, fitting and looking up."""

    counted_ms_per_1000: float
    cells: int
    fit_ms: float
    lookup_us: float
    plan_us: float
    rebuilt_equals_live: bool


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


def measured_cost(decisions: int) -> Cost:
    """CPU milliseconds and microseconds, on a ledger in a temporary directory."""
    rng = np.random.default_rng(4)
    with TemporaryDirectory(prefix="nextmove-bench-") as folder:
        settings = Settings(home=Path(folder))
        now = START + timedelta(days=2)
        open_hot_state(settings, now=now).close()
        _fill(settings, decisions, rng)
        scoring = Scoring(BUNDLE, _manifest(), {"home": HOME})
        store = open_posterior(settings)
        with closing(Arrivals(settings)) as arrivals:
            begun = time.thread_time_ns()
            live = Counting(store, arrivals).go_on(scoring, now=now)
            counted = (time.thread_time_ns() - begun) / 1e6
            store.forget()
            rebuilt = Counting(store, arrivals).go_on(scoring, now=now)
    counts = coarsened(_many_cells(rng, now), now=now)
    said, fits = None, []
    for _ in range(5):
        begun = time.thread_time_ns()
        said = fit(counts, scoring, now=now)
        fits.append((time.thread_time_ns() - begun) / 1e6)
    names = [f"a{number}" for number in range(CANDIDATES)]
    posterior = Posterior.of(scoring.manifest, said)
    scores = Scores(np.full(CANDIDATES, 0.05, dtype=np.float32))
    lookup = _microseconds(lambda: posterior.corrected(scores, names, variants="", channel="web").corrected)
    without = _microseconds(lambda: scores.corrected)
    policy = SquareCB(gamma=200.0)
    estimates = Estimates.known(rng.random(CANDIDATES))
    return Cost(
        counted_ms_per_1000=1_000.0 * counted / decisions,
        cells=len(counts),
        fit_ms=statistics.median(fits),
        lookup_us=lookup - without,
        plan_us=_microseconds(lambda: distribution(policy, estimates)),
        rebuilt_equals_live=live is not None and live == rebuilt,
    )


def _microseconds(call: Callable[[], object], *, calls: int = 2_000, rounds: int = 5) -> float:
    measured = []
    for _ in range(rounds):
        begun = time.thread_time_ns()
        for _ in range(calls):
            call()
        measured.append((time.thread_time_ns() - begun) / 1e3 / calls)
    return statistics.median(measured)


def _many_cells(rng: np.random.Generator, now: datetime) -> dict[Cell, Tally]:
    """Counts of actions in one channel that were each shown 500 times over two weeks."""
    minute, counts = int(now.timestamp()) // 60, dict[Cell, Tally]()
    for number in range(ACTIONS):
        for age in rng.integers(0, 14 * 1_440, 500).tolist():
            band = int(rng.integers(-7, -4))
            cell = Cell("", f"a{number}", "web", "home", minute - age, 1, band)
            add(counts, Exposure(cell, Tally(1, int(rng.random() < 0.05), int((band + 0.5) * 512))))
    return counts


def _manifest() -> Manifest:
    return Manifest(
        domain="simulated",
        name="propensity",
        version="bench",
        run_id="",
        created_at=START,
        features=(),
        graph_sha256="",
        probe=b"",
        probe_scores=b"",
        data_sha256="",
        trained_until=START - timedelta(minutes=1),
        git_commit="",
    )


def _fill(settings: Settings, decisions: int, rng: np.random.Generator) -> None:
    """A ledger with decisions among 30 candidates, over two days, and an outcome of one in ten."""

    async def write() -> None:
        with closing(Ledger(settings)) as ledger:
            for begin in range(0, decisions, 500):
                records = [_decision(number, decisions, rng) for number in range(begin, min(begin + 500, decisions))]
                await asyncio.gather(*(ledger.append_decision(each, digest=each.decision_id) for each in records))
                told = [_accepted(each) for each in records if rng.random() < 0.1]
                await ledger.append_outcomes([(each, each.outcome_id) for each in told])

    asyncio.run(write())


def _decision(number: int, of: int, rng: np.random.Generator) -> DecisionRecord:
    at = START + timedelta(days=2 * number / of)
    scores = rng.uniform(0.02, 0.2, 30)
    ids = [f"a{place}" for place in rng.permutation(ACTIONS)[:30].tolist()]
    customer = f"c-{number % 1_000}"
    return DecisionRecord(
        decision_id=f"d-{number}",
        decided_at=at,
        expires_at=at,
        domain="simulated",
        market="default",
        customer_id=customer,
        placement="home",
        channel="web",
        request=DecisionRequest(placement="home", customer_id=customer),
        features={f"feature_{place}": float(place) for place in range(40)},
        overridden=(),
        features_as_of=at,
        consents=(),
        suppressed=(),
        contacts=(),
        assignments=(),
        dropped=(),
        candidates=tuple(
            Candidate(name, f"{name}_web", float(score), 10.0, 1.0, 1.0, float(score), 0.03, 0)
            for name, score in zip(ids, scores, strict=True)
        ),
        slots=(ShownSlot(1, ids[0], f"{ids[0]}_web", 0.03, tuple(range(30)), {}, confirmed=True),),
        reason="RANKED",
        reason_detail="",
        policy=PolicyVersion("squarecb", "1", {}),
        model=ModelVersion("propensity", "bench", BUNDLE),
        catalog_version="sha256:",
        key_id="",
    )


def _accepted(record: DecisionRecord) -> OutcomeRecord:
    at = record.decided_at + timedelta(minutes=1)
    return OutcomeRecord(
        outcome_id=f"{record.decision_id}/accept",
        decision_id=record.decision_id,
        action_id=record.slots[0].action_id,
        type="accept",
        detail=None,
        value=None,
        occurred_at=at,
        received_at=at,
    )
