"""`nextmove experiment ...`: how long it takes, how it stands, what its plan says.

Imports of libraries that take seconds stand inside the commands that need them.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from decisioning.catalog import Catalog
from decisioning.errors import SetupError
from decisioning.experiment_content import Experiment
from decisioning.record import AuditRecord
from nextmove.console import next_command, out, print_json, step
from nextmove.options import (
    AsJson,
    Dataset,
    Ledger,
    Market,
    dataset_options,
    now_utc,
    refuse_unknown,
    settings_of,
    user,
)
from storage.settings import Settings

if TYPE_CHECKING:
    from nextmove.past_decisions import PastDecisions
    from training.experiments.report import ExperimentReport

experiment_app = typer.Typer(help="Experiments: their length, how they stand, what to do.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The experiment's id in the catalogue.")]
DECIDED = "experiment.decide"


@experiment_app.command("power")
def power(
    experiment_id: Id, dataset: Dataset = None, market: Market = None, ledger: Ledger = None, as_json: AsJson = False
) -> None:
    """Say how many units and days the experiment takes, from the ledger's decisions of as many days before.

    Example: nextmove experiment power hero_copy
    """
    from nextmove.experiment_reports import print_power
    from training.experiments.measurements import metrics_of, read_before
    from training.experiments.power import power as power_of

    settings, now = settings_of(dataset), now_utc()
    with _opened(settings, experiment_id, market, ledger) as (past, catalog, experiment):
        metric, _ = metrics_of(catalog.content, experiment)
        with step("experiment power") as progress:
            began = experiment.starts if experiment.status == "running" else None
            log = read_before(past.reader, catalog, experiment, (metric,), before=min(now, began or now))
            found = power_of(log, metric)
            progress.result = f"{found.units_met:,} units"
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    print_power(found)
    next_command(f"nextmove experiment report {experiment_id} {dataset_options(settings)}")


@experiment_app.command("report")
def report(
    experiment_id: Id,
    audience: Annotated[list[str] | None, typer.Option(help="Also of this audience; may be repeated.")] = None,
    dataset: Dataset = None,
    market: Market = None,
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """Show how the experiment stands; look as often as you like.

    Example: nextmove experiment report hero_copy --audience loyal
    """
    from nextmove.experiment_reports import print_report

    settings, now = settings_of(dataset), now_utc()
    with _opened(settings, experiment_id, market, ledger) as (past, catalog, experiment):
        found = _reported(past, catalog, experiment, audience or [], now=now)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    print_report(found)
    next_command(f"nextmove experiment decide {experiment_id} {dataset_options(settings)}")


@experiment_app.command("decide")
def decide(
    experiment_id: Id,
    apply: Annotated[
        bool, typer.Option("--apply", help="If it says to end: write `status: stopped` to its file, and release it.")
    ] = False,
    dataset: Dataset = None,
    market: Market = None,
    as_json: AsJson = False,
) -> None:
    """Apply the experiment's plan, and write what it says and why to the audit.

    Without --apply no traffic changes. With it, everyone gets what the catalogue says without the experiment; to make
    a winner's changes the catalogue's own stays a person's work.

    Example: nextmove experiment decide hero_copy
    """
    from storage.ledger.audit import keep_audit

    settings, now = settings_of(dataset), now_utc()
    with _opened(settings, experiment_id, market, None) as (past, catalog, experiment):
        found = _reported(past, catalog, experiment, [], now=now)
    ends = apply and found.verdict.stops and experiment.status == "running"
    said = f"{found.verdict.word}: {found.verdict.sentence}"
    if ends:
        stop(settings, experiment_id, reason=f"nextmove experiment decide: {said}", now=now)
    keep_audit(
        settings,
        AuditRecord(
            at=now,
            domain=settings.domain,
            actor=user(),
            what=DECIDED,
            subject=f"{experiment_id}/{experiment.version}",
            reason=f"{said}; stopped" if ends else said,
        ),
    )
    if as_json:
        print_json({**msgspec.to_builtins(found.verdict), "stopped": ends})
        return
    out.print(said)
    if ends:
        out.print("stopped: services follow within 5 s")
    elif found.verdict.stops and experiment.status == "running":
        next_command(f"nextmove experiment decide {experiment_id} {dataset_options(settings)} --apply")


def stop(settings: Settings, experiment_id: str, *, reason: str, now: datetime) -> None:
    """Write to its catalogue file that the experiment is stopped, and release that; else nothing changes.

    Raises:
        SetupError: The files differ from what is released, so more than this would be released.
        DataError: Its status stands in several places.
        CatalogError: The files would not be a usable catalogue.
    """
    from nextmove import steps
    from storage.experiment_files import status_of

    if steps.unreleased_changes(settings):
        raise SetupError(
            "the catalogue's files differ from what is released, and to stop the experiment would release that too;"
            " release it first (nextmove catalog release), or take it back"
        )
    written = status_of(steps.catalog_folder(settings), experiment_id)
    written.write("stopped")
    try:
        steps.release_catalog(settings, now=now, reason=reason)
    except BaseException:
        written.restore()
        raise


def _reported(
    past: "PastDecisions", catalog: Catalog, experiment: Experiment, audiences: list[str], *, now: datetime
) -> "ExperimentReport":
    from training.experiments.report import experiment_report

    for name in audiences:
        refuse_unknown("audience", name, catalog.audiences)
    with step("experiment report") as progress:
        found = experiment_report(past.reader, catalog, experiment, now=now, audiences=audiences)
        progress.result = f"{sum(found.mismatch.counts.values()):,} units"
    return found


@contextmanager
def _opened(
    settings: Settings, experiment_id: str, market: str | None, ledger: Path | None
) -> Iterator[tuple["PastDecisions", Catalog, Experiment]]:
    """The ledger, the market's catalogue and the experiment.

    Raises:
        RequestError: There is no such market or experiment.
    """
    from nextmove import steps
    from nextmove.past_decisions import PastDecisions
    from training.experiments.report import experiment_of

    release = steps.released(settings)
    refuse_unknown("market", market, release.markets)
    catalog = release.of(market)
    experiment = experiment_of(catalog, experiment_id)
    with closing(PastDecisions(settings, ledger)) as past:
        yield past, catalog, experiment
