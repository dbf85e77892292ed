"""What a change would have earned on the decisions of the ledger: another catalogue, or another exploration policy."""

from datetime import datetime
from pathlib import Path

import msgspec

from decisioning.catalog import Release
from decisioning.errors import SetupError
from nextmove import steps
from nextmove.console import err, out, print_json, print_table, step
from nextmove.options import now_utc
from nextmove.past_decisions import PastDecisions, past_decisions
from storage.catalog_files import read_release
from storage.ledger.earned import earned
from storage.settings import Settings
from training.policy_spec import exploration_policy
from training.redecide import Comparison, PolicyComparison, Redecision
from training.tracking import Tracking
from training.what_if import WhatIf, log_what_if, shortened, what_if

MOST_ACTIONS = 20


def run_what_if(
    settings: Settings,
    *,
    ledger: Path | None,
    since: datetime,
    catalog: str | None = None,
    policy: str | None = None,
    market: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Decide the decisions since then again under a catalogue or a policy, print the comparison and log it to MLflow.

    Raises:
        SetupError, RequestError: There is no such catalogue or policy.
        DataError: No decision can be compared.
    """
    now = now_utc()
    with past_decisions(settings, ledger) as past, step("what if") as progress:
        comparison: Redecision
        if policy is not None:
            everywhere = steps.released(settings).everywhere
            comparison = PolicyComparison(
                exploration_policy(policy),
                settings.domain,
                releases=past.release,
                models=past.model,
                key_of=past.key_of,
            )
        else:
            new = _release_of(settings, past, catalog or "")
            everywhere = new.everywhere
            comparison = Comparison(new, releases=past.release, models=past.model, key_of=past.key_of)
        report = what_if(
            past.reader.decisions(settings.domain, since=since, until=now),
            earned(past.reader, everywhere, since=since, until=now),
            comparison,
            now=now,
            since=since,
            market=market,
            untold=past.untold(everywhere.content, since=since, now=now),
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


def _release_of(settings: Settings, past: PastDecisions, catalog: str) -> Release:
    """The release that `--catalog` names."""
    folder = Path(catalog).expanduser()
    if not folder.is_dir():
        return past.release_named(catalog)
    _, release = read_release(folder, features=steps.features_of(settings))
    if release.domain != settings.domain:
        raise SetupError(
            f"--catalog is {catalog}, the catalogue of '{release.domain}'; the decisions are of '{settings.domain}':"
            f" name the domain with --dataset {release.domain}",
            where="catalog",
        )
    return release


def _print_what_if(report: WhatIf) -> None:
    share = report.changed / report.decisions
    out.print(f"{report.decisions:,} decisions under {shortened(report.change)} instead of what they were made under")
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
