"""Exploration policies: how likely each candidate is to be chosen.

A policy states probabilities and draws nothing; `slots.draw_order` alone draws. So no decision
can be made without the probability that off-policy evaluation needs.

Values are priorities scaled to [0, 1] by the placement's `priority_scale`.
"""

from typing import Annotated, ClassVar, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from decisioning.thompson import chances_of_largest, shares_of_largest

Floats = NDArray[np.float64]


class Estimates(NamedTuple):
    """What is believed of the candidates.

    Attributes:
        values: What each is worth, `(n_actions,)`.
        sds: How far that may be off, `(n_actions,)`: a standard deviation, 0 where the value is taken as known.
        members: The values that each model of an ensemble gives, `(n_members, n_actions)`; None without one.
    """

    values: Floats
    sds: Floats
    members: Floats | None = None

    @classmethod
    def known(cls, values: Floats) -> "Estimates":
        """Values that are taken as known."""
        return cls(values, np.zeros(len(values)))


class Policy(Protocol):
    """A distribution over the candidates, given what is believed of them."""

    @property
    def minimum_probability(self) -> float:
        """Least chance of every candidate; see `with_floor`."""
        ...

    def probabilities(self, estimates: Estimates) -> Floats:
        """Selection probability of each candidate before the floor, `(n_actions,)`; they sum to 1."""
        ...


def with_floor(probabilities: Floats, minimum: float) -> Floats:
    """Mixed with the uniform distribution, so that each is at least `minimum`; uniform where that is too much.

    What may be chosen at any moment can be evaluated for any policy, at the price of that share.

    >>> with_floor(np.array([0.0, 1.0]), 0.1).tolist()
    [0.1, 0.9]
    """
    if minimum == 0.0:
        return probabilities
    spent = min(1.0, minimum * len(probabilities))
    return (1.0 - spent) * probabilities + spent / len(probabilities)


class _Floored(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="policy"
):
    """What every policy may have.

    Attributes:
        minimum_probability: Least chance of every candidate: the price of being able to judge other policies.
        by_members: Whether it goes by the members of an ensemble, which a model is asked for where it does.
    """

    minimum_probability: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.0
    by_members: ClassVar[bool] = False


class Greedy(_Floored, frozen=True, tag="greedy"):
    """The best action; ties share the mass.

    >>> Greedy().probabilities(Estimates.known(np.array([1.0, 5.0, 5.0]))).tolist()
    [0.0, 0.5, 0.5]
    """

    def probabilities(self, estimates: Estimates) -> Floats:
        """See `Policy`."""
        best = estimates.values == estimates.values.max()
        return best / best.sum()


class EpsilonGreedy(_Floored, frozen=True, tag="epsilon_greedy"):
    """The best action, or with probability `epsilon` any action, uniformly.

    Ties share the greedy mass. Sutton & Barto, *Reinforcement Learning*, 2nd ed., section 2.2.

    >>> EpsilonGreedy(epsilon=0.3).probabilities(Estimates.known(np.array([1.0, 5.0, 2.0]))).round(2).tolist()
    [0.1, 0.8, 0.1]
    """

    epsilon: Annotated[float, msgspec.Meta(ge=0, le=1)]

    def probabilities(self, estimates: Estimates) -> Floats:
        """See `Policy`."""
        best = estimates.values == estimates.values.max()
        return (1.0 - self.epsilon) * best / best.sum() + self.epsilon / len(best)


class Softmax(_Floored, frozen=True, tag="softmax"):
    """The better, the likelier: `p(a)` is proportional to `exp(value(a) / temperature)`.

    A `temperature` near 0 is greedy, a large one uniform. Sutton & Barto, as above, section 2.8.

    >>> Softmax(temperature=0.5).probabilities(Estimates.known(np.array([0.0, 0.5]))).round(3).tolist()
    [0.269, 0.731]
    """

    temperature: Annotated[float, msgspec.Meta(gt=0)]

    def probabilities(self, estimates: Estimates) -> Floats:
        """See `Policy`."""
        behind = estimates.values - estimates.values.max()
        with np.errstate(over="ignore"):  # a tiny temperature takes all that is behind to 0
            powers = np.exp(behind / self.temperature)
        return powers / powers.sum()


class SquareCB(_Floored, frozen=True, tag="squarecb"):
    """Inverse gap weighting: the further behind the best, the rarer.

    `p(a) = 1 / (K + gamma (best - value(a)))` for all but the best, which gets the rest; `gamma`
    0 is uniform, large is greedy. Foster & Rakhlin, *Beyond UCB*, ICML 2020, algorithm 1.

    >>> SquareCB(gamma=20.0).probabilities(Estimates.known(np.array([0.1, 0.5, 0.5]))).round(3).tolist()
    [0.091, 0.455, 0.455]
    """

    gamma: Annotated[float, msgspec.Meta(ge=0)]

    def probabilities(self, estimates: Estimates) -> Floats:
        """See `Policy`; ties at the top share what is left over, so that order decides nothing."""
        gaps = np.maximum.reduce(estimates.values) - estimates.values
        weights = 1.0 / (len(gaps) + self.gamma * gaps)
        best = gaps == 0.0
        return weights + best * ((1.0 - np.add.reduce(weights)) / np.count_nonzero(best))


class Thompson(_Floored, frozen=True, tag="thompson"):
    """As likely as it is the best, by what is believed: normal values with their standard deviations.

    `scale` multiplies the standard deviations: below 1 it explores less than the doubt asks for,
    above 1 more, 0 is greedy. The probabilities are those of Thompson sampling without its
    draws; see `thompson`. Where nothing is in doubt it is greedy.

    >>> Thompson().probabilities(Estimates(np.array([0.3, 0.2]), np.array([0.1, 0.0]))).round(3).tolist()
    [0.841, 0.159]
    """

    scale: Annotated[float, msgspec.Meta(ge=0, le=100)] = 1.0

    def probabilities(self, estimates: Estimates) -> Floats:
        """See `Policy`."""
        return chances_of_largest(estimates.values, self.scale * estimates.sds)


class BootstrapThompson(_Floored, frozen=True, tag="bootstrap_thompson"):
    """As often as it is the best by one of an ensemble's models, each learnt from rows drawn anew.

    For past decisions and sends: an ensemble takes too long while somebody waits. Where there is
    none, the values are its only member. Osband & Van Roy, *Bootstrapped Thompson Sampling and
    Deep Exploration*, 2015.

    >>> members = np.array([[0.1, 0.2], [0.3, 0.2], [0.1, 0.4], [0.0, 0.1]])
    >>> BootstrapThompson().probabilities(Estimates(members.mean(axis=0), np.zeros(2), members)).tolist()
    [0.25, 0.75]
    """

    by_members: ClassVar[bool] = True

    def probabilities(self, estimates: Estimates) -> Floats:
        """See `Policy`."""
        members = estimates.members
        return shares_of_largest(estimates.values[None, :] if members is None else members)


ExplorationPolicy = Greedy | EpsilonGreedy | Softmax | SquareCB | Thompson | BootstrapThompson
