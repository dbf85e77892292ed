"""How well an uplift model ranks, on draws that it never saw: Qini, and the uplift among those ranked highest.

From randomised data, or draws whose chances were logged: everything is weighed by one over the chance.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.bundle import ModelFeature
from decisioning.catalog import Catalog
from decisioning.evaluation import Estimate, effective_sample_size
from training.graph_scorer import GraphScorer
from training.model_input import encode_pairs
from training.uplift import Contrasts, contrasts, ranks_by_uplift

Floats = NDArray[np.float64]
SHARES = (0.1, 0.2, 0.3)
BINS = 100
REPLICATIONS = 400
FEWEST = 50  # treated rows, and controls: fewer say nothing of a ranking
ALL = "all"


class Ranked(NamedTuple):
    """Draws of an action, or of nothing in its place, `(n,)` each.

    Attributes:
        score: By which they are ranked, the highest first.
        success: What came of each.
        treated: Whether the action was drawn; else nothing was.
        weight: One over the chance of what was drawn.
        customer: Whose it was, as any integer code.
    """

    score: Floats
    success: Floats
    treated: NDArray[np.bool_]
    weight: Floats
    customer: NDArray[np.int64]


class Curve(NamedTuple):
    """Successes gained a customer, `(BINS + 1,)`, when these shares of the customers, ranked highest, get the action.

    `optimum` is the area under the curve of who knew each outcome: those who succeeded with the action first,
    those who succeeded without it last.
    """

    share: Floats
    gain: Floats
    optimum: float

    @property
    def area(self) -> float:
        """Between the curve and random targeting, a straight line."""
        return float(np.trapezoid(self.gain, self.share) - 0.5 * self.gain[-1])

    @property
    def qini(self) -> float:
        """That area over the same of the optimum: 0 is random, 1 cannot be surpassed, nor in practice be neared.

        Radcliffe, *Using Control Groups to Target on Predicted Lift*, Direct Marketing Analytics Journal 2007,
        with the optimum that includes negative effects, as in scikit-uplift's `qini_auc_score`.
        """
        reachable = self.optimum - 0.5 * float(self.gain[-1])
        return self.area / reachable if reachable > 0.0 else float("nan")


class UpliftQuality(NamedTuple):
    """What a ranking is worth, with 95 % intervals over customers.

    Attributes:
        effect: The mean uplift of all.
        at: By share, the mean uplift among those ranked highest.
        mean_score: Beside `effect`, says whether the scores have the right size.
        curve: For the figure; `low` and `high` are its 95 % band.
    """

    action_id: str
    treated: int
    controls: int
    mean_score: float
    effect: Estimate
    qini: Estimate
    area: Estimate
    at: dict[float, Estimate]
    curve: Curve
    low: Floats
    high: Floats


def ranked_draws(pairs: Contrasts, score: Floats) -> Ranked:
    """These pairs, ranked by a score of each, `(n_pairs,)`."""
    customer = pd.factorize(pairs.customers)[0].astype(np.int64)
    return Ranked(score, pairs.success, pairs.treated, pairs.weight, customer)


def rank_quality(
    action_id: str, ranked: Ranked, *, rng: np.random.Generator, replications: int = REPLICATIONS
) -> UpliftQuality:
    """Qini, uplift at 10, 20 and 30 %, and the curve; the ranking is fixed, whole customers are drawn again.

    Each customer counts Poisson(1) times, as in `decisioning.evaluation.Bootstrap`.
    """
    place = _places(ranked)
    found = _curve(ranked, place, np.ones(len(place)))
    customers = int(ranked.customer.max()) + 1
    drawn = [_curve(ranked, place, rng.poisson(1.0, customers)[ranked.customer]) for _ in range(replications)]
    effective = effective_sample_size(ranked.weight)

    def estimate(of: str, share: float = 1.0) -> Estimate:
        def value(curve: Curve) -> float:
            return _uplift_at(curve, share) if of == "uplift" else float(getattr(curve, of))

        low, high = np.nanquantile([value(curve) for curve in drawn], [0.025, 0.975])
        return Estimate(value(found), float(low), float(high), len(place), effective)

    low, high = np.nanquantile(
        [np.interp(found.share, each.share, each.gain) for each in drawn], [0.025, 0.975], axis=0
    )
    return UpliftQuality(
        action_id=action_id,
        treated=int(ranked.treated.sum()),
        controls=int((~ranked.treated).sum()),
        mean_score=float(np.average(ranked.score, weights=ranked.weight)),
        effect=estimate("uplift"),
        qini=estimate("qini"),
        area=estimate("area"),
        at={share: estimate("uplift", share) for share in SHARES},
        curve=found,
        low=low,
        high=high,
    )


def uplift_quality(
    scorer: GraphScorer,
    features: Sequence[ModelFeature],
    examples: pd.DataFrame,
    catalog: Catalog,
    *,
    rng: np.random.Generator,
) -> list[UpliftQuality]:
    """Of the served graph's uplift, on draws later than all it learnt from.

    All actions together, then each that ranks by it; those with at least 50 treated rows and 50 controls.
    """
    pairs = contrasts(examples, catalog, rng=rng)
    rows = encode_pairs(features, pairs.examples, catalog, pairs.row, pairs.actions, pairs.action)
    uplift = scorer.score(rows).uplift
    assert uplift is not None
    found = []
    for name, of in [
        (ALL, np.ones(len(uplift), dtype=bool)),
        *((name, pairs.action == code) for code, name in enumerate(pairs.actions) if ranks_by_uplift(catalog, name)),
    ]:
        if min((pairs.treated & of).sum(), (~pairs.treated & of).sum()) >= FEWEST:
            found.append(rank_quality(name, ranked_draws(pairs.of(of), uplift[of]), rng=rng))
    return found


def quality_table(found: Sequence[UpliftQuality]) -> pd.DataFrame:
    """One row an action; estimates with their bounds."""
    rows = []
    for each in found:
        row: dict[str, float | int | str] = {
            "action_id": each.action_id, "treated": each.treated, "controls": each.controls,
            "mean_score": each.mean_score,
        }  # fmt: skip
        for name, estimate in quality_estimates(each).items():
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        rows.append(row)
    return pd.DataFrame(rows)


def quality_estimates(found: UpliftQuality) -> dict[str, Estimate]:
    """By name: `qini`, `effect`, `at_10`, `at_20`, `at_30`."""
    at = {f"at_{share:.0%}".rstrip("%"): estimate for share, estimate in found.at.items()}
    return {"qini": found.qini, "effect": found.effect, **at}


def _places(ranked: Ranked) -> NDArray[np.int64]:
    """Each row's bin, of equal weight, the highest scores first; equal scores share one."""
    values, place = np.unique(-ranked.score, return_inverse=True)
    end = np.bincount(place, weights=ranked.weight, minlength=len(values)).cumsum()
    bins = np.ceil(end / end[-1] * BINS - 1e-9).astype(np.int64) - 1
    return np.clip(bins, 0, BINS - 1)[place]


def _curve(ranked: Ranked, place: NDArray[np.int64], counts: NDArray[np.floating | np.integer]) -> Curve:
    """Radcliffe's incremental gains, `Y_t - Y_c N_t / N_c` over all that were treated; `counts` are of each row."""
    sums = []
    for arm in (ranked.treated, ~ranked.treated):
        of = ranked.weight * counts * arm
        sums += [np.bincount(place, weights=each, minlength=BINS) for each in (of, of * ranked.success)]
    treated, gained, controls, otherwise = np.pad(np.cumsum(sums, axis=1), ((0, 0), (1, 0)))
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.where(controls > 0.0, gained - otherwise * treated / controls, 0.0) / treated[-1]
    total = treated[-1] + controls[-1]
    first, last = gained[-1] / total, otherwise[-1] / total
    most = gained[-1] / treated[-1]
    optimum = most * (1.0 - 0.5 * first - last) + last * 0.5 * (most + gain[-1])
    return Curve((treated + controls) / total, gain, float(optimum))


def _uplift_at(curve: Curve, share: float) -> float:
    return float(np.interp(share, curve.share, curve.gain)) / share
