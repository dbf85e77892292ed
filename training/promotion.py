"""Promotion: a model that passes the gate becomes the champion (the way back is `rollback`).

With `rollback` the only code that changes which model a domain is served with. Services follow the pointer
`bundle/<domain>`, so that moves last, when everything else has been written.
"""

from contextlib import closing
from datetime import datetime

import msgspec
import pandas as pd

from decisioning.bundle import Bundle
from decisioning.catalog import Catalog
from decisioning.errors import GateRefused, SetupError
from decisioning.record import AuditRecord
from storage.blobs import BlobStore
from storage.bundles import bundle_pointer, end_shadow, load_bundle
from storage.leases import Lease
from storage.ledger.gate_attempts import GateAttempt, keep_attempt, kept_attempts, last_attempt
from storage.promotion_lease import moving_pointer
from storage.settings import Settings
from training.alpha_spending import PERIOD, Spent, spend
from training.domains import Domain
from training.evaluation_report import EvaluationReport, evaluate
from training.evaluation_run import bundle_of, log_report, registered, served_bundle
from training.example_sources import Progress, examples_of, silent
from training.fair_promotion import with_fairness
from training.gate import ERROR, Verdict, judge, judge_unseen
from training.gate_attempt import attempt_of
from training.gate_log import log_attempt
from training.graph_scorer import verified_scorer
from training.tracking import CHAMPION, RegisteredModel, Tracking

