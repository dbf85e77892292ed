"""The online posterior counted from the ledger into hot state: what is new, or all of it.

Counting goes on from the place that hot state keeps beside the counts. Each decision that a new row touches
is taken out as it was counted at that place and put in as it is now, so the sum is what a count of the whole
ledger gives. Where the bundle, or what makes a decision an exposure, is another one, counting begins anew.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime, timedelta

import msgspec

from decisioning.bundle import Manifest
from decisioning.content import Placement
from decisioning.feeds import Untold
from decisioning.posterior import Fitted, unnamed_sd
from decisioning.response_counts import Counts, add, coarsened, decoded, encoded, exposure
from decisioning.response_shifts import Priors, fitted
from storage.blobs import BlobStore
from storage.bundles import bundle_pointer, load_bundle
from storage.catalog_files import catalog_pointer, decode_release
from storage.hot_state.posteriors import PosteriorStore, open_posterior
from storage.ledger.arrivals import Arrivals, Place
from storage.ledger.arrived_orders import Crediting
from storage.ledger.feed_counts import read_untold
from storage.settings import Settings

ROWS_PER_PART = 200


class Scoring(msgspec.Struct, frozen=True):
    """The model whose scores are corrected, and what the catalogue says of exposures and successes.

    `promotes` are the products of actions (`Catalog.promotes`).
    """

    bundle_sha256: str
    manifest: Manifest
    placements: Mapping[str, Placement]
    promotes: Mapping[str, tuple[str, ...]] = {}

    @property
    def rules(self) -> str:
        """A digest of what makes a decision an exposure and a success."""
        what = {
            name: (placement.reward, placement.shown_by, placement.attribution_window)
            for name, placement in self.placements.items()
        }
        promotes = self.promotes if self.crediting.rewards_orders else {}
        said = msgspec.json.encode((what, promotes), order="sorted")
        return hashlib.sha256(said).hexdigest()[:16]

    @property
    def crediting(self) -> Crediting:
        """How orders are credited.

        From a window before the model's cut-off on: whoever was shown something then may have earned an order
        that would else count for a later decision.
        """
        longest = max((each.attribution_window for each in self.placements.values()), default=timedelta(0))
        return Crediting(self.placements, self.promotes, self.manifest.trained_until - longest)


class Counted(msgspec.Struct, frozen=True):
    """What hot state keeps: whose counts these are, how far the ledger is in them, and the counts (`encoded`)."""

    bundle_sha256: str
    rules: str
    decisions: int
    outcomes: int
    events: int
    counts: bytes


class Counting:
    """Counts for one process, which remembers what it kept last."""

    def __init__(self, store: PosteriorStore, arrivals: Arrivals) -> None:
        self._store = store
        self._arrivals = arrivals
        self._revision: str | None = None
        self._known: Counted | None = None
        self._counts: Counts = {}

    @property
    def revision(self) -> str | None:
        """Under which this process kept what it counted last, if it still goes on from there."""
        return self._revision

    def go_on(
        self,
        scoring: Scoring,
        *,
        now: datetime,
        untold: Untold | None = None,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> Fitted | None:
        """Count what is new, fit, and keep both; what is believed then.

        None where another process has kept something meanwhile: it counted the same rows, and what was done here
        is dropped. `goes_on` is asked after each part; where it says no, what is counted so far is kept.

        Raises:
            StoreError: A store cannot be used.
        """
        self._take_up()
        known = self._known
        if known is not None and (known.bundle_sha256, known.rules) == (scoring.bundle_sha256, scoring.rules):
            counts, at = dict(self._counts), Place(known.decisions, known.outcomes, known.events)
        else:
            counts, at = Counts(), self._arrivals.before(scoring.manifest.trained_until)
        at = self._count(counts, scoring, at, goes_on)
        counts = coarsened(counts, now=now)
        counted = Counted(scoring.bundle_sha256, scoring.rules, *at, encoded(counts))
        said = fit(counts, scoring, now=now, untold=untold)
        over, self._revision = self._revision, None
        revision = self._store.keep(msgspec.msgpack.encode(counted), msgspec.msgpack.encode(said), over=over)
        if revision is None:
            return None
        self._revision, self._known, self._counts = revision, counted, counts
        return said

    def _take_up(self) -> None:
        """What is kept, if another process kept it."""
        if self._revision is not None and self._store.revision() == self._revision:
            return
        kept = self._store.kept()
        self._revision = kept.revision if kept is not None else None
        self._known = counted_in(kept.counted) if kept is not None else None
        self._counts = decoded(self._known.counts) if self._known is not None else {}

    def _count(self, counts: Counts, scoring: Scoring, at: Place, goes_on: Callable[[], bool]) -> Place:
        crediting = scoring.crediting
        while True:
            upto, touched = self._arrivals.behind(
                at, bundle_sha256=scoring.bundle_sha256, crediting=crediting, rows=ROWS_PER_PART
            )
            for record, before, after in touched:
                placement = scoring.placements.get(record.placement)
                if placement is None or record.decided_at <= scoring.manifest.trained_until:
                    continue
                if before is not None:
                    add(counts, exposure(record, placement, before), times=-1)
                add(counts, exposure(record, placement, after))
            if upto == at or not goes_on():
                return upto
            at = upto


def fit(counts: Counts, scoring: Scoring, *, now: datetime, untold: Untold | None = None) -> Fitted:
    """What the counts say at this time; the same counts at the same time say the same, to the bit."""
    manifest = scoring.manifest
    beliefs = fitted(
        counts,
        priors=Priors(manifest.action_sd, unnamed_sd(manifest), manifest.new_action_sd),
        placements=scoring.placements,
        delays=manifest.delays,
        now=now,
        untold=untold,
    )
    said = msgspec.msgpack.encode((scoring.bundle_sha256, beliefs))
    return Fitted(scoring.bundle_sha256, hashlib.sha256(said).hexdigest()[:16], beliefs)


def fitted_in(kept: bytes) -> Fitted | None:
    """What hot state keeps as fitted; None where another version of Nextmove kept it."""
    try:
        return msgspec.msgpack.decode(kept, type=Fitted)
    except msgspec.MsgspecError:
        return None


def counted_in(kept: bytes) -> Counted | None:
    """What hot state keeps as counted; likewise."""
    try:
        return msgspec.msgpack.decode(kept, type=Counted)
    except msgspec.MsgspecError:
        return None


def recount(settings: Settings, *, now: datetime) -> Fitted | None:
    """Count the live bundle's decisions anew; None where no bundle or catalogue is live.

    Raises:
        SetupError, StoreError: A store cannot be used.
        BundleError, CatalogError: What is live is broken.
    """
    with closing(BlobStore(settings)) as blobs:
        promoted = blobs.pointer(bundle_pointer(settings.domain))
        released = blobs.pointer(catalog_pointer(settings.domain))
        if promoted is None or released is None:
            return None
        manifest = load_bundle(blobs, promoted).manifest
        release = decode_release(blobs.get(released), domain=settings.domain)
    untold = read_untold(settings, release.blueprint.content, since=manifest.trained_until, now=now)
    store = open_posterior(settings)
    store.forget()
    with closing(Arrivals(settings)) as arrivals:
        live = Scoring(promoted, manifest, release.everywhere.placements, release.everywhere.promotes)
        return Counting(store, arrivals).go_on(live, now=now, untold=untold)
