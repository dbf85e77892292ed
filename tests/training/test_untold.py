"""Silence is not rejection: purchases that a till that stopped did not tell bias whatever takes them for none."""

import asyncio
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from decisioning.catalog import Release
from decisioning.content_types import BLUEPRINT, NO_ACTION
from decisioning.event_content import Source
from decisioning.record import DecisionRecord
from decisioning.request import OutcomeReport
from serving.feed_watch import FeedWatch
from serving.feeds import FeedTally
from serving.outcomes import Outcomes
from storage.ledger.feed_counts import FeedCounts, read_untold
from storage.ledger.reader import LedgerReader
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.builders import candidate, record, request, slot
from tests.fakes import FakeHotState
from tests.training.tiny_shop import ACTIONS, START, VALUE, chance, tiny_catalog
from training.evaluation_report import evaluate
from training.example_sources import examples_of
from training.examples import LEFT_OUT, ledger_examples
from training.gate import judge
from training.model_input import encode_shown
from training.training_run import TrainedModel, train

DAYS, PER_HOUR = 52, 8
STOPS, COMES_BACK = START + timedelta(days=35), START + timedelta(days=44)
NOW = START + timedelta(days=DAYS)
CATALOG = tiny_catalog()


class NoLog:
    """A domain of which there is nothing but what we decided."""

    name = "tiny"

    def log(self) -> pd.DataFrame:
        return pd.DataFrame()


