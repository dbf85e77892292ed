"""`nextmove bench ...`: every measurement, its options and its help."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nextmove.options import AsJson, Dataset, settings_of

bench_app = typer.Typer(help="Measurements; each prints its own baseline or breakdown.", no_args_is_help=True)


@bench_app.command("decide")
def bench_decide(
    dataset: Dataset = None,
    placement: Annotated[str | None, typer.Option(help="Placement to decide for; the first when absent.")] = None,
    decisions: Annotated[int, typer.Option(min=10, help="Decisions a round.")] = 1_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are over them.")] = 5,
    shadow: Annotated[bool, typer.Option("--shadow", help="Score a second time, in the shadow.")] = False,
    as_json: AsJson = False,
) -> None:
    """CPU microseconds per decision by stage, in process, with embedded stores and a durable ledger.

    Example: nextmove bench decide --placement home_hero
    """
    from nextmove.bench import run_decide

    run_decide(
        settings_of(dataset),
        placement=placement,
        decisions=decisions,
        rounds=rounds,
        shadow=shadow,
        as_json=as_json,
    )


@bench_app.command("funnel")
def bench_funnel(
    decisions: Annotated[int, typer.Option(min=50, help="Decisions a round; fewer where they are larger.")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, after one that warms up.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Microseconds of the pure funnel on generated catalogues, and how they grow; hot state in Redis beside it.

    Example: nextmove bench funnel --rounds 3
    """
    from nextmove.bench_funnel import run_funnel

    run_funnel(settings_of(None), rounds=rounds, decisions=decisions, as_json=as_json)


@bench_app.command("assignment")
def bench_assignment(
    units: Annotated[int, typer.Option(min=1_000, help="Units of the table.")] = 10_000_000,
    as_json: AsJson = False,
) -> None:
    """Seconds to assign many units to 20 experiments at once, beside one by one; microseconds of one caller's 20.

    Example: nextmove bench assignment --units 1000000
    """
    from nextmove.bench_assignment import run_assignment

    run_assignment(units=units, as_json=as_json)


