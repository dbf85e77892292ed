"""`nextmove shadow ...` and `nextmove apprentice`: what models would do that decide nothing yet.

Imports of libraries that take seconds stand inside the commands that need them.
"""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from decisioning.errors import SetupError
from nextmove.console import err, next_command, out, print_json, print_table, step
from nextmove.options import AsJson, Dataset, Ledger, now_utc, settings_of, since_when

if TYPE_CHECKING:
    from decisioning.evaluation import Estimate

shadow_app = typer.Typer(help="A challenger that scores live decisions without deciding them.", no_args_is_help=True)
Since = Annotated[str, typer.Option(help="Decisions since then: 30m, 12h, 1d or 2w ago, or a date.")]
Seed = Annotated[int, typer.Option(help="Of the bootstrap.")]


@shadow_app.command("start")
def start(
    run: Annotated[str | None, typer.Option(help="MLflow run whose model it is; the challenger when absent.")] = None,
    dataset: Dataset = None,
) -> None:
    """Let a model score every live decision and decide none; running services follow within 5 s.

    Example: nextmove shadow start --run 4f1c0a
    """
    from storage.blobs import BlobStore
    from storage.bundles import bundle_pointer, shadow_pointer
    from training.evaluation_run import bundle_of, registered
    from training.graph_scorer import verified_scorer
    from training.tracking import Tracking

    settings, now = settings_of(dataset), now_utc()
    with step("shadow start") as progress, closing(BlobStore(settings)) as blobs:
        model = registered(Tracking(settings), settings.domain, run)
        bundle = bundle_of(blobs, model)
        verified_scorer(bundle)
        if bundle.sha256 == blobs.pointer(bundle_pointer(settings.domain)):
            raise SetupError(
                f"version {model.version} is served, so it casts no shadow; name another model's run with --run"
            )
        reason = f"version {model.version} into the shadow"
        blobs.point(shadow_pointer(settings.domain), bundle.sha256, now=now, reason=reason)
        progress.result = f"version {model.version} scores, and decides nothing"
    next_command("nextmove shadow report")


@shadow_app.command("stop")
def stop(dataset: Dataset = None) -> None:
    """Let no challenger score any more; what it said stays in the ledger.

    Example: nextmove shadow stop
    """
    from storage.blobs import BlobStore
    from storage.bundles import end_shadow

    settings = settings_of(dataset)
    with step("shadow stop"), closing(BlobStore(settings)) as blobs:
        end_shadow(blobs, settings.domain, now=now_utc(), reason="nextmove shadow stop")
    next_command("nextmove shadow report")


