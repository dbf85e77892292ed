"""Qini and uplift at k, by hand, against another implementation's numbers, and against a known truth."""

import numpy as np
import pytest

from tests.training.opposed_shop import opposed_catalog, opposed_shop
from training.uplift import contrasts
from training.uplift_quality import Ranked, quality_table, rank_quality, ranked_draws


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def by_definition(ranked: Ranked) -> float:
    """Radcliffe's Qini with every row a point of the curve; for weights of 1 and scores that differ."""

    def area(order: np.ndarray) -> tuple[float, float]:
        success, treated = ranked.success[order], ranked.treated[order]
        n_t, n_c = np.cumsum(treated), np.cumsum(~treated)
        y_t, y_c = np.cumsum(success * treated), np.cumsum(success * ~treated)
        gain = np.append(0.0, y_t - np.divide(y_c * n_t, n_c, out=np.zeros(len(order)), where=n_c > 0))
        return float(np.trapezoid(gain, np.linspace(0.0, 1.0, len(order) + 1))), float(gain[-1] / 2.0)

    optimal = np.argsort(-(ranked.success * np.where(ranked.treated, 1.0, -1.0)), kind="stable")
    found, random = area(np.argsort(-ranked.score))
    return (found - random) / (area(optimal)[0] - random)


def randomised(n: int = 4000, *, seed: int = 0) -> tuple[Ranked, np.ndarray]:
    """A randomised comparison whose true uplift is the first score's."""
    draws = np.random.default_rng(seed)
    truth = draws.uniform(-0.1, 0.3, n)
    treated = draws.random(n) < 0.5
    success = (draws.random(n) < 0.2 + treated * truth).astype(float)
    return Ranked(truth, success, treated, np.ones(n), np.arange(n)), truth


def test_qini_is_radcliffes() -> None:
    for seed in range(3):
        ranked, _ = randomised(seed=seed)
        assert rank_quality("a", ranked, rng=rng(), replications=2).qini.value == pytest.approx(
            by_definition(ranked), abs=0.002
        )


def test_the_true_uplift_ranks_better_than_chance_and_its_opposite_worse() -> None:
    ranked, truth = randomised()
    good = rank_quality("a", ranked, rng=rng())
    bad = rank_quality("a", ranked._replace(score=-truth), rng=rng())
    assert 0.0 < good.qini.low < good.qini.value < good.qini.high
    assert bad.qini.high < 0.0
    for share, found in good.at.items():
        expected = np.sort(truth)[-int(share * len(truth)) :].mean()
        assert abs(found.value - expected) < 4.0 * (found.high - found.low) / 3.92
    assert good.effect.value == pytest.approx(truth.mean(), abs=0.06)


def test_the_same_score_for_all_is_worth_nothing() -> None:
    ranked, _ = randomised()
    flat = rank_quality("a", ranked._replace(score=np.full(4000, 0.1)), rng=rng(), replications=50)
    assert flat.qini.value == pytest.approx(0.0, abs=1e-12)
    assert flat.at[0.1].value == pytest.approx(flat.effect.value)


def test_weights_undo_that_the_keen_were_shown_more() -> None:
    world = opposed_shop(8000, seed=3)
    pairs = contrasts(world.examples, opposed_catalog(), rng=rng())
    coupon = pairs.of(pairs.action == 0)
    ranked = ranked_draws(coupon, world.by_coupon[coupon.row])
    found = rank_quality("coupon", ranked, rng=rng())
    truth = np.sort(world.by_coupon)[-2400:].mean()
    assert abs(found.at[0.3].value - truth) < 4.0 * (found.at[0.3].high - found.at[0.3].low) / 3.92
    assert found.effect.low < world.by_coupon.mean() < found.effect.high
    naive = rank_quality("coupon", ranked._replace(weight=np.ones(len(ranked.score))), rng=rng(), replications=50)
    assert naive.effect.value > found.effect.high  # the keen buy anyway, and were shown it more often


def test_intervals_widen_when_customers_come_back() -> None:
    ranked, _ = randomised(2000)
    twice = Ranked(*(np.concatenate([each, each]) for each in ranked))
    widths = {
        name: rank_quality("a", each, rng=rng()).qini
        for name, each in {
            "one": ranked, "twins": twice, "strangers": twice._replace(customer=np.arange(4000)),
        }.items()
    }  # fmt: skip
    width = {name: found.high - found.low for name, found in widths.items()}
    assert width["twins"] == pytest.approx(width["one"], rel=0.15)
    assert width["strangers"] < 0.85 * width["one"]


def test_the_table_has_every_estimate_with_its_bounds() -> None:
    ranked, _ = randomised(1000)
    [row] = quality_table([rank_quality("card", ranked, rng=rng(), replications=20)]).to_dict("records")
    assert row["action_id"] == "card"
    assert {"qini", "qini_low", "qini_high", "effect", "at_10", "at_20_low", "at_30_high", "mean_score"} <= row.keys()
