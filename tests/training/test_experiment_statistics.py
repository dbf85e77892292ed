"""The formulae of experiments: against tea-tasting, against simulations whose truth is known, against tables."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from tea_tasting import Experiment as TeaExperiment
from tea_tasting.metrics import RatioOfMeans

from decisioning.experiment_content import Metric, Variant
from tests.training.experiment_ledger import running
from training.experiments.comparison import Adjusted, compare, fixed_horizon, reduction
from training.experiments.factors import effects
from training.experiments.moments import COLUMNS, Floats, Moments, moments_of, moments_of_sums
from training.experiments.reading import expected_loss, read
from training.experiments.sequences import ConfidenceSequence, mismatch_evidence


def people(rng: np.random.Generator, n: int = 4_000) -> Floats:
    """Columns of units whose past says much of them, over visits of which some come more often."""
    taste = rng.gamma(2.0, 1.0, n)
    visits, before = 1.0 + rng.poisson(2.0, (2, n))
    spent = rng.poisson(taste * visits) + rng.gamma(1.0, 1.0, n)
    return np.stack([spent, visits, rng.poisson(taste * before).astype(float), before], axis=1)


@pytest.mark.parametrize("kind", ["mean", "mean with a covariate", "ratio", "ratio with a covariate"])
def test_comparisons_are_tea_tastings(kind: str) -> None:
    rng = np.random.default_rng(1)
    rows = people(rng)
    if "ratio" not in kind:
        rows[:, [1, 3]] = 1.0
    if "covariate" not in kind:
        rows[:, 2], rows[:, 3] = 0.0, 1.0
    arm = rng.integers(0, 2, len(rows))
    rows[arm == 1, 0] *= 1.1
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).assign(variant=arm)
    asked = [name if frame[name].nunique() > 1 else None for name in COLUMNS]
    theirs = TeaExperiment({"it": RatioOfMeans(*asked)}).analyze(frame)["it"]

    control, variant = moments_of(rows[arm == 0]), moments_of(rows[arm == 1])
    ours, fixed = compare(control, variant), fixed_horizon(control, variant)

    assert float(ours.control.value) == pytest.approx(theirs.control, rel=1e-8)
    assert float(ours.difference) == pytest.approx(theirs.effect_size, rel=1e-8)
    assert float(ours.difference / ours.error) == pytest.approx(theirs.statistic, rel=1e-8)
    assert float(ours.relative) == pytest.approx(theirs.rel_effect_size, rel=1e-8)
    assert fixed == pytest.approx(
        (
            theirs.effect_size_ci_lower,
            theirs.effect_size_ci_upper,
            theirs.rel_effect_size_ci_lower,
            theirs.rel_effect_size_ci_upper,
            theirs.pvalue,
        ),
        rel=1e-8,
    )


def test_moments_add_up_and_come_of_sums_too() -> None:
    rows = people(np.random.default_rng(2))
    whole, added = moments_of(rows), moments_of(rows[:1_000]) + moments_of(rows[1_000:])
    summed = moments_of_sums(np.asarray(float(len(rows))), rows.sum(axis=0), rows.T @ rows)
    for other in (added, summed):
        for name in ("count", "mean", "covariance"):
            np.testing.assert_allclose(getattr(other, name), getattr(whole, name), rtol=1e-9, atol=1e-12)


def test_cuped_leaves_what_the_past_does_not_explain() -> None:
    rng = np.random.default_rng(3)
    before = rng.standard_normal(40_000)
    rows = np.stack([0.8 * before + 0.6 * rng.standard_normal(40_000), *np.ones((2, 40_000)), np.ones(40_000)], axis=1)
    rows[:, 2] = before
    explained = float(reduction(moments_of(rows[::2]), moments_of(rows[1::2])))
    assert explained == pytest.approx(0.64, abs=4 * 2 * 0.8 * 0.36 / np.sqrt(40_000))


def test_what_nobody_did_before_explains_nothing() -> None:
    rows = people(np.random.default_rng(4))
    rows[:, 2:] = 0.0
    compared = compare(moments_of(rows[::2]), moments_of(rows[1::2]))
    plain = rows[1::2, 0].mean() / rows[1::2, 1].mean() - rows[::2, 0].mean() / rows[::2, 1].mean()
    assert float(compared.difference) == pytest.approx(plain)


def test_a_relative_difference_to_nothing_is_not_stated() -> None:
    rows = np.zeros((400, 4))
    rows[:, 1] = rows[:, 3] = 1.0
    rows[1::8, 0] = 1.0
    found = read(Metric(id="m", of="x"), "b", moments_of(rows[::2]), moments_of(rows[1::2]), ConfidenceSequence(400))
    assert found is not None
    assert (found.relative, found.relative_low, found.fixed.relative_low) == (None, None, None)
    assert found.low < found.difference == 0.25


def test_a_confidence_sequence_holds_at_every_look() -> None:
    """2,000 skewed experiments of 4,000 units, looked at 40 times from 100 units on."""
    rng = np.random.default_rng(5)
    second = rng.random((2_000, 4_000)) < 0.5
    worth = rng.exponential(1.0, second.shape) ** 1.5
    looks = np.arange(100, 4_001, 100) - 1
    sums = [
        np.cumsum(np.where(arm, value, 0.0), axis=1)[:, looks]
        for arm in (~second, second)
        for value in (1.0, worth, worth**2)
    ]
    means, errors = [], []
    for n, total, squares in (sums[:3], sums[3:]):
        means.append(total / n)
        errors.append((squares / n - np.square(total / n)) / n)
    z = np.abs(means[1] - means[0]) / np.sqrt(errors[0] + errors[1])
    missed = (z > ConfidenceSequence(planned=2_000).radius(looks + 1)).any(axis=1).mean()
    naive = (z > 1.96).any(axis=1).mean()
    assert missed <= 0.05
    assert missed > 0.005  # not by being needlessly wide
    assert naive > 0.2


def test_a_confidence_sequence_is_narrowest_where_it_is_planned() -> None:
    planned = 5_000.0
    at_plan = float(ConfidenceSequence(planned).radius(planned))
    best = minimize_scalar(lambda other: float(ConfidenceSequence(other).radius(planned)), bounds=(1e3, 2e4))
    assert best.fun == pytest.approx(at_plan, rel=1e-9)
    assert best.x == pytest.approx(planned, rel=1e-3)


def test_an_anytime_p_value_is_small_just_when_the_interval_leaves_out_nothing() -> None:
    sequence = ConfidenceSequence(planned=1_000, alpha=0.025)
    radius = sequence.radius(np.array([50.0, 1_000.0, 90_000.0]))
    n = np.array([50.0, 1_000.0, 90_000.0])
    assert sequence.p_value(radius, n) == pytest.approx(0.025)
    assert (sequence.p_value(radius * 1.01, n) < 0.025).all()
    assert (sequence.p_value(radius * 0.99, n) > 0.025).all()
    assert sequence.p_value(0.0, n) == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [{"planned": 0.0}, {"planned": 1.0, "alpha": 1.0}], ids=str)
def test_a_confidence_sequence_refuses_what_makes_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ConfidenceSequence(**wrong)


def test_a_mismatch_is_seldom_claimed_and_soon_found() -> None:
    rng = np.random.default_rng(6)
    shares = np.array([0.5, 0.3, 0.2])

    def alarms(true: Floats) -> float:
        counts = rng.multinomial(200, true, (4_000, 50)).cumsum(axis=1).astype(float)
        return float((mismatch_evidence(counts, shares).max(axis=1) > -np.log(0.01)).mean())

    assert alarms(shares) <= 0.01
    assert alarms(np.array([0.46, 0.32, 0.22])) > 0.95


def test_expected_loss_is_what_is_lost_on_average() -> None:
    effect = np.random.default_rng(7).normal(0.3, 1.0, 400_000)
    assert expected_loss(0.3, 1.0) == pytest.approx(np.maximum(-effect, 0.0).mean(), abs=4 * 0.45 / np.sqrt(400_000))


COLOURS = {"colour": ("grey", "red"), "size": ("small", "large", "huge")}


def combined(*, without: int = 0) -> tuple[Variant, ...]:
    made = tuple(
        Variant(id=f"{colour}_{size}", levels={"colour": colour, "size": size})
        for colour in COLOURS["colour"]
        for size in COLOURS["size"]
    )
    return made[: len(made) - without]


def cell(value: float, n: int = 1_000, spread: float = 1.0) -> tuple[Adjusted, float]:
    return Adjusted(np.asarray(value), np.asarray(spread / n)), float(n)


def test_effects_of_factors_are_averages_over_the_other_factors_and_pairs_what_is_left() -> None:
    tested = running(variants=combined(), factors=COLOURS)
    cells = [
        cell(v, n) for v, n in zip((1.0, 2.0, 4.0, 1.5, 2.5, 6.5), (500, 900, 1_000, 1_000, 800, 300), strict=True)
    ]
    found = {each.of: each for each in effects(tested, [c[0] for c in cells], [c[1] for c in cells])}
    assert {name: round(each.value, 9) for name, each in found.items()} == {
        "colour=red": pytest.approx((0.5 + 0.5 + 2.5) / 3),
        "size=large": pytest.approx(1.0),
        "size=huge": pytest.approx(4.0),
        "colour=red x size=large": 0.0,
        "colour=red x size=huge": pytest.approx(2.0),
    }
    # Of a contrast of independent means, the variance is the sum of theirs, weighed.
    error = np.sqrt(sum(1.0 / n for _, n in cells)) / 3
    assert found["colour=red"].high - found["colour=red"].value == pytest.approx(1.959964 * error)


def test_robust_errors_of_factors_hold_where_variants_vary_differently() -> None:
    rng = np.random.default_rng(8)
    tested = running(variants=combined(without=1), factors=COLOURS)
    truth = {"colour=red": 0.3, "size=large": 0.0, "size=huge": -0.2}
    hits: dict[str, int] = dict.fromkeys(truth, 0)
    for _ in range(400):
        values, counts = [], []
        for variant in tested.variants:
            mean = sum(effect for level, effect in truth.items() if level.split("=")[1] in variant.levels.values())
            rows = np.ones((300, 4))
            rows[:, 0] = rng.normal(mean, 3.0 if variant.levels["colour"] == "red" else 0.5, 300)
            sample: Moments = moments_of(rows)
            values.append(Adjusted(sample.mean[0], sample.covariance[0, 0] / 300))
            counts.append(300.0)
        for each in effects(tested, values, counts):
            hits[each.of] += each.low < truth[each.of] < each.high
    for name, count in hits.items():
        assert count / 400 == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 400)), name


def test_effects_of_factors_are_least_squares_on_units_with_whites_errors() -> None:
    """A variant is missing and the rest do not add up, so the fit leaves more than the units' own spread."""
    rng = np.random.default_rng(9)
    tested = running(variants=combined(without=1), factors=COLOURS)
    counts = (400, 300, 500, 600, 200)
    outcomes = [rng.normal(mean, 1.0, n) for mean, n in zip((0.0, 4.0, 1.0, 5.0, -3.0), counts, strict=True)]
    found = effects(
        tested,
        [Adjusted(np.asarray(each.mean()), np.asarray(each.var(ddof=1) / len(each))) for each in outcomes],
        [float(n) for n in counts],
    )
    codes = np.array([(0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0), (1, 1, 0)]) - (1 / 2, 1 / 3, 1 / 3)
    x = np.column_stack([np.ones(sum(counts)), np.repeat(codes, counts, axis=0)])
    y = np.concatenate(outcomes)
    fitted, *_ = np.linalg.lstsq(x, y)
    bread = np.linalg.inv(x.T @ x)
    errors = np.sqrt(np.diag(bread @ (x.T @ (np.square(y - x @ fitted)[:, None] * x)) @ bread))
    assert [each.value for each in found] == pytest.approx(fitted[1:].tolist())
    assert [(each.high - each.value) / 1.959964 for each in found] == pytest.approx(errors[1:].tolist(), rel=0.005)


def test_variants_in_which_two_factors_go_together_tell_nothing_of_either() -> None:
    variants = (
        Variant(id="a", levels={"colour": "grey", "size": "small"}),
        Variant(id="b", levels={"colour": "red", "size": "large"}),
    )
    tested = running(variants=variants, factors={"colour": ("grey", "red"), "size": ("small", "large")})
    assert effects(tested, [cell(1.0)[0], cell(2.0)[0]], [1_000.0, 1_000.0]) == []
