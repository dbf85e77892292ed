"""Are experiments judged right: false alarms, power, CUPED and mismatches over simulated ones, and a real one."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tea_tasting import Experiment as TeaExperiment
from tea_tasting.metrics import RatioOfMeans

from decisioning.errors import DataError
from nextmove.console import print_json, print_table, step
from nextmove.experiment_worlds import BLOCK, LOOKS, UNITS, WORLDS, Looks, growing, learning, simulated
from training.experiments.comparison import Fixed, aggregates, compare, fixed_horizon
from training.experiments.moments import COLUMNS, Floats, Moments, moments_of
from training.experiments.power import ALPHA, PLANNED, POWER
from training.experiments.sequences import ConfidenceSequence, mismatch_evidence
from training.experiments.verdict import MISMATCH_LEVEL

ONCE = 1.959963984540054  # standard errors of an interval for one look
FULL = 2_000  # experiments from which on power must agree within 2 points; fewer say it less exactly
SAME = 1e-8
EXPLAINED = ("visits", "spend")  # by what the same people did before
ARMS = {"mens": "Mens E-Mail", "womens": "Womens E-Mail"}


class Claim(NamedTuple):
    """Something that must hold: a figure, and from where to where it may be."""

    what: str
    figure: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.low <= self.figure <= self.high


class Found(NamedTuple):
    """What was measured: what must hold, and shares to see it beside."""

    claims: list[Claim]
    beside: list[tuple[str, float]]


class Apart(NamedTuple):
    """A comparison by us, and by tea-tasting from the rows themselves; `apart` is how far they are off at most."""

    control: float
    difference: float
    anytime: tuple[float, float]
    fixed: tuple[float, float]
    tea: tuple[float, float]
    apart: float


def run_experiments(data: Path, *, experiments: int, seed: int, as_json: bool) -> bool:
    """Simulate, print, and say whether everything holds that must.

    Raises:
        DataError: `data` is not the Hillstrom file.
    """
    rng = np.random.default_rng(seed)
    with step("hillstrom"):
        rows = hillstrom(data)
    found = Found([], [])
    with step("experiments without an effect") as progress:
        for name, draw in WORLDS.items():
            progress(name)
            add_still(found, name, simulated(draw, experiments, lift=0.0, rng=rng))
        add_unlike(found, experiments, rng)
    with step("experiments with an effect"):
        for name in EXPLAINED:
            add_power(found, name, experiments, rng)
    with step("mismatches"):
        alarms = mismatches(10 * experiments, 0.5, rng)
        found.claims.append(Claim("mismatch: any look", alarms, 0.0, MISMATCH_LEVEL))
        found.beside.append(("mismatch found: 52 % where 50 % were meant", mismatches(experiments, 0.52, rng)))
    with step("the same rows by tea-tasting alone"):
        for name, draw in WORLDS.items():
            second = rng.random(20_000) < 0.5
            off = apart(frame_of(draw(rng, second.shape, np.where(second, 0.1, 0.0)), second)).apart
            found.claims.append(Claim(f"{name}: farthest from tea-tasting", off, 0.0, SAME))
    off = max(row.apart for _, row in rows)
    found.claims.append(Claim("hillstrom: farthest from tea-tasting", off, 0.0, SAME))
    if as_json:
        listed = [{**claim._asdict(), "holds": claim.holds} for claim in found.claims]
        real = {what: row._asdict() for what, row in rows}
        beside = dict(found.beside)
        print_json({"seed": seed, "experiments": experiments, "claims": listed, "beside": beside, "hillstrom": real})
    else:
        _print(found, rows, experiments)
    return all(claim.holds for claim in found.claims)


def add_still(found: Found, name: str, looks: Looks) -> None:
    """Add how often an effect is claimed where there is none, and what CUPED does."""
    found.claims.extend(false_alarms(name, looks))
    found.beside.append((f"{name}: an interval for one look, looked at {LOOKS} times", alarmed(looks, ONCE)))
    if name in EXPLAINED:
        found.claims.append(cuped(name, looks))


def add_unlike(found: Found, experiments: int, rng: np.random.Generator) -> None:
    """Likewise where units' values change, or hang on what others did."""
    for name, looks in (
        ("values that go on growing", growing(experiments, rng=rng)),
        ("one bandit for both variants", learning(experiments, own=False, rng=rng)),
    ):
        found.claims.append(Claim(f"{name}: any look, anytime-valid", alarmed(looks), 0.0, ALPHA))
        found.beside.append((f"{name}: an interval for one look, looked at {LOOKS} times", alarmed(looks, ONCE)))
    alone = alarmed(learning(experiments, own=True, rng=rng))
    found.beside.append(("a bandit for each variant: any look, anytime-valid", alone))


