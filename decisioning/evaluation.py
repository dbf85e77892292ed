"""Off-policy evaluation: what another policy would have earned, from decisions that were logged.

Every estimator returns what each row contributes (`Terms`), so that one clustered bootstrap gives
the interval of any of them and, from the same replications, of the difference of any two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from decisioning.errors import DataError

Floats = NDArray[np.float64]
REPLICATIONS = 1000
SMALL_SAMPLE = 100.0  # effective rows under which an interval itself is not to be trusted
FEW_CUSTOMERS = 30


@dataclass(frozen=True, slots=True)
class Log:
    """Logged decisions.

    Attributes:
        reward: What each earned, `(n,)`.
        action: Place of the logged action, `(n,)`, in `[0, n_actions)`.
        probability: Chance with which it was chosen, `(n,)`, in `(0, 1]`.
        customer: Whose decision it was, as any integer code, `(n,)`: rows of one customer are not
            independent.
        available: What could have been chosen, `(n, n_actions)`; a target policy may put mass
            nowhere else.

    Raises:
        DataError: A shape, a probability or a logged action that cannot be.
    """

    reward: Floats
    action: NDArray[np.int64]
    probability: Floats
    customer: NDArray[np.int64]
    available: NDArray[np.bool_]

    def __post_init__(self) -> None:
        n = len(self.reward)
        if n == 0:
            raise DataError("the log has no rows, off-policy evaluation needs at least one drawn decision")
        for name in ("action", "probability", "customer", "available"):
            if len(getattr(self, name)) != n:
                raise DataError(f"{name} has {len(getattr(self, name))} rows, must have {n} like the rewards")
        wrong = ~((self.probability > 0.0) & (self.probability <= 1.0))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"probability[{row}] is {self.probability[row]}, must be above 0 and at most 1:"
                " a choice that could not happen cannot be weighed"
            )
        if not np.isfinite(self.reward).all():
            raise DataError(f"reward[{int(np.argmin(np.isfinite(self.reward)))}] is not a number")
        if not self.available[np.arange(n), self.action].all():
            raise DataError("a logged action is not among those that could have been chosen")


class Ratio(NamedTuple):
    """`sum(numerator) / sum(denominator)`, `(n,)` both."""

    numerator: Floats
    denominator: Floats


class Terms(NamedTuple):
    """What rows contribute: the estimate is the sum of these ratios, of which most have one.

    `weights` say how much each row counts for the target, for the effective sample size.
    """

    ratios: tuple[Ratio, ...]
    weights: Floats

    @property
    def value(self) -> float:
        """The estimate."""
        return float(sum(ratio.numerator.sum() / ratio.denominator.sum() for ratio in self.ratios))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval; `effective_sample_size` is how many rows it rests on."""

    value: float
    low: float
    high: float
    n: int
    effective_sample_size: float


def importance_weights(log: Log, target: Floats) -> Floats:
    """How much likelier the target makes each logged choice, `(n,)`; `target` is `(n, n_actions)`.

    >>> log = Log(np.array([1.0]), np.array([0]), np.array([0.25]), np.array([7]), np.array([[True, True]]))
    >>> importance_weights(log, np.array([[0.5, 0.5]])).tolist()
    [2.0]

    Raises:
        DataError: A row of `target` is no distribution over what was available.
    """
    if target.shape != log.available.shape:
        raise DataError(f"the target policy has shape {target.shape}, must be {log.available.shape}")
    if not (np.all(target >= 0.0) and np.allclose(target.sum(axis=1), 1.0, rtol=0.0, atol=1e-6)):
        raise DataError("the target policy's probabilities must be at least 0 and sum to 1 in every row")
    if np.any(target[~log.available] > 0.0):
        raise DataError("the target policy chooses actions that were not available when the decision was logged")
    return target[np.arange(len(log.action)), log.action] / log.probability


def direct_method(log: Log, target: Floats, q_hat: Floats) -> Terms:
    """DM: what a reward model expects of the target policy; `q_hat` is `(n, n_actions)`.

    Low variance, and as biased as the model. Beygelzimer & Langford, *The Offset Tree*, KDD 2009.
    """
    importance_weights(log, target)  # the same refusals as the others
    ones = np.ones(len(log.reward))
    return mean_of(expected_reward(log, target, q_hat), ones)


def inverse_propensity(log: Log, target: Floats) -> Terms:
    """IPS: rewards weighed by how much likelier the target makes each choice.

    Unbiased where the logging policy can do whatever the target does; variance grows with the
    weights. Horvitz & Thompson, JASA 1952; Strehl et al., NeurIPS 2010.
    """
    weights = importance_weights(log, target)
    return mean_of(weights * log.reward, weights)


def self_normalised(log: Log, target: Floats) -> Terms:
    """SNIPS: IPS divided by the mean weight; slightly biased, much steadier.

    Swaminathan & Joachims, *The Self-Normalized Estimator for Counterfactual Learning*, NeurIPS 2015.
    """
    weights = importance_weights(log, target)
    if not weights.any():
        raise DataError("the target policy never agrees with the log, so SNIPS is not defined; log more exploration")
    return Terms((Ratio(weights * log.reward, weights),), weights)


