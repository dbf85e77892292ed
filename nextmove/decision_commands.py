"""`nextmove explain` and `nextmove replay`: why a decision is as it is, and what else it could have been.

Imports of libraries that take seconds stand inside the commands that need them.
"""

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from decisioning.catalog import Release
from decisioning.errors import CatalogError, RequestError, SetupError, StoreError
from nextmove.console import err, out, print_json, print_table, step
from nextmove.options import AsJson, Dataset, now_utc, settings_of
from storage.settings import Settings

if TYPE_CHECKING:
    from nextmove.past_decisions import PastDecisions
    from training.what_if import WhatIf

Ledger = Annotated[
    Path | None, typer.Option(help="State directory whose decisions are meant, such as a simulation's; else the own.")
]
_DURATION = re.compile(r"(\d+)(m|h|d|w)")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MOST_ACTIONS = 20


def explain(
    decision_id: Annotated[str, typer.Argument(help="Id of a decision in the ledger.")],
    dataset: Dataset = None,
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """Why a customer got what they got: candidates, formulas, drops, and what losers lacked.

    Example: nextmove explain 01KANTX7M0D4Q3V3Z0V6S2D6QJ
    """
    from nextmove.explain import as_document, print_explanation
    from nextmove.past_decisions import past_decisions

    with past_decisions(settings_of(dataset), ledger) as past:
        record = past.find(decision_id)
        if as_json:
            print_json(as_document(record))
            return
        try:
            catalog = past.catalog_of(record)
        except (StoreError, CatalogError, RequestError):
            catalog = None  # it only gives names
        print_explanation(record, catalog)


def replay(
    decision_id: Annotated[str | None, typer.Argument(help="Id of a decision in the ledger.")] = None,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Ask its model again, too; scores must agree to 1e-6.")
    ] = False,
    since: Annotated[
        str | None, typer.Option(help="What if: decisions since then, 30m, 12h, 1d or 2w ago, or a date.")
    ] = None,
    catalog: Annotated[
        str | None, typer.Option(help="What if: another catalogue, a folder of files or a released version.")
    ] = None,
    market: Annotated[str | None, typer.Option(help="What if: decisions of this market only.")] = None,
    seed: Annotated[int, typer.Option(help="What if: of the bootstrap and the reward model.")] = 1,
    dataset: Dataset = None,
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """Compute a decision again, bit for bit; or all of a time under another catalogue.

    Example: nextmove replay 01KANTX7M0D4Q3V3Z0V6S2D6QJ --rescore

    Example: nextmove replay --since 1d --catalog catalog/simulated
    """
    settings = settings_of(dataset)
    if decision_id is not None:
        if since is not None or catalog is not None or market is not None:
            raise SetupError("a decision's id and --since, --catalog or --market are both given; give one or the other")
        _replay_one(settings, ledger, decision_id, rescore=rescore, as_json=as_json)
    elif since is None or catalog is None or rescore:
        raise SetupError("give a decision's id (with --rescore or without), or both --since and --catalog")
    else:
        begin = since_when(since, now=now_utc())
        _replay_window(settings, ledger, begin, catalog, market, seed=seed, as_json=as_json)


def since_when(text: str, *, now: datetime, option: str = "--since") -> datetime:
    """The instant that `30m`, `12h`, `1d`, `2w` or a date says.

    >>> since_when("2w", now=datetime(2026, 1, 15, tzinfo=UTC)).isoformat()
    '2026-01-01T00:00:00+00:00'
    >>> since_when("2026-01-02", now=datetime(2026, 1, 15, tzinfo=UTC)).isoformat()
    '2026-01-02T00:00:00+00:00'

    Raises:
        SetupError: It says none.
    """
    ago = _DURATION.fullmatch(text)
    try:
        if ago is not None:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise SetupError(
            f"{option} is '{text}', must be a time ago such as 30m, 12h, 1d or 2w, or a date such as 2026-01-31",
            where=option.removeprefix("--"),
        ) from error
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _replay_one(settings: Settings, ledger: Path | None, decision_id: str, *, rescore: bool, as_json: bool) -> None:
    from nextmove.past_decisions import RESCORE_TOLERANCE, past_decisions

    with past_decisions(settings, ledger) as past:
        record = past.find(decision_id)
        found = past.replay(record)
        scores = past.rescore(record) if rescore else []
    agree = all(score.agrees for score in scores)
    if as_json:
        document: dict[str, Any] = msgspec.to_builtins(found) | {"verdict": found.verdict}
        if rescore:
            document["rescored"] = {"agrees": agree, "scores": [score._asdict() for score in scores]}
        print_json(document)
    else:
        out.print(f"{decision_id}: {found.verdict}")
        for difference in found.differences:
            out.print(f"  {difference.path}: was {difference.was!r}, is {difference.now!r}")
        if rescore:
            wide = max(abs(score.logged - score.now) for score in scores)
            verdict = "agree" if agree else "do NOT agree"
            out.print(f"{len(scores)} scores {verdict}: at most {wide:.2g} apart, {RESCORE_TOLERANCE:g} is allowed")
    if not (found.identical and agree):
        sys.exit(1)


def _replay_window(
    settings: Settings,
    ledger: Path | None,
    since: datetime,
    catalog: str,
    market: str | None,
    *,
    seed: int,
    as_json: bool,
) -> None:
    from nextmove.past_decisions import past_decisions
    from storage.ledger.earned import earned
    from training.redecide import Comparison
    from training.tracking import Tracking
    from training.what_if import log_what_if, what_if

    now = now_utc()
    with past_decisions(settings, ledger) as past, step("what if") as progress:
        new = _release_of(settings, past, catalog)
        comparison = Comparison(new, releases=past.release, models=past.model, key_of=past.key_of)
        report = what_if(
            past.reader.decisions(settings.domain, since=since, until=now),
            earned(past.reader, new.everywhere, since=since, until=now),
            comparison,
            now=now,
            since=since,
            market=market,
            untold=past.untold(new.everywhere.content, since=since, now=now),
            seed=seed,
            progress=progress,
        )
        progress.result = f"{report.decisions:,} decisions"
    tracking = Tracking(settings)
    run_id = log_what_if(tracking, report)
    address = tracking.address(run_id)
    if as_json:
        print_json({**msgspec.to_builtins(report), "run_id": run_id, "run": address})
        return
    _print_what_if(report)
    err.print(f"its page, while this runs: mlflow ui --backend-store-uri {settings.mlflow_uri}")
    out.print(address)


def _release_of(settings: Settings, past: "PastDecisions", catalog: str) -> Release:
    """The release that `--catalog` names."""
    from nextmove.steps import features_of
    from storage.catalog_files import read_release

    folder = Path(catalog).expanduser()
    if not folder.is_dir():
        return past.release_named(catalog)
    _, release = read_release(folder, features=features_of(settings))
    if release.domain != settings.domain:
        raise SetupError(
            f"--catalog is {catalog}, the catalogue of '{release.domain}'; the decisions are of '{settings.domain}':"
            f" name the domain with --dataset {release.domain}",
            where="catalog",
        )
    return release


def _print_what_if(report: "WhatIf") -> None:
    share = report.changed / report.decisions
    out.print(f"{report.decisions:,} decisions under {report.new_catalog[:19]} instead of what they were made under")
    out.print(f"expected to change at least: {report.changed:,.1f} ({share:.1%}) show another action first")
    if report.draws:
        out.print(f"with the draws of then: {report.changed_draws:,} of {report.draws:,}")
    for reason, count in report.left_out.items():
        out.print(f"left out: {count:,}, since {reason}")
    print_table(
        "First slots, sums of probabilities",
        ("action", "logged", "new", "difference"),
        [(each.action_id, each.before, each.after, each.after - each.before) for each in report.actions[:MOST_ACTIONS]],
    )
    if report.audiences:
        print_table(
            "Audiences of the new catalogue",
            ("audience", "decisions", "change", "%", "gains most", "loses most"),
            [
                (
                    each.audience,
                    each.decisions,
                    each.changed,
                    100.0 * each.changed / each.decisions,
                    each.gains,
                    each.loses,
                )
                for each in report.audiences
            ],
        )
    if report.earned is not None:
        earned = report.earned
        print_table(
            f"Reward of a first slot ({earned.estimator.upper()}, {report.learnable:,} decisions,"
            f" {earned.estimable:.1%} of the new choices estimable)",
            ("catalogue", "estimate", "low", "high", "effective sample"),
            [
                (name, each.value, each.low, each.high, each.effective_sample_size)
                for name, each in (("logged", earned.logged), ("new", earned.new), ("new - logged", earned.difference))
            ],
        )
    for warning in report.warnings:
        out.print(f"caution: {warning}")