def alarmed(found: Looks, radius: float | None = None) -> float:
    """The share of experiments whose interval left out 0 at any look: of a fixed radius, or the anytime-valid one."""
    compared = compare(*found)
    n = found.control.count + found.variant.count
    limit = ConfidenceSequence(PLANNED, ALPHA).radius(n) if radius is None else radius
    return float((np.abs(compared.difference) > limit * compared.error).any(axis=1).mean())


def false_alarms(name: str, found: Looks) -> list[Claim]:
    """Without an effect: at any look at most the error that is stated, and at the last as much as is stated."""
    p_values = np.array([fixed.p_value for fixed in each_fixed(found.last())])
    spread = 4.0 * float(np.sqrt(ALPHA * (1.0 - ALPHA) / len(p_values)))
    return [
        Claim(f"{name}: any look, anytime-valid", alarmed(found), 0.0, ALPHA),
        Claim(
            f"{name}: the last look, fixed horizon", float((p_values < ALPHA).mean()), ALPHA - spread, ALPHA + spread
        ),
    ]


def cuped(name: str, found: Looks) -> Claim:
    """How much less estimates vary over experiments, against `1 - rho^2` of units.

    An adjusted estimate is what is left of the plain one, so their correlation is `sqrt(1 - rho^2)`, and of the ratio
    of two variances with that correlation the relative error is `2 rho / sqrt(n)`.
    """
    last = found.last()
    plain = last.variant.mean[:, 0] - last.control.mean[:, 0]
    total = (last.control + last.variant).covariance.mean(axis=0)
    unexplained = 1.0 - float(total[0, 2] ** 2 / (total[0, 0] * total[2, 2]))
    ratio = float(compare(*last).difference.var() / plain.var())
    half = 4.0 * 2.0 * float(np.sqrt((1.0 - unexplained) / len(plain))) * unexplained
    return Claim(f"{name}: variance left by CUPED", ratio, unexplained - half, unexplained + half)


def add_power(found: Found, name: str, experiments: int, rng: np.random.Generator) -> None:
    """Add how often an effect is found, against tea-tasting's power for it on the same experiments.

    The effect is what tea-tasting's plan finds in 4 of 5, from people as they are without it. It multiplies what is
    spent, and so its spread: then a plan promises a little too much.
    """
    size = LOOKS * UNITS
    history = simulated(WORLDS[name], BLOCK, lift=0.0, rng=rng).last()
    plan = RatioOfMeans(*COLUMNS, alpha=ALPHA, power=POWER, n_obs=size)
    [planned] = plan.solve_power_from_aggregates(aggregates(_typical(history)), "rel_effect_size")
    looks = simulated(WORLDS[name], experiments, lift=float(planned.rel_effect_size), rng=rng)
    last = looks.last()
    effect = float((last.variant.mean[:, 0] - last.control.mean[:, 0]).mean())
    asked = RatioOfMeans(*COLUMNS, alpha=ALPHA, effect_size=effect, n_obs=size)
    [theirs] = asked.solve_power_from_aggregates(aggregates(_typical(last)), "power")
    hits = float(np.mean([fixed.p_value < ALPHA for fixed in each_fixed(last)]))
    half = 0.02 if experiments >= FULL else 4.0 * float(np.sqrt(POWER * (1.0 - POWER) / experiments))
    found.claims.append(Claim(f"{name}: effect found at the end", hits, theirs.power - half, theirs.power + half))
    found.beside.append((f"{name}: the plan promised, from before", POWER))
    found.beside.append((f"{name}: found at some look, anytime-valid", alarmed(looks)))


def _typical(found: Looks) -> Moments:
    """The mean of the moments of either variant of all experiments, as one sample."""
    parts = [np.concatenate([getattr(each, name) for each in found]).mean(axis=0) for name in Moments.__slots__]
    return Moments(*parts)


def each_fixed(last: Looks) -> list[Fixed]:
    """tea-tasting's fixed-horizon reading of each experiment."""

    def of(moments: Moments, place: int) -> Moments:
        return Moments(moments.count[place], moments.mean[place], moments.covariance[place])

    return [fixed_horizon(of(last.control, n), of(last.variant, n)) for n in range(len(last.control.count))]