@dataclass(frozen=True)
class World:
    settings: Settings
    chances: dict[str, float]  # how likely a success truly was, by decision
    untold: list[OutcomeReport]

    def tell(self, reports: list[OutcomeReport], *, now: datetime) -> None:
        """As the till does: over the ports, with its counts written down."""
        tally, ledger = FeedTally(), Ledger(self.settings)
        outcomes = Outcomes(FakeHotState(), ledger, tally)
        release = Release({BLUEPRINT: CATALOG.content}, version="sha256:test")
        with closing(ledger):
            asyncio.run(outcomes.record(reports, release, now=now, source="till"))
        watch = FeedWatch(tally, FeedCounts(self.settings), time_zone=lambda: "UTC")
        watch.write()

    def examples(self, **guard: object) -> pd.DataFrame:
        with closing(LedgerReader(self.settings)) as reader:
            return ledger_examples(reader, CATALOG, now=NOW, **guard)  # type: ignore[arg-type]

    def guarded(self) -> pd.DataFrame:
        said: list[str] = []
        found = examples_of(NoLog(), self.settings, CATALOG, now=NOW, progress=said.append)  # type: ignore[arg-type]
        assert set(found.attrs[LEFT_OUT]) <= set(said)
        return found

    def truth(self, examples: pd.DataFrame) -> float:
        """The mean chance of these decisions."""
        return float(np.mean([self.chances[row.rpartition("/")[0]] for row in examples["row_id"]]))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Weeks of uniform decisions; what was bought from the 36th to the 44th day was not told."""
    settings = Settings(home=tmp_path_factory.mktemp("till") / "home", domain="tiny")
    rng = np.random.default_rng(4)
    n = DAYS * 24 * PER_HOUR
    shown, age = rng.integers(0, 3, n), 20.0 + 50.0 * rng.random(n)
    weather = rng.choice(["rain", "sun"], n)
    true = np.stack([chance(weather, age, np.zeros(n, dtype=bool), name) for name in ACTIONS], axis=1)
    chances = true[np.arange(n), shown]
    bought, later = rng.random(n) < chances, rng.exponential(0.5, n)
    decisions, told, untold = [], [], []
    for place in range(n):
        at = START + timedelta(hours=place / PER_HOUR)
        decisions.append(decision(place, at, ACTIONS[shown[place]], float(age[place]), str(weather[place])))
        if bought[place]:
            report = OutcomeReport(
                decision_id=f"d-{place}",
                outcome_id=f"o-{place}",
                type="purchase",
                value=1.0 if shown[place] == 2 else VALUE,
                occurred_at=at + timedelta(hours=float(later[place])),
            )
            (untold if STOPS <= at + timedelta(hours=float(later[place])) < COMES_BACK else told).append(report)
    asyncio.run(keep(settings, decisions))
    made = World(settings, {f"d-{place}": float(each) for place, each in enumerate(chances)}, untold)
    made.tell(told, now=NOW)
    return made


def decision(place: int, at: datetime, shown: str, age: float, weather: str) -> DecisionRecord:
    return record(
        decision_id=f"d-{place}",
        decided_at=at,
        domain="tiny",
        customer_id=f"c-{place % 2000}",
        request=request(context={"weather": weather}),
        features={"age": age, "colour": "red"},
        contacts=(),
        candidates=tuple(
            candidate(name, value=1.0 if name == NO_ACTION else VALUE, context_weight=1.0) for name in ACTIONS
        ),
        slots=(slot(1, shown, probability=1 / 3, available=(0, 1, 2)),),
    )


async def keep(settings: Settings, decisions: list[DecisionRecord]) -> None:
    ledger = Ledger(settings)
    for start in range(0, len(decisions), 1000):
        await asyncio.gather(*(ledger.append_decision(each, digest="d") for each in decisions[start : start + 1000]))
    ledger.close()


def off_by(world: World, examples: pd.DataFrame) -> float:
    """How far the share of successes is from the truth, in standard errors."""
    p = world.truth(examples)
    return float((examples["success"].mean() - p) / np.sqrt(p * (1 - p) / len(examples)))


def test_a_till_that_stops_biases_what_is_learnt_and_the_guard_leaves_it_out(world: World) -> None:
    naive, guarded = world.examples(), world.guarded()
    assert off_by(world, naive) < -7
    assert abs(off_by(world, guarded)) < 4
    [line] = guarded.attrs[LEFT_OUT]
    assert line.startswith(
        f"{len(naive) - len(guarded):,} decisions are left out: outcomes 'purchase' of 'till' were not"
    )
    # The gap, and the two days before it whose windows reach into it.
    assert abs(len(naive) - len(guarded) - 11 * 24 * PER_HOUR) < 24 * PER_HOUR


def test_a_model_that_takes_silence_for_rejection_promises_too_little(world: World) -> None:
    naive, guarded = world.examples(), world.guarded()
    silent = naive[~naive["row_id"].isin(guarded["row_id"])].reset_index(drop=True)
    promised = {}
    for name, examples in (("naive", naive), ("guarded", guarded)):
        model = trained(world, examples).model
        promised[name] = float(model.propensities(encode_shown(model.features, silent, CATALOG)).mean())
    assert promised["naive"] < 0.85 * world.truth(silent)
    assert promised["guarded"] == pytest.approx(world.truth(silent), rel=0.1)


def test_an_evaluation_over_silence_is_biased_and_one_without_is_not(world: World) -> None:
    naive, guarded = world.examples(), world.guarded()
    bundle = trained(world, guarded).bundle
    until = pd.Timestamp(bundle.manifest.trained_until)
    off = {}
    for name, examples in (("naive", naive), ("guarded", guarded)):
        report = evaluate(bundle, examples, CATALOG)
        truth = world.truth(examples[examples["decided_at"] > until])
        off[name] = report.logged["success"] / truth - 1.0
        assert report.left_out == examples.attrs[LEFT_OUT]
        assert set(report.left_out) <= set(judge(report).findings)
    assert off["naive"] < -0.2
    assert abs(off["guarded"]) < 0.1


def trained(world: World, examples: pd.DataFrame) -> TrainedModel:
    return train(examples, world.settings, catalog=CATALOG, now=NOW, register=False)


def test_the_catalogue_may_say_that_others_bring_purchases_now(world: World) -> None:
    moved = tiny_catalog(sources=(Source(id="checkout", outcomes=("purchase",)),)).content
    untold = read_untold(world.settings, moved, since=START, now=NOW)
    assert world.examples(untold=untold).attrs[LEFT_OUT] == ()


def test_what_is_delivered_late_is_learnt_from_again(world: World) -> None:
    world.tell(world.untold, now=NOW)
    complete = world.guarded()
    assert complete.attrs[LEFT_OUT] == ()
    assert len(complete) == (DAYS - 2) * 24 * PER_HOUR + 1
    assert abs(off_by(world, complete)) < 4
