"""Evaluate a registered model against the champion that is served, and log what was found."""

from datetime import datetime

import msgspec
import pandas as pd

from decisioning.bundle import Bundle
from decisioning.catalog import Catalog
from decisioning.errors import BundleError, SetupError, StoreError
from storage.blobs import BlobStore
from storage.bundles import bundle_pointer, load_bundle
from storage.settings import Settings
from training.domains import Domain
from training.evaluation_report import METRICS, EvaluationReport, PolicyValue, evaluate
from training.example_sources import Progress, examples_of, silent
from training.figures import forest_figure
from training.tracking import CHALLENGER, RegisteredModel, Tracking


def evaluate_run(
    source: Domain | pd.DataFrame,
    settings: Settings,
    *,
    catalog: Catalog,
    now: datetime,
    run_id: str | None = None,
    seed: int = 1,
    progress: Progress = silent,
) -> EvaluationReport:
    """The report on a run's model (the challenger by default), also logged to that run.

    Raises:
        SetupError: There is no such model.
        DataError: Too few decisions are later than what the models learnt from.
        BundleError: The model's bundle is damaged.
    """
    tracking = Tracking(settings)
    model = registered(tracking, catalog.content.domain, run_id)
    blobs = BlobStore(settings)
    try:
        bundle = bundle_of(blobs, model)
        champion = served_bundle(blobs, catalog.content.domain)
    finally:
        blobs.close()
    examples = examples_of(source, settings, catalog, now=now, progress=progress)
    progress(f"evaluating version {model.version} on decisions later than all it learnt from")
    report = evaluate(bundle, examples, catalog, champion=champion, seed=seed)
    log_report(tracking, report)
    return report


def registered(tracking: Tracking, domain: str, run_id: str | None) -> RegisteredModel:
    """The model of a run, or the challenger.

    Raises:
        SetupError: There is none.
    """
    if run_id is not None:
        return tracking.version_by_run(domain, run_id)
    found = tracking.version_by_alias(domain, CHALLENGER)
    if found is None:
        raise SetupError(f"domain '{domain}' has no challenger; run: nextmove train --dataset {domain}")
    return found


def bundle_of(blobs: BlobStore, model: RegisteredModel) -> Bundle:
    """A registered model's bundle, its hashes verified.

    Raises:
        BundleError: It has none (its training was interrupted), or it is damaged.
    """
    if model.bundle_sha256 is None:
        raise BundleError(f"version {model.version} has no bundle: its training was interrupted; train again")
    return load_bundle(blobs, model.bundle_sha256)


def served_bundle(blobs: BlobStore, domain: str) -> Bundle | None:
    """The bundle that services follow now; None where there is none, or none that can be loaded."""
    sha256 = blobs.pointer(bundle_pointer(domain))
    if sha256 is None:
        return None
    try:
        return load_bundle(blobs, sha256)
    except (BundleError, StoreError):
        return None  # a damaged champion must not keep a sound challenger out


def log_report(tracking: Tracking, report: EvaluationReport) -> None:
    """Metrics, the table, the report as JSON, and a forest plot a metric."""
    run_id = report.run_id
    tracking.log(
        run_id,
        metrics={
            f"{_metric_name(found)}{suffix}": value
            for found in (*report.values, *report.differences)
            for suffix, value in (
                ("", found.estimate.value),
                ("/low", found.estimate.low),
                ("/high", found.estimate.high),
            )
        },
        tags={"evaluated_since": report.since.isoformat(), "overlap_warnings": "; ".join(report.warnings) or "none"},
    )
    tracking.log_table(run_id, "evaluation/values", report.table())
    encoded = msgspec.json.format(msgspec.json.encode(report), indent=1).decode()
    tracking.log_text(run_id, "evaluation/report.json", encoded)
    for metric in METRICS:
        values = [
            (f"{found.policy} {found.estimator.upper()}", found.estimate)
            for found in report.values
            if found.metric == metric
        ]
        title = f"{metric} a decision, {report.n_decisions:,} decisions after {report.since:%Y-%m-%d}"
        tracking.log_figure(run_id, f"figures/{metric}_by_policy.png", forest_figure(title, values))


def _metric_name(found: PolicyValue) -> str:
    compared = f"{found.policy}-over-{found.over}" if found.over else found.policy
    return f"{found.metric}/{found.estimator}/{compared}"
