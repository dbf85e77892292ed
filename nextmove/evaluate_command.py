"""`nextmove evaluate`: what a model, a catalogue or a policy would earn, from decisions that were made.

Imports of libraries that take seconds stand inside the command.
"""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from decisioning.errors import RequestError
from nextmove.console import err, next_command, out, print_json, step
from nextmove.options import AsJson, Data, Dataset, Ledger, Mapping, dataset_options, now_utc, settings_of, since_when
from storage.settings import Settings

OF_LEDGER = ("--catalog", "--since", "--market", "--ledger")


def evaluate(
    dataset: Dataset = None,
    data: Data = None,
    mapping: Mapping = None,
    run: Annotated[str | None, typer.Option(help="MLflow run to evaluate; the challenger when absent.")] = None,
    log: Annotated[Path | None, typer.Option(help="Any log of a bandit's choices: CSV, JSON lines or Parquet.")] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", help="Of --log: ROLE=COLUMN, such as reward=clicked; see docs/evaluation.md."),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="uniform, always:ACTION, column:NAME (of --log), greedy, squarecb:8000 ..., or a file."),
    ] = None,
    estimators: Annotated[
        str, typer.Option(help="Of --log: few, all, or some of dm, ips, snips, dr, sndr, switch_dr, dros.")
    ] = "few",
    reward_range: Annotated[
        str | None, typer.Option(help="Of --log: LEAST,MOST that a reward can ever be, for cautious intervals.")
    ] = None,
    catalog: Annotated[
        str | None, typer.Option(help="Another catalogue: a folder of files, or a released version.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Of the ledger's decisions: 30m, 12h, 1d or 2w ago, or a date; 1w when absent.")
    ] = None,
    market: Annotated[str | None, typer.Option(help="Of the ledger's decisions: those of this market.")] = None,
    ledger: Ledger = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and the reward model.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Estimate what a model, a catalogue or a policy would earn, on decisions that it did not make.

    A model, on decisions later than all it learnt from; another catalogue or exploration policy, on the ledger's
    decisions; any policy, on any log that says with which probability each action was chosen.

    Example: nextmove evaluate --dataset hillstrom --data ../shared/data/hillstrom/hillstrom.csv

    Example: nextmove evaluate --catalog catalog/simulated --since 1w

    Example: nextmove evaluate --policy squarecb:8000

    Example: nextmove evaluate --log clicks.csv --map reward=clicked --map probability=p --policy greedy
    """
    if log is not None:
        if run is not None or any(each is not None for each in (catalog, since, market, ledger)):
            raise RequestError(f"--log is a log of its own: leave out --run, {', '.join(OF_LEDGER)}", where="log")
        settings = settings_of(dataset, data, mapping)
        _of_log(settings, log, maps or [], policy or ["uniform", "greedy"], estimators, reward_range, seed, as_json)
        return
    if maps or reward_range is not None or estimators != "few":
        raise RequestError("--map, --estimators and --reward-range are of --log FILE; name one", where="log")
    settings = settings_of(dataset, data, mapping)
    if catalog is None and not policy:
        if any(each is not None for each in (since, market, ledger)):
            raise RequestError("--since, --market and --ledger need --catalog or --policy: what to evaluate there")
        _of_model(settings, run, as_json=as_json)
        return
    if catalog is not None and policy:
        raise RequestError("--catalog and --policy are both given; evaluate one change at a time", where="policy")
    if policy and len(policy) > 1:
        raise RequestError("several --policy are given; on the ledger evaluate one at a time", where="policy")
    from nextmove.what_if import run_what_if

    run_what_if(
        settings,
        ledger=ledger,
        since=since_when(since or "1w", now=now_utc()),
        catalog=catalog,
        policy=policy[0] if policy else None,
        market=market,
        seed=seed,
        as_json=as_json,
    )


def _of_model(settings: Settings, run: str | None, *, as_json: bool) -> None:
    from nextmove import steps
    from nextmove.reports import print_evaluation
    from training.evaluation_run import evaluate_run

    steps.open_home(settings)
    catalog, domain = steps.released(settings).everywhere, steps.domain_of(settings)
    with step("evaluate") as progress:
        report = evaluate_run(domain, settings, catalog=catalog, now=now_utc(), run_id=run, progress=progress)
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        print_evaluation(report)
    next_command(f"nextmove promote {dataset_options(settings)}")


def _of_log(
    settings: Settings,
    log: Path,
    maps: list[str],
    policies: list[str],
    estimators: str,
    reward_range: str | None,
    seed: int,
    as_json: bool,
) -> None:
    from nextmove.reports import print_log_evaluation
    from training.log_evaluation import evaluate_log
    from training.log_evaluation_run import log_evaluation
    from training.logged_bandit import read_logged_bandit
    from training.logged_policies import LOGGED_COLUMN
    from training.logged_rows import columns_of
    from training.tracking import Tracking

    columns = columns_of(
        log,
        maps,
        policies=[each.removeprefix(LOGGED_COLUMN) for each in policies if each.startswith(LOGGED_COLUMN)],
    )
    with step("read") as progress:
        bandit = read_logged_bandit(log, columns, now=now_utc())
        progress.result = f"{len(bandit.number):,} rows, {len(bandit.actions):,} actions"
    with step("evaluate"):
        evaluated = evaluate_log(bandit, policies, estimators=estimators, rewards=_range_of(reward_range), seed=seed)
    tracking = Tracking(settings)
    run_id = log_evaluation(tracking, evaluated)
    address = tracking.address(run_id)
    if as_json:
        print_json({**msgspec.to_builtins(evaluated.report), "run_id": run_id, "run": address})
        return
    print_log_evaluation(evaluated.report)
    err.print(f"its page, while this runs: mlflow ui --backend-store-uri {settings.mlflow_uri}")
    out.print(address)


def _range_of(said: str | None) -> tuple[float, float] | None:
    if said is None:
        return None
    try:
        least, most = (float(part) for part in said.split(","))
    except ValueError as error:
        raise RequestError(
            f"--reward-range is '{said}', must be LEAST,MOST such as 0,1", where="reward_range"
        ) from error
    return least, most
