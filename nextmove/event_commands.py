"""`nextmove ingest ...`: a data set's features and consents, and files of events of one's own."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from decisioning.errors import DataError, RequestError
from nextmove.console import err, next_command, print_json, rows_bar, step
from nextmove.options import AsJson, Data, Dataset, now_utc, seconds_of, settings_of

ingest_app = typer.Typer(invoke_without_command=True)


@ingest_app.callback()
def ingest(context: typer.Context, dataset: Dataset = None, data: Data = None) -> None:
    """Bring a domain's features into Feast and its consents into the ledger; or your own customers or events.

    Example: nextmove ingest --dataset simulated
    """
    if context.invoked_subcommand is not None:
        if dataset is not None or data is not None:
            name = context.invoked_subcommand
            raise RequestError(f"--dataset and --data must stand behind '{name}': nextmove ingest {name} --dataset ...")
        return
    from nextmove import steps
    from training.domains.files import Files

    settings = settings_of(dataset, data)
    steps.open_home(settings)
    domain = steps.domain_of(settings)
    if isinstance(domain, Files):
        raise RequestError("these are your own customers: nextmove ingest customers --mapping my.yaml", where="dataset")
    with step("ingest") as progress:
        report = steps.ingest_domain(settings, domain, now=now_utc(), progress=progress)
        progress.result = f"{report.customers:,} customers, {report.features} features"
    next_command("nextmove train")


@ingest_app.command("events")
def events(
    file: Annotated[Path, typer.Argument(help="CSV, JSON lines or Parquet; CSV and JSON lines also as .gz or .zip.")],
    mapping: Annotated[Path, typer.Option(help="What its columns mean: YAML, see docs/events.md.")],
    source: Annotated[
        str | None, typer.Option(help="Who tells these events; what the mapping says when absent.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if any row could not be used.")] = False,
    dataset: Dataset = None,
    as_json: AsJson = False,
) -> None:
    """Take in a file of events, each once: a run that was stopped goes on, a file that has grown brings what is new.

    Rows that cannot be used are named and written to a file; the others are taken. A service may run meanwhile.

    Example: nextmove ingest events orders.csv --mapping orders.yaml
    """
    import msgspec

    from decisioning.vocabulary import Vocabulary
    from nextmove import steps
    from nextmove.ingest_events import IngestedEvents, ingest_events
    from storage.event_mapping import SourceName, read_mapping

    settings = settings_of(dataset)
    said = read_mapping(mapping)
    name = source if source is not None else said.source
    if name is None:
        raise DataError(f"{mapping.name} names no source: write `source: till` into it, or give --source till")
    try:
        msgspec.convert(name, SourceName)
    except msgspec.ValidationError as error:
        raise RequestError(
            f"--source is '{name}', must have 1 to 64 signs, none of them for control", where="source"
        ) from error
    steps.open_home(settings)
    release = steps.last_released(settings)
    vocabulary = release.vocabulary if release is not None else Vocabulary()
    began = time.monotonic()
    with step(f"ingest {file.name}") as result, rows_bar() as bar:
        task = bar.add_task("", total=1.0, rows=0, rate=0)

        def progress(share: float, report: IngestedEvents) -> None:
            rate = report.rows / max(time.monotonic() - began, 0.001)
            bar.update(task, completed=share, rows=report.rows_before + report.rows, rate=rate)

        report = ingest_events(
            settings,
            file,
            said,
            source=name,
            vocabulary=vocabulary,
            release=release,
            now=now_utc(),
            progress=progress,
        )
        bar.stop()
        result.result = _summary(report)
    seconds = time.monotonic() - began
    for mistake in report.mistakes:
        err.print(f"  {mistake}")
    if report.mistakes_found > len(report.mistakes):
        err.print(f"  and {report.mistakes_found - len(report.mistakes):,} more")
    if report.reject_file is not None:
        err.print(f"{report.rejected:,} rows could not be used: {report.reject_file}", style="yellow")
    if report.unseen_columns:
        err.print(f"no row had {', '.join(report.unseen_columns)}, which the mapping names", style="yellow")
    if as_json:
        print_json({**asdict(report), "seconds": round(seconds, 3)})
    if report.all_bad or (strict and report.mistakes_found):
        which = "no row" if report.all_bad else f"{report.rejected:,} of {report.rows:,} rows"
        could = "could be used" if report.all_bad else "could not be used"
        raise DataError(f"{which} of {file.name} {could}; correct the mapping or the rows", where=str(file))


@ingest_app.command("features")
def features(
    every: Annotated[
        str | None, typer.Option(help="Go on, and do it again after so long: 30s, 5m, 2h.", metavar="TIME")
    ] = None,
    dataset: Dataset = None,
    as_json: AsJson = False,
) -> None:
    """Write features over events to Feast, of every customer who did something since the last run.

    The service does not wait for this: it counts events as they come.

    Example: nextmove ingest features --every 5m
    """
    import msgspec

    from nextmove import steps
    from training.ingest_features import ingest_features

    pause = None if every is None else seconds_of(every)
    settings = settings_of(dataset)
    steps.open_home(settings)
    while True:
        with step("ingest features") as progress:
            report = ingest_features(settings, now=now_utc(), progress=progress)
            progress.result = f"{report.features} features of {report.customers:,} customers"
        if as_json:
            print_json(msgspec.to_builtins(report))
        if pause is None:
            break
        time.sleep(pause)
    next_command("nextmove train")


def _summary(report: object) -> str:
    from nextmove.ingest_events import IngestedEvents

    assert isinstance(report, IngestedEvents)
    parts = [f"{report.rows:,} rows", f"{report.accepted:,} new events"]
    for number, words in (
        (report.duplicates, "known before"),
        (report.ignored, "not wanted by their source, or of somebody erased"),
        (report.left_out, "rows left out by the mapping"),
        (report.rows_before, "rows of earlier runs"),
        (report.unmapped, "of a name or in a currency that nobody has given a meaning"),
    ):
        if number:
            parts.append(f"{number:,} {words}")
    return ", ".join(parts)
