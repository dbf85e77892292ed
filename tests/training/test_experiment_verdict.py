"""The plan's six words: which holds when, and what it says."""

from datetime import timedelta
from typing import Any

import pytest

from tests.builders import NOW
from training.experiments.comparison import Fixed
from training.experiments.reading import Reading
from training.experiments.verdict import Mismatch, Plan, Verdict, verdict

EVEN = Mismatch(counts={"a": 500, "b": 500}, shares={"a": 0.5, "b": 0.5}, p_value=1.0)
ODD = Mismatch(counts={"a": 5_400, "b": 4_600}, shares={"a": 0.5, "b": 0.5}, p_value=1e-6)


def reading(low: float, high: float, variant: str = "b", **overrides: Any) -> Reading:
    """A metric of which the control's value is 1, so that differences are shares."""
    middle = (low + high) / 2
    fields: dict[str, Any] = {
        "metric": "spend", "variant": variant, "better": "higher", "units": 500, "control_units": 500,
        "value": 1.0 + middle, "control": 1.0, "difference": middle, "low": low, "high": high, "relative": middle,
        "relative_low": low, "relative_high": high, "p_value": 0.5, "fixed": Fixed(low, high, low, high, 0.5),
        "explained": 0.0, "chance_better": 0.5, "expected_loss": 0.1, "expected_loss_of_control": 0.1,
    }  # fmt: skip
    return Reading(**(fields | overrides))


def said(
    *primary: Reading,
    guardrails: tuple[Reading, ...] = (),
    mismatch: Mismatch = EVEN,
    minimum_effect: float | None = 0.05,
    days_left: int = 1,
    variants: tuple[str, ...] = ("b",),
) -> Verdict:
    plan = Plan(control="a", variants=variants, minimum_effect=minimum_effect, ends=NOW + timedelta(days=days_left))
    return verdict(plan, primary, guardrails, mismatch, now=NOW)


def test_a_variant_that_is_surely_better_wins() -> None:
    found = said(reading(0.01, 0.05))
    assert (found.word, found.variant) == ("win", "b")
    assert found.sentence == "choose b: spend is better than with a, by +3.0% (between +1.0% and +5.0%)"


def test_less_is_better_where_the_metric_says_so() -> None:
    assert said(reading(-0.05, -0.01, better="lower")).word == "win"
    assert said(reading(0.01, 0.05, better="lower")).word == "lose"


def test_of_several_winners_the_best_is_named() -> None:
    assert said(reading(0.01, 0.02), reading(0.01, 0.09, "c"), variants=("b", "c")).variant == "c"


def test_the_control_is_kept_only_if_every_variant_is_worse() -> None:
    worse = reading(-0.05, -0.01)
    assert (said(worse).word, said(worse).variant) == ("lose", "a")
    assert said(worse, reading(-0.05, 0.01, "c"), variants=("b", "c")).word == "go_on"
    assert said(worse, variants=("b", "c")).word == "go_on"  # too little is known of c


@pytest.mark.parametrize(
    ("low", "days_left", "minimum_effect", "word"),
    [
        (-0.04, 0, 0.05, "ship_no_harm"),
        (-0.04, 1, 0.05, "go_on"),
        (-0.06, 0, 0.05, "go_on"),
        (-0.04, 0, None, "go_on"),
    ],
)
def test_what_does_no_harm_may_be_shipped_once_its_length_is_over(
    low: float, days_left: int, minimum_effect: float | None, word: str
) -> None:
    found = said(reading(low, 0.05), days_left=days_left, minimum_effect=minimum_effect)
    assert found.word == word


def test_a_worse_guardrail_stops_what_would_win() -> None:
    guard = reading(0.1, 0.4, metric="unsubscribes", better="lower")
    found = said(reading(0.01, 0.05), guardrails=(guard,))
    assert found.word == "stop_guardrail"
    assert found.sentence.startswith("stop: unsubscribes is worse with b")


def test_a_guardrail_that_may_be_worse_stops_nothing() -> None:
    assert said(reading(0.01, 0.05), guardrails=(reading(-0.1, 0.4, better="lower"),)).word == "win"


def test_a_mismatch_comes_before_everything() -> None:
    found = said(reading(0.01, 0.05), guardrails=(reading(0.1, 0.4, better="lower"),), mismatch=ODD)
    assert found.word == "stop_mismatch"
    assert "5,400 a, 4,600 b were met where 50.0% a, 50.0% b were meant" in found.sentence


def test_going_on_says_until_when_and_why() -> None:
    assert said().sentence == "go on: too few units have been met to say anything"
    assert said(reading(-0.02, 0.04)).sentence == (
        "go on: spend with b cannot be told from a yet, by +1.0% (between -2.0% and +4.0%);"
        " it is planned until 2026-03-03"
    )
    assert said(reading(-0.2, 0.04), days_left=0).sentence.endswith("looking on stays valid")


def test_only_going_on_does_not_stop() -> None:
    assert not said().stops
    assert said(mismatch=ODD).stops


def test_without_a_relative_reading_the_difference_is_said_and_no_harm_cannot_be() -> None:
    unknown = {"relative": None, "relative_low": None, "relative_high": None}
    assert said(reading(-0.01, 0.05, **unknown), days_left=0).word == "go_on"
    assert "by +0.03 (between +0.01 and +0.05)" in said(reading(0.01, 0.05, **unknown)).sentence
