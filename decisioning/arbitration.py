"""Arbitration: what ranks eligible actions against each other."""

import numpy as np
from numpy.typing import NDArray


def priority(propensity: float, context_weight: float, value: float, lever: float) -> float:
    """Expected worth of showing an action: propensity x context weight x value x lever.

    >>> round(priority(0.2, context_weight=1.5, value=10.0, lever=1.0), 9)
    3.0
    """
    return propensity * context_weight * value * lever


def scaled(priorities: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Priorities, `(n,)`, as an exploration policy wants them: in [0, 1], `scale` or more being 1.

    >>> scaled(np.array([1.0, 5.0, 30.0]), scale=10.0).tolist()
    [0.1, 0.5, 1.0]
    """
    return np.minimum(np.maximum(priorities / scale, 0.0), 1.0)
