"""An ensemble: the propensity model fitted again to other draws of its customers.

How far its members are apart is how far a propensity may be off for having met these customers and no others;
Thompson sampling by members (`exploration.BootstrapThompson`) explores by that.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from decisioning.catalog import Catalog
from training.calibration import fit_calibration
from training.propensity import PropensityModel, labelled, with_float32_thresholds

MEMBERS = 10

Ints = NDArray[np.int64]


def goes_by_members(catalog: Catalog) -> bool:
    """Whether a placement explores by an ensemble's members."""
    return any(policy.by_members for _, policy in catalog.content.explorations)


def fit_ensemble(
    model: PropensityModel, rows: NDArray[np.float32], success: Ints, customers: NDArray[Any], *, seed: int
) -> tuple[PropensityModel, ...]:
    """Members of the model's parameters and number of trees, each fitted and calibrated on customers of its own.

    `rows`, `(n, n_features)`, `success` and `customers`, `(n,)`, are those that the model was fitted to.

    The calibration is drawn with the rest: on the same rows, members that learnt little would all be calibrated
    towards the base rate, and agree for knowing nothing.
    """
    split = model.split
    parameters = {name: value for name, value in model.parameters.items() if name != "rounds"}
    members = []
    for number, times in enumerate(customer_draws(customers[: split.calibration.stop], seed=seed)):
        learnt = np.flatnonzero(times[: split.valid.stop])
        later = split.calibration.start + np.flatnonzero(times[split.calibration])
        later = np.repeat(later, times[later])
        own = parameters | {"seed": seed + number}
        booster = lgb.train(
            own,
            labelled(rows[learnt], success[learnt], model.features, own, weight=times[learnt]),
            num_boost_round=model.booster.num_trees(),
        )
        member = replace(model, booster=with_float32_thresholds(booster.model_to_string()))
        members.append(replace(member, calibration=fit_calibration(member.uncalibrated(rows[later]), success[later])))
    return tuple(members)


def customer_draws(customers: NDArray[Any], *, seed: int) -> Iterator[Ints]:
    """How often each row is drawn for each member, `(n,)`: all rows of a customer as often, by Poisson(1).

    The bootstrap of customers, without a need for their number. Oza & Russell, *Online Bagging and Boosting*,
    AISTATS 2001.

    >>> [times.tolist() for times in customer_draws(np.array(["ann", "bob", "ann"]), seed=1)][:2]
    [[2, 1, 2], [1, 1, 1]]
    """
    rng = np.random.default_rng(seed)
    _, customer = np.unique(customers, return_inverse=True)
    for _ in range(MEMBERS):
        yield rng.poisson(1.0, size=customer.max() + 1)[customer]
