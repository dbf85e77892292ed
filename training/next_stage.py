"""Learns to foretell in which stage of a journey a customer will be, from the stages that customers were in.

The stage at a past time is worked out as a decision then would have: by the features that were known and the
events that had happened. So what is learnt hangs neither on who came back nor on what we chose to show.
Rules over an account's features, or over a request, count as not holding.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd

from decisioning.catalog import Catalog
from decisioning.content import Journey
from decisioning.errors import DataError, SetupError
from decisioning.journey import stages_of
from decisioning.next_stage import current_name, foretold
from decisioning.profile import Event
from storage.blobs import BlobStore
from storage.bundles import publish_bundle, stages_pointer
from storage.hot_state.effects import effect_of
from storage.hot_state.history import kept_happened, kept_outcomes
from storage.ledger.reader import LedgerReader
from storage.settings import Settings
from training.event_table import with_event_features
from training.examples import CUSTOMER
from training.features import declared_views, historical_features
from training.figures import reliability_figure
from training.model_quality import quality
from training.propensity import PropensityModel, fit_propensity
from training.stage_export import stage_bundle
from training.tracking import BUNDLE_TAG, Tracking

POINTS = 20_000  # customers at past times
# Rows that each share begins with, as the share of all: few are no evidence.
PRIOR_ROWS = 20.0

Happenings = dict[str, list[tuple[datetime, str]]]


class Foretold(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a training; figures are of the latest quarter, which it did not learn from, over all stages.

    Attributes:
        stages: Those that are foretold.
        left_out: Those that everybody or nobody was in for too long to learn anything, and why.
        log_loss_of_shares: Of who only knows how often customers of a stage are in each stage later.
        calibration_error: Expected calibration error.
        served: Whether services foretell with it from now on: it knows more than the shares do.
    """

    run_id: str
    bundle_sha256: str
    points: int
    stages: tuple[str, ...]
    left_out: dict[str, str]
    log_loss: float
    log_loss_of_shares: float
    calibration_error: float
    served: bool


class _Points(NamedTuple):
    """Customers at past times: what a decision then would have known, as examples without success."""

    frame: pd.DataFrame
    reached: dict[str, list[str | None]]  # by journey: the stage a horizon later


def learn_stages(
    settings: Settings,
    catalog: Catalog,
    *,
    now: datetime,
    seed: int = 1,
    points: int = POINTS,
    progress: Callable[[str], None] = lambda _: None,
) -> Foretold:
    """Fit, test and log a model of the next stages, and let services foretell with it if it is worth it.

    It is one calibrated model a stage, in one graph.

    Raises:
        SetupError: No journey has a horizon, or nothing is ingested.
        DataError: There is not enough history.
    """
    journeys = list({journey.id: journey for journey, _ in foretold(catalog.content.journeys)}.values())
    if not journeys:
        raise SetupError("no journey of the catalogue has a horizon, so nothing is to be foretold; docs/catalogue.md")
    progress(f"stages of {points:,} customers at past times")
    known = _points(settings, catalog, journeys, now=now, points=points, rng=np.random.default_rng(seed))
    models: dict[str, PropensityModel] = {}
    left_out: dict[str, str] = {}
    said, by_shares, truth = [], [], []
    for journey, stage in foretold(journeys):
        progress(f"training: {stage}")
        examples = known.frame.assign(success=[int(each == stage) for each in known.reached[journey.id]])
        try:
            model, rows = fit_propensity(examples, catalog, seed=seed)
        except DataError as error:
            left_out[stage] = error.message
            continue
        models[stage] = model
        said.append(model.propensities(rows[model.split.test]))
        by_shares.append(_shares(examples, journey, model))
        truth.append(examples["success"].to_numpy(dtype=np.int64)[model.split.test])
    if not models:
        raise DataError("nothing can be foretold: " + "; ".join(f"{stage}: {why}" for stage, why in left_out.items()))
    happened = np.concatenate(truth)
    metrics = quality(np.concatenate(said), happened, base_rate=float(happened.mean()))
    of_shares = quality(np.concatenate(by_shares), happened, base_rate=float(happened.mean()))["log_loss"]
    found = Foretold(
        run_id="",
        bundle_sha256="",
        points=points,
        stages=tuple(models),
        left_out=left_out,
        log_loss=metrics["log_loss"],
        log_loss_of_shares=of_shares,
        calibration_error=metrics["calibration_error"],
        served=metrics["log_loss"] < of_shares,
    )
    progress("exporting to ONNX, and logging to MLflow")
    domain, tracking = catalog.content.domain, Tracking(settings)
    with tracking.run(f"next stage {domain}", tags={"domain": domain}) as run_id, closing(BlobStore(settings)) as blobs:
        manifest, graph = stage_bundle(models, domain=domain, run_id=run_id, now=now, rng=np.random.default_rng(seed))
        bundle = publish_bundle(blobs, manifest, graph)
        tracking.log(
            run_id,
            parameters={"points": points, "stages": ", ".join(models)},
            metrics={f"test_{name}": value for name, value in {**metrics, "log_loss_of_shares": of_shares}.items()},
            tags={BUNDLE_TAG: bundle.sha256, "served": str(found.served)},
        )
        tracking.log_figure(run_id, "figures/reliability.png", reliability_figure(np.concatenate(said), happened))
        if found.served:
            blobs.point(stages_pointer(domain), bundle.sha256, now=now, reason=f"run {run_id}")
    return msgspec.structs.replace(found, run_id=run_id, bundle_sha256=bundle.sha256)