@shadow_app.command("report")
def report(
    since: Since = "30d",
    run: Annotated[
        str | None, typer.Option(help="MLflow run of the model that was in the shadow; who is in it now when absent.")
    ] = None,
    dataset: Dataset = None,
    ledger: Ledger = None,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Compare the challenger in the shadow with what was decided, and value it from the logged probabilities.

    Example: nextmove shadow report --since 7d
    """
    from nextmove import steps
    from nextmove.past_decisions import past_decisions
    from storage.blobs import BlobStore
    from storage.bundles import shadow_bundle
    from training.closed_decisions import closed_decisions
    from training.evaluation_run import registered
    from training.shadow_report import log_shadow, shadow_report
    from training.tracking import Tracking

    settings, now = settings_of(dataset), now_utc()
    begin = since_when(since, now=now)
    tracking = Tracking(settings)
    if run is not None:
        bundle_sha256 = registered(tracking, settings.domain, run).bundle_sha256
    else:
        with closing(BlobStore(settings)) as blobs:
            bundle_sha256 = shadow_bundle(blobs, settings.domain)
    if bundle_sha256 is None:
        raise SetupError("no challenger is in the shadow; nextmove shadow start, or name one's run with --run")
    catalog = steps.released(settings).everywhere
    with past_decisions(settings, ledger) as past, step("shadow report") as progress:
        untold = past.untold(catalog.content, since=begin, now=now)
        found = shadow_report(
            past.reader.decisions(settings.domain, since=begin, until=now),
            closed_decisions(past.reader, catalog, since=begin, now=now, untold=untold),
            domain=settings.domain,
            bundle_sha256=bundle_sha256,
            since=begin,
            until=now,
            seed=seed,
        )
        progress.result = f"{found.decisions:,} decisions"
    run_id = log_shadow(tracking, found)
    if as_json:
        print_json({**msgspec.to_builtins(found), "run_id": run_id})
        return
    served = ", ".join(found.served_versions) or "none"
    out.print(f"version {found.version} in the shadow of version {served}: {found.decisions:,} decisions")
    out.print(f"the same first choice in {found.agreement:.1%}; {found.overlap:.1%} of probability on the same actions")
    gaps = ", ".join(f"{float(share):.0%}: {gap:+.4f}" for share, gap in found.score_differences.items())
    out.print(f"its propensity minus the served one, by quantile: {gaps}")
    if found.earned is not None:
        print_table(
            f"Reward a decision, over {found.closed:,} decisions that were drawn and of which all is told",
            ("estimate", "value [95 %]", "over what was decided [95 %]", "effective sample"),
            [
                ("decided", _interval(found.earned), "", found.earned.effective_sample_size),
                *(
                    (v.estimator.upper(), _interval(v.value), _interval(v.difference), v.value.effective_sample_size)
                    for v in found.values
                ),
            ],
        )
    for warning in found.warnings:
        out.print(f"caution: {warning}")
    err.print(tracking.address(run_id), style="dim")
    next_command("nextmove promote")


def apprentice(
    since: Since = "30d",
    dataset: Dataset = None,
    ledger: Ledger = None,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """How often an apprentice would have done what the caller did, over time, and what it says it would earn.

    Example: nextmove apprentice --since 2w
    """
    from nextmove import steps
    from nextmove.past_decisions import past_decisions
    from training.apprentice_report import apprentice_report, log_apprentices
    from training.closed_decisions import closed_decisions
    from training.tracking import Tracking

    settings, now = settings_of(dataset), now_utc()
    begin = since_when(since, now=now)
    catalog = steps.released(settings).everywhere
    with past_decisions(settings, ledger) as past, step("apprentice") as progress:
        untold = past.untold(catalog.content, since=begin, now=now)
        closed = closed_decisions(past.reader, catalog, since=begin, now=now, untold=untold)
        found = apprentice_report(closed, domain=settings.domain, since=begin, until=now, seed=seed)
        progress.result = f"{sum(each.decisions for each in found.placements):,} decisions"
    tracking = Tracking(settings)
    run_id = log_apprentices(tracking, found)
    if as_json:
        print_json({**msgspec.to_builtins(found), "run_id": run_id})
        return
    for each in found.placements:
        agreed = _interval(each.earned_in_agreement) if each.earned_in_agreement else "-"
        print_table(
            f"{each.placement}: {each.decisions:,} decisions of {each.customers:,} customers",
            ("figure", "value [95 %]"),
            [
                ("match rate: the policy's chance of the caller's choice", _interval(each.match_rate)),
                ("the same for a policy that draws anything", f"{each.by_chance:.4f}"),
                ("the model's own first choice is the caller's", _interval(each.agreement)),
                ("earned a decision", _interval(each.earned)),
                ("earned where the model agrees", agreed),
                ("the policy would earn, says the model", _interval(each.estimated)),
                ("which is more than the caller's by", _interval(each.gain)),
            ],
        )
        first, last = each.trend[0], each.trend[-1]
        out.print(
            f"match rate {first.match_rate:.3f} on {first.begins:%Y-%m-%d}, {last.match_rate:.3f} on"
            f" {last.begins:%Y-%m-%d}"
        )
    out.print(f"caution: {found.limits}")
    err.print(tracking.address(run_id), style="dim")
    next_command("nextmove train")


def _interval(estimate: "Estimate") -> str:
    return f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"
