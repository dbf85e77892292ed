"""What acting on our default models is worth on real customers, over repeated half splits of one file.

Each split deals the customers into two halves; a model is trained on either and valued on the other. One
file is one sample: the same customers are dealt again and again, so intervals over splits are corrected.
"""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from decisioning.catalog import Catalog
from decisioning.evaluation import Estimate
from nextmove.console import print_json, print_table, step
from storage.catalog_files import read_release
from storage.settings import Settings
from training.domains.hillstrom import CAMPAIGN, Hillstrom
from training.evaluation_report import UNIFORM, evaluate
from training.examples import combined, log_examples
from training.figures import forest_figure, qini_figure
from training.gate import judge
from training.tracking import Tracking
from training.training_run import train
from training.uplift_quality import UpliftQuality

MENS, WOMENS = "mens_email", "womens_email"
BOARD = "hillstrom"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ENOUGH_SPLITS = 20  # with fewer, chance decides
LEAST_OVER_MENS, LEAST_OVER_UNIFORM, LEAST_QINI = -0.003, 0.031, 0.05


class Half(NamedTuple):
    """A model of one half, valued on the other.

    Attributes:
        over_mens, over_uniform: Visits a customer that the default policy gains, by DR, with 95 % intervals.
        gate: What the gate says of it against the best constant.
        claims: Whether that is a claim to beat it.
        womens: Of the uplift of the women's e-mail, against none.
    """

    split: int
    half: int
    over_mens: Estimate
    over_uniform: Estimate
    gate: str
    claims: bool
    womens: UpliftQuality

    @property
    def is_honest(self) -> bool:
        """Whether no win is claimed where the lower bound does not clear 0."""
        return not (self.claims and self.over_mens.low <= 0.0)

    @property
    def relative_area(self) -> float:
        """The Qini curve's area over random targeting, as a share of random targeting's own."""
        return self.womens.area.value / (0.5 * self.womens.effect.value)


class Target(NamedTuple):
    """Something that must hold: a mean over the halves with its interval, and the least that it may be."""

    name: str
    mean: float
    low: float
    high: float
    least: float

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.mean >= self.least


def run_hillstrom(settings: Settings, data: Path, *, splits: int, seed: int, as_json: bool) -> bool:
    """Split, train, value and print; whether all that must hold does.

    Raises:
        DataError: The file cannot be read.
    """
    with step("hillstrom") as progress:
        halves = repeated_halves(data, settings, splits=splits, seed=seed, progress=progress)
        found = targets(halves)
        progress.result = f"{len(halves)} halves"
    dishonest = [each for each in halves if not each.is_honest]
    judged = splits >= ENOUGH_SPLITS
    holds = not dishonest and (not judged or all(each.holds for each in found))
    with step("mlflow") as progress:
        progress.result = f"run {_log(settings, halves, found, splits=splits, seed=seed)}"
    if as_json:
        print_json(
            {
                "splits": splits,
                "targets": [{**each._asdict(), "holds": each.holds if judged else None} for each in found],
                "claims_without_evidence": len(dishonest),
                "halves": table(halves).to_dict("records"),
                "holds": holds,
            }
        )
        return holds
    print_table(
        "Each half valued on the other, in visits of 100 customers; Qini of the women's e-mail against none",
        ["split", "over always-mens", "95 %", "over uniform", "Qini", "uplift of top 30 %", "gate"],
        [
            (
                f"{each.split}{'ab'[each.half]}", f"{100 * each.over_mens.value:+.2f}", _bounds(each.over_mens),
                f"{100 * each.over_uniform.value:+.2f}", f"{each.womens.qini.value:.3f}",
                f"{100 * each.womens.at[0.3].value:.1f}", each.gate,
            )
            for each in halves
        ],
    )  # fmt: skip
    print_table(
        f"Means over {len(halves)} halves, with corrected 95 % intervals",
        ["what", "mean", "low", "high", "at least", "holds"],
        [(*each, _verdict(each.holds) if judged else f"judged from {ENOUGH_SPLITS} splits on") for each in found],
    )
    other = table(halves)[["area", "relative_area"]].mean()
    print_table(
        "The women's Qini under other definitions (means)",
        ["definition", "value"],
        [
            ("area over random, of the optimum's (Radcliffe; the one above)", found[2].mean),
            ("area over random, in visits of 100 customers", 100.0 * float(other["area"])),
            ("area over random, of random's own", float(other["relative_area"])),
        ],
    )
    clear = sum(each.over_mens.low > 0.0 for each in halves)
    print_table(
        "The gate",
        ["halves", "count"],
        [
            ("no evidence of a win over always-mens (lower bound not above 0)", float(len(halves) - clear)),
            ("of these, a win claimed all the same", float(len(dishonest))),
        ],
    )
    return holds


def repeated_halves(
    data: Path, settings: Settings, *, splits: int, seed: int, progress: Callable[[str], None]
) -> list[Half]:
    """Both halves of every split, in their order."""
    catalog = read_release(settings.catalog_dir / Hillstrom.name)[1].blueprint
    examples = _examples(data, catalog)
    found = []
    for split in range(splits):
        dealt = np.random.default_rng([seed, split]).permutation(len(examples)) < len(examples) // 2
        for half, learnt in enumerate((dealt, ~dealt)):
            each = _half(examples, learnt, catalog, settings, split=split, half=half, seed=seed)
            found.append(each)
            progress(
                f"split {split + 1} of {splits}, half {half + 1}: {100 * each.over_mens.value:+.2f} visits of 100 over"
                f" always-mens, Qini {each.womens.qini.value:.3f}"
            )
    return found


