"""Against a simulator whose truth is known: who would have earned what."""

from datetime import timedelta

import numpy as np
import pytest

from decisioning.errors import DataError
from decisioning.record import DecisionRecord, ModelVersion, Shadow
from tests.builders import NOW, candidate, record, slot
from training.apprentice_report import apprentice_report
from training.closed_decisions import Closed
from training.shadow_report import ShadowReport, shadow_report

TRUE = np.array([0.1, 0.3, 0.05])  # what showing each of three actions earns on average
SERVED = np.array([0.5, 0.3, 0.2])
BETTER = (0.1, 0.85, 0.05)
CHALLENGER = ModelVersion("m", "8", "c" * 64)


def decided(number: int, rng: np.random.Generator, shadow: tuple[float, ...] = BETTER, **overrides: object) -> Closed:
    chosen = int(rng.choice(3, p=SERVED))
    names = ("a", "b", "c")
    candidates = tuple(
        candidate(name, weight=float(weight), propensity=float(true), value=1.0)
        for name, weight, true in zip(names, SERVED, TRUE, strict=True)
    )
    made = record(
        **{
            "decision_id": f"d-{number}",
            "customer_id": f"c-{number // 2}",
            "decided_at": NOW + timedelta(minutes=number),
            "candidates": candidates,
            "slots": (slot(1, names[chosen], probability=float(SERVED[chosen])),),
            "shadow": Shadow(model=CHALLENGER, propensities=(0.1, 0.4, 0.05), probabilities=shadow),
        }
        | overrides
    )
    return Closed(made, True, float(rng.random() < TRUE[chosen]))


def report(closed: list[Closed], more: tuple[DecisionRecord, ...] = ()) -> ShadowReport:
    records = [*(each.record for each in closed), *more]
    return shadow_report(
        records, closed, domain="shop", bundle_sha256="c" * 64, since=NOW, until=NOW + timedelta(days=9)
    )


@pytest.fixture(scope="module")
def closed() -> list[Closed]:
    rng = np.random.default_rng(1)
    return [decided(number, rng) for number in range(6_000)]


def test_the_challengers_value_is_the_truth_within_its_interval(closed: list[Closed]) -> None:
    found = report(closed)
    truth, earned = float(TRUE @ BETTER), float(TRUE @ SERVED)
    assert [each.estimator for each in found.values] == ["ips", "snips", "dr"]
    for each in found.values:
        assert each.value.low < truth < each.value.high
        assert each.difference.low < truth - earned < each.difference.high
        assert each.difference.low > 0.0


def test_what_the_served_model_knows_makes_the_doubly_robust_interval_the_narrower(closed: list[Closed]) -> None:
    ips, _, dr = (each.value.high - each.value.low for each in report(closed).values)
    assert dr < 0.95 * ips


def test_agreement_and_overlap_are_those_of_the_two_policies(closed: list[Closed]) -> None:
    found = report(closed[:50])
    assert found.agreement == 0.0
    assert found.overlap == pytest.approx(0.1 + 0.3 + 0.05)
    assert found.score_differences["0.95"] == pytest.approx(0.1)


def test_a_challenger_that_says_the_same_earns_the_same_to_the_last_decision() -> None:
    rng = np.random.default_rng(2)
    found = report([decided(number, rng, tuple(SERVED.tolist())) for number in range(300)])
    assert (found.agreement, found.overlap) == (1.0, pytest.approx(1.0))
    assert found.values[0].difference.low == pytest.approx(found.values[0].difference.high) == pytest.approx(0.0)


def test_what_has_no_chance_in_what_was_served_is_a_warning() -> None:
    rng = np.random.default_rng(3)
    narrow = [candidate(name, weight=1.0, tier=tier, propensity=0.1) for name, tier in (("a", 0), ("b", 0), ("c", 1))]
    closed = [
        decided(number, rng, (0.0, 0.4, 0.6), candidates=tuple(narrow), slots=(slot(1, "ab"[number % 2]),))
        for number in range(200)
    ]
    assert any(
        warning.startswith("60.0% of the challenger's choices had no chance") for warning in report(closed).warnings
    )


def test_before_any_window_has_closed_agreement_is_told_and_value_is_not(closed: list[Closed]) -> None:
    found = report([], tuple(each.record for each in closed[:10]))
    assert (found.decisions, found.closed, found.earned, found.values) == (10, 0, None, ())
    assert "no value yet" in found.warnings[0]


def test_another_challengers_word_does_not_count(closed: list[Closed]) -> None:
    with pytest.raises(DataError, match="nextmove shadow start"):
        shadow_report(
            [each.record for each in closed[:5]], [], domain="shop", bundle_sha256="d" * 64, since=NOW, until=NOW
        )


def test_what_was_not_drawn_values_nobody() -> None:
    rng = np.random.default_rng(4)
    served = [decided(number, rng, slots=(slot(1, "a", probability=None),), apprentice=True) for number in range(10)]
    assert report(served).closed == 0


def test_the_match_rate_is_the_policys_chance_of_what_the_caller_chose() -> None:
    rng = np.random.default_rng(5)
    always_b = [decided(number, rng, slots=(slot(1, "b", probability=None),), apprentice=True) for number in range(400)]
    [found] = apprentice_report(always_b, domain="shop", since=NOW, until=NOW).placements
    assert found.match_rate.value == pytest.approx(0.3)
    assert found.by_chance == pytest.approx(1 / 3)
    assert found.agreement.value == 0.0
    assert found.earned_in_agreement is None
    assert len(found.trend) == 1


def test_an_apprentice_that_learnt_the_callers_rule_agrees_and_gains_nothing() -> None:
    rng = np.random.default_rng(6)
    same = [decided(number, rng, slots=(slot(1, "a", probability=None),), apprentice=True) for number in range(400)]
    greedy = tuple(
        candidate(name, weight=1.0, tier=place, propensity=float(TRUE[place])) for place, name in enumerate("abc")
    )
    same = [
        each._replace(record=decided(0, rng, slots=each.record.slots, apprentice=True, candidates=greedy).record)
        for each in same
    ]
    [found] = apprentice_report(same, domain="shop", since=NOW, until=NOW).placements
    assert (found.match_rate.value, found.agreement.value) == (1.0, 1.0)
    assert found.gain.value == pytest.approx(0.0)
    assert found.earned_in_agreement is not None


def test_only_decisions_of_apprentices_are_reported() -> None:
    with pytest.raises(DataError, match="apprentice: true"):
        apprentice_report([decided(0, np.random.default_rng(7))], domain="shop", since=NOW, until=NOW)
