"""What counts as an exposure, and that counts do not hang on the order in which rows come or time is made coarser."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest

from decisioning.record import Assignment, DecisionRecord, ModelVersion, OutcomeRecord
from decisioning.response_counts import (
    Cell,
    Counts,
    Exposure,
    Tally,
    add,
    coarsened,
    decoded,
    encoded,
    exposure,
    variants_of,
)
from tests.builders import NOW, candidate, placement, record, slot

HOME = placement(reward={"accept": 1.0, "unsubscribe": -1.0}, shown_by="impression")
SCORED = {"model": ModelVersion("propensity", "7", "f" * 64)}


def outcome(kind: str, **overrides: Any) -> OutcomeRecord:
    defaults: dict[str, Any] = {
        "outcome_id": kind, "decision_id": "d-1", "action_id": "card", "type": kind, "detail": None, "value": None,
        "occurred_at": NOW, "received_at": NOW,
    }  # fmt: skip
    return OutcomeRecord(**{**defaults, **overrides})


def exposed(*kinds: str, **overrides: Any) -> Exposure | None:
    return exposure(record(**{**SCORED, **overrides}), HOME, [outcome(kind) for kind in kinds])


def test_what_was_seen_is_a_trial_and_what_was_taken_a_success() -> None:
    for kinds, successes in ((("impression",), 0), (("impression", "accept"), 1), (("accept", "unsubscribe"), 0)):
        found = exposed(*kinds)
        assert found is not None
        assert (found.tally.trials, found.tally.successes) == (1, successes)


@pytest.mark.parametrize(
    "overrides",
    [
        {"reason": "HOLDOUT"},
        {"reason": "FALLBACK_FEATURES_UNAVAILABLE"},
        {"reason": "FALLBACK_MODEL_UNAVAILABLE", "candidates": (candidate("card", propensity=None),)},
        {"model": None},
        {"apprentice": True},
        {"erased": True},
        {"slots": ()},
        {"slots": (slot(repeats="d-0"),)},
    ],
    ids=lambda overrides: next(iter(overrides)) + str(next(iter(overrides.values())))[:30],
)
def test_what_no_model_chose_or_is_no_new_contact_counts_nothing(overrides: dict[str, Any]) -> None:
    assert exposed("impression", "accept") is not None
    assert exposed("impression", "accept", **overrides) is None


def test_what_was_not_shown_counts_nothing() -> None:
    assert exposed() is None
    assert exposed("impression", "bounce") is None


def test_only_the_first_slot_counts_since_the_score_is_that_of_the_first() -> None:
    found = exposed("impression", slots=(slot(1, "loan"), slot(2, "card")))
    assert found is None  # the impression names the second


def test_the_score_is_the_models_own_not_the_corrected_one() -> None:
    shifted = (candidate("card", propensity=0.9, score=0.1, shift=4.4),)
    plain, corrected = exposed("impression"), exposed("impression", candidates=shifted)
    assert plain is not None
    assert corrected is not None
    assert plain.tally.offsets == corrected.tally.offsets == round(np.log(0.1 / 0.9) * 1024)


def test_the_time_is_that_of_the_contact() -> None:
    found = exposed("impression", contact_at=NOW + timedelta(hours=3))
    assert found is not None
    assert found.cell.begin == int((NOW + timedelta(hours=3)).timestamp()) // 60


def test_variants_have_counts_of_their_own() -> None:
    found = exposed("impression", assignments=(Assignment("hero", "b", 0.5), Assignment("area", "a", 0.5)))
    assert found is not None
    assert (
        found.cell.variants
        == "area=a,hero=b"
        == variants_of([Assignment("area", "a", 1.0), Assignment("hero", "b", 1.0)])
    )


def scattered(rng: np.random.Generator, rows: int) -> list[Exposure]:
    """Exposures of the last 40 days."""
    minute = int(NOW.timestamp()) // 60
    ages = np.minimum(rng.exponential(4_000.0, rows), 40 * 1_440).astype(int)
    return [
        Exposure(
            Cell("", f"a{rng.integers(3)}", "web", "home_hero", minute - int(age), 1, int(rng.integers(-7, -4))),
            Tally(1, int(rng.random() < 0.1), int(rng.integers(-4_000, -2_000))),
        )
        for age in ages
    ]


def counts_of(exposures: list[Exposure]) -> Counts:
    counts: Counts = {}
    for each in exposures:
        add(counts, each)
    return counts


def test_counts_add_up_in_any_order_and_however_often_time_is_made_coarser() -> None:
    rng = np.random.default_rng(1)
    rows = scattered(rng, 2_000)
    at_once = coarsened(counts_of(rows), now=NOW)
    live: Counts = {}
    for number, place in enumerate(rng.permutation(len(rows))):
        add(live, rows[place])
        if number % 100 == 0:  # what is newer than this time stays as it is
            live = coarsened(live, now=NOW - timedelta(days=20) + timedelta(days=20 * number / len(rows)))
    assert coarsened(live, now=NOW) == at_once


def test_what_is_taken_back_leaves_nothing() -> None:
    rows = scattered(np.random.default_rng(2), 200)
    counts = counts_of(rows)
    for each in rows:
        add(counts, each, times=-1)
    assert counts == {}


def test_the_same_counts_are_the_same_bytes() -> None:
    rows = scattered(np.random.default_rng(3), 200)
    assert encoded(counts_of(rows)) == encoded(counts_of(rows[::-1]))
    assert decoded(encoded(counts_of(rows))) == counts_of(rows)


def test_the_older_the_wider_are_buckets_and_no_count_is_lost() -> None:
    rows = scattered(np.random.default_rng(4), 3_000)
    coarse = coarsened(counts_of(rows), now=NOW)
    assert sum(tally.trials for tally in coarse.values()) == 3_000
    assert all(cell.begin % cell.width == 0 for cell in coarse)
    minute = int(NOW.timestamp()) // 60
    widest = {width: max(minute - cell.begin for cell in coarse if cell.width == width) for width in (1, 10, 60, 360)}
    assert widest[1] < 40 < widest[10] < 300 < widest[60] < 2_000 < widest[360] < 17_000


def test_a_record_that_the_ledger_gives_back_counts_the_same() -> None:
    decided = record(**SCORED)
    again = msgspec.json.decode(msgspec.json.encode(decided), type=DecisionRecord)
    told = [outcome("impression", occurred_at=datetime(2026, 3, 2, 12, 1, tzinfo=UTC))]
    assert exposure(decided, HOME, told) == exposure(again, HOME, told) is not None
