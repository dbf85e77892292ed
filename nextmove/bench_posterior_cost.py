"""What the online posterior costs: counting decisions and orders, fitting, and looking up."""

import asyncio
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
import numpy as np

from decisioning.bundle import Manifest
from decisioning.events import PURCHASE, EventRecord
from decisioning.exploration import Estimates, SquareCB
from decisioning.posterior import Fitted, Posterior
from decisioning.record import Candidate, DecisionRecord, ModelVersion, OutcomeRecord, PolicyVersion, ShownSlot
from decisioning.request import DecisionRequest
from decisioning.response_counts import Cell, Exposure, Tally, add, coarsened
from decisioning.scores import Scores
from decisioning.slots import distribution
from nextmove.moving_responses import HOME, START
from storage.hot_state.posteriors import open_posterior
from storage.hot_state.rebuild import open_hot_state
from storage.ledger.arrivals import Arrivals
from storage.ledger.writer import Ledger
from storage.posterior_counting import Counting, Scoring, fit
from storage.settings import Settings

ACTIONS, CANDIDATES = 200, 50
DECISIONS_EACH = 50
BUNDLE = "f" * 64
SELLING = msgspec.structs.replace(HOME, reward={"accept": 1.0, "purchase": 1.0}, attribution_window=timedelta(days=2))


class Cost(NamedTuple):
    """Of counting, fitting and looking up."""

    counted_ms_per_1000: float
    order_ms: float  # of a customer with `DECISIONS_EACH` decisions
    cells: int
    fit_ms: float
    lookup_us: float
    plan_us: float
    rebuilt_equals_live: bool


def measured_cost(decisions: int) -> Cost:
    """CPU milliseconds and microseconds, on a ledger in a temporary directory."""
    rng = np.random.default_rng(4)
    with TemporaryDirectory(prefix="nextmove-bench-") as folder:
        settings = Settings(home=Path(folder))
        now = START + timedelta(days=2)
        open_hot_state(settings, now=now).close()
        _fill(settings, decisions, rng)
        scoring = Scoring(BUNDLE, _manifest(), {"home": SELLING})
        store = open_posterior(settings)
        with closing(Arrivals(settings)) as arrivals:
            counting = Counting(store, arrivals)

            def go_on() -> tuple[Fitted | None, float]:
                begun = time.thread_time_ns()
                said = counting.go_on(scoring, now=now)
                return said, (time.thread_time_ns() - begun) / 1e6

            _, counted = go_on()
            _, nothing_new = go_on()
            orders = _order(settings, decisions // DECISIONS_EACH)
            live, counted_orders = go_on()
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
        order_ms=(counted_orders - nothing_new) / orders,
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


def _order(settings: Settings, customers: int) -> int:
    """An order of what each customer was shown, at the end; how many there are."""
    at = START + timedelta(days=2)
    told = [
        EventRecord(
            event_id=f"till/{number}",
            source="till",
            type="track",
            name=PURCHASE,
            customer_id=f"c-{number}",
            properties={"product_id": "mug"},
            occurred_at=at,
            received_at=at,
        )
        for number in range(customers)
    ]

    async def write() -> None:
        with closing(Ledger(settings)) as ledger:
            await ledger.append_events([(each, each.event_id) for each in told])

    asyncio.run(write())
    return len(told)


def _decision(number: int, of: int, rng: np.random.Generator) -> DecisionRecord:
    at = START + timedelta(days=2 * number / of)
    scores = rng.uniform(0.02, 0.2, 30)
    ids = [f"a{place}" for place in rng.permutation(ACTIONS)[:30].tolist()]
    customer = f"c-{number % (of // DECISIONS_EACH)}"
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
        slots=(ShownSlot(1, ids[0], f"{ids[0]}_web", 0.03, tuple(range(30)), {}, confirmed=True, products=("mug",)),),
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
