"""Live decisions of a model beside what it learnt from: a report, its summary, and a run in MLflow."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec
import numpy as np
import pandas as pd

from decisioning.bundle import Manifest
from decisioning.content_types import Value
from decisioning.drift import CalibrationDrift, Drift, DriftSummary, alarms, calibration_drift, drift
from decisioning.encoding import Encode, encoder
from decisioning.errors import DataError, SetupError
from decisioning.record import Candidate, DecisionRecord
from decisioning.reference import effective_rows
from training.closed_decisions import Closed
from training.figures import calibration_figure, drift_figure
from training.reference_of_model import is_watched
from training.tracking import Tracking

BOARD = "health"


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        decisions: That were scored since then; `closed` of them were made by this model, met, and all is told.
        features: Each that the model knows of customers and requests, the furthest first.
        scores: Of all candidates of its own decisions; None where it made none, or its bundle does not say.
        calibration: None where too little is told.
        alarms: In words; empty where nothing is more than chance.
    """

    domain: str
    version: str
    bundle_sha256: str
    since: datetime
    until: datetime
    decisions: int
    customers: int
    closed: int
    features: tuple[Drift, ...]
    scores: Drift | None
    calibration: CalibrationDrift | None
    alarms: tuple[str, ...]

    @property
    def summary(self) -> DriftSummary:
        """For metrics and the doctor."""
        named = [*self.features, *([self.scores] if self.scores is not None else [])]
        return DriftSummary(
            at=self.until,
            version=self.version,
            bundle_sha256=self.bundle_sha256,
            decisions=self.decisions,
            psi={each.name: each.psi for each in named},
            calibration=self.calibration.ratio if self.calibration is not None else None,
            alarms=self.alarms,
        )


def drift_report(
    records: Iterable[DecisionRecord],
    closed: Iterable[Closed],
    manifest: Manifest,
    *,
    bundle_sha256: str,
    since: datetime,
    until: datetime,
) -> DriftReport:
    """Compare the live decisions in `records`; `closed` are those of which all is told.

    Raises:
        SetupError: The bundle does not say what it learnt from.
        DataError: Nothing was scored in this time.
    """
    reference = manifest.reference
    if reference is None:
        raise SetupError(
            f"the bundle of version {manifest.version} does not say what it learnt from; train and promote a newer one:"
            " nextmove train"
        )
    columns = {feature.name: feature for feature in manifest.features if is_watched(feature)}
    encode = {name: encoder(feature) for name, feature in columns.items()}
    values: dict[str, list[float]] = {each.name: [] for each in reference.features}
    customers: list[str] = []
    scores: list[float] = []
    scored_for: list[str] = []
    for record in records:
        if not any(candidate.propensity is not None for candidate in record.candidates):
            continue
        customers.append(record.customer_id)
        seen = _seen(record)
        for name, found in values.items():
            found.append(_encoded(encode.get(name), seen.get(name)))
        if record.model is not None and record.model.bundle_sha256 == bundle_sha256:
            said = [_by_model(candidate) for candidate in record.candidates]
            scores += said
            scored_for += [record.customer_id] * len(said)
    if not customers:
        raise DataError(f"no decision was scored since {since:%Y-%m-%d %H:%M}; choose a longer time with --since")
    looks = len(reference.features) + 1
    effective = effective_rows(pd.factorize(pd.Series(customers))[0].astype(np.int64))
    features = [
        drift(
            each,
            each.counts(np.array(values[each.name])),
            effective=effective,
            reference_effective=reference.effective,
            looks=looks,
        )
        for each in reference.features
    ]
    of_scores = None
    if reference.scores is not None and scores:
        of_scores = drift(
            reference.scores,
            reference.scores.counts(np.array(scores)),
            effective=effective_rows(pd.factorize(pd.Series(scored_for))[0].astype(np.int64)),
            reference_effective=reference.scores_effective,
            looks=looks,
        )
    met = [each for each in closed if each.met and _made_by(each.record, bundle_sha256)]
    calibration = _calibration(met)
    return DriftReport(
        domain=manifest.domain,
        version=manifest.version,
        bundle_sha256=bundle_sha256,
        since=since,
        until=until,
        decisions=len(customers),
        customers=len(set(customers)),
        closed=len(met),
        features=tuple(sorted(features, key=lambda each: -each.psi)),
        scores=of_scores,
        calibration=calibration,
        alarms=alarms(features, of_scores, calibration),
    )


def _seen(record: DecisionRecord) -> Mapping[str, Value]:
    """What the model saw of the customer and the request (`replay.model_rows`)."""
    where: dict[str, Value] = {"placement": record.placement, "channel": record.channel}
    return {**record.request.context, **record.features, **where}


def _encoded(encode: Encode | None, value: Value) -> float:
    try:
        return encode(value) if encode is not None else float("nan")
    except (TypeError, ValueError):
        return float("nan")  # of another kind than the feature: as good as missing


def _by_model(candidate: Candidate) -> float:
    """The model's own word, before what was learnt since."""
    said = candidate.propensity if candidate.score is None else candidate.score
    return float("nan") if said is None else said


def _made_by(record: DecisionRecord, bundle_sha256: str) -> bool:
    return record.model is not None and record.model.bundle_sha256 == bundle_sha256


def _calibration(met: list[Closed]) -> CalibrationDrift | None:
    said, success, customers = [], [], []
    for each in met:
        shown = each.record.slots[0].action_id
        candidate = next((c for c in each.record.candidates if c.action_id == shown), None)
        if candidate is not None and candidate.propensity is not None:
            said.append(candidate.propensity)
            success.append(int(each.earned > 0.0))
            customers.append(each.record.customer_id)
    codes = pd.factorize(pd.Series(customers, dtype=object))[0].astype(np.int64)
    return calibration_drift(np.array(said), np.array(success, dtype=np.int64), codes)


def log_drift(tracking: Tracking, report: DriftReport) -> str:
    """A run of the board `health`: indices, the report as JSON, and figures; its id."""
    with tracking.run(f"drift of version {report.version}", board=BOARD, tags={"domain": report.domain}) as run_id:
        metrics = {f"psi/{_plain(name)}": psi for name, psi in report.summary.psi.items()}
        if report.calibration is not None:
            metrics |= {f"calibration/{name}": getattr(report.calibration, name) for name in ("ratio", "low", "high")}
            figure = calibration_figure(report.calibration.bins)
            tracking.log_figure(run_id, "figures/calibration.png", figure)
        tags = {"bundle_sha256": report.bundle_sha256, "alarms": "; ".join(report.alarms)[:4000] or "none"}
        tracking.log(run_id, metrics={**metrics, "alarms": float(len(report.alarms))}, tags=tags)
        encoded = msgspec.json.format(msgspec.json.encode(report), indent=1).decode()
        tracking.log_text(run_id, "drift.json", encoded)
        bars = [*report.features, *([report.scores] if report.scores is not None else [])]
        tracking.log_figure(
            run_id, "figures/drift.png", drift_figure([(each.name, each.psi, each.level) for each in bars])
        )
    return run_id


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "_-. " else "_" for c in name)[:200]
