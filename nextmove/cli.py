"""`nextmove`: every command, its options and its help. The work is done elsewhere.

Imports of libraries that take seconds stand inside the commands that need them.
"""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Annotated, Any

import typer

from decisioning.errors import NextmoveError
from nextmove.audience_commands import audience_app
from nextmove.bench_commands import bench_app
from nextmove.catalog_commands import catalog_app
from nextmove.console import err, next_command, print_json, print_table, step
from nextmove.customer_commands import customers, init
from nextmove.decision_commands import explain, replay
from nextmove.doctor_command import doctor
from nextmove.drift_command import drift
from nextmove.evaluate_command import evaluate
from nextmove.event_commands import ingest_app
from nextmove.experiment_commands import experiment_app
from nextmove.fairness_command import fairness
from nextmove.key_commands import keys_app
from nextmove.learn_command import learn
from nextmove.model_commands import model_app
from nextmove.moment_commands import moments_app
from nextmove.options import AsJson, Data, Dataset, Mapping, dataset_options, now_utc, settings_of, user
from nextmove.privacy_commands import privacy_app
from nextmove.shadow_commands import apprentice, shadow_app
from nextmove.stage_commands import foretell

app = typer.Typer(
    name="nextmove",
    help="Next-best-action decisioning: data, models, catalogue and service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
state_app = typer.Typer(help="What is true of each customer at this instant.", no_args_is_help=True)
app.add_typer(catalog_app, name="catalog")
app.add_typer(audience_app, name="audience")
app.add_typer(experiment_app, name="experiment")
app.add_typer(ingest_app, name="ingest")
app.add_typer(keys_app, name="keys")
app.add_typer(model_app, name="model")
app.add_typer(moments_app, name="moments")
app.add_typer(privacy_app, name="privacy")
app.add_typer(shadow_app, name="shadow")
app.add_typer(state_app, name="state")
app.add_typer(bench_app, name="bench")
catalog_app.command("init")(init)
ingest_app.command("customers")(customers)
app.command("apprentice")(apprentice)
app.command("doctor")(doctor)
app.command("evaluate")(evaluate)
app.command("drift")(drift)
app.command("explain")(explain)
app.command("foretell")(foretell)
app.command("fairness")(fairness)
app.command("replay")(replay)
app.command("learn")(learn)

Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to serve on.")]
Host = Annotated[str, typer.Option(help="Address to serve on; another than loopback needs keys, see nextmove keys.")]


@app.command()
def quickstart(
    dataset: Dataset = None,
    data: Data = None,
    mapping: Mapping = None,
    host: Host = "127.0.0.1",
    port: Port = 3000,
    check: Annotated[bool, typer.Option("--check", help="End after the self-check instead of serving.")] = False,
) -> None:
    """Everything in one go: data, features, model, evaluation, promotion, service.

    Example: nextmove quickstart --dataset hillstrom --data ../shared/data/hillstrom/hillstrom.csv
    """
    from nextmove.quickstart import run

    run(settings_of(dataset, data, mapping), host=host, port=port, check=check)


@app.command()
def train(
    dataset: Dataset = None,
    data: Data = None,
    mapping: Mapping = None,
    learner: Annotated[
        str, typer.Option(help="lightgbm: trees; linear: a regression per action that also says how sure it is.")
    ] = "lightgbm",
    seed: Annotated[int, typer.Option(help="Of everything random in training.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Train a challenger on the data set's log and the ledger's closed decisions.

    A placement that explores by doubt (policy: thompson) needs a model that says it: --learner linear.

    Example: nextmove train --learner linear
    """
    from nextmove import steps
    from storage.ledger.reader import LedgerReader
    from training.response_delays import response_delays
    from training.training_run import train as train_model

    settings = settings_of(dataset, data, mapping)
    steps.open_home(settings)
    catalog, domain = steps.released(settings).everywhere, steps.domain_of(settings)
    with step("train") as progress:
        now = now_utc()
        with closing(LedgerReader(settings)) as reader:
            delays = response_delays(reader, catalog, now=now)
        trained = train_model(
            domain,
            settings,
            catalog=catalog,
            now=now,
            learner=learner,
            seed=seed,
            delays=delays,
            progress=progress,
        )
        progress.result = f"version {trained.version}, run {trained.run_id}"
    if as_json:
        print_json(
            {
                "run_id": trained.run_id,
                "version": trained.version,
                "metrics": trained.metrics,
                "uplift": trained.uplift.said,
            }
        )
    else:
        print_table("Test slice", ("metric", "value"), list(trained.metrics.items()))
    next_command(f"nextmove evaluate {dataset_options(settings)}")


@app.command()
def promote(
    dataset: Dataset = None,
    data: Data = None,
    mapping: Mapping = None,
    run: Annotated[str | None, typer.Option(help="MLflow run to promote; the challenger when absent.")] = None,
    non_inferior: Annotated[
        float | None, typer.Option(help="Accept a model that earns at most this much less a decision (do no harm).")
    ] = None,
    force: Annotated[str | None, typer.Option(help="Promote against the gate; the reason is kept.")] = None,
) -> None:
    """Make a trained model the champion, if it passes the gate; running services follow within 5 s.

    Example: nextmove promote --non-inferior 0.01
    """
    from nextmove import steps
    from nextmove.reports import print_verdict
    from training.promotion import promote as promote_model

    settings = settings_of(dataset, data, mapping)
    steps.open_home(settings)
    catalog, domain = steps.released(settings).everywhere, steps.domain_of(settings)
    with step("promote") as progress:
        promotion = promote_model(
            domain,
            settings,
            catalog=catalog,
            now=now_utc(),
            run_id=run,
            non_inferior=non_inferior,
            force=force,
            actor=user(),
            progress=progress,
        )
        progress.result = f"version {promotion.version} is champion{'' if promotion.changed else ' already'}"
    print_verdict(promotion)
    next_command(f"nextmove serve {dataset_options(settings)}")


@app.command()
def rollback(
    dataset: Dataset = None,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "nextmove rollback",
) -> None:
    """Go back to the champion before; running services follow within 5 s.

    Example: nextmove rollback --reason "complaints about loans"
    """
    from training.rollback import rollback as roll_back

    settings = settings_of(dataset)
    with step("rollback") as progress:
        restored = roll_back(settings, settings.domain, now=now_utc(), reason=reason)
        progress.result = f"version {restored.version} is champion again instead of {restored.left_version}"


@app.command()
def serve(
    dataset: Dataset = None,
    mapping: Mapping = None,
    host: Host = "127.0.0.1",
    port: Port = 3000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; each holds the model.")] = 1,
) -> None:
    """Serve decisions over HTTP until Ctrl-C.

    Example: nextmove serve --port 3000
    """
    from nextmove.serve import callers_must_say, check_address, service_command, service_environment
    from nextmove.steps import catalog_folder, open_home, unreleased_changes

    settings = settings_of(dataset, mapping=mapping)
    check_address(settings, host, port)
    open_home(settings)
    if catalog_folder(settings).is_dir() and unreleased_changes(settings):
        err.print("the catalogue's files differ from what is released; to serve them: nextmove catalog release")
    err.print(f"serving '{settings.domain}' on http://{host}:{port}; the API is described at /v1/docs")
    told = callers_must_say(settings)
    err.print("callers need a key or token" if told else "there are no keys: only this machine is answered")
    command = service_command(host, port)
    os.execve(command[0], command, service_environment(settings, workers))  # noqa: S606


@app.command()
def simulate(
    rounds: Annotated[int, typer.Option(min=100, help="Visits to play.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Of the visits, the outcomes and the draws.")] = 1,
    retrain_every: Annotated[int, typer.Option(min=100, help="Visits between two trainings.")] = 5_000,
    last: Annotated[int, typer.Option(min=1, help="Visits at the end that the comparison is about.")] = 5_000,
    posterior: Annotated[bool, typer.Option(help="Let the online posterior correct scores.")] = True,
    as_json: AsJson = False,
) -> None:
    """Let the simulated world use the real engine, and the engine learn from it.

    Example: nextmove simulate --rounds 20000 --seed 1
    """
    from nextmove.simulate import run

    run(
        settings_of("simulated"),
        rounds=rounds,
        seed=seed,
        retrain_every=retrain_every,
        last=last,
        posterior=posterior,
        as_json=as_json,
    )


@state_app.command("rebuild")
def state_rebuild() -> None:
    """Make hot state anew from the ledger; a running service sees the new one.

    Example: nextmove state rebuild
    """
    from storage.hot_state.rebuild import rebuild
    from storage.ledger.database import migrate
    from storage.settings import prepare_home

    settings = settings_of(None)
    prepare_home(settings)
    migrate(settings)
    with step("state rebuild") as progress:
        rebuild(settings, now=now_utc(), progress=progress)


def main(run: Callable[[], Any] = app) -> None:
    """The console script: an error of ours is one clear line and exit code 1."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    # LightGBM's threads otherwise spin while they wait, which beside another process costs many times the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.captureWarnings(True)  # libraries' own, to nowhere: nothing that a user can act on
    try:
        run()
    except NextmoveError as error:
        err.print("error", style="red", end=" ")
        err.print(f"({error.code}): {error.message}")
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("stopped")
        sys.exit(130)


if __name__ == "__main__":
    main()
