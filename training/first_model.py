"""A model that has learnt nothing, so that a service without a log can decide, explore and be learnt from.

It gives every action the same propensity; the catalogue's values then rank, exploration draws, and the
ledger holds exact probabilities. The first model that learns from them is compared with it by the gate.
"""

from datetime import datetime

import lightgbm as lgb
import msgspec
import numpy as np

from decisioning.bundle import ModelFeature
from storage.blobs import BlobStore
from storage.bundles import bundle_pointer, publish_bundle
from storage.settings import Settings
from training.calibration import Calibration
from training.export import build_manifest, export_graph
from training.propensity import PARAMETERS, PropensityModel
from training.time_split import TimeSplit
from training.tracking import BUNDLE_TAG, CHAMPION, TRAINED_UNTIL_TAG, Tracking, git_commit, model_name

RESPONSE = 0.05  # of every action; which number it is changes no ranking
REASON = "the first model, which has learnt nothing"


def promote_first_model(settings: Settings, domain: str, *, now: datetime) -> str:
    """Register it and make it the champion of a domain that has none; its version."""
    model = knows_nothing(now=now)
    graph = export_graph(model)
    commit = git_commit()
    draft = build_manifest(
        model,
        graph,
        domain=domain,
        name=model_name(domain),
        version="",
        run_id="",
        data_sha256="",
        git_commit=commit,
        now=now,
        rng=np.random.default_rng(1),
    )
    tracking, blobs = Tracking(settings), BlobStore(settings)
    try:
        with tracking.run(f"first model of {domain}", commit=commit, tags={"domain": domain}) as run_id:
            version = tracking.register(run_id, domain, model.booster, len(model.features))
            bundle = publish_bundle(blobs, msgspec.structs.replace(draft, version=version, run_id=run_id), graph)
            tracking.log(run_id, tags={BUNDLE_TAG: bundle.sha256, "mlflow.note.content": __doc__ or ""})
            tags = {BUNDLE_TAG: bundle.sha256, TRAINED_UNTIL_TAG: now.isoformat()}
            tracking.tag_version(domain, version, tags)
            tracking.point_alias(domain, CHAMPION, version)
        blobs.point(bundle_pointer(domain), bundle.sha256, now=now, reason=REASON)
    finally:
        blobs.close()
    return version


def knows_nothing(*, now: datetime) -> PropensityModel:
    """One tree without a split."""
    rows = np.zeros((100, 1), dtype=np.float32)
    success = np.arange(100) < RESPONSE * 100
    booster = lgb.train(PARAMETERS, lgb.Dataset(rows, success, params=PARAMETERS), num_boost_round=1)
    nothing = slice(0, 0)
    return PropensityModel(
        booster=booster,
        calibration=Calibration(slope=1.0, intercept=0.0),
        features=(ModelFeature("contacts_7d", "history", "number"),),
        split=TimeSplit(nothing, nothing, nothing, nothing, (now, now, now), trained_until=now),
        parameters=PARAMETERS,
    )
