"""Promotion: a model that passes the gate becomes the champion; and the way back.

The only code that changes which model a domain is served with. Services follow the pointer
`bundle/<domain>`, so that moves last, when everything else has been written.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from datetime import datetime

import msgspec
import pandas as pd

from decisioning.bundle import Bundle
from decisioning.catalog import Catalog
from decisioning.errors import GateRefused, SetupError, StoreError
from storage.blobs import BlobStore, Pointing
from storage.bundles import bundle_pointer, end_shadow, load_bundle
from storage.settings import Settings
from training.domains import Domain
from training.evaluation_report import EvaluationReport, evaluate
from training.evaluation_run import bundle_of, log_report, registered, served_bundle
from training.example_sources import Progress, examples_of, silent
from training.fair_promotion import with_fairness
from training.gate import Verdict, judge, judge_unseen
from training.graph_scorer import verified_scorer
from training.tracking import CHAMPION, ROLLED_BACK_TAG, RegisteredModel, Tracking

ROLLBACK = "rollback: "  # begins the pointer's reason, so that history can tell the two apart
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


class Rollback(msgspec.Struct, frozen=True, kw_only=True):
    """Which version is served again, and which one no longer."""

    domain: str
    version: str
    bundle_sha256: str
    left_version: str | None
    left_sha256: str


def promote(
    source: Domain | pd.DataFrame,
    settings: Settings,
    *,
    catalog: Catalog,
    now: datetime,
    run_id: str | None = None,
    non_inferior: float | None = None,
    force: str | None = None,
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
        force: Why the gate is overruled; it is kept. What is damaged is not promoted even so.
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
    with _alone(settings):
        tracking, blobs = Tracking(settings), BlobStore(settings)
        try:
            model = registered(tracking, domain, run_id)
            bundle = bundle_of(blobs, model)
            progress(f"verifying the bundle of version {model.version}")
            verified_scorer(bundle)
            served = blobs.pointer(bundle_pointer(domain))
            if served == bundle.sha256:
                tracking.point_alias(domain, CHAMPION, model.version)
                return _promotion(domain, model, bundle, served, changed=False)
            champion = served_bundle(blobs, domain)
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
                    rolled_back=model.rolled_back,
                    champion_damaged=served is not None and champion is None,
                    non_inferior=non_inferior,
                )
            verdict = with_fairness(
                verdict, bundle, catalog, lambda: examples_of(source, settings, catalog, now=now, progress=progress)
            )
            _log_verdict(tracking, domain, model, verdict, force, now=now)
            if not verdict.passes and force is None:
                raise GateRefused(
                    f"version {model.version} of '{domain}' was not promoted:\n"
                    + "\n".join(f"- {reason}" for reason in verdict.against)
                    + "\nwhat is served stays; --non-inferior or --force with a reason overrule this"
                )
            tracking.point_alias(domain, CHAMPION, model.version)
            reason = f"forced: {force}" if force is not None else f"promoted version {model.version}"
            blobs.point(bundle_pointer(domain), bundle.sha256, now=now, reason=reason[:MOST_REASON])
            end_shadow(blobs, domain, now=now, reason=f"version {model.version} was promoted")
        finally:
            blobs.close()
    return _promotion(domain, model, bundle, served, changed=True, forced=force, verdict=verdict, report=report)


def rollback(settings: Settings, domain: str, *, now: datetime, reason: str) -> Rollback:
    """Serve the champion before this one again; a second time, the one before that.

    The pointer moves first: in an incident, what customers get matters more than MLflow's alias.
    The version that was left is marked, and the gate refuses it from then on.

    Raises:
        SetupError: There is no earlier champion, or another promotion is running.
        BundleError: The earlier bundle is damaged; nothing was moved.
        StoreError: The pointer moved, but MLflow could not be told.
    """
    with _alone(settings):
        blobs = BlobStore(settings)
        try:
            stack = _champions(blobs.history(bundle_pointer(domain)))
            if len(stack) < 2:
                raise SetupError(
                    f"domain '{domain}' has no earlier champion to go back to;"
                    + (" only one was ever promoted" if stack else " none was ever promoted: nextmove promote")
                )
            left, back = stack[-1], stack[-2]
            bundle = load_bundle(blobs, back)
            verified_scorer(bundle)
            blobs.point(bundle_pointer(domain), back, now=now, reason=(ROLLBACK + reason)[:MOST_REASON])
        finally:
            blobs.close()
        try:
            tracking = Tracking(settings)
            restored = tracking.version_by_bundle(domain, back)
            if restored is not None:
                tracking.point_alias(domain, CHAMPION, restored.version)
            gone = tracking.version_by_bundle(domain, left)
            if gone is not None:
                tracking.tag_version(
                    domain, gone.version, {ROLLED_BACK_TAG: f"{now.isoformat()} {reason}"[:MOST_REASON]}
                )
        except Exception as error:  # MLflow's, or its database's
            raise StoreError(
                f"version {bundle.manifest.version} is served again, but MLflow's aliases could not be moved: {error}"
            ) from error
    return Rollback(
        domain=domain,
        version=bundle.manifest.version,
        bundle_sha256=back,
        left_version=gone.version if gone else None,
        left_sha256=left,
    )


def _champions(history: list[Pointing]) -> list[str]:
    """Champions that stand, oldest first: a promotion adds one, a rollback takes the last away."""
    stack: list[str] = []
    for entry in history:
        if entry.reason.startswith(ROLLBACK) and len(stack) > 1 and stack[-2] == entry.sha256:
            stack.pop()
        elif not stack or stack[-1] != entry.sha256:
            stack.append(entry.sha256)
    return stack


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """One promotion or rollback of a state directory at a time; a process that dies lets go.

    Raises:
        SetupError: Another one is running.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "promotion.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SetupError(
                f"another promotion or rollback is running in {settings.home}; run this again when it has ended"
            ) from error
        yield


def _compares(report: EvaluationReport | None, bundle: Bundle, champion: Bundle | None) -> bool:
    pair = (bundle.sha256, champion.sha256 if champion else None)
    return report is not None and (report.bundle_sha256, report.champion_sha256) == pair


def _log_verdict(
    tracking: Tracking, domain: str, model: RegisteredModel, verdict: Verdict, force: str | None, *, now: datetime
) -> None:
    outcome = "passed" if verdict.passes else "refused" if force is None else "forced"
    tags = {"gate": outcome, "gate_at": now.isoformat(), "gate_forced_because": force or ""}
    tracking.tag_version(domain, model.version, tags)
    tracking.log(model.run_id, tags=tags)
    lines = [f"# Gate: {outcome}, {now.isoformat()}", *(f"- against: {line}" for line in verdict.against)]
    lines += [f"- {line}" for line in verdict.findings]
    if force is not None:
        lines.append(f"- overruled: {force}")
    tracking.log_text(model.run_id, f"gate/{now:%Y-%m-%dT%H%M%S%f}.md", "\n".join(lines) + "\n")


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
