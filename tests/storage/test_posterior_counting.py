"""Counting row by row, in parts, out of order and over deaths is what a count of the whole ledger gives."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from storage import posterior_counting
from storage.hot_state.posteriors import PosteriorStore, open_posterior
from storage.hot_state.rebuild import open_hot_state
from storage.ledger.arrivals import Arrivals
from storage.posterior_counting import Counting
from storage.settings import Settings
from tests.builders import placement
from tests.storage.histories import AFTER, SCORING, append, by_definition, counts_in, go_on, history
from tests.storage.hot_stores import settings_for
from tests.storage.kept import NOW
from tests.storage.processes import others


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def chosen(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    with settings_for(request.param, settings) as found:
        open_hot_state(found, now=NOW).close()
        yield found


@pytest.mark.parametrize("seed", range(1, 5))
def test_rows_in_any_order_and_in_any_parts_count_as_by_definition(
    settings: Settings, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posterior_counting, "ROWS_PER_PART", 1 + 3 * seed)
    open_hot_state(settings, now=NOW).close()
    rng = np.random.default_rng(seed)
    rows = history(rng)
    late = [rows[place] for place in rng.permutation(len(rows))]
    for part in np.array_split(np.arange(len(late)), 5):
        append(settings, [late[place] for place in part])
        assert go_on(settings) is not None
        assert counts_in(open_posterior(settings)) == by_definition(late[: part[-1] + 1])


@pytest.mark.parametrize("seed", range(1, 5))
def test_the_histories_of_these_tests_have_what_is_tested(seed: int) -> None:
    rows = history(np.random.default_rng(seed))
    counts = by_definition(rows)
    assert sum(tally.trials for tally in counts.values()) > 15
    for left_out in ("track", "alias"):
        assert counts != by_definition([row for row in rows if getattr(row, "type", None) != left_out])


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
    none = msgspec.structs.replace(SCORING, placements={"home_hero": placement(reward={"complaint": 1.0})})
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


def test_another_domain_has_its_own(settings: Settings) -> None:
    open_hot_state(settings, now=NOW).close()
    append(settings, history(np.random.default_rng(15), 20))
    go_on(settings)
    assert open_posterior(replace(settings, domain="other")).kept() is None