def mismatches(experiments: int, share: float, rng: np.random.Generator) -> float:
    """How often the test of an even split finds a mismatch at any look, of units that split so."""
    second = rng.binomial(UNITS, share, (experiments, LOOKS)).cumsum(axis=1).astype(float)
    met = np.arange(1, LOOKS + 1) * float(UNITS)
    evidence = mismatch_evidence(np.stack([met - second, second], axis=-1), np.array([0.5, 0.5]))
    return float((np.exp(-evidence) < MISMATCH_LEVEL).any(axis=1).mean())


def frame_of(columns: tuple[Floats, ...], second: NDArray[np.bool_]) -> pd.DataFrame:
    """Rows of units, `COLUMNS` and `variant`; of absent columns what is the same of all."""
    defaults = (0.0, 1.0, 0.0, 1.0)
    filled = [*columns, *(np.full(len(second), value) for value in defaults[len(columns) :])]
    return pd.DataFrame({**dict(zip(COLUMNS, filled, strict=True)), "variant": second.astype(int)})


def apart(rows: pd.DataFrame) -> Apart:
    """The comparison of these rows by us, and by tea-tasting, which reads them itself."""
    control, variant = (moments_of(rows.loc[rows["variant"] == arm, list(COLUMNS)].to_numpy(float)) for arm in (0, 1))
    compared, fixed = compare(control, variant), fixed_horizon(control, variant)
    varies = [name if rows[name].nunique() > 1 else None for name in COLUMNS]
    [theirs] = TeaExperiment({"it": RatioOfMeans(*varies)}).analyze(rows).values()
    radius = float(ConfidenceSequence(PLANNED, ALPHA).radius(len(rows)) * compared.error)
    difference = float(compared.difference)
    pairs = [
        (float(compared.control.value), theirs.control),
        (difference, theirs.effect_size),
        (difference / float(compared.error), theirs.statistic),
        (float(compared.relative), theirs.rel_effect_size),
        *zip(
            fixed,
            (theirs.effect_size_ci_lower, theirs.effect_size_ci_upper, theirs.rel_effect_size_ci_lower,
             theirs.rel_effect_size_ci_upper, theirs.pvalue),
            strict=True,
        ),
    ]  # fmt: skip
    return Apart(
        control=float(compared.control.value),
        difference=difference,
        anytime=(difference - radius, difference + radius),
        fixed=(fixed.low, fixed.high),
        tea=(theirs.effect_size_ci_lower, theirs.effect_size_ci_upper),
        apart=max(abs(ours - others) / max(1.0, abs(others)) for ours, others in pairs if ours is not None),
    )


def hillstrom(data: Path) -> list[tuple[str, Apart]]:
    """Visits and spend of either e-mail against none; `history`, the year before's spend, explains part.

    Raises:
        DataError: There is no such file.
    """
    path = data / "hillstrom.csv" if data.is_dir() else data
    if not path.is_file():
        raise DataError(f"there is no {path}; name the Hillstrom file with --data", where="data")
    people = pd.read_csv(path)
    found = []
    for name, segment in ARMS.items():
        both = people[people["segment"].isin([segment, "No E-Mail"])]
        for metric in ("visit", "spend"):
            columns = both[metric].to_numpy(float), np.ones(len(both)), both["history"].to_numpy(float)
            found.append((f"{name}, {metric}", apart(frame_of(columns, (both["segment"] == segment).to_numpy()))))
    return found


def _print(found: Found, rows: list[tuple[str, Apart]], experiments: int) -> None:
    print_table(
        f"{experiments:,} simulated experiments of {LOOKS * UNITS:,} units, looked at {LOOKS} times",
        ("what", "figure", "must be in", "holds"),
        [(c.what, c.figure, f"[{c.low:.4g}, {c.high:.4g}]", "yes" if c.holds else "NO") for c in found.claims],
    )
    print_table("Beside it", ("what", "share"), found.beside)
    print_table(
        "Hillstrom against no e-mail, with what was spent in the year before explained",
        ("what", "none", "difference", "every look [95 %]", "one look [95 %]", "tea-tasting [95 %]"),
        [(what, row.control, row.difference, *map(_bounds, (row.anytime, row.fixed, row.tea))) for what, row in rows],
    )


def _bounds(interval: tuple[float, float]) -> str:
    return f"[{interval[0]:.5f}, {interval[1]:.5f}]"
