"""Whether everything that Nextmove stands on is there, fits together, and is told what it should be."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial

from decisioning.bundle import unmet
from decisioning.catalog import Release
from decisioning.errors import NextmoveError
from decisioning.feed_findings import Finding, feed_findings
from decisioning.feeds import HISTORY
from decisioning.response_counts import decoded
from nextmove import steps
from serving.adapters.feast_features import FeastFeatures
from serving.bootstrap import live_bundle
from serving.feeds import UNNAMED
from serving.http.callers import THIS_MACHINE
from storage.audience_warnings import audience_warnings
from storage.blobs import BlobStore
from storage.bundles import bundle_pointer
from storage.drift_findings import last_drift
from storage.feature_store import open_feature_store
from storage.hook_secrets import read_hook_secrets
from storage.hot_state.posteriors import open_posterior
from storage.hot_state.rebuild import needs_rebuild
from storage.keys import KeyStore
from storage.leases import holder_of
from storage.ledger.arrivals import Arrivals
from storage.ledger.feed_counts import FeedCounts
from storage.ledger.gate_attempts import kept_attempts
from storage.ledger.reader import LedgerReader
from storage.posterior_counting import counted_in
from storage.settings import Settings
from training.alpha_spending import BUDGET, PERIOD
from training.graph_scorer import verified_scorer
from training.promotion import unfinished
from training.tracking import CHAMPION, Tracking

Check = Callable[[], Finding]
DRIFT_AGE = timedelta(days=7)
# A service counts every few seconds: fewer may have come since.
MANY_UNCOUNTED = 100


def findings(settings: Settings, *, now: datetime) -> Iterator[Finding]:
    """A line on each part, then on each source; nothing is changed, but that an older ledger is migrated."""
    if not settings.ledger_path.is_file():
        said = f"there is no ledger in {settings.home}"
        yield Finding("error", "settings", said, "run: nextmove quickstart; or set NEXTMOVE_HOME")
        return
    yield Finding("ok", "settings", f"domain '{settings.domain}', state directory {settings.home}")
    release: Release | None = None
    try:
        release = steps.released(settings)
    except NextmoveError as error:
        yield Finding("error", "catalogue", error.message)
    else:
        yield _checked("catalogue", partial(_catalog, settings, release))
    checks: tuple[tuple[str, Callable[[Settings], Finding]], ...] = (
        ("ledger", _ledger), ("hot state", _hot_state), ("features", _features), ("model", _model),
        ("posterior", _posterior), ("drift", partial(drift_finding, now=now)), ("keys", _keys),
    )  # fmt: skip
    for subject, check in checks:
        yield _checked(subject, partial(check, settings))
    yield _checked("gate", partial(_gate, settings, now=now))
    if release is None:
        return
    content = release.blueprint.content
    if content.hooks:
        yield _checked("hooks", partial(_hooks, settings, [hook.id for hook in content.hooks]))
    if release.by_members:
        yield _checked("exploration", partial(_exploration, settings, list(release.by_members)))
    for said in audience_warnings(settings, release, now=now):
        yield Finding("warning", "audiences", said, "see: nextmove audience --history")
    with closing(FeedCounts(settings)) as counts:
        told = counts.read(since=now - HISTORY)
    yield from feed_findings(told, content, now=now, unlisted=(UNNAMED, THIS_MACHINE.name))


def _checked(subject: str, check: Check) -> Finding:
    """What a check found; what it raises is found, too."""
    try:
        return check()
    except NextmoveError as error:
        return Finding("error", subject, error.message)
    except Exception as error:  # a library's own, of a store that is damaged
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        return Finding("error", subject, f"cannot be used: {said}", "restore it from a backup, or set it up anew")


def _catalog(settings: Settings, release: Release) -> Finding:
    said = f"{release.version[:19]} is served"
    if steps.unreleased_changes(settings):
        return Finding("note", "catalogue", f"{said}; the files differ", "to serve them: nextmove catalog release")
    return Finding("ok", "catalogue", said)


def _ledger(settings: Settings) -> Finding:
    with closing(LedgerReader(settings)) as reader:
        counts = reader.counts(settings.domain)
    said = f"{counts.decisions:,} decisions, {counts.outcomes:,} outcomes, {counts.events:,} events"
    if counts.unjoined_outcomes:
        said += f"; {counts.unjoined_outcomes:,} outcomes name a decision that it does not hold"
        return Finding("note", "ledger", said, "see that decision ids reach who reports outcomes unchanged")
    return Finding("ok", "ledger", said)


def _hot_state(settings: Settings) -> Finding:
    if needs_rebuild(settings):
        return Finding("warning", "hot state", "lacks what the ledger has", "run: nextmove state rebuild")
    return Finding("ok", "hot state", f"in {settings.hot_state}, whole")


def _features(settings: Settings) -> Finding:
    [customer] = steps.example_customers(settings, 1)
    stored = asyncio.run(FeastFeatures(open_feature_store(settings), settings.domain).read(customer))
    if stored is None:
        said = "a customer who is ingested is not in Feast's online store"
        return Finding("error", "features", said, f"run: nextmove ingest --dataset {settings.domain}")
    as_of = f", as of {stored.as_of:%Y-%m-%d %H:%M} UTC" if stored.as_of else ""
    return Finding("ok", "features", f"{len(stored.values)} of a customer are read{as_of}")


def _model(settings: Settings) -> Finding:
    with closing(BlobStore(settings)) as blobs:
        bundle = live_bundle(blobs, settings)
    verified_scorer(bundle)
    said = f"version {bundle.manifest.version} is served"
    if settings.mlflow_db.is_file():
        named = Tracking(settings).version_by_alias(settings.domain, CHAMPION)
        if named is not None and named.bundle_sha256 != bundle.sha256:
            return Finding(
                "warning",
                "model",
                f"{said}, while MLflow's alias '{CHAMPION}' names version {named.version}",
                f"aliases deploy nothing: nextmove promote --run {named.run_id}, or set the alias back",
            )
    return Finding("ok", "model", said)


def _exploration(settings: Settings, by_members: list[str]) -> Finding:
    with closing(BlobStore(settings)) as blobs:
        manifest = live_bundle(blobs, settings).manifest
    lacking = unmet(manifest, by_members)
    if lacking is not None:
        return Finding("warning", "exploration", lacking, "run: nextmove train, which fits one; nextmove promote")
    return Finding("ok", "exploration", f"{', '.join(by_members)} by the {manifest.n_members} models of an ensemble")


def drift_finding(settings: Settings, *, now: datetime) -> Finding:
    """What `nextmove drift` found last, and whether that is lately."""
    with closing(BlobStore(settings)) as blobs:
        found, served = last_drift(blobs, settings.domain), blobs.pointer(bundle_pointer(settings.domain))
    if found is None:
        return Finding("note", "drift", "nobody has looked for it", "run, daily: nextmove drift")
    said = f"looked for at {found.at:%Y-%m-%d %H:%M} UTC over {found.decisions:,} decisions"
    if found.alarms:
        return Finding("warning", "drift", f"{'; '.join(found.alarms)} ({said})", "run: nextmove drift; nextmove train")
    if found.bundle_sha256 != served or now - found.at > DRIFT_AGE:
        why = "another model is served since" if found.bundle_sha256 != served else "that is long ago"
        return Finding("note", "drift", f"{said}; {why}", "run: nextmove drift")
    return Finding("ok", "drift", f"none; {said}")


def _posterior(settings: Settings) -> Finding:
    with closing(BlobStore(settings)) as blobs:
        served = blobs.pointer(bundle_pointer(settings.domain))
    kept = open_posterior(settings).kept()
    counted = counted_in(kept.counted) if kept is not None else None
    if counted is None or counted.bundle_sha256 != served:
        return Finding(
            "ok", "posterior", "nothing is counted yet of the model that is served; a service that runs does so"
        )
    with closing(Arrivals(settings)) as arrivals:
        waiting = arrivals.end().decisions - counted.decisions
    if waiting >= MANY_UNCOUNTED:
        said = f"{waiting:,} decisions are not counted, so scores do not follow what customers do"
        return Finding(
            "warning", "posterior", said, "a running service counts them in seconds; its /readyz says what fails"
        )
    trials = sum(tally.trials for tally in decoded(counted.counts).values())
    return Finding("ok", "posterior", f"{trials:,} exposures of the model that is served are counted")


def _keys(settings: Settings) -> Finding:
    with closing(KeyStore(settings)) as store:
        keys = [key for key in store.all() if key.revoked_at is None]
    if keys:
        return Finding("ok", "keys", f"{len(keys)} let callers in")
    if settings.jwt_issuer is not None:
        return Finding("ok", "keys", f"none; tokens of {settings.jwt_issuer} are taken")
    return Finding("note", "keys", "none, so only this machine is answered", "see: nextmove keys create --help")


def _hooks(settings: Settings, hooks: list[str]) -> Finding:
    secrets = read_hook_secrets(settings)
    missing = [hook for hook in hooks if hook not in secrets]
    if missing:
        said = f"{', '.join(missing)} have no secret, so their calls are refused"
        return Finding("warning", "hooks", said, "put one each into the file that the setting hook_secrets names")
    return Finding("ok", "hooks", f"{len(hooks)} with their secrets")


def _gate(settings: Settings, *, now: datetime) -> Finding:
    waiting = unfinished(settings, settings.domain)
    if waiting is not None:
        said = f"version {waiting.version} passed at {waiting.at:%Y-%m-%d %H:%M} UTC, and is not served"
        to_do = f"run: nextmove learn --once, which finishes it, or nextmove promote --run {waiting.run_id}"
        return Finding("warning", "gate", said, to_do)
    recent = kept_attempts(settings, settings.domain, since=now - PERIOD)
    learner = holder_of(settings, f"learn/{settings.domain}", now=now)
    said = f"asked {len(recent)} times in 30 days"
    if recent:
        last = recent[-1]
        spent = sum(each.alpha for each in recent if each.scheduled)
        said += f", last at {last.at:%Y-%m-%d %H:%M} UTC: version {last.version} {last.outcome}"
        said += f"; {spent:.2%} of the {BUDGET:.0%} spent that a schedule may err by"
    return Finding("ok", "gate", f"{said}; {f'a learner runs ({learner})' if learner else 'no learner runs'}")
