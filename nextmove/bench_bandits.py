"""`nextmove bench bandits`: our learning beside other libraries', each at its defaults, in one table."""

import multiprocessing
import os
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from decisioning.errors import DataError
from nextmove.bandit_drift import Shop, drifting_shop
from nextmove.bandit_linear import LinearThompson
from nextmove.bandit_mushroom import mushroom_problem
from nextmove.bandit_peers import PEERS, peer
from nextmove.bandit_product import TrainedAgain
from nextmove.bandit_protocol import Floats, Learner, Problem, play
from nextmove.console import next_command, out, print_json, print_table, step
from nextmove.thompson_cost import CANDIDATES, DRAWS, thompson_cost
from storage.settings import Settings
from training.tracking import Tracking

BOARD = "bandits"
LINEAR = "Nextmove linear Thompson"
PRODUCT, UNCORRECTED = "Nextmove", "Nextmove without posterior"
LEARNERS = {"mushroom": (LINEAR, *PEERS), "drift": (PRODUCT, UNCORRECTED, *PEERS)}
ROUNDS = {"mushroom": 50_000, "drift": 100_000}
SEEDS = {"mushroom": 5, "drift": 1}
OURS = (LINEAR, PRODUCT, UNCORRECTED)
_POINTS = 50  # of a curve
_LAST = 5  # the last fifth


class Run(NamedTuple):
    """One learner's run; `folder` holds the mushrooms, or the simulated shop's catalogue."""

    problem: str
    learner: str
    seed: int
    rounds: int
    folder: Path


class Ran(NamedTuple):
    """What came of a run.

    Attributes:
        regret: Beside the oracle, as a percentage of what uniform choice regrets.
        curve: The same up to each of 50 points of the run, of the whole run's.
        last: Mean expected reward over the last fifth; `last_uniform` and `last_oracle` likewise.
        seconds: CPU time, of its learning and choosing.
    """

    learner: str
    seed: int
    regret: float
    curve: list[float]
    last: float
    last_uniform: float
    last_oracle: float
    seconds: float

    @property
    def share(self) -> float:
        """Percentage of what the oracle earns above uniform choice, over the last fifth."""
        return 100.0 * (self.last - self.last_uniform) / (self.last_oracle - self.last_uniform)


class Summary(NamedTuple):
    """A learner over all seeds; spreads are the least and the most."""

    learner: str
    regret: float
    regrets: tuple[float, float]
    last: float
    share: float
    shares: tuple[float, float]
    seconds: float