def doubly_robust(log: Log, target: Floats, q_hat: Floats) -> Terms:
    """DR: the reward model, its error on the logged choices put right by IPS.

    Unbiased when the logged probabilities are right, whatever `q_hat`, as long as that was learnt
    from other rows. Dudik, Langford & Li, *Doubly Robust Policy Evaluation and Learning*, ICML 2011.
    """
    weights = importance_weights(log, target)
    logged = q_hat[np.arange(len(log.action)), log.action]
    return mean_of(expected_reward(log, target, q_hat) + weights * (log.reward - logged), weights)


def mean_of(rows: Floats, weights: Floats) -> Terms:
    """The terms of an estimate that is the mean of its rows."""
    return Terms((Ratio(rows, np.ones(len(rows))),), weights)


def effective_sample_size(weights: Floats) -> float:
    """How many equally weighed rows say as much: `(sum w)^2 / sum w^2`. Kish, *Survey Sampling*, 1965.

    >>> effective_sample_size(np.array([1.0, 1.0, 0.0, 0.0]))
    2.0
    """
    squares = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0.0 else 0.0


class Bootstrap:
    """Values of several estimates in replications of the log that draw whole customers.

    Each customer counts Poisson(1) times, numerators and denominators together, and every estimate
    sees the same draws: so the difference of two is paired. Field & Welsh, *Bootstrapping Clustered
    Data*, JRSS B 2007; Poisson counts: Chamandy et al., *Estimating Uncertainty for Massive Data
    Streams*, 2012.
    """

    def __init__(
        self,
        terms: Mapping[str, Terms],
        customer: NDArray[np.int64],
        *,
        rng: np.random.Generator,
        replications: int = REPLICATIONS,
    ) -> None:
        self.terms = dict(terms)
        _, cluster = np.unique(customer, return_inverse=True)
        n_clusters = int(cluster.max()) + 1
        parts = [part for each in self.terms.values() for ratio in each.ratios for part in ratio]
        sums = np.stack([np.bincount(cluster, weights=part, minlength=n_clusters) for part in parts], axis=1)
        replicated = np.empty((replications, sums.shape[1]))
        block = max(1, 4_000_000 // n_clusters)  # about 32 MB of counts at a time
        for start in range(0, replications, block):
            stop = min(start + block, replications)
            replicated[start:stop] = rng.poisson(1.0, size=(stop - start, n_clusters)) @ sums
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios = replicated[:, 0::2] / replicated[:, 1::2]
        ends = np.cumsum([len(each.ratios) for each in self.terms.values()])
        summed = [part.sum(axis=1) for part in np.split(ratios, ends[:-1], axis=1)]
        self.values = dict(zip(self.terms, summed, strict=True))  # (replications,) each

    def estimate(self, name: str, *, level: float = 0.95) -> Estimate:
        """One value and its percentile interval.

        Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, section 13.3.
        """
        terms = self.terms[name]
        low, high = _percentiles(self.values[name], level)
        return Estimate(terms.value, low, high, len(terms.weights), effective_sample_size(terms.weights))

    def difference(self, name: str, other: str, *, level: float = 0.95) -> Estimate:
        """`name` minus `other`, paired; its effective sample size is the smaller of the two."""
        first, second = self.terms[name], self.terms[other]
        low, high = _percentiles(self.values[name] - self.values[other], level)
        effective = min(effective_sample_size(first.weights), effective_sample_size(second.weights))
        return Estimate(first.value - second.value, low, high, len(first.weights), effective)


def overlap_warnings(log: Log, target: Floats) -> list[str]:
    """What makes estimates of this target fragile, in plain words; empty when nothing does."""
    weights = importance_weights(log, target)
    found = []
    effective = effective_sample_size(weights)
    if effective < SMALL_SAMPLE:
        found.append(
            f"only {effective:.0f} of {len(weights)} rows count (effective sample size):"
            " the logged policy rarely did what this one would; the intervals are not reliable"
        )
    never = np.setdiff1d(np.arange(log.available.shape[1]), log.action)
    unseen = float(target[:, never].sum()) / len(target)
    if unseen > 0.0:
        found.append(
            f"{unseen:.1%} of this policy's choices were never logged: IPS counts them as 0, DM and DR guess them"
        )
    if len(np.unique(log.customer)) < FEW_CUSTOMERS:
        found.append(f"fewer than {FEW_CUSTOMERS} customers: a bootstrap over so few is too narrow")
    return found


def expected_reward(log: Log, target: Floats, q_hat: Floats) -> Floats:
    """What the reward model expects of the target in each row, `(n,)`.

    Raises:
        DataError: `q_hat` has another shape than the target.
    """
    if q_hat.shape != target.shape:
        raise DataError(f"q_hat has shape {q_hat.shape}, must be {target.shape}")
    # What is not available has no mass, and its q_hat may be NaN.
    return np.where(log.available, target * np.where(log.available, q_hat, 0.0), 0.0).sum(axis=1)


def _percentiles(values: Floats, level: float) -> tuple[float, float]:
    low, high = np.nanquantile(values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)
