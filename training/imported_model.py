"""A graph that was made elsewhere, admitted as a challenger: from then on it is a model like any other."""

import hashlib
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np

from decisioning.bundle import Bundle, Manifest, ModelFeature
from decisioning.catalog import Catalog
from decisioning.contact_history import HISTORY_FEATURES, ContactHistory
from decisioning.encoding import REQUEST_FACTS, RowEncoder
from decisioning.errors import DataError
from storage.blobs import BlobStore
from storage.bundles import publish_bundle
from storage.settings import Settings
from training.evaluation_run import bundle_of
from training.graph_contract import admit
from training.tracking import BUNDLE_TAG, CHALLENGER, TRAINED_UNTIL_TAG, UNKNOWN_COMMIT, Tracking, model_name

LEARNER = "imported"


class _WithFeatures(msgspec.Struct):
    """A document of which only the features matter, such as a bundle's manifest."""

    features: tuple[ModelFeature, ...]


def add_model(
    graph: bytes,
    features: tuple[ModelFeature, ...],
    settings: Settings,
    *,
    catalog: Catalog,
    trained_until: datetime,
    name: str,
    now: datetime,
) -> tuple[Bundle, str]:
    """Check a graph, register it as challenger, and return its bundle and MLflow's run.

    Args:
        graph: The ONNX file's bytes.
        features: Its columns, in their order.
        settings: Where MLflow and the bundles are.
        catalog: Whose actions it will score.
        trained_until: The latest decision that it learnt from, tuning and calibration included: it
            is judged on later ones.
        name: What its run is called.
        now: When this is.

    Raises:
        BundleError: The graph does not meet the contract; nothing was registered.
        DataError: The features cannot be filled, or `trained_until` is in the future.
    """
    if trained_until > now:
        raise DataError(
            f"trained_until is {trained_until.isoformat()}, must not be in the future;"
            " it is the time of the latest decision that the model learnt from",
            where="trained_until",
        )
    check_features(features, catalog, now=now)
    admitted = admit(graph, features, rng=np.random.default_rng(1))
    domain = catalog.content.domain
    tracking, blobs = Tracking(settings), BlobStore(settings)
    try:
        with tracking.run(f"add {name}", commit=UNKNOWN_COMMIT, tags={"domain": domain}) as run_id:
            version = tracking.register_graph(run_id, domain, graph, len(features), admitted.outputs)
            manifest = Manifest(
                domain=domain,
                name=model_name(domain),
                version=version,
                run_id=run_id,
                created_at=now,
                features=features,
                graph_sha256=hashlib.sha256(graph).hexdigest(),
                probe=admitted.probe.astype("<f4").tobytes(),
                probe_scores=admitted.scores.astype("<f8").tobytes(),
                data_sha256="",
                trained_until=trained_until,
                git_commit=UNKNOWN_COMMIT,
                outputs=admitted.outputs,
                learner=LEARNER,
            )
            bundle = publish_bundle(blobs, manifest, graph)
            tags = {BUNDLE_TAG: bundle.sha256, TRAINED_UNTIL_TAG: trained_until.isoformat()}
            tracking.log(
                run_id,
                parameters={
                    "learner": LEARNER,
                    "n_features": len(features),
                    "outputs": ", ".join(admitted.outputs),
                    "bytes": len(graph),
                    "trained_until": trained_until.isoformat(),
                },
                tags={**tags, "mlflow.note.content": f"`{name}`, an ONNX graph that was made elsewhere."},
            )
            tracking.log_file(run_id, "bundle/manifest.json", msgspec.json.encode(manifest, order="deterministic"))
            tracking.tag_version(domain, version, tags)
            tracking.point_alias(domain, CHALLENGER, version)
    finally:
        blobs.close()
    return bundle, run_id


def features_of(source: str, settings: Settings, domain: str) -> tuple[ModelFeature, ...]:
    """Features as a file lists them, or those of a registered model.

    A file is YAML or JSON: a list of features, or a document with one under `features`, such as the
    `bundle/manifest.json` of a training run. Otherwise `source` is `champion`, `challenger` or a version.

    Raises:
        DataError: The file cannot be read as that.
        SetupError: There is no such model.
    """
    path = Path(source).expanduser()
    if path.suffix in (".json", ".yaml", ".yml") or path.is_file():
        try:
            content = path.read_bytes()
            document = msgspec.yaml.decode(content)
            if isinstance(document, dict):
                return msgspec.convert(document, _WithFeatures).features
            return msgspec.convert(document, tuple[ModelFeature, ...])
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            raise DataError(
                f"{source} cannot be read as a list of features: {str(error).splitlines()[0]};"
                " docs/models.md shows one",
                where="features",
            ) from error
    tracking, blobs = Tracking(settings), BlobStore(settings)
    try:
        return bundle_of(blobs, tracking.version_named(domain, source)).manifest.features
    finally:
        blobs.close()


def check_features(features: tuple[ModelFeature, ...], catalog: Catalog, *, now: datetime) -> None:
    """Refuse features that the service could not fill, before a decision fails on them.

    Raises:
        DataError: With every mistake.
    """
    mistakes = [] if features else ["there is none"]
    names = [feature.name for feature in features]
    mistakes += [
        f"'{name}' is there twice; names must be unique" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    for feature in features:
        if feature.kind == "category" and not feature.categories:
            mistakes.append(f"'{feature.name}' is a category without categories; list the levels in their order")
        if feature.kind == "time" and (feature.base is None or feature.base.tzinfo is None):
            mistakes.append(f"'{feature.name}' is a time without a base; say which instant, with its zone, counts as 0")
        if feature.source == "history" and feature.name not in HISTORY_FEATURES:
            mistakes.append(f"'{feature.name}' is no contact history, must be one of {', '.join(HISTORY_FEATURES)}")
        if feature.source == "customer" and feature.name in REQUEST_FACTS:
            mistakes.append(f"'{feature.name}' is of the customer, must be of the context")
    known = {name for action in catalog.actions.values() for name in action.scope()}
    stored = catalog.content.rule_features()
    for feature in features:
        if feature.source == "action" and feature.name not in known:
            mistakes.append(
                f"no action of the catalogue has '{feature.name}', must be one of {', '.join(sorted(known))}"
            )
        if feature.source == "customer" and stored is not None and feature.name not in stored.customer:
            mistakes.append(f"there is no customer feature '{feature.name}'; see feature_repo, or the mapping")
    if not mistakes:
        history = ContactHistory((), now=now)
        for action in catalog.actions.values():
            try:
                RowEncoder(features).rows({}, [action], history)
            except (TypeError, ValueError) as error:
                mistakes.append(f"of the action '{action.id}', {error}")
    if mistakes:
        raise DataError(
            "the features cannot be used:\n" + "\n".join(f"- {each}" for each in mistakes), where="features"
        )