def run_bandits(
    settings: Settings,
    problem: str,
    *,
    rounds: int | None,
    seeds: int | None,
    data: Path,
    learners: Sequence[str],
    workers: int,
    as_json: bool,
) -> None:
    """Play, compare, log to MLflow, print.

    Raises:
        DataError: There is no such problem or learner, or the data are not there.
    """
    names = _chosen(problem, learners)
    folder = data if problem == "mushroom" else settings.catalog_dir / "simulated"
    rounds = rounds or ROUNDS[problem]
    runs = [
        Run(problem, name, seed, rounds, folder) for seed in range(1, (seeds or SEEDS[problem]) + 1) for name in names
    ]
    if problem == "mushroom":
        mushroom_problem(folder / "mushroom.data", rounds=1, seed=1)  # whether the file is there
    ran: list[Ran] = []
    with step(f"bench bandits, {problem}") as progress:
        for one in _played(runs, workers):
            ran.append(one)
            progress(f"{len(ran)} of {len(runs)} runs: {one.learner}, seed {one.seed}, {one.seconds:,.0f} s of CPU")
        progress.result = f"{len(runs)} runs of {rounds:,} rounds"
    found, cost = summaries(ran), thompson_cost()
    with step("log to MLflow"):
        run_id = _log(settings, problem, rounds, ran, found)
    if as_json:
        print_json(
            {
                "problem": problem,
                "rounds": rounds,
                "run_id": run_id,
                "thompson_microseconds": cost._asdict(),
                "learners": [each._asdict() for each in found],
                "runs": [each._asdict() for each in ran],
            }
        )
        return
    _print(problem, rounds, len(runs) // len(names), found)
    out.print(
        f"Thompson's chances of {CANDIDATES} candidates: {cost.exact:,.0f} us of CPU; counting {DRAWS:,} draws:"
        f" {cost.counted:,.0f} us, off by up to {cost.counted_error:.0e}"
    )
    next_command(f"mlflow ui --backend-store-uri {settings.mlflow_uri}   (board '{BOARD}')")


def summaries(ran: Sequence[Ran]) -> list[Summary]:
    """By learner, the least regret first."""
    found = []
    for name in dict.fromkeys(each.learner for each in ran):
        own = [each for each in ran if each.learner == name]
        regrets, shares = [each.regret for each in own], [each.share for each in own]
        found.append(
            Summary(
                learner=name,
                regret=statistics.fmean(regrets),
                regrets=(min(regrets), max(regrets)),
                last=statistics.fmean(each.last for each in own),
                share=statistics.fmean(shares),
                shares=(min(shares), max(shares)),
                seconds=statistics.fmean(each.seconds for each in own),
            )
        )
    return sorted(found, key=lambda each: each.regret)


def ran_once(run: Run) -> Ran:
    """One run; everything is made from its seed, so it is the same in any process."""
    shop = drifting_shop(run.folder, rounds=run.rounds, seed=run.seed) if run.problem == "drift" else None
    problem = (
        mushroom_problem(run.folder / "mushroom.data", rounds=run.rounds, seed=run.seed)
        if shop is None
        else shop.problem
    )
    played = play(problem, _learner(run, problem, shop), seed=run.seed)
    return _ran(run, problem, played.earned, played.seconds)


def _ran(run: Run, problem: Problem, earned: Floats, seconds: float) -> Ran:
    oracle, uniform = problem.oracle, problem.uniform
    last = slice(-max(len(earned) // _LAST, 1), None)
    behind = 100.0 * (oracle - earned).cumsum() / (oracle - uniform).sum()
    points = np.linspace(0, len(earned), _POINTS + 1).astype(int)[1:] - 1
    return Ran(
        learner=run.learner,
        seed=run.seed,
        regret=float(behind[-1]),
        curve=behind[points].tolist(),
        last=float(earned[last].mean()),
        last_uniform=float(uniform[last].mean()),
        last_oracle=float(oracle[last].mean()),
        seconds=seconds,
    )


def _learner(run: Run, problem: Problem, shop: Shop | None) -> Learner:
    if run.learner == LINEAR:
        return LinearThompson(problem)
    if run.learner in (PRODUCT, UNCORRECTED) and shop is not None:
        return TrainedAgain(shop, seed=run.seed, corrected=run.learner == PRODUCT)
    return peer(run.learner, problem, seed=run.seed)


def _chosen(problem: str, learners: Sequence[str]) -> Sequence[str]:
    if problem not in LEARNERS:
        raise DataError(f"there is no problem '{problem}', must be one of {', '.join(LEARNERS)}")
    unknown = sorted(set(learners) - set(LEARNERS[problem]))
    if unknown:
        raise DataError(f"no learner is called {', '.join(unknown)}, must be of {', '.join(LEARNERS[problem])}")
    return learners or LEARNERS[problem]


def _played(runs: Sequence[Run], workers: int) -> Iterator[Ran]:
    """Runs as they end, in processes with one thread: more wait for each other and take ten times as long."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # read when a worker starts
        os.environ.setdefault(name, "1")
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(ran_once, run) for run in runs]):
            yield done.result()


def _print(problem: str, rounds: int, seeds: int, found: Sequence[Summary]) -> None:
    title = f"{problem}, {rounds:,} rounds, {seeds} seeds; every learner at its defaults; uniform choice is 100 and 0 %"
    print_table(
        title,
        ("learner", "regret", "least to most", "of the oracle's excess, last fifth, %", "reward there", "CPU s"),
        [
            (
                each.learner,
                each.regret,
                f"{each.regrets[0]:.2f} to {each.regrets[1]:.2f}",
                f"{each.share:.1f}  ({each.shares[0]:.1f} to {each.shares[1]:.1f})",
                each.last,
                each.seconds,
            )
            for each in found
        ],
    )
    out.print("Regret is beside the best choice of each round, as a percentage of uniform choice's.")


def _log(settings: Settings, problem: str, rounds: int, ran: Sequence[Ran], found: Sequence[Summary]) -> str:
    tracking = Tracking(settings)
    with tracking.run(f"{problem}, {rounds:,} rounds", board=BOARD) as run_id:
        tracking.log(
            run_id,
            parameters={"problem": problem, "rounds": rounds, "seeds": len({each.seed for each in ran})},
            metrics={f"regret_{_metric(each.learner)}": each.regret for each in found}
            | {f"share_{_metric(each.learner)}": each.share for each in found},
        )
        tracking.log_figure(run_id, "figures/regret.png", _figure(rounds, ran, found))
    return run_id


def _metric(learner: str) -> str:
    return learner.lower().replace(" ", "_").replace("-", "_")


def _figure(rounds: int, ran: Sequence[Ran], found: Sequence[Summary]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    at = np.linspace(0, rounds, _POINTS + 1)[1:]
    for each in found:
        mean = np.mean([one.curve for one in ran if one.learner == each.learner], axis=0)
        is_ours = each.learner in OURS
        axes.plot(at, mean, linewidth=2.5 if is_ours else 1.2, linestyle="-" if is_ours else "--", label=each.learner)
    axes.plot(at, 100.0 * at / rounds, color="0.7", linestyle=":", label="uniform")
    axes.set_xlabel("rounds")
    axes.set_ylabel("regret so far, % of uniform choice's in the whole run")
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize="small")
    return figure
