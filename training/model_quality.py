"""How good a propensity model is, on rows that it never saw: metrics, and a table by action."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from training.calibration import calibration_error

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def quality(propensities: Floats, success: Ints, *, base_rate: float) -> dict[str, float]:
    """Log loss, AUC and calibration error, beside what always saying `base_rate` would score.

    AUC is NaN where all rows succeeded or none did.
    """
    return {
        "log_loss": _log_loss(propensities, success),
        "base_rate_log_loss": _log_loss(np.full(len(success), base_rate), success),
        "auc": _auc(propensities, success),
        "calibration_error": calibration_error(propensities, success),
        "success_rate": float(success.mean()),
        "mean_propensity": float(propensities.mean()),
    }


def quality_by_action(actions: pd.Series, propensities: Floats, success: Ints) -> pd.DataFrame:
    """One row an action, most shown first."""
    rows = []
    for action_id, places in actions.reset_index(drop=True).groupby(actions.to_numpy(), sort=True).groups.items():
        of = np.asarray(places)
        rows.append(
            {
                "action_id": action_id,
                "shown": len(of),
                "success_rate": float(success[of].mean()),
                "mean_propensity": float(propensities[of].mean()),
                "gap": float(propensities[of].mean() - success[of].mean()),
                "log_loss": _log_loss(propensities[of], success[of]),
                "auc": _auc(propensities[of], success[of]),
            }
        )
    return pd.DataFrame(rows).sort_values("shown", ascending=False, kind="stable", ignore_index=True)


def _log_loss(propensities: Floats, success: Ints) -> float:
    return float(log_loss(success, propensities, labels=[0, 1]))


def _auc(propensities: Floats, success: Ints) -> float:
    if success.min() == success.max():
        return float("nan")
    return float(roc_auc_score(success, propensities))