def targets(halves: Sequence[Half]) -> list[Target]:
    """What must hold of the means over the halves."""
    values = {
        "visits over always-mens": ([each.over_mens.value for each in halves], LEAST_OVER_MENS),
        "visits over uniform": ([each.over_uniform.value for each in halves], LEAST_OVER_UNIFORM),
        "Qini of the women's e-mail": ([each.womens.qini.value for each in halves], LEAST_QINI),
    }
    return [Target(name, *corrected_mean(np.array(each)), least) for name, (each, least) in values.items()]


def corrected_mean(values: np.ndarray) -> tuple[float, float, float]:
    """The mean of `n` results of repeated half splits, and its 95 % interval, which does not shrink with `n`.

    Splits share their rows, so their variance is not divided by `n` but multiplied by `1 / n + 1`, with as
    many rows to learn from as to value on. Nadeau & Bengio, *Inference for the Generalization Error*,
    Machine Learning 2003, section 3.

    >>> [round(value, 2) for value in corrected_mean(np.array([0.1, 0.3, 0.2, 0.2]))]
    [0.2, -0.09, 0.49]
    """
    n, mean = len(values), float(values.mean())
    error = math.sqrt((1.0 / n + 1.0) * float(values.var(ddof=1))) if n > 1 else math.nan
    margin = float(student_t.ppf(0.975, max(n - 1, 1))) * error
    return mean, mean - margin, mean + margin


def table(halves: Sequence[Half]) -> pd.DataFrame:
    """One row a half."""
    rows = []
    for each in halves:
        row: dict[str, float | int | str | bool] = {"split": each.split, "half": each.half}
        estimates = {"over_mens": each.over_mens, "over_uniform": each.over_uniform, "qini": each.womens.qini}
        for name, estimate in estimates.items():
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        row |= {
            "area": each.womens.area.value,
            "relative_area": each.relative_area,
            "uplift_at_30": each.womens.at[0.3].value,
        }
        rows.append({**row, "gate": each.gate, "claims": each.claims})
    return pd.DataFrame(rows)


def _examples(data: Path, catalog: Catalog) -> pd.DataFrame:
    file = data / "hillstrom.csv" if data.is_dir() else data
    domain = Hillstrom(file)
    log = domain.log()
    # One version of the features, older than the campaign: the point-in-time join is a plain one.
    features = domain.tables()["profile"].merge(log[["row_id", "customer_id"]], on="customer_id")
    return combined(log_examples(log, features, catalog))


def _half(
    examples: pd.DataFrame,
    learnt: np.ndarray,
    catalog: Catalog,
    settings: Settings,
    *,
    split: int,
    half: int,
    seed: int,
) -> Half:
    """The half that is valued gets a campaign of its own, after the other: a split by time then parts them."""
    later = examples["decided_at"].where(learnt, examples["decided_at"] + CAMPAIGN)
    dealt = examples.assign(decided_at=later).sort_values(["decided_at", "row_id"], ignore_index=True)
    trained = train(
        dealt,
        settings,
        catalog=_ranking_womens_by_uplift(catalog),
        now=NOW,
        seed=seed + 1_000 * split + half,
        test_share=1.0 - float(learnt.mean()),
        register=False,
    )
    report = evaluate(trained.bundle, dealt, catalog, seed=seed)
    over_mens, over_uniform = report.difference(f"always-{MENS}"), report.difference(UNIFORM)
    assert over_mens is not None
    assert over_uniform is not None
    verdict = judge(report)
    lines = (*verdict.against, *verdict.findings)
    said = next(line for line in lines if "the best constant" in line or f"always-{MENS}" in line)
    claims = "no evidence" not in said and "measurably worse" not in said
    womens = next(each for each in trained.uplift_quality if each.action_id == WOMENS)
    return Half(split, half, over_mens, over_uniform, said, claims, womens)


def _ranking_womens_by_uplift(catalog: Catalog) -> Catalog:
    """The catalogue with one action by whose uplift the models are asked to rank."""
    actions = tuple(
        msgspec.structs.replace(each, rank_by="uplift") if each.id == WOMENS else each
        for each in catalog.content.actions
    )
    return Catalog(msgspec.structs.replace(catalog.content, actions=actions), version=catalog.version)


def _log(settings: Settings, halves: Sequence[Half], found: Sequence[Target], *, splits: int, seed: int) -> str:
    tracking = Tracking(settings)
    with tracking.run(f"{splits} splits", board=BOARD) as run_id:
        names = ("over_mens", "over_uniform", "womens_qini")
        tracking.log(
            run_id,
            parameters={"splits": splits, "seed": seed},
            metrics={
                f"{name}{end}": getattr(each, end.strip("_") or "mean")
                for name, each in zip(names, found, strict=True)
                for end in ("", "_low", "_high")
            },
        )
        tracking.log_table(run_id, "halves", table(halves))
        labelled = [(f"{each.split}{'ab'[each.half]}", each.over_mens) for each in halves]
        tracking.log_figure(
            run_id, "figures/over_mens.png", forest_figure("Visits over always-mens, by half", labelled)
        )
        tracking.log_figure(run_id, "figures/qini.png", qini_figure([each.womens for each in halves]))
    return run_id


def _bounds(estimate: Estimate) -> str:
    return f"[{100 * estimate.low:+.2f}, {100 * estimate.high:+.2f}]"


def _verdict(holds: bool) -> str:
    return "yes" if holds else "no"
