"""What the first slots of logged decisions would have earned under another catalogue: off-policy evaluation.

What is estimated is the reward of a decision, whether or not its customer met it: one that was not
met counts with what it earned, usually 0. Averages over met decisions alone would be biased, since
what is met depends on the action: choosing to show nothing always is.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.encoding import RowEncoder
from decisioning.evaluation import (
    FEW_CUSTOMERS,
    SMALL_SAMPLE,
    Bootstrap,
    Estimate,
    Ratio,
    Terms,
    effective_sample_size,
)
from decisioning.record import DecisionRecord
from decisioning.replay import facts_of, model_rows, recorded_case
from training.redecide import Masses, Redecision, Shift
from training.reward_model import predicted_by_others
from training.scores_again import LeftOut, Model

# Under so many rows a reward model learns little, and its three folds less.
FEWEST_FOR_DR = 1_000


class Earned(msgspec.Struct, frozen=True, kw_only=True):
    """The mean reward a decision, of its first slot, as logged and as it would have been.

    Attributes:
        estimator: `dr`, or `snips` with too few decisions for a reward model.
        estimable: Share of the new catalogue's choices that the log ever drew there; both values
            are over these alone.
        logged, new: With 95 % intervals. `difference` is paired.
    """

    estimator: str
    estimable: float
    logged: Estimate
    new: Estimate
    difference: Estimate


def earned_by(
    learnable: Sequence[tuple[Shift, float]], comparison: Redecision, seed: int
) -> tuple[Earned | None, list[str]]:
    """The estimates, and what to be careful about."""
    if not learnable:
        return None, [
            "no reward can be estimated: no drawn decision of the window has its attribution window closed;"
            " choose an earlier window with --since"
        ]
    shifts = [shift for shift, _ in learnable]
    reward = np.array([earned for _, earned in learnable])
    actions = sorted({name for shift in shifts for name in (*shift.before, *shift.after)})
    column = {name: place for place, name in enumerate(actions)}
    logged, target = (
        _matrix([shift.before for shift in shifts], column),
        _matrix([shift.after for shift in shifts], column),
    )
    supported = logged > 0.0
    target = np.where(supported, target, 0.0)
    mass = target.sum(axis=1)  # what the log ever drew there of each row's new choices
    shown = np.array([column[shift.record.slots[0].action_id] for shift in shifts])
    each = np.arange(len(shifts))
    weights = target[each, shown] / logged[each, shown]
    customer = pd.factorize(pd.Series([shift.record.customer_id for shift in shifts]))[0].astype(np.int64)
    warnings = _cautions(weights, mass, customer)
    if not weights.any():
        return None, [*warnings, "no reward can be estimated: nothing that was shown would be shown again"]
    earlier = Terms((Ratio(mass * reward, mass),), mass)
    expected = _expected(shifts, reward, supported, actions, comparison, seed)
    if expected is not None:
        # Doubly robust in the difference from what was logged: the same catalogue changes nothing at all.
        gained = ((target - mass[:, None] * logged) * expected).sum(axis=1)
        gained += (weights - mass) * (reward - expected[each, shown])
        estimator, later = "dr", Terms((Ratio(mass * reward + gained, mass),), weights)
    else:
        estimator, later = "snips", Terms((Ratio(weights * reward, weights),), weights)
    bootstrap = Bootstrap({"logged": earlier, "new": later}, customer, rng=np.random.default_rng(seed))
    return Earned(
        estimator=estimator,
        estimable=float(mass.mean()),
        logged=bootstrap.estimate("logged"),
        new=bootstrap.estimate("new"),
        difference=bootstrap.difference("new", "logged"),
    ), warnings


def _matrix(masses: Sequence[Masses], column: Mapping[str, int]) -> NDArray[np.float64]:
    matrix = np.zeros((len(masses), len(column)))
    for row, each in enumerate(masses):
        for name, share in each.items():
            matrix[row, column[name]] = share
    return matrix


def _expected(
    shifts: Sequence[Shift],
    reward: NDArray[np.float64],
    supported: NDArray[np.bool_],
    actions: Sequence[str],
    comparison: Redecision,
    seed: int,
) -> NDArray[np.float64] | None:
    """What a cross-fitted reward model expects of everything that the log could have shown, `(n, n_actions)`.

    Its features are those of the newest model that can be loaded; None where none can, or there is
    too little to learn from.
    """
    if len(shifts) < FEWEST_FOR_DR:
        return None
    scored_by = next(filter(None, (_model(comparison, record) for record in _one_a_model(shifts))), None)
    if scored_by is None:
        return None
    model, encoder = scored_by
    encoded, own = [], []
    for row, shift in enumerate(shifts):
        catalog = comparison.catalog_of(shift.record)
        names = [actions[place] for place in np.flatnonzero(supported[row]).tolist()]
        case = recorded_case(shift.record, catalog)
        rows = model_rows(case, facts_of(shift.record), encoder, [catalog.actions[name] for name in names])
        encoded.append(rows)
        own.append(rows[names.index(shift.record.slots[0].action_id)])
    customers = pd.Series([shift.record.customer_id for shift in shifts])
    found = predicted_by_others(
        model.features,
        np.stack(own),
        {"reward": reward},
        customers,
        np.concatenate(encoded),
        supported,
        customers,
        seed=seed,
    )
    return np.where(supported, found["reward"], 0.0)


def _one_a_model(shifts: Sequence[Shift]) -> Iterator[DecisionRecord]:
    """A decision of each model, the newest first."""
    newest = {s.record.model.bundle_sha256: s.record for s in shifts if s.record.model is not None}
    return reversed(list(newest.values()))


def _model(comparison: Redecision, record: DecisionRecord) -> tuple[Model, RowEncoder] | None:
    try:
        return comparison.model_of(record)
    except LeftOut:
        return None


def _cautions(weights: NDArray[np.float64], mass: NDArray[np.float64], customer: NDArray[np.int64]) -> list[str]:
    found = []
    missing = 1.0 - float(mass.mean())
    if missing > 1e-9:
        found.append(
            f"{missing:.1%} of the new catalogue's choices are not estimable: the log never drew them there;"
            " the estimate is over the others"
        )
    effective = effective_sample_size(weights)
    if effective < SMALL_SAMPLE:
        found.append(
            f"only {effective:.0f} of {len(weights)} decisions count (effective sample size): what was logged rarely"
            " is what would be decided; the interval is not reliable"
        )
    if len(np.unique(customer)) < FEW_CUSTOMERS:
        found.append(f"fewer than {FEW_CUSTOMERS} customers: a bootstrap over so few is too narrow")
    return found
