"""The linear model: a Bayesian linear regression per action, which knows how far its log-odds may be off.

The regression of `decisioning.linear_gaussian` is fitted to `(y - p) / (p (1 - p))`, where `y` is 1
for a success and `p` the rate over all rows: by so much one Newton step of logistic regression, from
`p`, would move the log-odds of that row. So what it says are log-odds over those of `p`, and their
standard deviation is the regression's own. One step stays a sum over rows; a second one from where
the first led was no better on the simulated shop (AUC .713 after one, .710 after two). What a single
step gets wrong of the curve, the calibration mends: Platt's, as for trees.

An action that was not met starts from what its attributes foretell, with the doubt of that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from decisioning.bundle import ModelFeature, Output, Scored
from decisioning.catalog import Catalog
from decisioning.errors import DataError
from decisioning.linear_gaussian import Evidence, LearntPrior
from training.calibration import Calibration, fit_calibration
from training.example_sources import Progress, silent
from training.linear_input import FURTHEST, LinearInput, learn_input
from training.model_input import encode_shown, learn_features
from training.propensity import Parameters, refuse_one_sided
from training.time_split import TEST_SHARE, TimeSplit, split_by_time

Floats = NDArray[np.float64]
Float32s = NDArray[np.float32]
# The prior's size is their product, and its cost grows with the third power of that.
MOST_COLUMNS, MOST_ATTRIBUTES = 48, 8
BLOCK = 100_000  # rows at a time: bounds what is held of them in float64
ACTION_ID = "action_id"


@dataclass(frozen=True, slots=True)
class Weights:
    """What is believed of the weights of `A` actions that were met, and of any other.

    Attributes:
        mean: `(A, n_columns)`.
        factor: Lower triangles `L` of their covariances `L L'`, `(A, n_columns, n_columns)`.
        by_attributes: Of an action that was not met, per attribute, `(n_attributes, n_columns)`.
        by_attributes_factor: That of their covariance, row after row, `(n_attributes * n_columns,) * 2`.
        own_variance: Of each weight of such an action, around what its attributes say.
    """

    mean: Floats
    factor: Floats
    by_attributes: Floats
    by_attributes_factor: Floats
    own_variance: float


@dataclass(frozen=True, slots=True)
class LinearModel:
    """A fitted model with its calibration and all that it was fitted from.

    Attributes:
        features: The model's input, the same as for trees.
        columns: What is made of customer, context and contact history.
        attributes: What is made of the action's catalogue entry, but for its id.
        action_place: Where its id is in the model's input.
        base: Log-odds of the success rate, from which all others are counted.
        seen: Rows that each action was met in, `(A,)`.
    """

    features: tuple[ModelFeature, ...]
    columns: LinearInput
    attributes: LinearInput
    action_place: int
    base: float
    weights: Weights
    seen: NDArray[np.int64]
    calibration: Calibration
    split: TimeSplit
    parameters: Parameters

    learner: ClassVar[str] = "linear"
    outputs: ClassVar[tuple[Output, ...]] = ("propensity", "sd")
    n_members: ClassVar[int] = 0

    @property
    def description(self) -> str:
        """What it is, for its card."""
        return f"Bayesian linear regression per action ({len(self.actions)} actions, {self.columns.width} columns)"

    @property
    def edges(self) -> list[Float32s]:
        """Where numbers are cut off, and ordinary ones, by feature: see `probe.synthetic_rows`."""
        found = [np.empty(0, dtype=np.float32) for _ in self.features]
        for column in (*self.columns.columns, *self.attributes.columns):
            if column.level is None:
                far = np.array([-FURTHEST, -1.0, 1.0, FURTHEST])
                found[column.place] = (column.centre + far * column.scale).astype(np.float32)
        return found

    @property
    def actions(self) -> tuple[str, ...]:
        """Ids of the actions that were met, in the order of their codes."""
        return self.features[self.action_place].categories

    @property
    def sd_factor(self) -> float:
        """By how much calibration stretches log-odds; one that makes all the same takes no doubt away."""
        return self.calibration.slope or 1.0

    def with_weights(self, weights: Weights) -> "LinearModel":
        """The same with other beliefs, such as those of an earlier day."""
        return replace(self, weights=weights)

    def scored(self, rows: Float32s) -> Scored:
        """Propensities and the standard deviations of their log-odds, of model input `(n, n_features)`."""
        log_odds, sd = self.uncalibrated(rows)
        return Scored(self.calibration.apply(expit(log_odds)), self.sd_factor * sd)

    def propensities(self, rows: Float32s) -> Floats:
        """Calibrated propensities, `(n,)`, of model input `(n, n_features)`."""
        return np.asarray(self.scored(rows).propensity, dtype=np.float64)

    def uncalibrated(self, rows: Float32s) -> tuple[Floats, Floats]:
        """Log-odds and their standard deviations before calibration, `(n,)` each."""
        moved, variance = np.empty(len(rows)), np.empty(len(rows))
        x, z, code = self.columns.of(rows), self.attributes.of(rows), rows[:, self.action_place]
        known = (code >= 0) & (code < len(self.actions))
        for action in np.unique(code[known]).astype(int):
            of = code == action
            moved[of] = x[of] @ self.weights.mean[action]
            variance[of] = np.square(x[of] @ self.weights.factor[action]).sum(axis=1)
        x, z = x[~known], z[~known]
        moved[~known] = np.einsum("np,pj,nj->n", z, self.weights.by_attributes, x)
        pairs = np.einsum("np,nj->npj", z, x).reshape(len(x), z.shape[1] * x.shape[1])
        own = self.weights.own_variance * np.square(x).sum(axis=1)
        variance[~known] = own + np.square(pairs @ self.weights.by_attributes_factor).sum(axis=1)
        return self.base + moved, np.sqrt(variance)


@dataclass(slots=True)
class Regression:
    """The regression while it is fed: what was seen of each action, so far.

    Attributes:
        attributes: Of each action, `(A, n_attributes)`; what an action not yet met is, is not known yet.
    """

    columns: LinearInput
    attribute_input: LinearInput
    action_place: int
    rate: float
    evidence: list[Evidence]
    attributes: Floats

    @classmethod
    def of(cls, features: Sequence[ModelFeature], rows: Float32s, *, rate: float) -> "Regression":
        """One that has seen nothing, for input as in these training rows, `(n, n_features)`.

        Raises:
            DataError: No action was met often enough to be one of its levels.
        """
        place = next((p for p, f in enumerate(features) if (f.name, f.source) == (ACTION_ID, "action")), None)
        if place is None or not features[place].categories:
            raise DataError("no action was met often enough to learn about it; log more decisions, or train lightgbm")
        about = [p for p, feature in enumerate(features) if feature.source == "action" and p != place]
        others = [p for p, feature in enumerate(features) if feature.source != "action"]
        columns = learn_input(features, rows, others, most=MOST_COLUMNS)
        attributes = learn_input(features, rows, about, most=MOST_ATTRIBUTES)
        actions = len(features[place].categories)
        nothing = [Evidence.none(columns.width) for _ in range(actions)]
        return cls(columns, attributes, place, rate, nothing, np.zeros((actions, attributes.width)))

    def learn(self, rows: Float32s, success: NDArray[np.int64]) -> None:
        """Take in rows `(n, n_features)` and whether they succeeded, `(n,)`."""
        moves = (success.astype(np.float64) - self.rate) / (self.rate * (1.0 - self.rate))
        for start in range(0, len(rows), BLOCK):
            block, moved = rows[start : start + BLOCK], moves[start : start + BLOCK]
            x, code = self.columns.of(block), block[:, self.action_place]
            for action in range(len(self.evidence)):
                of = np.flatnonzero(code == action)
                if len(of):
                    self.evidence[action] += Evidence.of(x[of], moved[of])
                    self.attributes[action] = self.attribute_input.of(block[of[:1]])[0]

    def weights(self) -> Weights:
        """What is believed after all that was taken in; an action not met is as any other."""
        met = [place for place, seen in enumerate(self.evidence) if seen.rows]
        learnt = LearntPrior.of([self.evidence[place] for place in met], self.attributes[met])
        shape = len(self.evidence), self.columns.width
        mean, factor = np.empty(shape), np.empty((*shape, self.columns.width))
        for place, seen in enumerate(self.evidence):
            belief = learnt.prior(self.attributes[place]).after(seen)
            mean[place], factor[place] = belief.mean, np.linalg.cholesky(belief.covariance)
        doubt = np.linalg.cholesky(learnt.covariance).astype(np.float64)
        return Weights(mean, factor, learnt.mean, doubt, own_variance=learnt.share * learnt.noise)


def fit_linear(
    examples: pd.DataFrame,
    catalog: Catalog,
    *,
    seed: int,
    test_share: float = TEST_SHARE,
    progress: Progress = silent,
) -> tuple[LinearModel, Float32s]:
    """Fit on the slices `train` and `valid`; also the model input of all examples, `(n, n_features)`.

    The same slices, features and encoding as for trees. Nothing is random: `seed` is only noted.

    Raises:
        DataError: The examples cannot be split by time, a slice has no success or no failure, or no
            action was met often enough.
    """
    split = split_by_time(examples["decided_at"], test_share=test_share)
    success = examples["success"].to_numpy(dtype=np.int64)
    refuse_one_sided(success, split)
    progress("encoding features")
    features = learn_features(examples.iloc[split.train], catalog)
    rows = encode_shown(features, examples, catalog)
    return fit_linear_rows(features, rows, success, split, seed=seed), rows


def fit_linear_rows(
    features: tuple[ModelFeature, ...], rows: Float32s, success: NDArray[np.int64], split: TimeSplit, *, seed: int
) -> LinearModel:
    """The same from model input that is already there."""
    fitted = slice(split.train.start, split.valid.stop)
    rate = float(success[fitted].mean())
    regression = Regression.of(features, rows[split.train], rate=rate)
    regression.learn(rows[fitted], success[fitted])
    return calibrated(regression, features, rows, success, split, seed=seed)


def calibrated(
    regression: Regression,
    features: tuple[ModelFeature, ...],
    rows: Float32s,
    success: NDArray[np.int64],
    split: TimeSplit,
    *,
    seed: int,
) -> LinearModel:
    """The model of a regression, calibrated on the slice that is for it."""
    weights = regression.weights()
    model = LinearModel(
        features=features,
        columns=regression.columns,
        attributes=regression.attribute_input,
        action_place=regression.action_place,
        base=float(logit(regression.rate)),
        weights=weights,
        seen=np.array([seen.rows for seen in regression.evidence], dtype=np.int64),
        calibration=Calibration(slope=1.0, intercept=0.0),
        split=split,
        parameters={
            "columns": regression.columns.width,
            "attributes": regression.attribute_input.width,
            "own_variance": weights.own_variance,
            "seed": seed,
        },
    )
    scores = model.propensities(rows[split.calibration])
    return replace(model, calibration=fit_calibration(scores, success[split.calibration]))
