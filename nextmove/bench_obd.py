"""The Open Bandit Dataset: how far estimates from its uniform log are from what its Thompson policy truly earned.

The protocol is that of the Open Bandit Pipeline's example: each bootstrap of the uniform log learns a logistic
reward model of its own, cross-fitted, and the truth is the mean of the Thompson policy's own log. Saito, Aihara,
Matsutani & Narita, *Open Bandit Dataset and Pipeline*, NeurIPS 2021, section 5.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.preprocessing import LabelEncoder

from decisioning.errors import DataError
from decisioning.evaluation import Floats, Log
from training.estimators import ALL, estimated
from training.logged_bandit import LoggedBandit, read_logged_bandit
from training.logged_policies import ExpectedRewards
from training.logged_rows import columns_of

# Mean relative errors of 30 bootstraps on this small version of the data, as its authors state them.
PUBLISHED = {
    "dm": 0.1569, "ips": 0.3111, "snips": 0.3118, "dr": 0.2925, "sndr": 0.3024, "switch_dr": 0.2584, "dros": 0.1595,
}  # fmt: skip
MAPPED = (
    "action=item_id", "reward=click", "probability=propensity_score", "time=timestamp",
    "features=position,user_feature_*",
)  # fmt: skip
FOLDS, FOLD_SEED = 3, 12345
INVERSE_PENALTY = 1000.0


class RelativeError(NamedTuple):
    """An estimator's relative errors over bootstraps: mean, standard deviation, and the same with our reward model."""

    estimator: str
    published: float
    mean: float
    spread: float
    with_ours: float
    spread_with_ours: float


class ObdBench(NamedTuple):
    """The errors; `truth` is what the Thompson policy earned, known to `truth_error` (one standard error)."""

    bootstraps: int
    truth: float
    truth_error: float
    errors: list[RelativeError]


def obd_errors(
    logs: Path, vectors: Path, *, bootstraps: int, progress: Callable[[str], None] = lambda _said: None
) -> ObdBench:
    """Relative errors of every estimator.

    `logs` is the folder of the data set, `vectors` that of the reference's: it has the Thompson policy's chances by
    position, which the reference got by simulation from the prior that was served.

    Raises:
        DataError: The data are not there.
    """
    try:
        items = pd.read_csv(logs / "random" / "all" / "item_context.csv", index_col=0)
        chances = np.load(vectors / "obd_random_all.npz")["action_dist"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"the Open Bandit Dataset cannot be read: {error}; name its folder by --obd") from error
    random, thompson = (_read(logs / policy / "all" / "all.csv") for policy in ("random", "bts"))
    truth, n = float(thompson.log.reward.mean()), len(thompson.number)
    places = [random.actions.index(str(item)) for item in items["item_id"]]
    by_item = _about(items)
    about = np.empty_like(by_item)
    about[places] = by_item
    target_by_slot = np.empty_like(chances)
    target_by_slot[places] = chances
    slot = random.features[:, random.feature_names.index("position")].astype(np.int64) - 1
    target, context = target_by_slot[:, slot].T, _dummies(random)
    errors: dict[tuple[str, str], list[float]] = {}
    for number in range(bootstraps):
        # The reference's own draws: its legacy generator, seeded by the bootstrap's number.
        rows = np.random.RandomState(number).choice(n, size=n, replace=True)
        drawn = _drawn(random, rows)
        models = {
            "logistic": _logistic(context[rows], about, drawn.log, slot[rows]),
            "ours": ExpectedRewards(drawn, seed=number).values,
        }
        for model, q_hat in models.items():
            for name, terms in estimated(drawn.log, target[rows], q_hat, ALL).items():
                errors.setdefault((model, name), []).append(abs(terms.value / truth - 1.0))
        progress(f"{number + 1} of {bootstraps} bootstraps")
    found = [
        RelativeError(name, PUBLISHED[name], *_of(errors["logistic", name]), *_of(errors["ours", name])) for name in ALL
    ]
    return ObdBench(bootstraps, truth, float(np.sqrt(truth * (1.0 - truth) / n)), found)


def _of(errors: list[float]) -> tuple[float, float]:
    return float(np.mean(errors)), float(np.std(errors, ddof=1)) if len(errors) > 1 else float("nan")


def _read(path: Path) -> LoggedBandit:
    return read_logged_bandit(path, columns_of(path, MAPPED), now=datetime.now(UTC))


def _drawn(bandit: LoggedBandit, rows: NDArray[np.int64]) -> LoggedBandit:
    """The rows drawn; one that is drawn twice is the same customer's."""
    log = bandit.log
    drawn = Log(log.reward[rows], log.action[rows], log.probability[rows], log.customer[rows], log.available[rows])
    return bandit._replace(log=drawn, features=bandit.features[rows], number=bandit.number[rows])


def _dummies(bandit: LoggedBandit) -> Floats:
    """Users' features as the reference has them: one column for each level but the first."""
    found = []
    for name, levels in bandit.categories.items():
        codes = bandit.features[:, bandit.feature_names.index(name)]
        order = sorted(range(len(levels)), key=levels.__getitem__)
        found += [codes == level for level in order[1:]]
    return np.column_stack(found).astype(np.float64)


def _about(items: pd.DataFrame) -> Floats:
    """Items' features as the reference has them: levels by number, the number as it is."""
    levels = items.drop(columns=["item_id", "item_feature_0"]).apply(LabelEncoder().fit_transform)
    found: Floats = np.column_stack([levels.to_numpy(), items["item_feature_0"].to_numpy()]).astype(np.float64)
    return found


def _logistic(context: Floats, about: Floats, log: Log, slot: NDArray[np.int64]) -> Floats:
    """What a logistic model of each position, cross-fitted, expects of each item, `(n, n_items)`."""
    expected = np.empty((len(context), len(about)))
    n_context = context.shape[1]
    for learnt, here in KFold(FOLDS, shuffle=True, random_state=FOLD_SEED).split(context):
        for position in range(slot.max() + 1):
            rows, asked = learnt[slot[learnt] == position], here[slot[here] == position]
            model = LogisticRegression(C=INVERSE_PENALTY, solver="newton-cholesky", max_iter=10_000)
            model.fit(np.column_stack([context[rows], about[log.action[rows]]]), log.reward[rows])
            weights = model.coef_[0]
            odds = (context[asked] @ weights[:n_context])[:, None] + about @ weights[n_context:] + model.intercept_
            expected[asked] = 1.0 / (1.0 + np.exp(-odds))
    return expected


def as_document(found: ObdBench) -> Mapping[str, object]:
    """The result for machines."""
    return {**found._asdict(), "errors": [each._asdict() for each in found.errors]}
