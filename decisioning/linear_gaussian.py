"""Bayesian linear regression per action: what each is worth in a context, and how far that may be off.

What was seen of an action is kept as sums (`Evidence`), which add up in any order, so learning row
by row, in batches or on several machines gives the same belief. A belief is evidence seen through
a prior. The prior of all actions is learnt from those already met (`LearntPrior`): the weights of
an action scatter around what its attributes foretell, so that a new action starts from what
similar ones earn, with the doubt of an action that nobody has tried.

The noise of rewards is not known in advance. Given its variance `s`, weights are normal; the
variance itself is inverse-gamma: the conjugate pair, of which Murphy, *Machine Learning: A
Probabilistic Perspective*, section 7.6.3, has the formulas.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Floats = NDArray[np.float64]

NOISE_ROWS = 4.0  # so many rows does the prior know the noise by
_STEP, _FURTHEST = 4.0, 8  # shares of the noise that are tried: 4^-8 to 4^8


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of one action, as sums over its rows: `x` the features of a row, `y` its reward.

    Attributes:
        rows: How many; a fraction once some is forgotten.
        xx: Sum of `x x'`, `(n_features, n_features)`.
        xy: Sum of `x y`, `(n_features,)`.
        yy: Sum of `y y`.
    """

    rows: float
    xx: Floats
    xy: Floats
    yy: float

    @classmethod
    def none(cls, n_features: int) -> "Evidence":
        """Nothing was seen yet.

        >>> Evidence.none(2).xx.tolist()
        [[0.0, 0.0], [0.0, 0.0]]
        """
        return cls(0.0, np.zeros((n_features, n_features)), np.zeros(n_features), 0.0)

    @classmethod
    def of(cls, features: Floats, rewards: Floats) -> "Evidence":
        """Rows, `(n, n_features)`, and their rewards, `(n,)`.

        >>> Evidence.of(np.array([[1.0, 2.0], [1.0, 0.0]]), np.array([3.0, 1.0])).xy.tolist()
        [4.0, 6.0]
        """
        return cls(float(len(rewards)), features.T @ features, features.T @ rewards, float(rewards @ rewards))

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(self.rows + other.rows, self.xx + other.xx, self.xy + other.xy, self.yy + other.yy)

    def faded(self, keep: float) -> "Evidence":
        """As if a row had been only the share `keep` of one: forgets, where the world drifts.

        >>> Evidence.of(np.ones((10, 1)), np.ones(10)).faded(0.5).rows
        5.0
        """
        return Evidence(keep * self.rows, keep * self.xx, keep * self.xy, keep * self.yy)


class Belief(NamedTuple):
    """What an action's weights are, after all that was seen.

    Attributes:
        mean: `(n_features,)`.
        covariance: `(n_features, n_features)`.
        noise: Variance of a reward around its mean.
    """

    mean: Floats
    covariance: Floats
    noise: float

    def value(self, features: Floats) -> tuple[Floats, Floats]:
        """Expected reward and its standard deviation of contexts `(n, n_features)`; both `(n,)`.

        The noise of a single reward is not in it.

        >>> mean, sd = Belief(np.array([1.0, 2.0]), 0.25 * np.eye(2), 1.0).value(np.array([[1.0, 0.0]]))
        >>> mean.tolist(), sd.tolist()
        ([1.0], [0.5])
        """
        variances = np.einsum("nj,jk,nk->n", features, self.covariance, features)
        return features @ self.mean, np.sqrt(np.maximum(variances, 0.0))


class Prior(NamedTuple):
    """What is believed of an action before it was tried.

    Attributes:
        mean: Of its weights, `(n_features,)`.
        share: Variance of each weight around `mean`, as a share of the noise's.
        noise: Variance of a reward around its mean, as `NOISE_ROWS` rows would know it.
        covariance: Of `mean` itself, which was learnt too, `(n_features, n_features)`; None: it is given.
    """

    mean: Floats
    share: float = 1.0
    noise: float = 1.0
    covariance: Floats | None = None

    @classmethod
    def vague(cls, n_features: int) -> "Prior":
        """Where nothing is known of any action: weights as far from 0 as one row would show.

        >>> Prior.vague(2).mean.tolist()
        [0.0, 0.0]
        """
        return cls(np.zeros(n_features))

    def after(self, evidence: Evidence) -> Belief:
        """The belief after this evidence.

        Where `mean` was learnt, its doubt is passed on as the weights still hang on it: the law of
        total variance over all means that it may have.

        >>> seen = Evidence.of(np.ones((99, 1)), np.full(99, 5.0))
        >>> Prior.vague(1).after(seen).mean.round(2).tolist()
        [4.95]
        """
        precision = evidence.xx + np.eye(len(self.mean)) / self.share
        factor = cho_factor(precision, lower=True, check_finite=False)
        # Around the prior's mean, so that no digits are lost where rewards are large and noise is small.
        behind = evidence.xy - evidence.xx @ self.mean
        moved = cho_solve(factor, behind, check_finite=False)
        squares = evidence.yy - 2.0 * float(self.mean @ evidence.xy) + float(self.mean @ evidence.xx @ self.mean)
        unexplained = max(squares - float(behind @ moved), 0.0)
        noise = (NOISE_ROWS * self.noise + unexplained) / (NOISE_ROWS + evidence.rows)
        inverse = cho_solve(factor, np.eye(len(self.mean)), check_finite=False)
        covariance = noise * inverse
        if self.covariance is not None:
            hangs = inverse / self.share
            covariance = covariance + hangs @ self.covariance @ hangs.T
        return Belief(self.mean + moved, covariance, noise)


