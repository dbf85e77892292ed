"""`nextmove ingest customers` and `nextmove catalog init`: one's own data, and a first catalogue for it.

Imports of libraries that take seconds stand inside the commands that need them.
"""

import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from decisioning.errors import DataError, RequestError
from nextmove.console import err, next_command, print_json, rows_bar, step
from nextmove.options import AsJson, Data, Mapping, now_utc, settings_of
from storage.settings import Settings

if TYPE_CHECKING:
    from training.domains.files import Files
    from training.ingest_customers import IngestedCustomers


def customers(
    origin: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE|SQL-URL]",
            help="CSV, JSON lines, Parquet, or a database's address; what the mapping says when absent.",
        ),
    ] = None,
    mapping: Mapping = None,
    data: Data = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if any row could not be used.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take in customers, their features and consents: what is new or changed since the last run.

    Rows that cannot be used are named and written to a file; the others are taken. A service may run meanwhile.

    Example: nextmove ingest customers customers.csv --mapping my.yaml
    """
    from nextmove import steps

    settings, domain = _own(mapping, data)
    steps.open_home(settings)
    report = ingest_with_bar(settings, domain, now=now_utc(), origin=origin)
    if as_json:
        print_json(asdict(report))
    if report.all_bad or (strict and report.rejected):
        which = "no row" if report.all_bad else f"{report.rejected:,} of {report.rows:,} rows"
        could = "could be used" if report.all_bad else "could not be used"
        raise DataError(f"{which} of {report.source} {could}; correct the mapping or the rows")
    if not steps.catalog_folder(settings).is_dir():
        next_command(f"nextmove catalog init --mapping {settings.mapping}")
    else:
        next_command(f"nextmove quickstart --dataset files --mapping {settings.mapping}")


def init(mapping: Mapping = None, data: Data = None) -> None:
    """Write a first catalogue for your own data, into a folder beside the mapping; one that is there stays.

    Example: nextmove catalog init --mapping my.yaml
    """
    from nextmove.own_data import make_starter
    from nextmove.steps import catalog_folder

    settings, domain = _own(mapping, data)
    folder = catalog_folder(settings)
    with step("catalogue") as progress:
        written = make_starter(folder, domain)
        progress.result = f"{written} is yours to change" if written else f"{folder} has one already, which stays"
    next_command(f"nextmove quickstart --dataset files --mapping {settings.mapping}")


def ingest_with_bar(
    settings: Settings, domain: "Files", *, now: datetime, origin: str | None = None
) -> "IngestedCustomers":
    """Take in customers, and say what came of it."""
    from nextmove.own_data import take_customers

    began = time.monotonic()
    with step("ingest customers") as result, rows_bar("{task.fields[what]}") as bar:
        task = bar.add_task("", total=1.0, what="", rows=0, rate=0)

        def progress(what: str, share: float, report: "IngestedCustomers") -> None:
            rate = report.rows / max(time.monotonic() - began, 0.001)
            bar.update(task, completed=share, what=what, rows=report.rows, rate=rate)

        report = take_customers(settings, domain, now=now, origin=origin, progress=progress)
        bar.stop()
        result.result = _summary(report)
    kinds = ", ".join(f"{name} ({kind})" for name, kind in report.features.items())
    err.print(f"  features{', as their values tell' if report.found else ''}: {kinds}")
    for mistake in report.mistakes:
        err.print(f"  {mistake}")
    if report.rejected > len(report.mistakes):
        err.print(f"  and {report.rejected - len(report.mistakes):,} more")
    if report.reject_file is not None:
        err.print(f"{report.rejected:,} rows could not be used: {report.reject_file}", style="yellow")
    return report


def _own(mapping: Path | None, data: Path | None) -> "tuple[Settings, Files]":
    """The settings and the domain of one's own data.

    Raises:
        RequestError: No mapping is named.
    """
    from nextmove import steps
    from training.domains.files import Files

    settings = settings_of(None, data, mapping)
    domain = steps.domain_of(settings) if settings.mapping is not None else None
    if not isinstance(domain, Files):
        raise RequestError("--mapping is missing: which columns mean what, see docs/bring_your_own_data.md")
    return settings, domain


def _summary(report: "IngestedCustomers") -> str:
    parts = [f"{report.rows:,} rows, {report.new:,} new customers"]
    for number, words in (
        (report.changed, "changed"),
        (report.unchanged, "as they were"),
        (report.older, "not changed since the last run"),
        (report.left_out, "left out by the mapping"),
        (report.erased, "of customers who were erased, not taken"),
        (report.repeated, "say again what another row says"),
        (report.consents, "new words on consents"),
    ):
        if number:
            parts.append(f"{number:,} {words}")
    return ", ".join(parts)
