import numpy as np
import pytest
from scipy.special import expit, logit

from training.calibration import Calibration, calibration_error, fit_calibration, reliability


def test_a_distortion_is_undone() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(0.01, 0.4, 40_000)
    distorted = expit(1.7 * logit(true) + 0.6)
    success = rng.binomial(1, true)
    learnt = fit_calibration(distorted, success)
    assert learnt.slope == pytest.approx(1 / 1.7, rel=0.06)
    assert calibration_error(learnt.apply(distorted), success) < 0.01 < calibration_error(distorted, success)


def test_the_order_of_customers_does_not_change() -> None:
    scores = np.array([0.0, 1e-9, 0.2, 0.7, 1.0])
    calibrated = Calibration(slope=0.7, intercept=-1.0).apply(scores)
    assert (np.diff(calibrated) >= 0).all()
    assert np.isfinite(calibrated).all()


def test_scores_that_rank_backwards_become_the_base_rate() -> None:
    success = np.array([1, 0] * 200)
    learnt = fit_calibration(np.where(success == 1, 0.2, 0.6), success)
    assert learnt.apply(np.array([0.1, 0.9])) == pytest.approx([0.5, 0.5], abs=0.01)


def test_a_slice_without_a_success_still_gives_a_propensity_above_nothing() -> None:
    calibrated = fit_calibration(np.full(50, 0.3), np.zeros(50, dtype=int)).apply(np.array([0.3]))
    assert 0.0 < calibrated[0] < 0.1


def test_bins_have_equal_mass() -> None:
    rows = reliability(np.random.default_rng(0).random(103), np.zeros(103, dtype=int))[:, 2]
    assert rows.sum() == 103
    assert rows.max() - rows.min() <= 1