@bench_app.command("ope")
def bench_ope(
    data: Annotated[Path, typer.Option(help="Folder with the reference's vectors.")] = Path(
        "../shared/data/ope_golden"
    ),
    obd: Annotated[Path, typer.Option(help="Folder of the Open Bandit Dataset.")] = Path("../shared/data/obd"),
    replications: Annotated[int, typer.Option(min=50, help="Simulated logs for the intervals.")] = 500,
    bootstraps: Annotated[int, typer.Option(min=0, help="Of the Open Bandit Dataset's log; 0 leaves it out.")] = 30,
    seed: Annotated[int, typer.Option(help="Of the simulated logs.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Off-policy estimates beside a reference's, how often their intervals hold the truth, and errors on real logs.

    Fails where an estimate is not the reference's, or an interval holds less often than it says. The short version
    takes --replications 60 --bootstraps 2.

    Example: nextmove bench ope --replications 500 --bootstraps 30
    """
    from nextmove.bench_ope import run_ope

    if not run_ope(data, obd, replications=replications, bootstraps=bootstraps, seed=seed, as_json=as_json):
        sys.exit(1)


@bench_app.command("training")
def bench_training(
    decisions: Annotated[int, typer.Option(min=2_000, help="Decisions in the ledger that is trained on.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Of the ledger and of the training.")] = 1,
    as_json: AsJson = False,
) -> None:
    """What training costs: a ledger of decisions with 60 columns is made, then read and learnt from.

    Seconds by stage beside LightGBM's own, and the highest memory, of a process that does what `nextmove
    train` does. The ledger, 4 KiB a decision, is in a directory of its own that is removed afterwards.

    Example: nextmove bench training --decisions 1000000
    """
    from nextmove.bench_training import run_training

    run_training(settings_of(None), decisions=decisions, seed=seed, as_json=as_json)


@bench_app.command("hillstrom")
def bench_hillstrom(
    data: Annotated[Path, typer.Option(help="hillstrom.csv, or its folder.")] = Path("../shared/data/hillstrom"),
    splits: Annotated[int, typer.Option(min=1, help="Times that the customers are dealt into two halves.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the splits and the models.")] = 1,
    as_json: AsJson = False,
) -> None:
    """On real customers: the default policy beside always the best action, the uplift model's Qini, the gate's word.

    Ends with an error where something that must hold does not; values are judged from 20 splits on.

    Example: nextmove bench hillstrom --splits 20
    """
    from nextmove.bench_hillstrom import run_hillstrom

    if not run_hillstrom(settings_of(None), data, splits=splits, seed=seed, as_json=as_json):
        raise typer.Exit(1)


@bench_app.command("bandits")
def bench_bandits(
    problem: Annotated[str, typer.Option(help="mushroom, or drift: the simulated shop with changing tastes.")] = (
        "mushroom"
    ),
    rounds: Annotated[int | None, typer.Option(min=500, help="50,000 of mushroom, 100,000 of drift.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Runs of each; 5 of mushroom, 1 of drift.")] = None,
    data: Annotated[Path, typer.Option(help="Folder with mushroom.data.")] = Path("../shared/data/mushroom"),
    learner: Annotated[list[str] | None, typer.Option(help="Only these learners; may be repeated.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Runs at the same time.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Learning online beside Vowpal Wabbit and MABWiser: the same rounds and features, all at their defaults.

    Example: nextmove bench bandits --problem drift --rounds 20000
    """
    from nextmove.bench_bandits import run_bandits

    run_bandits(
        settings_of(None),
        problem,
        rounds=rounds,
        seeds=seeds,
        data=data,
        learners=learner or (),
        workers=workers,
        as_json=as_json,
    )


@bench_app.command("posterior")
def bench_posterior(
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each simulation.")] = 20,
    decisions: Annotated[int, typer.Option(min=100, help="Decisions of the ledger that is counted.")] = 5_000,
    as_json: AsJson = False,
) -> None:
    """How soon the online posterior follows a change, how steady it is without one, and what it costs.

    Example: nextmove bench posterior --seeds 20
    """
    from nextmove.bench_posterior import run_posterior

    run_posterior(seeds=seeds, decisions=decisions, as_json=as_json)


@bench_app.command("gate")
def bench_gate(
    challengers: Annotated[int, typer.Option(min=50, help="That are no better, asked once each.")] = 1_000,
    months: Annotated[int, typer.Option(min=20, help="Of a new challenger every hour, none of them better.")] = 500,
    power_months: Annotated[int, typer.Option(min=10, help="Of challengers that are better.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the simulated worlds.")] = 1,
    as_json: AsJson = False,
) -> None:
    """How often the promotion gate lets in what is no better, beside the stated error; and what it misses.

    Exit code 1 if a stated error is exceeded by more than four standard errors.

    Example: nextmove bench gate --challengers 1000
    """
    from nextmove.bench_gate import run_gate

    run_gate(
        settings_of(None), challengers=challengers, months=months, power_months=power_months, seed=seed,
        as_json=as_json,
    )  # fmt: skip


@bench_app.command("experiments")
def bench_experiments(
    data: Annotated[Path, typer.Option(help="hillstrom.csv, or its folder.")] = Path("../shared/data/hillstrom"),
    experiments: Annotated[int, typer.Option(min=100, help="Simulated experiments of each kind.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Of the simulated experiments.")] = 1,
    as_json: AsJson = False,
) -> None:
    """False alarms at 20 looks, power, CUPED and mismatches over simulated experiments; a real one by tea-tasting.

    Exit code 1 if anything is not as it must be. The short version takes --experiments 200.

    Example: nextmove bench experiments --experiments 2000
    """
    from nextmove.bench_experiments import run_experiments

    if not run_experiments(data, experiments=experiments, seed=seed, as_json=as_json):
        sys.exit(1)


@bench_app.command("events")
def bench_events(
    dataset: Dataset = None,
    seconds: Annotated[float, typer.Option(min=1, max=120, help="How long each load lasts.")] = 10.0,
    connections: Annotated[int, typer.Option(min=1, max=256, help="Connections that send single events.")] = 32,
    kills: Annotated[
        int, typer.Option(min=0, max=50, help="How often the service is killed while it takes events.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Events a second over HTTP, how soon the next decision knows of them, and what a kill loses.

    Runs a service of its own over a copy of the state directory.

    Example: nextmove bench events --kills 20
    """
    from nextmove.bench_events import run_events

    run_events(settings_of(dataset), seconds=seconds, connections=connections, kills=kills, as_json=as_json)
