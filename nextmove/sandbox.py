"""The real engine over the live model, catalogue and features, with a ledger and hot state of its own.

For simulations and benchmarks: what they decide must not be learnt from, nor counted as contacts.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from decisioning.catalog import Catalog
from serving.adapters.feast_features import FeastFeatures
from serving.adapters.onnx_scorer import OnnxScorer
from serving.bootstrap import live_bundle, live_release
from serving.engine import DrawKey, Engine
from storage.blobs import BlobStore
from storage.feature_store import open_feature_store
from storage.hot_state.sqlite import SqliteHotState
from storage.ledger.database import migrate
from storage.ledger.writer import Ledger
from storage.settings import Settings, prepare_home

# Draws of a sandbox need no secret; a fixed one makes its runs repeatable.
SANDBOX_KEY = DrawKey(b"nextmove sandbox")


class Sandbox:
    """An engine whose records go to `home`, which is emptied first."""

    def __init__(self, settings: Settings, home: Path) -> None:
        shutil.rmtree(home, ignore_errors=True)
        self.settings = replace(settings, home=home)
        prepare_home(self.settings)
        migrate(self.settings)
        blobs = BlobStore(settings)
        release = live_release(blobs, settings)
        self.catalog: Catalog = release.everywhere
        self.ledger = Ledger(self.settings)
        self.hot_state = SqliteHotState(self.settings)
        self.engine = Engine(
            release=release,
            features=FeastFeatures(open_feature_store(settings), settings.domain),
            hot_state=self.hot_state,
            ledger=self.ledger,
            scorer=OnnxScorer(live_bundle(blobs, settings)),
            draw_key=SANDBOX_KEY,
        )

    def close(self) -> None:
        """Close its stores."""
        self.hot_state.close()
        self.ledger.close()
