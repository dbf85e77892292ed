"""`nextmove drift`: are live data still what the model learnt from?

Imports of libraries that take seconds stand inside the command that needs them.
"""

import sys
from contextlib import closing
from typing import Annotated

import msgspec
import typer

from nextmove.console import err, next_command, out, print_json, print_table, step
from nextmove.options import AsJson, Dataset, now_utc, settings_of, since_when

MOST_SHOWN = 20


def drift(
    since: Annotated[str, typer.Option(help="Decisions since then: 30m, 12h, 1d or 2w ago, or a date.")] = "7d",
    dataset: Dataset = None,
    as_json: AsJson = False,
) -> None:
    """Compare live features, scores and successes with what the served model learnt from.

    What is found is in /metrics and `nextmove doctor` from then on. Exit code 1 if anything is more than chance.

    Example: nextmove drift --since 7d
    """
    from nextmove import steps
    from nextmove.past_decisions import past_decisions
    from serving.bootstrap import live_bundle
    from storage.blobs import BlobStore
    from storage.drift_findings import keep_drift
    from training.closed_decisions import closed_decisions
    from training.drift_report import drift_report, log_drift
    from training.tracking import Tracking

    settings, now = settings_of(dataset), now_utc()
    begin = since_when(since, now=now)
    catalog = steps.released(settings).everywhere
    with closing(BlobStore(settings)) as blobs:
        bundle = live_bundle(blobs, settings)
        with past_decisions(settings) as past, step("drift") as progress:
            untold = past.untold(catalog.content, since=begin, now=now)
            found = drift_report(
                past.reader.decisions(settings.domain, since=begin, until=now),
                closed_decisions(past.reader, catalog, since=begin, now=now, untold=untold),
                bundle.manifest,
                bundle_sha256=bundle.sha256,
                since=begin,
                until=now,
            )
            progress.result = f"{found.decisions:,} decisions of {found.customers:,} customers"
        keep_drift(blobs, settings.domain, found.summary, now=now)
    tracking = Tracking(settings)
    run_id = log_drift(tracking, found)
    if as_json:
        print_json({**msgspec.to_builtins(found), "run_id": run_id})
    else:
        shown = [*([found.scores] if found.scores is not None else []), *found.features[:MOST_SHOWN]]
        rows = [
            (each.name, each.psi, f"{each.ks:.3f}" if each.ks is not None else "-", each.level, each.moved)
            for each in shown
        ]
        columns = ("feature", "PSI", "KS", "drift", "moved most")
        print_table(f"Version {found.version}, decisions since {begin:%Y-%m-%d %H:%M}", columns, rows)
        if found.calibration is not None:
            told = found.calibration
            out.print(
                f"calibration: {told.observed:,} of {told.decisions:,} succeeded, {told.expected:,.0f} were promised:"
                f" {told.ratio:.2f} times [{told.low:.2f}, {told.high:.2f}]"
            )
        else:
            out.print(f"calibration: {found.closed:,} decisions are told, too few successes or customers to say")
        for alarm in found.alarms:
            out.print(f"alarm: {alarm}")
        err.print(tracking.address(run_id), style="dim")
    next_command("nextmove train" if found.alarms else "nextmove doctor")
    if found.alarms:
        sys.exit(1)
