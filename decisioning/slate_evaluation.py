"""Off-policy evaluation of whole slates: what another policy would have earned over all slots together.

How much of the slate a slot's reward hangs on is an assumption, and each estimator makes another: on all of it
(SIPS), on the slot's own action (IIPS), on the slot and those before it (RIPS, cascade-DR).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from decisioning.errors import DataError
from decisioning.evaluation import Floats, Ratio, Terms, mean_of


@dataclass(frozen=True, slots=True)
class SlateLog:
    """Logged slates of `n_slots` each; every array is `(n, n_slots)`.

    Attributes:
        reward: What each slot earned.
        probability: Chance with which the log put its action there, as far as the estimator's assumption
            looks: of the whole slate (the same in each slot), of the slot's own action whatever stands before
            it, or of the slots up to this one.
        target: The same chance under the policy that is valued.

    Raises:
        DataError: Shapes differ, or a chance that cannot be.
    """

    reward: Floats
    probability: Floats
    target: Floats

    def __post_init__(self) -> None:
        shape = self.reward.shape
        if len(shape) != 2 or 0 in shape:
            raise DataError(f"reward has shape {shape}, must have a row a slate and a column a slot")
        for name in ("probability", "target"):
            found = getattr(self, name).shape
            if found != shape:
                raise DataError(f"{name} has shape {found}, must be {shape} like the rewards")
        for name, lowest in (("probability", 0.0), ("target", -1.0)):
            values = getattr(self, name)
            wrong = ~((values > lowest) & (values >= 0.0) & (values <= 1.0))
            if wrong.any():
                row, slot = (int(place) for place in np.argwhere(wrong)[0])
                above = "above 0" if name == "probability" else "at least 0"
                raise DataError(f"{name}[{row}, {slot}] is {values[row, slot]}, must be {above} and at most 1")

    @property
    def weights(self) -> Floats:
        """How much likelier the target makes what was logged, `(n, n_slots)`."""
        return self.target / self.probability


def slate_inverse_propensity(log: SlateLog) -> Terms:
    """SIPS, IIPS or RIPS, by what `log`'s chances are of: a slate's reward is the sum of its slots'.

    Swaminathan et al., *Off-policy Evaluation for Slate Recommendation*, NeurIPS 2017 (SIPS); Li et al.,
    *Offline Evaluation of Ranking Policies with Click Models*, KDD 2018 (IIPS); McInerney et al.,
    *Counterfactual Evaluation of Slate Recommendations with Sequential Reward Interactions*, KDD 2020 (RIPS).
    """
    return mean_of((log.weights * log.reward).sum(axis=1), log.weights[:, -1])


def slate_self_normalised(log: SlateLog) -> Terms:
    """The same, each slot divided by its own mean weight.

    Raises:
        DataError: In some slot the target never agrees with the log.
    """
    weights = log.weights
    empty = np.flatnonzero(weights.sum(axis=0) == 0.0)
    if len(empty):
        raise DataError(f"in slot {int(empty[0]) + 1} the target never agrees with the log; log more exploration")
    ratios = tuple(Ratio(weight * reward, weight) for weight, reward in zip(weights.T, log.reward.T, strict=True))
    return Terms(ratios, weights[:, -1])


def cascade_doubly_robust(log: SlateLog, *, action: NDArray[np.int64], q_hat: Floats, target_choice: Floats) -> Terms:
    """Cascade-DR: RIPS with a reward model; `log`'s chances are of the slots up to each.

    `action` is `(n, n_slots)`. `q_hat` is what the model expects of this slot and all after it for each action,
    and `target_choice` the chance with which the target puts each there after the logged ones before,
    `(n, n_slots, n_actions)` both. Kiyohara et al., *Doubly Robust Off-Policy Evaluation for Ranking Policies
    under the Cascade Behavior Model*, WSDM 2022.

    Raises:
        DataError: A shape differs.
    """
    for name, found in (
        ("action", action.shape),
        ("q_hat", q_hat.shape[:2]),
        ("target_choice", target_choice.shape[:2]),
    ):
        if found != log.reward.shape:
            raise DataError(f"{name} has shape {found} over slates and slots, must be {log.reward.shape}")
    if q_hat.shape != target_choice.shape:
        raise DataError(f"q_hat has shape {q_hat.shape}, must be {target_choice.shape} like target_choice")
    weights = log.weights
    before = np.concatenate([np.ones((len(weights), 1)), weights[:, :-1]], axis=1)
    logged = np.take_along_axis(q_hat, action[:, :, None], axis=2)[:, :, 0]
    expected = (target_choice * q_hat).sum(axis=2)
    return mean_of((weights * (log.reward - logged) + before * expected).sum(axis=1), weights[:, -1])
