"""Whether live data are still what a model learnt from: features, scores, and what its propensities promise."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from decisioning.reference import Binned

Floats = NDArray[np.float64]
Level = Literal["none", "moderate", "major", "too few"]

# The usual reading of the population stability index: Siddiqi, *Credit Risk Scorecards*, 2006.
MODERATE, MAJOR = 0.1, 0.25
FEWEST_EFFECTIVE = 200.0  # customers' worth of decisions, under which nothing is judged
FALSE_ALARM = 0.01  # the chance of any alarm of one look at data that did not drift
FEWEST_SUCCESSES = 50
CALIBRATION_LEVEL = 0.99
CALIBRATION_BOUND = 1.2  # successes over those expected, or the other way round


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """One feature, or the scores.

    Attributes:
        psi: Population stability index: `sum((live - training) ln(live / training))` over bins.
        ks: Largest distance of the two distribution functions at the bins' ends; None for a category.
        p_value: Chance of such an index without drift.
        effective: How many customers' worth of decisions it rests on.
        level: By the index, once it is more than chance.
        moved: The bin that gained or lost most, in words.
    """

    name: str
    psi: float
    ks: float | None
    p_value: float
    effective: float
    level: Level
    moved: str


class CalibrationDrift(msgspec.Struct, frozen=True, kw_only=True):
    """Successes over those that the propensities promised, with its interval at 99 % over customers.

    `bins`: by tenths of propensity, its mean, the share of successes, and how many.
    """

    decisions: int
    customers: int
    expected: float
    observed: int
    ratio: float
    low: float
    high: float
    drifted: bool
    bins: tuple[tuple[float, float, int], ...]


class DriftSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was found last, for metrics and the doctor: the index by name, and alarms in words."""

    at: datetime
    version: str
    bundle_sha256: str
    decisions: int
    psi: dict[str, float]
    calibration: float | None
    alarms: tuple[str, ...]


def drift(reference: Binned, counts: Floats, *, effective: float, reference_effective: float, looks: int) -> Drift:
    """How far live values, counted by bin, are from the reference; one of `looks` that are made at once.

    Without drift the index is distributed as `(1/n + 1/m) chi2` with one degree of freedom fewer than bins:
    Yurdakul & Naranjo, *Statistical Properties of the Population Stability Index*, 2020. `n` and `m` are effective
    numbers (`effective_rows`), since decisions of one customer are alike; and a look is one of many (Bonferroni).

    >>> found = drift(Binned("x", (0.5,), (), (0.5, 0.5, 0.0)), np.array([900.0, 100.0, 0.0]), effective=1000.0,
    ...               reference_effective=5000.0, looks=1)
    >>> (round(found.psi, 2), found.ks, found.level, found.moved)
    (0.88, 0.4, 'major', 'up to 0.5: 50.0% -> 90.0%')
    """
    total = float(counts.sum())
    was = np.asarray(reference.shares)
    # Half a row in every bin: an empty one would be infinitely far away.
    before, after = (_smoothed(was, reference_effective), _smoothed(counts / max(total, 1.0), effective))
    used = (was > 0.0) | (counts > 0.0)
    psi = float(((after - before) * np.log(after / before))[used].sum())
    degrees = max(int(used.sum()) - 1, 1)
    unit = 1.0 / max(effective, 1.0) + 1.0 / max(reference_effective, 1.0)
    p_value = float(chi2.sf(psi / unit, degrees))
    now = counts / max(total, 1.0)
    place = int(np.argmax(np.abs(now - was)))
    ks = None if reference.codes else _ks(was, now)
    return Drift(
        name=reference.name,
        psi=psi,
        ks=ks,
        p_value=p_value,
        effective=effective,
        level=_level(psi, p_value, effective, looks),
        moved=f"{_bin_name(reference, place)}: {was[place]:.1%} -> {now[place]:.1%}",
    )


def calibration_drift(
    propensities: Floats, success: NDArray[np.int64], customer: NDArray[np.int64]
) -> CalibrationDrift | None:
    """Whether as many succeed as was promised; None with too little to say. All are `(n,)`, of met choices.

    The ratio's logarithm has the variance of its linearisation, summed by customer (Cochran, *Sampling
    Techniques*, 3rd ed., section 6.4). It drifted where it is beyond 1.2 either way and measurably not 1.
    """
    expected, observed = float(propensities.sum()), int(success.sum())
    _, codes = np.unique(customer, return_inverse=True)
    customers = int(codes.max()) + 1 if len(codes) else 0
    if observed < FEWEST_SUCCESSES or expected <= 0.0 or customers < FEWEST_EFFECTIVE:
        return None
    ratio = observed / expected
    by_customer = np.bincount(codes, weights=(success - ratio * propensities) / observed)
    error = float(np.sqrt(np.square(by_customer).sum() * customers / (customers - 1)))
    reach = float(norm.ppf(0.5 + CALIBRATION_LEVEL / 2.0)) * error
    low, high = ratio * float(np.exp(-reach)), ratio * float(np.exp(reach))
    beyond = not 1.0 / CALIBRATION_BOUND <= ratio <= CALIBRATION_BOUND
    parts = [part for part in np.array_split(np.argsort(propensities, kind="stable"), 10) if len(part)]
    return CalibrationDrift(
        decisions=len(success),
        customers=customers,
        expected=expected,
        observed=observed,
        ratio=ratio,
        low=low,
        high=high,
        drifted=beyond and not low <= 1.0 <= high,
        bins=tuple((float(propensities[p].mean()), float(success[p].mean()), len(p)) for p in parts),
    )


def alarms(features: Sequence[Drift], scores: Drift | None, calibration: CalibrationDrift | None) -> tuple[str, ...]:
    """What is worth a look, in words, the furthest first."""
    found = sorted((each for each in features if each.level in ("moderate", "major")), key=lambda each: -each.psi)
    said = [f"{each.name} drifted ({each.level}, PSI {each.psi:.2f}): {each.moved}" for each in found]
    if scores is not None and scores.level in ("moderate", "major"):
        said.append(f"scores drifted ({scores.level}, PSI {scores.psi:.2f}): {scores.moved}")
    if calibration is not None and calibration.drifted:
        said.append(
            f"{calibration.observed:,} succeeded where {calibration.expected:,.0f} were promised:"
            f" {calibration.ratio:.2f} times [{calibration.low:.2f}, {calibration.high:.2f}]"
        )
    return tuple(said)


def _level(psi: float, p_value: float, effective: float, looks: int) -> Level:
    if effective < FEWEST_EFFECTIVE:
        return "too few"
    if psi < MODERATE or p_value >= FALSE_ALARM / max(looks, 1):
        return "none"
    return "major" if psi >= MAJOR else "moderate"


def _smoothed(shares: Floats, rows: float) -> Floats:
    return (shares * rows + 0.5) / (rows + 0.5 * len(shares))


def _ks(was: Floats, now: Floats) -> float:
    """Over what is known: how many values are missing is not a distance."""
    known = [each[:-1] / max(float(each[:-1].sum()), 1e-12) for each in (was, now)]
    return round(float(np.abs(np.cumsum(known[0]) - np.cumsum(known[1])).max()), 12)


def _bin_name(reference: Binned, place: int) -> str:
    if place == len(reference.shares) - 1:
        return "missing"
    if reference.codes:
        return reference.labels[place] if place < len(reference.labels) else "rarer ones"
    if place == len(reference.edges):
        return f"above {reference.edges[-1]:.4g}"
    return f"up to {reference.edges[place]:.4g}"
