"""Counting row by row, in parts, out of order and over deaths is what a count of the whole ledger gives."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pytest

from decisioning.bundle import Manifest
from decisioning.posterior import Fitted
from decisioning.record import DecisionRecord, ModelVersion, OutcomeRecord
from decisioning.response_counts import Counts, add, coarsened, decoded, exposure
from decisioning.reward import credited
from storage import posterior_counting
from storage.hot_state.posteriors import PosteriorStore, open_posterior
from storage.hot_state.rebuild import open_hot_state
from storage.ledger.arrivals import Arrivals
from storage.ledger.writer import Ledger
from storage.posterior_counting import Counted, Counting, Scoring, scoring
from storage.settings import Settings
from tests.builders import placement
from tests.fakes import FakeScorer
from tests.storage.hot_stores import settings_for
from tests.storage.kept import NOW, decision, event, outcome, slot
from tests.storage.processes import others

BUNDLE = "f" * 64
HOME = placement(attribution_window=timedelta(days=2), reward={"accept": 1.0, "unsubscribe": -1.0})
MANIFEST: Manifest = msgspec.structs.replace(
    FakeScorer().manifest, domain="simulated", trained_until=NOW - timedelta(days=3)
)
SCORING = Scoring(BUNDLE, MANIFEST, {"home_hero": HOME})
AFTER = NOW + timedelta(days=3)
Row = DecisionRecord | OutcomeRecord


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def chosen(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    with settings_for(request.param, settings) as found:
        open_hot_state(found, now=NOW).close()
        yield found


def decided(number: int, **overrides: Any) -> DecisionRecord:
    at = NOW - timedelta(hours=40) + timedelta(minutes=number)
    given = {"customer_id": f"c-{number % 7}", "decided_at": at, "slots": (slot("card"),), **overrides}
    return decision(f"d-{number}", **given)


def said(record: DecisionRecord, kind: str, **overrides: Any) -> OutcomeRecord:
    at = record.decided_at + timedelta(minutes=3)
    given = {"decision_id": record.decision_id, "type": kind, "occurred_at": at, "received_at": at, **overrides}
    return outcome(f"{record.decision_id}/{kind}", **given)


def history(rng: np.random.Generator, count: int = 60) -> list[Row]:
    """Decisions, some of them reloads of earlier ones, or of other models, and what was told of them."""
    rows: list[Row] = []
    for number in range(count):
        record = decided(number)
        luck = rng.random()
        if luck < 0.2 and number >= 7:  # of the same customer
            record = decided(number, slots=(slot("card", repeats=f"d-{number - 7}"),))
        elif luck < 0.3 and number >= 7:  # of another id of the same person
            record = decided(number, slots=(slot("card", repeats=f"d-{number - 5}", repeats_of="c-9"),))
        elif luck < 0.4:
            record = decided(number, model=ModelVersion("propensity", "6", "e" * 64))
        rows.append(record)
        kinds = (("impression", 0.8), ("accept", 0.4), ("unsubscribe", 0.2))
        rows += [said(record, kind) for kind, chance in kinds if rng.random() < chance]
    return rows


def append(settings: Settings, rows: list[Row]) -> None:
    async def write(ledger: Ledger) -> None:
        for row in rows:
            if isinstance(row, DecisionRecord):
                await ledger.append_decision(row, digest=row.decision_id)
            else:
                await ledger.append_outcomes([(row, row.outcome_id)])

    with closing(Ledger(settings)) as ledger:
        asyncio.run(write(ledger))


def go_on(settings: Settings, counting: Counting | None = None) -> Fitted | None:
    with closing(Arrivals(settings)) as arrivals:
        return (counting or Counting(open_posterior(settings), arrivals)).go_on(SCORING, now=AFTER)


def counts_in(store: PosteriorStore) -> Counts:
    kept = store.kept()
    assert kept is not None
    return decoded(msgspec.msgpack.decode(kept.counted, type=Counted).counts)


def by_definition(rows: list[Row]) -> Counts:
    """Straight from the rules: every decision of the bundle with all that is credited to it."""
    records = [row for row in rows if isinstance(row, DecisionRecord)]
    reported: dict[str, list[OutcomeRecord]] = {}
    for row in rows:
        if isinstance(row, OutcomeRecord):
            reported.setdefault(row.decision_id, []).append(row)
    own = [each for each in records if all(slot.repeats_of is None for slot in each.slots)]
    found = credited(reported, own)
    counts: Counts = {}
    for record in records:
        if record.model is not None and record.model.bundle_sha256 == BUNDLE:
            add(counts, exposure(record, HOME, found.get(record.decision_id, ())))
    return coarsened(counts, now=AFTER)


@pytest.mark.parametrize("seed", range(4))
def test_rows_in_any_order_and_in_any_parts_count_as_by_definition(
    settings: Settings, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posterior_counting, "ROWS_PER_PART", 1 + 3 * seed)
    open_hot_state(settings, now=NOW).close()
    rng = np.random.default_rng(seed)
    rows = history(rng)
    expected = by_definition(rows)
    assert sum(tally.trials for tally in expected.values()) > 15
    late = [rows[place] for place in rng.permutation(len(rows))]
    for part in np.array_split(np.arange(len(late)), 5):
        append(settings, [late[place] for place in part])
        assert go_on(settings) is not None
    assert counts_in(open_posterior(settings)) == expected


def test_counting_goes_on_from_where_it_was_kept(chosen: Settings) -> None:
    rows = history(np.random.default_rng(9), 40)
    store = open_posterior(chosen)
    with closing(Arrivals(chosen)) as arrivals:
        counting = Counting(store, arrivals)
        for part in (rows[:30], rows[30:]):
            append(chosen, part)
            live = counting.go_on(SCORING, now=AFTER)
    assert counts_in(store) == by_definition(rows)
    store.forget()
    assert go_on(chosen) == live is not None  # to the bit


def test_of_two_who_count_at_once_one_is_kept(chosen: Settings) -> None:
    rows = history(np.random.default_rng(10), 40)
    store = open_posterior(chosen)
    with closing(Arrivals(chosen)) as arrivals:
        one, other = Counting(store, arrivals), Counting(store, arrivals)
        append(chosen, rows[:30])
        assert one.go_on(SCORING, now=AFTER) is not None
        assert other.go_on(SCORING, now=AFTER) is not None  # goes on from what the one kept
        append(chosen, rows[30:])
        raced = _Raced(store, lambda: one.go_on(SCORING, now=AFTER))
        assert Counting(raced, arrivals).go_on(SCORING, now=AFTER) is None
        assert other.go_on(SCORING, now=AFTER) is not None
    assert counts_in(store) == by_definition(rows)


class _Raced:
    """A store in which another keeps something just before this one does."""

    def __init__(self, store: PosteriorStore, before: Any) -> None:
        self._store, self._before = store, before

    def __getattr__(self, name: str) -> Any:
        if name == "keep":
            self._before()
        return getattr(self._store, name)


def test_another_meaning_of_success_begins_anew(settings: Settings) -> None:
    open_hot_state(settings, now=NOW).close()
    rows = history(np.random.default_rng(11))
    append(settings, rows)
    go_on(settings)
    store = open_posterior(settings)
    none = msgspec.structs.replace(SCORING, placements={"home_hero": placement(reward={"purchase": 1.0})})
    with closing(Arrivals(settings)) as arrivals:
        Counting(store, arrivals).go_on(none, now=AFTER)
    assert sum(tally.successes for tally in counts_in(store).values()) == 0


def test_a_counter_that_is_killed_repeats_nothing_and_loses_nothing(chosen: Settings) -> None:
    rows = history(np.random.default_rng(12), 150)
    append(chosen, rows[:50])

    def count_for_ever(say: Any) -> None:
        with closing(Arrivals(chosen)) as arrivals:
            counting = Counting(open_posterior(chosen), arrivals)
            while True:
                say(counting.go_on(SCORING, now=AFTER) is not None)

    rng = np.random.default_rng(13)
    for begin in range(50, len(rows), 60):
        with others(count_for_ever, count_for_ever) as running:
            running[0][1].readline()
            append(chosen, rows[begin : begin + 60])
            time.sleep(float(rng.uniform(0.0, 0.05)))
            for process, _ in running:
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
    go_on(chosen)
    assert counts_in(open_posterior(chosen)) == by_definition(rows)


def test_what_cannot_be_read_of_an_older_version_is_counted_anew(settings: Settings) -> None:
    open_hot_state(settings, now=NOW).close()
    rows = history(np.random.default_rng(14), 20)
    append(settings, rows)
    store = open_posterior(settings)
    store.keep(b"\x01", b"\x01", over=None)
    assert go_on(settings) is not None
    assert counts_in(store) == by_definition(rows)


def test_where_orders_come_without_decisions_what_rewards_purchases_is_left_out(settings: Settings) -> None:
    bought, clicked = placement(reward={"purchase": 1.0}), placement("teaser", reward={"click": 1.0})
    both = {"home_hero": bought, "teaser": clicked}
    with closing(Arrivals(settings)) as arrivals:
        assert set(scoring(arrivals, BUNDLE, MANIFEST, both).placements) == {"home_hero", "teaser"}
        with closing(Ledger(settings)) as ledger:
            asyncio.run(ledger.append_events([(event("shop/1"), "digest")]))
        assert set(scoring(arrivals, BUNDLE, MANIFEST, both).placements) == {"teaser"}


def test_another_domain_has_its_own(settings: Settings) -> None:
    open_hot_state(settings, now=NOW).close()
    append(settings, history(np.random.default_rng(15), 20))
    go_on(settings)
    assert open_posterior(replace(settings, domain="other")).kept() is None
