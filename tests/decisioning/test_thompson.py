"""The chances of normal values to be the largest, against integrals and counts that are made in another way."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import log_ndtr, ndtr

from decisioning.thompson import chances_of_largest, shares_of_largest


def integrated(means: np.ndarray, sds: np.ndarray) -> np.ndarray:
    """Of each in turn, by adaptive integration over the pieces that all means and deviations make; in logarithms."""
    random = sds > 0
    known = means[~random].max() if (~random).any() else -np.inf
    m, s = means[random], sds[random]
    cuts = np.unique((m[:, None] + s[:, None] * np.linspace(-9, 9, 7)).ravel())
    cuts = np.unique(np.append(cuts[cuts > known], known)) if np.isfinite(known) else cuts

    def density(x: float, at: int) -> float:
        z = (x - m) / s
        return float(np.exp(-0.5 * z[at] ** 2 - log_ndtr(z[at]) + log_ndtr(z).sum()) / (s[at] * np.sqrt(2 * np.pi)))

    chances = np.zeros(len(means))
    for at, place in enumerate(np.flatnonzero(random)):
        chances[place] = sum(
            quad(density, low, high, args=(at,), epsabs=1e-10, epsrel=1e-7)[0] for low, high in pairwise(cuts)
        )
    if np.isfinite(known):
        tied = ~random & (means == known)
        chances[tied] = np.exp(log_ndtr((known - m) / s).sum()) / tied.sum()
    return chances


def dense(means: np.ndarray, sds: np.ndarray) -> np.ndarray:
    """Of many with scales alike: 500 nodes on one interval, in logarithms."""
    nodes, weights = np.polynomial.legendre.leggauss(500)
    low, high = (means - 8 * sds).max(), (means + 8 * sds).max()
    z = ((low + high) / 2 + (high - low) / 2 * nodes - means[:, None]) / sds[:, None]
    logs = log_ndtr(z)
    chances: np.ndarray = (np.exp(-0.5 * z * z - logs + logs.sum(axis=0)) / sds[:, None]) @ weights
    return chances * (high - low) / 2 / np.sqrt(2 * np.pi)


def worlds() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(11)
    some = np.where(rng.random(8) < 0.5, 0.0, 0.2)
    return {
        "one": (np.array([0.3]), np.array([0.1])),
        "one that is known": (np.array([0.3]), np.array([0.0])),
        "two alike": (np.array([0.5, 0.5]), np.array([0.1, 0.1])),
        "far apart": (np.array([0.0, 1.0]), np.array([1e-5, 1e-5])),
        "some known": (0.2 * rng.random(8), some),
        "some known, all ties": (np.full(8, 0.3), some),
        "tiny": (0.5 + 1e-9 * rng.normal(size=6), np.full(6, 1e-9)),
        "every scale": (rng.random(6), np.array([1e-6, 1e-4, 1e-2, 0.1, 1.0, 10.0])),
        "every scale, all ties": (np.full(6, 0.5), np.array([1e-9, 1e-6, 1e-3, 0.1, 1.0, 10.0])),
        "a wide one behind": (np.array([1.0, 0.0, 0.99]), np.array([1e-3, 1.0, 1e-3])),
        "five": (rng.random(5), np.exp(rng.normal(size=5)) * 0.2),
        "many of euros": (500.0 * rng.random(12), np.full(12, 80.0)),
    }


@pytest.mark.parametrize("name", worlds())
def test_chances_are_the_integrals(name: str) -> None:
    means, sds = worlds()[name]
    np.testing.assert_allclose(chances_of_largest(means, sds), integrated(means, sds), rtol=0, atol=1e-7)


@pytest.mark.parametrize("n", [50, 2_000])
@pytest.mark.parametrize("doubt", [0.02, 0.3, 5.0])
def test_chances_of_many_are_the_integrals(n: int, doubt: float) -> None:
    rng = np.random.default_rng(n)
    means, sds = rng.random(n), doubt * rng.uniform(0.5, 1.5, n)
    np.testing.assert_allclose(chances_of_largest(means, sds), dense(means, sds), rtol=0, atol=1e-7)


def test_of_two_the_chance_is_that_of_their_difference() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        (m, n), (s, t) = rng.normal(size=2), 10.0 ** rng.uniform(-8, 2, 2)
        first = chances_of_largest(np.array([m, n]), np.array([s, t]))[0]
        assert first == pytest.approx(ndtr((m - n) / np.hypot(s, t)), abs=1e-7)


def test_chances_are_how_often_draws_come_out_largest() -> None:
    rng = np.random.default_rng(3)
    means, sds = rng.random(20), 10.0 ** rng.uniform(-3, 0, 20)
    draws = 200_000
    won = np.bincount((means + sds * rng.normal(size=(draws, 20))).argmax(axis=1), minlength=20) / draws
    stated = chances_of_largest(means, sds)
    assert (np.abs(won - stated) <= 4 * np.sqrt(stated * (1 - stated) / draws) + 1e-9).all()


def test_equals_have_equal_chances_however_many() -> None:
    np.testing.assert_allclose(chances_of_largest(np.full(300, 0.4), np.full(300, 0.1)), 1 / 300, rtol=1e-12)


def test_where_all_is_known_the_best_share() -> None:
    assert chances_of_largest(np.array([0.4, 0.9, 0.9]), np.zeros(3)).tolist() == [0.0, 0.5, 0.5]


def test_doubt_below_the_digits_of_the_values_is_none() -> None:
    assert chances_of_largest(np.array([0.5, 0.5, 0.4]), np.full(3, 1e-30)).tolist() == [0.5, 0.5, 0.0]


def test_members_that_tie_share_their_vote() -> None:
    assert shares_of_largest(np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])).tolist() == [0.25, 0.25, 0.5]