def stage_at(
    journey: Journey, catalog: Catalog, features: Mapping[str, Any], past: Iterable[tuple[datetime, str]], at: datetime
) -> str | None:
    """The stage of a journey that a customer with these features was in, `past` being in the order of time.

    Of what happened up to then, the last time of each event counts.
    """
    latest = {name: when for when, name in past if when <= at}
    events = tuple(Event(name, when) for name, when in latest.items())
    scope = catalog.scope(now=at, customer=features, account={}, context={})
    stages = stages_of(catalog, events, scope)
    return next((stage.id for stage in journey.stages if stage.id in stages), None)


def _shares(examples: pd.DataFrame, journey: Journey, model: PropensityModel) -> np.ndarray:
    """Of each test row, how often customers of its current stage were in the asked one later, before the test."""
    current = examples["context"].map(lambda context: context[current_name(journey)] or "")
    past, test = slice(0, model.split.test.start), model.split.test
    overall = float(examples["success"].iloc[past].mean())
    counts = examples["success"].iloc[past].groupby(current.iloc[past]).agg(["sum", "count"])
    shares = (counts["sum"] + PRIOR_ROWS * overall) / (counts["count"] + PRIOR_ROWS)
    return current.iloc[test].map(shares).fillna(overall).to_numpy(dtype=np.float64)


def _points(
    settings: Settings,
    catalog: Catalog,
    journeys: Sequence[Journey],
    *,
    now: datetime,
    points: int,
    rng: np.random.Generator,
) -> _Points:
    customers, since, until = _known_customers(settings, catalog.content.domain)
    horizons = {journey.id: journey.horizon or timedelta(0) for journey in journeys}
    furthest = max(horizons.values())
    room = min(until, now) - furthest - since
    if room <= timedelta(0):
        raise DataError(
            f"features are known from {since.date()} to {until.date()}, and a journey's horizon is {furthest.days}"
            " days: nobody's stage is known so long after; ingest newer features, or foretell less far ahead"
        )
    happenings = _happenings(settings, catalog, now=now)
    ids = rng.choice(customers, points)
    times = [since + room * share for share in np.sort(rng.random(points)).tolist()]
    then = _features_at(settings, catalog, ids, times)
    reached: dict[str, list[str | None]] = {}
    current: dict[str, list[str | None]] = {}
    for journey in journeys:
        ends = [at + horizons[journey.id] for at in times]
        later = _features_at(settings, catalog, ids, ends)
        past = [happenings.get(customer_id, []) for customer_id in ids.tolist()]
        current[journey.id], reached[journey.id] = (
            [stage_at(journey, catalog, *each) for each in zip(features, past, at, strict=True)]
            for features, at in ((then, times), (later, ends))
        )
    any_action = next(iter(catalog.actions))  # an example has one; the same in all, it teaches nothing
    frame = pd.DataFrame(
        {
            "row_id": [str(place) for place in range(points)],
            "customer_id": ids,
            "decided_at": pd.Series(pd.to_datetime(times, utc=True)).astype("datetime64[us, UTC]"),
            "placement": None,
            "channel": None,
            "slot": 1,
            "action_id": any_action,
            "contacts": [()] * points,
            "context": [
                {current_name(journey): current[journey.id][place] for journey in journeys} for place in range(points)
            ],
            **{CUSTOMER + name: [features[name] for features in then] for name in then[0]},
        }
    )
    return _Points(frame, reached)


def _known_customers(settings: Settings, domain: str) -> tuple[np.ndarray, datetime, datetime]:
    """Ids of all ingested customers, when all their views had begun, and when the newest row of any was written.

    After that features stand still, and whoever looked only there would learn that customers do.
    """
    ids: set[str] = set()
    begins, ends = [], []
    for view in declared_views(settings, domain):
        if view.entity != "customer":
            continue
        if not view.path.is_file():
            raise SetupError(f"{view.path} is missing; run: nextmove ingest --dataset {domain}")
        table = pd.read_parquet(view.path, columns=["customer_id", "event_timestamp"])
        ids.update(table["customer_id"].astype(str))
        begins.append(table["event_timestamp"].min())
        ends.append(table["event_timestamp"].max())
    return np.array(sorted(ids)), max(begins).to_pydatetime(), max(ends).to_pydatetime()


def _features_at(settings: Settings, catalog: Catalog, ids: np.ndarray, times: list[datetime]) -> list[dict[str, Any]]:
    """What was known of each customer at each time, as rules see it."""
    points = pd.DataFrame(
        {
            "row_id": [str(place) for place in range(len(ids))],
            "customer_id": ids,
            "event_timestamp": pd.to_datetime(times, utc=True).as_unit("us"),
        }
    )
    joined = historical_features(settings, catalog.content.domain, points)
    joined = with_event_features(joined, settings, catalog.content.event_features, points)
    plain = joined.drop(columns=["row_id", "customer_id", "event_timestamp"]).astype(object)
    columns = [plain[name].where(plain[name].notna(), None).tolist() for name in plain.columns]
    return [dict(zip(plain.columns, values, strict=True)) for values in zip(*columns, strict=True)]


def _happenings(settings: Settings, catalog: Catalog, *, now: datetime) -> Happenings:
    """What customers did that takes somebody from stage to stage, by customer, in the order of time."""
    names = {each.on for journey in catalog.content.journeys for each in journey.transitions}
    found: Happenings = {}
    domain = catalog.content.domain
    with closing(LedgerReader(settings)) as reader:
        for each in kept_happened(reader, domain=domain):
            if each.name in names:
                found.setdefault(each.unit, []).append((each.at, each.name))
        for addressed in kept_outcomes(reader, now=now, domain=domain):
            told = addressed.told
            for name in names.intersection(effect_of(told).events):
                found.setdefault(told.subject.customer_id, []).append((told.outcome.occurred_at, name))
    for happened in found.values():
        happened.sort()
    return found
