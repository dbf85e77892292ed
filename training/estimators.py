"""The off-policy estimators by name, and which of them to trust on a log."""

from collections.abc import Sequence

from decisioning.errors import RequestError
from decisioning.evaluation import (
    SMALL_SAMPLE,
    Floats,
    Log,
    Terms,
    direct_method,
    doubly_robust,
    effective_sample_size,
    importance_weights,
    inverse_propensity,
    self_normalised,
)
from decisioning.robust_estimators import self_normalised_doubly_robust, tuned

FEW = ("ips", "snips", "dr", "dros")
ALL = ("dm", "ips", "snips", "dr", "sndr", "switch_dr", "dros")
SHOWN = {
    "dm": "DM",
    "ips": "IPS",
    "snips": "SNIPS",
    "dr": "DR",
    "sndr": "SNDR",
    "switch_dr": "Switch-DR",
    "dros": "DRos",
}
HEAVY = 0.05  # of the sum of weights, by one row


def estimators_of(said: str) -> tuple[str, ...]:
    """Those that `few`, `all` or a list with commas names.

    >>> estimators_of("ips,dros")
    ('ips', 'dros')

    Raises:
        RequestError: One is not known.
    """
    if said in ("few", "all"):
        return FEW if said == "few" else ALL
    names = tuple(dict.fromkeys(name.strip().lower().replace("-", "_") for name in said.split(",")))
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise RequestError(
            f"there is no estimator '{unknown[0]}', must be few, all, or some of {', '.join(ALL)} with commas between",
            where="estimators",
        )
    return names


def estimated(log: Log, target: Floats, q_hat: Floats, names: Sequence[str]) -> dict[str, Terms]:
    """The terms of each; without those that divide by weights where the target never agrees with the log.

    `target` and `q_hat` are `(n, n_actions)`. Switch-DR and DRos choose their bound by this log (`tuned`).
    """
    bounded = tuned(log, target, q_hat) if {"switch_dr", "dros"}.intersection(names) else {}
    agrees = bool(importance_weights(log, target).any())
    found: dict[str, Terms] = {}
    for name in names:
        if name in bounded:
            found[name] = bounded[name][1]
        elif name == "dm":
            found[name] = direct_method(log, target, q_hat)
        elif name == "ips":
            found[name] = inverse_propensity(log, target)
        elif name == "dr":
            found[name] = doubly_robust(log, target, q_hat)
        elif agrees:
            found[name] = (
                self_normalised(log, target) if name == "snips" else self_normalised_doubly_robust(log, target, q_hat)
            )
    return found


def to_trust(log: Log, target: Floats) -> tuple[str | None, str]:
    """The estimator to trust for this target on this log, and why, in one sentence; None where none is."""
    weights = importance_weights(log, target)
    effective = effective_sample_size(weights)
    if effective < SMALL_SAMPLE:
        return None, (
            f"trust none: the log did what this policy would so rarely that it counts as {effective:.0f} of"
            f" {len(weights):,} rows; DM alone says anything, and that is a guess"
        )
    share = float(weights.max() / weights.sum())
    if share > HEAVY or effective < 0.02 * len(weights):
        return "dros", (
            f"trust DRos: few rows decide ({effective:,.0f} effective ones of {len(weights):,}), and it gives up a"
            " little truth for far less of their luck"
        )
    return "dr", (
        f"trust DR: unbiased as long as the logged probabilities are right, and {effective:,.0f} effective rows are"
        " enough"
    )
