"""Decisions that were made, with what they were made with: their catalogues, models and secrets."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from decisioning.bundle import ModelFeature, Scored
from decisioning.catalog import Catalog, Release
from decisioning.content import Content
from decisioning.content_types import BLUEPRINT
from decisioning.encoding import RowEncoder
from decisioning.errors import DataError, SetupError, StoreError, UnknownDecision
from decisioning.feeds import Untold
from decisioning.record import DecisionRecord
from decisioning.replay import Replayed, facts_of, model_rows, recorded_case, replay
from nextmove.sandbox import SANDBOX_KEY
from serving.bootstrap import draw_key
from storage.blobs import BlobStore
from storage.bundles import load_bundle
from storage.catalog_files import catalog_pointer, decode_release
from storage.ledger.feed_counts import read_untold
from storage.ledger.reader import LedgerReader
from storage.settings import Settings
from training.graph_scorer import GraphScorer, verified_scorer

# Further apart than this, a score is another one: the last bits depend on the machine.
RESCORE_TOLERANCE = 1e-6


class ServedModel(NamedTuple):
    """A model as it was served."""

    features: tuple[ModelFeature, ...]
    graph: GraphScorer

    def score(self, rows: NDArray[np.float32], *, with_members: bool = False) -> Scored:
        """See `GraphScorer`."""
        return self.graph.score(rows, with_members=with_members)


class Rescored(NamedTuple):
    """What a model said of a candidate as logged, before any correction, and as it says now."""

    action_id: str
    logged: float
    now: float

    @property
    def agrees(self) -> bool:
        """Whether they are the same for all that counts."""
        return abs(self.logged - self.now) <= RESCORE_TOLERANCE


class PastDecisions:
    """A ledger, with the catalogues and models that its records name.

    `ledger` is another state directory whose decisions are meant, such as that of a simulation;
    catalogues and models are those of the settings.
    """

    def __init__(self, settings: Settings, ledger: Path | None = None) -> None:
        if ledger is not None and not replace(settings, home=ledger).ledger_path.is_file():
            raise SetupError(f"there is no ledger in {ledger}; --ledger names a state directory", where="ledger")
        self._settings = settings
        self._theirs = settings if ledger is None else replace(settings, home=ledger)
        self.reader = LedgerReader(self._theirs)
        self._blobs = BlobStore(settings)
        self.release = cache(self._release)
        self.model = cache(self._model)

    def untold(self, content: Content, *, since: datetime, now: datetime) -> Untold:
        """Which of the outcomes were not told."""
        return read_untold(self._theirs, content, since=since, now=now)

    def find(self, decision_id: str) -> DecisionRecord:
        """One decision.

        Raises:
            UnknownDecision: The ledger does not have it.
        """
        record = self.reader.find(decision_id)
        if record is None:
            raise UnknownDecision(f"no decision has the id '{decision_id}'", where="decision_id")
        return record

    def catalog_of(self, record: DecisionRecord) -> Catalog:
        """The catalogue that a decision was made under.

        Raises:
            StoreError: It is not kept any more.
        """
        return self.release(record.catalog_version).of(None if record.market == BLUEPRINT else record.market)

    def release_named(self, version: str) -> Release:
        """A release by its version, or by the first characters of it.

        Raises:
            SetupError: There is none, or several.
        """
        wanted = version.removeprefix("sha256:")
        history = self._blobs.history(catalog_pointer(self._settings.domain))
        known = sorted({pointing.sha256 for pointing in history if pointing.sha256.startswith(wanted)})
        if len(known) != 1:
            found = "several releases begin" if known else "no folder and no release is named"
            raise SetupError(
                f"--catalog is '{version}': {found} so; give a folder such as catalog/{self._settings.domain},"
                " or a version that was released",
                where="catalog",
            )
        return self.release(f"sha256:{known[0]}")

    def key_of(self, key_id: str) -> bytes | None:
        """The secret of this name, if it is at hand: the service's, or that of simulations."""
        keys = (draw_key(self._settings), SANDBOX_KEY)
        return next((key.secret for key in keys if key.key_id == key_id), None)

    def replay(self, record: DecisionRecord) -> Replayed:
        """Compute a decision again.

        Raises:
            SetupError: The secret is another one than the one that drew.
            StoreError: Its catalogue is not kept any more.
        """
        key = self.key_of(record.key_id) or draw_key(self._settings).secret
        return replay(record, self.catalog_of(record), key=key)

    def rescore(self, record: DecisionRecord) -> list[Rescored]:
        """Ask the decision's own model again, with the facts as logged.

        Raises:
            DataError: Nothing was scored.
            StoreError, BundleError: The model is not kept any more, or is damaged.
        """
        scored = [c for c in record.candidates if c.propensity is not None]
        if record.model is None or not scored:
            raise DataError(
                f"decision '{record.decision_id}' was not scored ({record.reason}); there is nothing to compare"
            )
        catalog, model = self.catalog_of(record), self.model(record.model.bundle_sha256)
        case, facts = recorded_case(record, catalog), facts_of(record)
        actions = [catalog.actions[candidate.action_id] for candidate in scored]
        now = model.score(model_rows(case, facts, RowEncoder(model.features), actions)).propensity.tolist()
        logged = [c.propensity if c.score is None else c.score for c in scored]
        return [Rescored(c.action_id, was or 0.0, again) for c, was, again in zip(scored, logged, now, strict=True)]

    def close(self) -> None:
        """Let go of the files."""
        self.reader.close()
        self._blobs.close()

    def _release(self, version: str) -> Release:
        try:
            return decode_release(self._blobs.get(version.removeprefix("sha256:")))
        except StoreError as error:
            raise StoreError(
                f"catalogue {version} is not kept in {self._settings.home}; restore it from a backup"
            ) from error

    def _model(self, sha256: str) -> ServedModel:
        bundle = load_bundle(self._blobs, sha256)
        return ServedModel(bundle.manifest.features, verified_scorer(bundle))


@contextmanager
def past_decisions(settings: Settings, ledger: Path | None = None) -> Iterator[PastDecisions]:
    """Open them, and close them after."""
    past = PastDecisions(settings, ledger)
    try:
        yield past
    finally:
        past.close()