MOST_REASON = 1000


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a promotion; `changed` is False where the model was the champion already."""

    domain: str
    version: str
    run_id: str
    bundle_sha256: str
    previous_sha256: str | None
    changed: bool
    forced: str | None = None
    verdict: Verdict | None = None
    report: EvaluationReport | None = None


def promote(
    source: Domain | pd.DataFrame,
    settings: Settings,
    *,
    catalog: Catalog,
    now: datetime,
    run_id: str | None = None,
    non_inferior: float | None = None,
    force: str | None = None,
    actor: str = "nextmove",
    scheduled: bool = False,
    report: EvaluationReport | None = None,
    seed: int = 1,
    progress: Progress = silent,
) -> Promotion:
    """Make a run's model (the challenger by default) the champion, if the gate lets it.

    Args:
        source: The domain, or its examples if they are at hand.
        settings: Where everything is.
        catalog: Whose values and levers rank.
        now: When this is.
        run_id: Whose model; None: the challenger.
        non_inferior: Accept a model that is at most this much reward a decision worse ("do no harm").
        force: Why the gate is overruled; it is kept, and audited. What is damaged is not promoted even so.
        actor: Who asks, for the audit.
        scheduled: A schedule asks, again and again: the gate may err only as `alpha_spending` says.
        report: `evaluate_run`'s, to save doing it again; used only if it compares the same two.
        seed: Of folds and bootstrap.
        progress: Told what happens.

    Raises:
        GateRefused: With every reason; nothing was moved.
        BundleError: The bundle is damaged or does not score here as it was built.
        SetupError: No such model, an empty reason, or another promotion is running.
    """
    if force is not None and not force.strip():
        raise SetupError("the reason for --force is empty; say why the gate is overruled", where="force")
    if non_inferior is not None and not 0.0 <= non_inferior < float("inf"):
        raise SetupError(f"non_inferior is {non_inferior}, must be a reward a decision of at least 0")
    domain = catalog.content.domain
    with moving_pointer(settings, domain) as lease, closing(BlobStore(settings)) as blobs:
        tracking = Tracking(settings)
        model = registered(tracking, domain, run_id)
        bundle = bundle_of(blobs, model)
        progress(f"verifying the bundle of version {model.version}")
        verified_scorer(bundle)
        served = blobs.pointer(bundle_pointer(domain))
        if served == bundle.sha256:
            tracking.point_alias(domain, CHAMPION, model.version)
            return _promotion(domain, model, bundle, served, changed=False)
        champion = served_bundle(blobs, domain)
        error = _error_now(settings, domain, now=now) if scheduled and champion is not None else ERROR
        examples = None
        if not _compares(report, bundle, champion):
            examples = examples_of(source, settings, catalog, now=now, progress=progress)
        if examples is not None and served is None and not examples["drawn"].any():
            verdict, report = judge_unseen(rolled_back=model.rolled_back), None
        else:
            if examples is not None:
                progress("comparing it with champion, best constant and uniform")
                report = evaluate(bundle, examples, catalog, champion=champion, seed=seed)
                log_report(tracking, report)
            assert report is not None
            verdict = judge(
                report,
                error=error,
                rolled_back=model.rolled_back,
                champion_damaged=served is not None and champion is None,
                non_inferior=non_inferior,
            )
        verdict = with_fairness(
            verdict, bundle, catalog, lambda: examples_of(source, settings, catalog, now=now, progress=progress)
        )
        attempt = attempt_of(
            model, bundle, champion, report, verdict, domain=domain, force=force, now=now, scheduled=scheduled
        )
        keep_attempt(settings, attempt, audited=_overruling(attempt, actor) if attempt.outcome == "forced" else None)
        progress(f"the gate is passed ({attempt.outcome})" if attempt.lets_in else "the gate refuses it")
        log_attempt(tracking, attempt)
        if not attempt.lets_in:
            raise GateRefused(
                f"version {model.version} of '{domain}' was not promoted:\n"
                + "\n".join(f"- {reason}" for reason in verdict.against)
                + f"\n{_asked_before(settings, attempt)}"
                + "what is served stays; --non-inferior or --force with a reason overrule this"
            )
        _deploy(tracking, blobs, lease, attempt, now=now, progress=progress)
    return _promotion(domain, model, bundle, served, changed=True, forced=force, verdict=verdict, report=report)


def unfinished(settings: Settings, domain: str) -> GateAttempt | None:
    """The newest attempt, if its model passed and was never served: whoever promoted it died on the way.

    Raises:
        StoreError: The ledger cannot be read.
    """
    attempt = last_attempt(settings, domain)
    if attempt is None or not attempt.lets_in:
        return None
    with closing(BlobStore(settings)) as blobs:
        since = [entry for entry in blobs.history(bundle_pointer(domain)) if entry.at >= attempt.at]
    return None if since else attempt


def finish(settings: Settings, domain: str, *, now: datetime, progress: Progress = silent) -> GateAttempt | None:
    """Serve the model of an `unfinished` attempt: the gate has spoken, and is not asked again.

    Raises:
        SetupError: Another promotion is running.
        BundleError: Its bundle is damaged.
    """
    with moving_pointer(settings, domain) as lease:
        attempt = unfinished(settings, domain)
        if attempt is not None:
            with closing(BlobStore(settings)) as blobs:
                verified_scorer(load_bundle(blobs, attempt.bundle_sha256))
                tracking = Tracking(settings)
                log_attempt(tracking, attempt)
                _deploy(tracking, blobs, lease, attempt, now=now, progress=progress)
    return attempt


def _deploy(
    tracking: Tracking, blobs: BlobStore, lease: Lease, attempt: GateAttempt, *, now: datetime, progress: Progress
) -> None:
    """Let services follow: last of all, and only if no one else has begun to promote meanwhile."""
    lease.check()
    tracking.point_alias(attempt.domain, CHAMPION, attempt.version)
    progress("moving the pointer that services follow")
    reason = f"forced: {attempt.forced}" if attempt.forced is not None else f"promoted version {attempt.version}"
    blobs.point(bundle_pointer(attempt.domain), attempt.bundle_sha256, now=now, reason=reason[:MOST_REASON])
    end_shadow(blobs, attempt.domain, now=now, reason=f"version {attempt.version} was promoted")


def error_left(settings: Settings, domain: str, *, now: datetime) -> float:
    """How much error a scheduled attempt may make now; 0 where the budget of 30 days is spent.

    Raises:
        StoreError: The ledger cannot be read.
    """
    earlier = kept_attempts(settings, domain, since=now - PERIOD)
    return spend([Spent(each.at, each.alpha) for each in earlier if each.scheduled], now=now)


def _error_now(settings: Settings, domain: str, *, now: datetime) -> float:
    error = error_left(settings, domain, now=now)
    if error <= 0.0:
        raise GateRefused(
            f"'{domain}' was not judged: what its scheduled gate may err by within 30 days is spent, or it was asked"
            " this very instant; it comes back with time, and `nextmove promote` by hand has an error of its own"
        )
    return error


def _overruling(attempt: GateAttempt, actor: str) -> AuditRecord:
    return AuditRecord(
        at=attempt.at,
        domain=attempt.domain,
        actor=actor,
        what="model.force",
        subject=f"version {attempt.version}",
        reason=(attempt.forced or "")[:MOST_REASON],
    )


def _asked_before(settings: Settings, attempt: GateAttempt) -> str:
    """Of who asks by hand again and again: that chances of being wrong add up."""
    if attempt.scheduled:
        return ""
    asked = [each for each in kept_attempts(settings, attempt.domain, since=attempt.at - PERIOD) if not each.scheduled]
    if len(asked) < 2:
        return ""
    return (
        f"it was asked by hand {len(asked)} times in 30 days, each time with an error of at most {ERROR:.0%}:"
        " the chance that one of them lets a model in by luck adds up\n"
    )


def _compares(report: EvaluationReport | None, bundle: Bundle, champion: Bundle | None) -> bool:
    pair = (bundle.sha256, champion.sha256 if champion else None)
    return report is not None and (report.bundle_sha256, report.champion_sha256) == pair


def _promotion(
    domain: str,
    model: RegisteredModel,
    bundle: Bundle,
    previous: str | None,
    *,
    changed: bool,
    forced: str | None = None,
    verdict: Verdict | None = None,
    report: EvaluationReport | None = None,
) -> Promotion:
    return Promotion(
        domain=domain,
        version=model.version,
        run_id=model.run_id,
        bundle_sha256=bundle.sha256,
        previous_sha256=previous,
        changed=changed,
        forced=forced,
        verdict=verdict,
        report=report,
    )
