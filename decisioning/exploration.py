"""Exploration policies: how likely each candidate is to be chosen.

A policy states probabilities and draws nothing; `slots.draw_order` alone draws. So no decision
can be made without the probability that off-policy evaluation needs.

Values are priorities scaled to [0, 1] by the placement's `priority_scale`.
"""

from typing import Annotated, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray


class Policy(Protocol):
    """A distribution over the candidates, given their estimated values."""

    def probabilities(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Selection probability of each action; `values` and result: `(n_actions,)`, sums to 1."""
        ...


class Greedy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="policy", tag="greedy"):
    """The best action; ties share the mass.

    >>> Greedy().probabilities(np.array([1.0, 5.0, 5.0])).tolist()
    [0.0, 0.5, 0.5]
    """

    def probabilities(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `Policy`."""
        best = values == values.max()
        return best / best.sum()


class EpsilonGreedy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="policy", tag="epsilon_greedy"):
    """The best action, or with probability `epsilon` any action, uniformly.

    Ties share the greedy mass. Sutton & Barto, *Reinforcement Learning*, 2nd ed., section 2.2.

    >>> EpsilonGreedy(epsilon=0.3).probabilities(np.array([1.0, 5.0, 2.0])).round(2).tolist()
    [0.1, 0.8, 0.1]
    """

    epsilon: Annotated[float, msgspec.Meta(ge=0, le=1)]

    def probabilities(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `Policy`."""
        best = values == values.max()
        return (1.0 - self.epsilon) * best / best.sum() + self.epsilon / len(values)


class Softmax(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="policy", tag="softmax"):
    """The better, the likelier: `p(a)` is proportional to `exp(value(a) / temperature)`.

    A `temperature` near 0 is greedy, a large one uniform. Sutton & Barto, as above, section 2.8.

    >>> Softmax(temperature=0.5).probabilities(np.array([0.0, 0.5])).round(3).tolist()
    [0.269, 0.731]
    """

    temperature: Annotated[float, msgspec.Meta(gt=0)]

    def probabilities(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `Policy`."""
        with np.errstate(over="ignore"):  # a tiny temperature takes all that is behind to 0
            powers = np.exp((values - values.max()) / self.temperature)
        return powers / powers.sum()


class SquareCB(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="policy", tag="squarecb"):
    """Inverse gap weighting: the further behind the best, the rarer.

    `p(a) = 1 / (K + gamma (best - value(a)))` for all but the best, which gets the rest; `gamma`
    0 is uniform, large is greedy. Foster & Rakhlin, *Beyond UCB*, ICML 2020, algorithm 1.

    >>> SquareCB(gamma=20.0).probabilities(np.array([0.1, 0.5, 0.5])).round(3).tolist()
    [0.091, 0.455, 0.455]
    """

    gamma: Annotated[float, msgspec.Meta(ge=0)]

    def probabilities(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `Policy`; ties at the top share what is left over, so that order decides nothing."""
        gaps = np.maximum.reduce(values) - values
        weights = 1.0 / (len(values) + self.gamma * gaps)
        best = gaps == 0.0
        return weights + best * ((1.0 - np.add.reduce(weights)) / np.count_nonzero(best))


ExplorationPolicy = Greedy | EpsilonGreedy | Softmax | SquareCB
