"""One training run: examples in; a checked bundle, its metrics and its MLflow run out."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decisioning.bundle import Bundle, pack
from decisioning.catalog import Catalog
from decisioning.delays import DelayDistribution
from decisioning.errors import SetupError
from storage.blobs import BlobStore
from storage.bundles import publish_bundle
from storage.settings import Settings
from training.action_priors import action_priors
from training.domains import Domain
from training.ensemble import fit_ensemble, goes_by_members
from training.example_sources import Progress, examples_of, silent
from training.examples import met_by_customers
from training.export import Exported, OneGraph, build_manifest, export_graph
from training.figures import importance_figure, reliability_figure
from training.graph_scorer import GraphScorer
from training.linear_export import export_linear
from training.linear_model import LinearModel, fit_linear
from training.linear_report import log_linear
from training.model_card import model_card
from training.model_quality import quality, quality_by_action
from training.propensity import PropensityModel, fit_propensity
from training.reference_of_model import learn_reference
from training.time_split import TEST_SHARE
from training.tracking import BUNDLE_TAG, CHALLENGER, TRAINED_UNTIL_TAG, Tracking, git_commit, model_name
from training.uplift_quality import UpliftQuality, uplift_quality
from training.uplift_run import LearntUplift, learn_uplift, log_uplift, uplift_metrics

Fit = Callable[..., tuple[PropensityModel | LinearModel, NDArray[np.float32]]]
LEARNERS: dict[str, Fit] = {"lightgbm": fit_propensity, "linear": fit_linear}


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """What came of a run.

    Attributes:
        run_id: MLflow's run; empty when the model was not registered.
        version: The registered version; `unregistered` and a hash otherwise.
        metrics: On the test slice; see `model_quality.quality`.
        by_action: The same by action.
        uplift: The model of it, if there is one, and why. `uplift_quality`: how well it ranks the test slice.
    """

    run_id: str
    version: str
    bundle: Bundle
    model: PropensityModel | LinearModel
    metrics: dict[str, float]
    by_action: pd.DataFrame
    n_examples: int
    uplift: LearntUplift
    uplift_quality: list[UpliftQuality]


def train(
    source: Domain | pd.DataFrame,
    settings: Settings,
    *,
    catalog: Catalog,
    now: datetime,
    learner: str = "lightgbm",
    seed: int = 1,
    test_share: float = TEST_SHARE,
    progress: Progress = silent,
    register: bool = True,
    delays: Mapping[str, DelayDistribution] | None = None,
    tags: Mapping[str, str] | None = None,
) -> TrainedModel:
    """Fit, calibrate, export, check, and (unless told not to) register as challenger.

    Args:
        source: A domain, whose examples are collected, or examples that are already built.
        settings: Where MLflow and the bundles are.
        catalog: Whose actions the model learns about.
        now: When this is; windows that close later are still open.
        learner: `lightgbm`, or `linear`, which also says how far its scores may be off.
        seed: Of everything random.
        test_share: Share of the examples, the latest, that are only tested on.
        progress: Told what happens.
        register: False: nothing is written anywhere; for simulations that train many models.
        delays: By placement, how long successes take to arrive (`response_delays`), for the online posterior;
            the default where none is given.
        tags: Of the run, besides its own.

    Raises:
        DataError: The examples cannot be learnt from.
        BundleError: The graph does not agree with the model; nothing was registered.
        SetupError: There is no such learner.
    """
    if learner not in LEARNERS:
        raise SetupError(f"the learner is '{learner}', must be one of {', '.join(LEARNERS)}", where="learner")
    everything = examples_of(source, settings, catalog, now=now, progress=progress)
    examples = met_by_customers(everything)
    progress(f"training on {len(examples)} examples")
    model, rows = LEARNERS[learner](examples, catalog, seed=seed, test_share=test_share, progress=progress)
    success = examples["success"].to_numpy(dtype=np.int64)
    test = model.split.test
    propensities = model.propensities(rows[test])
    metrics = quality(propensities, success[test], base_rate=float(success[model.split.train].mean()))
    by_action = quality_by_action(examples["action_id"].iloc[test], propensities, success[test])
    uplift = learn_uplift(everything, model, catalog, seed=seed, progress=progress)
    whole: Exported = model
    if isinstance(model, LinearModel):
        graph = export_linear(model)
    else:
        members: tuple[PropensityModel, ...] = ()
        if goes_by_members(catalog):
            progress("fitting an ensemble")
            members = fit_ensemble(model, rows, success, examples["customer_id"].to_numpy(), seed=seed)
        whole = OneGraph(model, uplift.model, members)
        graph = export_graph(model, uplift.model, members)
    progress("exporting to ONNX and checking that it agrees")
    data_sha256 = _hash(examples, rows, success)
    domain = catalog.content.domain

    commit = git_commit()
    draft = build_manifest(
        whole,
        graph,
        domain=domain,
        name=model_name(domain),
        version=f"unregistered-{data_sha256[:12]}",
        run_id="",
        data_sha256=data_sha256,
        git_commit=commit,
        now=now,
        rng=np.random.default_rng(seed),
    )
    ranked: list[UpliftQuality] = []
    if uplift.model is not None:
        later = everything[(everything["decided_at"] > pd.Timestamp(model.split.trained_until)).to_numpy()]
        scorer = GraphScorer(graph, draft.outputs)
        ranked = uplift_quality(scorer, model.features, later, catalog, rng=np.random.default_rng(seed))
        metrics |= uplift_metrics(ranked)
    learnt = slice(model.split.train.start, model.split.valid.stop)
    priors = action_priors(examples["action_id"].to_numpy()[learnt], success[learnt])
    draft = msgspec.structs.replace(
        draft, action_sd=priors.by_action, new_action_sd=priors.new, delays=dict(delays or {})
    )
    if not register:
        bundle = pack(draft, graph)[1]
        return TrainedModel("", draft.version, bundle, model, metrics, by_action, len(examples), uplift, ranked)

    reference = learn_reference(model.features, rows, examples, model.split, catalog, model.propensities)
    draft = msgspec.structs.replace(draft, reference=reference)
    progress("logging to MLflow")
    tracking = Tracking(settings)
    with tracking.run(f"train {domain}", commit=commit, tags={"domain": domain, **(tags or {})}) as run_id:
        n_features = len(model.features)
        if isinstance(model, LinearModel):
            version = tracking.register_graph(run_id, domain, graph, n_features, model.outputs)
        else:
            version = tracking.register(run_id, domain, model.booster, n_features)
        manifest = msgspec.structs.replace(draft, version=version, run_id=run_id)
        blobs = BlobStore(settings)
        try:
            bundle = publish_bundle(blobs, manifest, graph)
        finally:
            blobs.close()
        card = model_card(manifest, model, examples, metrics, bundle_sha256=bundle.sha256, uplift=uplift.said)
        split = model.split
        tracking.log(
            run_id,
            parameters={
                "learner": model.learner,
                **model.parameters,
                "calibration_slope": model.calibration.slope,
                "calibration_intercept": model.calibration.intercept,
                "examples": len(examples),
                **{f"{name}_from": at.isoformat() for name, at in zip(_LATER_SLICES, split.boundaries, strict=True)},
                "trained_until": split.trained_until.isoformat(),
                "new_action_sd": priors.new,
                "n_features": n_features,
                "n_members": manifest.n_members,
            },
            metrics={f"test_{name}": value for name, value in metrics.items()},
            tags={BUNDLE_TAG: bundle.sha256, "data_sha256": data_sha256, "mlflow.note.content": card},
        )
        tracking.log_data(run_id, name=domain, sha256=data_sha256, context="training")
        tracking.log_table(run_id, "by_action", by_action)
        tracking.log_figure(run_id, "figures/reliability.png", reliability_figure(propensities, success[test]))
        log_uplift(tracking, run_id, uplift, ranked)
        if isinstance(model, LinearModel):
            progress("valuing what it would have done while it learnt")
            log_linear(tracking, run_id, model, rows, examples, everything, catalog, seed=seed)
        else:
            tracking.log_figure(run_id, "figures/importance.png", importance_figure(model.booster, model.features))
        tracking.log_text(run_id, "model_card.md", card)
        tracking.log_text(run_id, "reference.json", msgspec.json.encode(reference).decode())
        tracking.log_file(run_id, "bundle/manifest.json", pack(manifest, graph)[0])
        tracking.log_file(run_id, "bundle/model.onnx", graph)
        tracking.tag_version(
            domain, version, {BUNDLE_TAG: bundle.sha256, TRAINED_UNTIL_TAG: split.trained_until.isoformat()}
        )
        tracking.point_alias(domain, CHALLENGER, version)
    return TrainedModel(run_id, version, bundle, model, metrics, by_action, len(examples), uplift, ranked)


_LATER_SLICES = ("valid", "calibration", "test")


def _hash(examples: pd.DataFrame, rows: NDArray[np.float32], success: NDArray[np.int64]) -> str:
    """Hash of all that the model could learn from, in order."""
    digest = hashlib.sha256(np.ascontiguousarray(rows).data)
    digest.update(success.tobytes())
    digest.update("\n".join(examples["row_id"]).encode())
    return digest.hexdigest()
