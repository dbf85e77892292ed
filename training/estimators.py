"""The off-policy estimators by name, and which of them to trust on a log."""

from collections.abc import Sequence

from decisioning.errors import RequestError
from decisioning.evaluation import (
    SMALL_SAMPLE,
    Estimate,
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
FEW_OF_SLATES = ("sips", "rips", "cascade_dr")
ALL_OF_SLATES = ("sips", "snsips", "rips", "snrips", "cascade_dr")
SHOWN = {
    "dm": "DM", "ips": "IPS", "snips": "SNIPS", "dr": "DR", "sndr": "SNDR", "switch_dr": "Switch-DR", "dros": "DRos",
    "sips": "SIPS", "snsips": "SNSIPS", "rips": "RIPS", "snrips": "SNRIPS", "cascade_dr": "Cascade-DR",
}  # fmt: skip
HEAVY, THIN = 0.05, 0.02  # one row of all weight; effective rows of all


def estimators_of(said: str, *, slates: bool = False) -> tuple[str, ...]:
    """Those that `few`, `all` or a list with commas names; of slates, those that value slates.

    >>> estimators_of("ips,dros")
    ('ips', 'dros')

    Raises:
        RequestError: One is not known.
    """
    few, known = (FEW_OF_SLATES, ALL_OF_SLATES) if slates else (FEW, ALL)
    if said in ("few", "all"):
        return few if said == "few" else known
    names = tuple(dict.fromkeys(name.strip().lower().replace("-", "_") for name in said.split(",")))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise RequestError(
            f"there is no estimator '{unknown[0]}'{' of slates' if slates else ''}, must be few, all, or some of"
            f" {', '.join(known)} with commas between",
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


def earns_than(difference: Estimate, other: str) -> str:
    """What a paired difference says, in words.

    >>> earns_than(Estimate(0.02, -0.01, 0.05, 100, 100.0), "uniform")
    'no evidence that it earns another amount than uniform: +0.02 [-0.01, +0.05] a decision'
    """
    said = f"no evidence that it earns another amount than {other}"
    if difference.low > 0.0 or difference.high < 0.0:
        said = f"earns measurably {'more' if difference.low > 0.0 else 'less'} than {other}"
    return f"{said}: {difference.value:+.3g} [{difference.low:+.3g}, {difference.high:+.3g}] a decision"


def to_trust(weights: Floats, *, slates: bool = False) -> tuple[str | None, str]:
    """The estimator to trust where rows, or slates, weigh so, `(n,)`, and why in a sentence; None where none is."""
    effective, n = effective_sample_size(weights), len(weights)
    if effective < SMALL_SAMPLE:
        return None, (
            f"trust none: the log did what this policy would so rarely that it counts as {effective:.0f} of {n:,}"
            " decisions; whatever is said of it is a guess"
        )
    unbiased, bounded = ("cascade_dr", "snrips") if slates else ("dr", "dros")
    if weights.max() > HEAVY * weights.sum() or effective < THIN * n:
        return bounded, (
            f"trust {SHOWN[bounded]}: few decisions decide ({effective:,.0f} effective ones of {n:,}), and it gives up"
            " a little truth for far less of their luck"
        )
    return unbiased, (
        f"trust {SHOWN[unbiased]}: unbiased as long as the logged probabilities are right, and {effective:,.0f}"
        " effective decisions are enough"
    )
