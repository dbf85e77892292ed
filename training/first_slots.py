"""The first slots of logged decisions as arrays: what could be there, what the model said, what it earned."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.evaluation import Log
from decisioning.record import DecisionRecord
from decisioning.slots import Distribution, first_slot
from training.closed_decisions import Closed

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FirstSlots:
    """Of `n` scored decisions; what is by action is `(n, n_actions)`, and 0 where it was not available.

    Attributes:
        records: The decisions.
        actions: Ids by column.
        action: Column of what was shown, `(n,)`.
        available: What could have been.
        propensity, value: As logged.
        policy: What the placement's policy says of each, by the scores that were served.
        earned: `(n,)`.
        customer: Whose each is, as a code, `(n,)`.
    """

    records: tuple[DecisionRecord, ...]
    actions: tuple[str, ...]
    action: NDArray[np.int64]
    available: NDArray[np.bool_]
    propensity: Floats
    value: Floats
    policy: Floats
    earned: Floats
    customer: NDArray[np.int64]

    def laid_out(self, of: Callable[[DecisionRecord], Sequence[float]]) -> Floats:
        """What `of` says of each candidate of a decision, by action."""
        return _laid_out(self.records, self.actions, self.available, of)

    @property
    def log(self) -> Log:
        """As off-policy evaluation wants them; of decisions that were drawn."""
        probability = np.array([record.slots[0].probability for record in self.records], dtype=np.float64)
        return Log(self.earned, self.action, probability, self.customer, self.available)

    @property
    def expected(self) -> Floats:
        """What each action would have earned, by the model that was served.

        Its propensity, times what a success earns: a number for all, and one for each unit of the action's
        value, fitted by least squares to what was shown. The model is older than these decisions, and two
        numbers are learnt of them: so DR's correction stays all but unbiased.
        """
        parts = np.stack([self.propensity, self.propensity * self.value])
        shown = parts[:, np.arange(len(self.records)), self.action]
        worth, *_ = np.linalg.lstsq(shown.T, self.earned, rcond=None)
        return np.tensordot(worth, parts, axes=1)


def first_slots(closed: Sequence[Closed]) -> FirstSlots:
    """The arrays of these decisions, whose candidates were all scored."""
    records = tuple(each.record for each in closed)
    actions = tuple(sorted({candidate.action_id for record in records for candidate in record.candidates}))
    column = {action_id: place for place, action_id in enumerate(actions)}
    available = np.zeros((len(records), len(actions)), dtype=bool)
    for row, record in enumerate(records):
        available[row, [column[record.candidates[place].action_id] for place in record.slots[0].available]] = True
    given = (records, actions, available)
    return FirstSlots(
        records=records,
        actions=actions,
        action=np.array([column[record.slots[0].action_id] for record in records], dtype=np.int64),
        available=available,
        propensity=_laid_out(*given, lambda record: [candidate.propensity or 0.0 for candidate in record.candidates]),
        value=_laid_out(*given, lambda record: [candidate.value for candidate in record.candidates]),
        policy=_laid_out(*given, policy_of),
        earned=np.array([each.earned for each in closed], dtype=np.float64),
        customer=pd.factorize(pd.Series([record.customer_id for record in records], dtype=object))[0].astype(np.int64),
    )


def policy_of(record: DecisionRecord) -> list[float]:
    """The chance of each candidate to be drawn into the first slot, of what was available."""
    weights = np.array([candidate.weight for candidate in record.candidates])
    tiers = np.array([candidate.tier for candidate in record.candidates], dtype=np.int64)
    return first_slot(Distribution(weights, tiers), record.slots[0].available).tolist()


def _laid_out(
    records: Sequence[DecisionRecord],
    actions: Sequence[str],
    available: NDArray[np.bool_],
    of: Callable[[DecisionRecord], Sequence[float]],
) -> Floats:
    column = {action_id: place for place, action_id in enumerate(actions)}
    found = np.zeros(available.shape)
    for row, record in enumerate(records):
        found[row, [column[each.action_id] for each in record.candidates]] = of(record)
    return np.where(available, found, 0.0)
