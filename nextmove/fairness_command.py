"""`nextmove fairness`: whether groups of customers are treated alike.

Imports of libraries that take seconds stand inside the command that needs them.
"""

from typing import Annotated

import msgspec
import typer

from decisioning.errors import RequestError
from nextmove.console import err, next_command, out, print_json, print_table, step
from nextmove.options import AsJson, Dataset, Ledger, now_utc, settings_of, since_when


def fairness(
    by: Annotated[
        list[str] | None,
        typer.Option(help="Customer feature to compare by; repeat it. The protected ones when absent."),
    ] = None,
    of: Annotated[
        list[str] | None,
        typer.Option(help="Action or group of actions that is good to get; repeat it. Any when absent."),
    ] = None,
    since: Annotated[str, typer.Option(help="Decisions since then: 30m, 12h, 1d or 2w ago, or a date.")] = "30d",
    dataset: Dataset = None,
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """Compare what groups of customers were shown, how they responded and what it was worth.

    Example: nextmove fairness --by age_band --by region --of loans
    """
    from decisioning.fairness import FOUR_FIFTHS
    from nextmove import steps
    from nextmove.past_decisions import past_decisions
    from training.closed_decisions import closed_decisions
    from training.fairness_report import fairness_report, log_fairness
    from training.tracking import Tracking

    settings, now = settings_of(dataset), now_utc()
    begin = since_when(since, now=now)
    catalog = steps.released(settings).everywhere
    declared = catalog.content.fairness
    names = tuple(by or declared.protected)
    if not names:
        raise RequestError(
            "the catalogue protects no feature; name one with --by, or write `fairness: {protected: [...]}`", where="by"
        )
    with past_decisions(settings, ledger) as past, step("fairness") as progress:
        untold = past.untold(catalog.content, since=begin, now=now)
        found = fairness_report(
            past.reader.decisions(settings.domain, since=begin, until=now),
            closed_decisions(past.reader, catalog, since=begin, now=now, untold=untold),
            catalog,
            by=names,
            exposure_of=tuple(of or declared.exposure_of),
            since=begin,
            until=now,
        )
        progress.result = f"{found.decisions:,} decisions, {found.closed:,} of which all is told"
    tracking = Tracking(settings)
    run_id = log_fairness(tracking, found)
    if as_json:
        print_json({**msgspec.to_builtins(found), "run_id": run_id})
        return
    for name in found.by:
        rows = []
        for each in found.ratios:
            if each.attribute != name:
                continue
            said = "largest group" if each.group == each.reference else "too few to judge" if not each.judged else "-"
            if each.ratio is not None:
                beyond = each.lies_below(FOUR_FIFTHS) or each.lies_above(FOUR_FIFTHS)
                high = f"{each.high:.2f}" if each.high is not None else "?"
                said = f"{each.ratio:.2f} [{each.low:.2f}, {high}]{'  beyond 4/5' if beyond else ''}"
            value = f"{each.value:.4f}" if each.value == each.value else "-"
            rows.append((f"{each.measure}: {each.group}", f"{each.customers:,}", f"{each.decisions:,}", value, said))
        columns = ("measure and group", "customers", "decisions", "value", "ratio to the largest")
        print_table(f"By {name}, decisions since {found.since:%Y-%m-%d}", columns, rows)
    for note in found.notes:
        out.print(f"note: {note}")
    err.print(tracking.address(run_id), style="dim")
    next_command("nextmove drift")