class LearntPrior(NamedTuple):
    """The prior of any action by its attributes, learnt from the actions already met.

    Weights of an action with attributes `z` are `B z` and something of its own; `B` is learnt by
    the same regression one level up. Lindley & Smith, *Bayes Estimates for the Linear Model*, 1972.

    Attributes:
        mean: Of `B`, `(n_attributes, n_features)`.
        covariance: Of `B`, row after row, `(n_attributes * n_features,) * 2`.
        share: See `Prior`; how much is an action's own.
        noise: Variance of a reward around its mean, over all actions.
    """

    mean: Floats
    covariance: Floats
    share: float
    noise: float

    @classmethod
    def of(cls, evidence: Sequence[Evidence], attributes: Floats) -> "LearntPrior":
        """Learn from actions with these attributes, `(n_actions, n_attributes)`; one column should be 1 for all.

        How much weights scatter, within and between actions, is what makes the rewards that were
        seen likeliest (type II maximum likelihood: Bishop, *Pattern Recognition and Machine
        Learning*, section 3.5). It takes memory of the order of `(n_attributes * n_features)^2`.

        >>> alike = [Evidence.of(np.ones((50, 1)), y + np.tile([1.0, -1.0], 25)) for y in (4.0, 5.0, 6.0)]
        >>> prior = LearntPrior.of(alike, np.ones((3, 1))).prior(np.ones(1))
        >>> prior.after(Evidence.none(1)).mean.round(0).tolist()
        [5.0]
        """
        fits: dict[tuple[int, int], _Fit] = {}

        def fit(own: int, between: int) -> _Fit:
            if (own, between) not in fits:
                fits[own, between] = _Fit.of(evidence, attributes, own=_STEP**own, between=_STEP**between)
            return fits[own, between]

        at, best = (0, 0), fit(0, 0)
        while True:
            around = [(at[0] + own, at[1] + between) for own, between in ((1, 0), (-1, 0), (0, 1), (0, -1))]
            near = max(
                (each for each in around if max(map(abs, each)) <= _FURTHEST), key=lambda each: fit(*each).likely
            )
            if fit(*near).likely <= best.likely:
                return best.prior()
            at, best = near, fit(*near)

    def prior(self, attributes: Floats) -> Prior:
        """Of an action with these attributes, `(n_attributes,)`.

        >>> LearntPrior(np.array([[2.0], [1.0]]), np.zeros((2, 2)), 1.0, 1.0).prior(np.array([1.0, 3.0])).mean.tolist()
        [5.0]
        """
        n_attributes, n_features = self.mean.shape
        blocks = self.covariance.reshape(n_attributes, n_features, n_attributes, n_features)
        covariance = np.einsum("p,pjqk,q->jk", attributes, blocks, attributes, optimize=True)
        return Prior(attributes @ self.mean, self.share, self.noise, covariance)


class _Fit(NamedTuple):
    """`B` for given shares of the noise, and the logarithm of how likely they make the rewards, up to a constant."""

    likely: float
    mean: Floats
    factor: tuple[Floats, bool]  # of the precision of `B`, without the noise
    own: float
    noise: float

    @classmethod
    def of(cls, evidence: Sequence[Evidence], attributes: Floats, *, own: float, between: float) -> "_Fit":
        """With what is an action's own integrated out, its rewards are normal around `X B z` with
        variance `noise (I + own X X')`; below, `inner` is `(I + own X'X)^-1`.
        """
        n_attributes, n_features = attributes.shape[1], len(evidence[0].xy)
        size, identity = n_attributes * n_features, np.eye(n_features)
        precision = np.zeros((n_attributes, n_features, n_attributes, n_features))
        pull = np.zeros((n_attributes, n_features))
        unexplained = volume = 0.0
        for seen, z in zip(evidence, attributes, strict=True):
            own_factor = cho_factor(identity + own * seen.xx, lower=True, check_finite=False)
            inner = cho_solve(own_factor, identity, check_finite=False)
            precision += np.einsum("p,q,jk->pjqk", z, z, inner @ seen.xx)
            reached = inner @ seen.xy
            pull += np.outer(z, reached)
            unexplained += seen.yy - own * float(seen.xy @ reached)
            volume += _log_determinant(own_factor)
        factor = cho_factor(precision.reshape(size, size) + np.eye(size) / between, lower=True, check_finite=False)
        mean = cho_solve(factor, pull.ravel(), check_finite=False)
        unexplained = max(unexplained - float(pull.ravel() @ mean), 0.0)
        volume += _log_determinant(factor) + size * float(np.log(between))
        rows = NOISE_ROWS + sum(seen.rows for seen in evidence)
        noise = (NOISE_ROWS * _least_noise(evidence) + unexplained) / rows
        likely = -0.5 * (rows * float(np.log(noise)) + volume)
        return cls(likely, mean.reshape(n_attributes, n_features), factor, own, noise)

    def prior(self) -> LearntPrior:
        inverse = cho_solve(self.factor, np.eye(self.mean.size), check_finite=False)
        return LearntPrior(self.mean, self.noise * inverse, self.own, self.noise)


def _log_determinant(factor: tuple[Floats, bool]) -> float:
    return 2.0 * float(np.log(np.diag(factor[0])).sum())


def _least_noise(evidence: Sequence[Evidence]) -> float:
    """Keeps rewards that never vary from a noise of 0: a millionth of their mean square."""
    rows, squares = sum(seen.rows for seen in evidence), sum(seen.yy for seen in evidence)
    return 1e-6 * squares / rows if squares > 0.0 else 1.0
