"""Learning on a schedule: a challenger is trained, judged and, if the gate lets it, served; then again.

A cycle first finishes what an earlier one left half done, whatever killed it: a model that passed and is not
served yet is served, one that was trained and not judged is judged. Nothing is trained or judged twice.
"""

import threading
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from typing import Literal

import msgspec
import pandas as pd

from decisioning.catalog import Catalog
from decisioning.errors import BundleError, DataError, GateRefused
from storage.blobs import BlobStore
from storage.ledger.gate_attempts import GateAttempt, last_attempt, was_judged
from storage.ledger.reader import LedgerReader
from storage.settings import Settings
from training.domains import Domain
from training.evaluation_run import bundle_of
from training.example_sources import Progress, examples_of, silent
from training.gate_log import log_attempt
from training.graph_scorer import verified_scorer
from training.promotion import error_left, finish, promote
from training.response_delays import response_delays
from training.tracking import CHALLENGER, RegisteredModel, Tracking
from training.training_run import train

BOARD = "learning"
LEARN_TAG = "learning"  # on runs of models that a schedule trained
LEAST = 500  # new decisions that are worth a cycle
Outcome = Literal["promoted", "refused", "skipped", "stopped"]


class Cycle(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a cycle; `said` is one line for people."""

    at: datetime
    outcome: Outcome
    said: str
    version: str | None = None
    alpha: float = 0.0
    new_decisions: int = 0


def learn(
    source: Domain | pd.DataFrame,
    settings: Settings,
    *,
    catalog: Catalog,
    now: datetime,
    least: int = LEAST,
    seed: int = 1,
    stop: threading.Event | None = None,
    when_refused: Callable[[GateAttempt], str] | None = None,
    progress: Progress = silent,
) -> Cycle:
    """One cycle. The caller sees to it that there is one at a time (`storage.leases`).

    Args:
        source: The domain, or its examples.
        settings: Where everything is.
        catalog: Whose values and levers rank.
        now: When this is.
        least: Decisions whose attribution window has closed since the last attempt; with fewer the cycle is
            skipped, so that neither time nor error is spent on what the gate has seen.
        seed: Of training, folds and bootstrap.
        stop: Set: the cycle ends before its next step, which the next one then begins with.
        when_refused: Told of a challenger that the gate refused; gives a line on what was done with it.
        progress: Told what happens.

    Raises:
        NextmoveError: A step failed; the next cycle goes on from there.
    """
    domain = catalog.content.domain
    tracking = Tracking(settings)
    try:
        finished = finish(settings, domain, now=now, progress=progress)
    except BundleError as error:  # it must not keep others from being trained
        progress(f"a model that passed the gate cannot be served: {error.message}")
        finished = None
    if finished is not None:
        said = f"version {finished.version} had passed the gate at {finished.at:%Y-%m-%d %H:%M} UTC and is served now"
        return _logged(tracking, domain, Cycle(at=now, outcome="promoted", said=said, version=finished.version))
    last = last_attempt(settings, domain)
    if last is not None:
        log_attempt(tracking, last)  # a refusal that was kept, and not logged when its cycle was killed
    new = _new_decisions(settings, catalog, last, now=now)
    waiting = _waiting(tracking, settings, domain)
    if waiting is None and new < least:
        return Cycle(
            at=now, outcome="skipped", said=f"{new} new decisions, {least} are worth a cycle", new_decisions=new
        )
    if last is not None and error_left(settings, domain, now=now) <= 0.0:
        return Cycle(at=now, outcome="skipped", said="the gate's error of 30 days is spent", new_decisions=new)
    try:
        examples = examples_of(source, settings, catalog, now=now, progress=progress)
        if _is_set(stop):
            return _stopped(now, "before training")
        if waiting is None:
            _end_cut_short(tracking, domain)
            tags = {LEARN_TAG: now.isoformat()}
            with closing(LedgerReader(settings)) as reader:
                delays = response_delays(reader, catalog, now=now)
            trained = train(
                examples, settings, catalog=catalog, now=now, seed=seed, delays=delays, tags=tags, progress=progress
            )
            run_id, version = trained.run_id, trained.version
        else:
            run_id, version = waiting.run_id, waiting.version
            progress(f"version {version} was trained and not judged yet")
        if _is_set(stop):
            return _stopped(now, f"before version {version} was judged")
        try:
            promote(
                examples, settings, catalog=catalog, now=now, run_id=run_id, scheduled=True, seed=seed,
                progress=progress,
            )  # fmt: skip
        except GateRefused:
            outcome: Outcome = "refused"
        else:
            outcome = "promoted"
    except DataError as error:  # too few, or none that say a probability: with time there are more
        return Cycle(at=now, outcome="skipped", said=error.message, new_decisions=new)
    attempt = last_attempt(settings, domain)
    assert attempt is not None
    said = f"version {version} is served"
    if outcome == "refused":
        said = f"version {version} is refused: {attempt.against[0]}"
        if when_refused is not None:
            said += f"; {when_refused(attempt)}"
    cycle = Cycle(at=now, outcome=outcome, said=said, version=version, alpha=attempt.alpha, new_decisions=new)
    return _logged(tracking, domain, cycle)


def _new_decisions(settings: Settings, catalog: Catalog, last: GateAttempt | None, *, now: datetime) -> int:
    """How many drawn decisions have been closed since the last attempt, by the longest attribution window."""
    longest = max((placement.attribution_window for placement in catalog.placements.values()), default=timedelta(0))
    since = None if last is None else last.at - longest
    with closing(LedgerReader(settings)) as reader:
        return reader.drawn(catalog.content.domain, since=since, until=now - longest)


def _waiting(tracking: Tracking, settings: Settings, domain: str) -> RegisteredModel | None:
    """The challenger, if a cycle trained it and died before the gate had spoken."""
    challenger = tracking.version_by_alias(domain, CHALLENGER)
    if challenger is None or challenger.bundle_sha256 is None or was_judged(settings, domain, challenger.bundle_sha256):
        return None
    if LEARN_TAG not in tracking.client.get_run(challenger.run_id).data.tags:
        return None  # whoever trained it by hand promotes it by hand
    try:
        with closing(BlobStore(settings)) as blobs:
            verified_scorer(bundle_of(blobs, challenger))
    except BundleError:
        return None  # a damaged one must not keep others from being trained
    return challenger


def _end_cut_short(tracking: Tracking, domain: str) -> None:
    """Mark the runs as failed that a cycle began and did not end: they registered nothing, or no bundle."""
    whole = {model.run_id for model in tracking.versions(domain) if model.bundle_sha256 is not None}
    its = f"tags.domain = '{domain}' AND tags.`{LEARN_TAG}` != '' AND attributes.status != 'FAILED'"
    for run in tracking.client.search_runs([tracking.board()], its, max_results=10):  # the newest
        if run.info.run_id not in whole:
            tracking.client.set_terminated(run.info.run_id, "FAILED")


def _logged(tracking: Tracking, domain: str, cycle: Cycle) -> Cycle:
    tags = {"domain": domain, "outcome": cycle.outcome, "mlflow.note.content": cycle.said}
    with tracking.run(f"{domain} {cycle.at:%Y-%m-%d %H:%M}", board=BOARD, tags=tags) as run_id:
        tracking.log(
            run_id,
            parameters={"version": cycle.version},
            metrics={"alpha": cycle.alpha, "new_decisions": float(cycle.new_decisions)},
        )
    return cycle


def _is_set(stop: threading.Event | None) -> bool:
    return stop is not None and stop.is_set()


def _stopped(now: datetime, where: str) -> Cycle:
    return Cycle(at=now, outcome="stopped", said=f"asked to stop, {where}; the next cycle goes on from there")
