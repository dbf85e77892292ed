"""An experiment from the ledger to the verdict."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from decisioning.content import Audience
from decisioning.errors import DataError, RequestError
from decisioning.experiment_content import Experiment, Metric, Variant
from tests.builders import NOW
from tests.training.experiment_ledger import BUYS, DAY, FakeLedger, catalog_with, running
from training.experiments.measurements import read_before
from training.experiments.power import PLANNED, planned_units, power
from training.experiments.report import ExperimentReport, experiment_of, experiment_report

LATER = NOW + 20 * DAY


def a_shop(*rates: float, units: int = 600, seed: int = 1, days: int = 10) -> FakeLedger:
    """So many units a day come by for so many days, and buy at these rates, by variant."""
    rng = np.random.default_rng(seed)
    ledger = FakeLedger()
    for number in range(units):
        place = int(rng.integers(len(rates)))
        at = NOW + timedelta(days=float(number * days / units))
        made = ledger.met(f"c-{number}", "abcdef"[place], at=at, features={"age": float(20 + number % 40)})
        if rng.random() < rates[place]:
            ledger.tell(made, "purchase", at=at + timedelta(hours=1), value=10.0)
    return ledger


def reported(
    ledger: FakeLedger, *metrics: Metric, now: datetime = LATER, tested: Experiment | None = None, **overrides: Any
) -> ExperimentReport:
    tested = tested or running(minimum_effect=0.1)
    asked: Sequence[str] = overrides.pop("asked", ())
    return experiment_report(ledger, catalog_with(tested, *metrics, **overrides), tested, now=now, audiences=asked)


def test_a_better_variant_wins_and_the_truth_is_in_every_interval() -> None:
    found = reported(a_shop(0.1, 0.35))
    [reading] = found.primary
    assert (found.verdict.word, found.verdict.variant) == ("win", "b")
    assert reading.low < 0.25 < reading.high
    assert reading.fixed.low < 0.25 < reading.fixed.high
    assert reading.high - reading.low > reading.fixed.high - reading.fixed.low
    assert sum(found.mismatch.counts.values()) == 600


def test_without_an_effect_it_goes_on() -> None:
    assert reported(a_shop(0.2, 0.2), now=NOW + 11 * DAY).verdict.word == "go_on"


def test_more_unsubscribes_stop_it() -> None:
    ledger = a_shop(0.1, 0.35)
    for made in [each for each in ledger.records if each.assignments[0].variant == "b"][::3]:
        ledger.tell(made, "unsubscribe", at=made.decided_at + DAY)
    assert reported(ledger).verdict.word == "stop_guardrail"


def test_units_that_get_lost_stop_it() -> None:
    ledger = a_shop(0.1, 0.35, units=1_500)
    lost = {each.decision_id for each in ledger.records if each.assignments[0].variant == "b"}
    ledger.told = [t for n, t in enumerate(ledger.told) if t.decision_id not in lost or n % 3]
    assert reported(ledger).verdict.word == "stop_mismatch"


def test_a_day_that_is_over_is_told_alike_for_ever() -> None:
    ledger, within = a_shop(0.1, 0.35), Metric(id="buys", of="purchase", within=DAY)
    soon = reported(ledger, within, now=NOW + 8 * DAY).days
    late = reported(ledger, within).days
    assert len(soon) >= 3
    assert late[: len(soon)] == soon


def test_an_effect_of_novelty_is_seen_to_fade() -> None:
    ledger, rng = FakeLedger(), np.random.default_rng(2)
    for number in range(600):
        made = ledger.met(f"c-{number}", "ab"[number % 2], at=NOW + timedelta(minutes=number))
        for day in range(4):
            if rng.random() < (0.5 if day == 0 and number % 2 else 0.1):
                ledger.tell(made, "purchase", at=made.decided_at + (day + 0.5) * DAY)
    found = reported(ledger, now=NOW + 5 * DAY).novelty
    assert [each.day for each in found] == [0, 1, 2, 3]
    first, *later = [reading for each in found for reading in each.readings]
    assert first.is_better
    assert first.low < 0.4 < first.high
    assert all(reading.low < 0.0 < reading.high for reading in later)


def test_with_several_variants_each_interval_is_wider_so_that_all_hold() -> None:
    ledger = a_shop(0.1, 0.35)
    three = running(variants=tuple(Variant(id=name) for name in "abc"), minimum_effect=0.1)
    [two], [wider] = reported(ledger).primary, reported(ledger, tested=three).primary
    assert wider.high - wider.low > two.high - two.low
    assert wider.difference == two.difference


def test_an_audiences_units_are_compared_among_themselves() -> None:
    old = Audience(id="old", rule="customer.age >= 40.0")
    young = Audience(id="young", rule="customer.age < 40.0")
    found = reported(a_shop(0.1, 0.35), audiences=(old, young), asked=("old", "young"))
    assert [each.audience for each in found.audiences] == ["old", "young"]
    units = [each.reading.units + each.reading.control_units for each in found.audiences]
    assert sum(units) == 600
    assert all(each.corrected >= each.reading.p_value for each in found.audiences)


def test_factors_are_told_apart() -> None:
    levels = {"colour": ("grey", "red"), "size": ("small", "large")}
    variants = tuple(
        Variant(id="abcd"[2 * c + s], levels={"colour": colour, "size": size})
        for c, colour in enumerate(levels["colour"])
        for s, size in enumerate(levels["size"])
    )
    tested = running(variants=variants, factors=levels)
    found = reported(a_shop(0.1, 0.1, 0.4, 0.4, units=1_200), tested=tested).factors
    effects = {each.of: each for each in found}
    assert effects["colour=red"].low < 0.3 < effects["colour=red"].high
    assert effects["colour=red"].p_value < 0.01
    assert effects["size=large"].low < 0.0 < effects["size=large"].high


def test_what_was_bought_before_makes_the_interval_narrower() -> None:
    rng = np.random.default_rng(3)
    ledger = FakeLedger()
    for number in range(600):
        taste, place = rng.gamma(1.0, 3.0), int(rng.integers(2))
        earlier = ledger.assigned(f"c-{number}", at=NOW - 5 * DAY, assignments=())
        made = ledger.met(f"c-{number}", "ab"[place], at=NOW + DAY)
        for decision, at in ((earlier, NOW - 4 * DAY), (made, NOW + 2 * DAY)):
            for _ in range(rng.poisson(taste)):
                ledger.tell(decision, "purchase", at=at)
    count = Metric(id="orders", of="purchase", measure="count")
    [reading] = reported(ledger, count, tested=running(metric="orders")).primary
    assert reading.explained == pytest.approx((9.0 / 12.0) ** 2, abs=0.15)  # the correlation of two such Poissons


def test_before_anybody_came_there_is_a_report_that_says_so() -> None:
    found = reported(FakeLedger(), tested=running(starts=None))
    assert (found.begins, found.primary, found.days, found.planned) == (None, (), (), PLANNED)
    assert found.verdict.sentence == "go on: too few units have been met to say anything"


def test_an_unknown_experiment_and_one_without_a_second_variant_are_refused() -> None:
    with pytest.raises(RequestError, match="must be one of hero_copy"):
        experiment_of(catalog_with(running()), "other")
    with pytest.raises(RequestError, match="one variant"):
        experiment_of(catalog_with(running(variants=(Variant(id="a"),))), "hero_copy")


def test_power_is_of_who_would_have_taken_part() -> None:
    ledger = a_shop(0.2, 0.2, units=2_000, days=14)
    end = NOW + 14 * DAY

    def needed(tested: Experiment) -> Any:
        log = read_before(ledger, catalog_with(tested), tested, (BUYS,), before=end)
        return power(log, BUYS), log

    draft = running(id="next", minimum_effect=0.2, starts=None, status="draft")
    found, log = needed(draft)
    assert found.units_met == 2_000
    assert found.baseline == pytest.approx(0.2, abs=0.04)
    # Two shares of 20 % and 24 % with 80 % power at 5 %: 16 p (1 - p) / d^2 of either, by the rule of thumb.
    assert found.fixed.units == pytest.approx(
        2 * 15.7 * found.baseline * (1 - found.baseline) / (0.2 * found.baseline) ** 2, rel=0.01
    )
    assert found.fixed.days == pytest.approx(14 * found.fixed.units / 2_000, abs=1)
    assert found.anytime.units > 1.3 * found.fixed.units
    assert planned_units(log) == 2_048

    half, _ = needed(running(id="next", minimum_effect=0.2, traffic=0.5))
    assert half.units_met == pytest.approx(1_000, abs=4 * np.sqrt(500))
    young, _ = needed(running(id="next", minimum_effect=0.2, eligibility="customer.age < 40.0"))
    assert young.units_met == 1_000


def test_power_looks_at_the_planned_length_before_and_at_all_variants() -> None:
    ledger, end = a_shop(0.2, 0.2, units=2_000, days=14), NOW + 14 * DAY
    for number in range(300):
        ledger.met(f"earlier-{number}", at=NOW - DAY)

    def needed(*weights: float) -> Any:
        variants = tuple(Variant(id=name, weight=weight) for name, weight in zip("abc", weights, strict=False))
        tested = running(id="next", minimum_effect=0.2, variants=variants)
        return power(read_before(ledger, catalog_with(tested), tested, (BUYS,), before=end), BUYS)

    two, three = needed(1.0, 1.0), needed(2.0, 1.0, 1.0)
    assert two.units_met == three.units_met == 2_000
    # Half of the control's units: 9/8 as many of the two; of all, 4/3 of those; and 5 % shared out.
    z = np.square((norm.isf(0.0125) + norm.isf(0.2)) / (norm.isf(0.025) + norm.isf(0.2)))
    assert three.fixed.units == pytest.approx(two.fixed.units * 9 / 8 * 4 / 3 * z, rel=0.01)


def test_power_without_anybody_or_anything_says_why_there_is_none() -> None:
    tested = running(minimum_effect=0.2)
    for ledger, said in (
        (FakeLedger(), "only 0 units"),
        (a_shop(0.0, 0.0), "is nothing, or the same, of all 600 units"),
    ):
        log = read_before(ledger, catalog_with(tested), tested, (BUYS,), before=LATER - 6 * DAY)
        with pytest.raises(DataError, match=said):
            power(log, BUYS)
