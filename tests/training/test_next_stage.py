"""What is foretold, held against customers whose next stage is known."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from decisioning.content import Journey, Stage, Transition
from decisioning.errors import DataError, SetupError
from decisioning.next_stage import StageRows, foretold
from storage.blobs import BlobStore
from storage.bundles import load_bundle, stages_pointer
from storage.ledger.database import migrate
from storage.settings import Settings
from tests.builders import action, catalog
from tests.training.test_ingest import FakeDomain, profile, table
from training.graph_scorer import verified_scorer
from training.ingest import ingest
from training.next_stage import learn_stages, stage_at

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + 240 * DAY
MONTH = 30 * DAY
# Who bought for men comes back every month; everybody else after a year.
LIFE = Journey(
    id="life",
    horizon=MONTH,
    stages=(
        Stage(id="active", name="Active", entry="customer.recency != null && customer.recency < 6.0"),
        Stage(id="lapsed", name="Lapsed", entry="customer.recency != null && customer.recency >= 6.0"),
    ),
)
SHOP = catalog(action(), domain="hillstrom", journeys=(LIFE,))


def history(customers: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    rows = []
    for number in range(customers):
        mens, first = float(rng.random() < 0.5), int(rng.integers(0, 12))
        for month in range(8):
            recency = float(first + month) % (2.0 if mens else 12.0)
            rows.append(profile(f"h-{number}", START + month * MONTH, recency=recency, mens=mens))
    return table(*rows)


def settings_with(tmp_path: Path, frame: pd.DataFrame) -> Settings:
    settings = Settings(home=tmp_path, domain="hillstrom")
    migrate(settings)
    ingest(FakeDomain(frame), settings, now=NOW, write_consents=lambda _: None, progress=lambda _: None)
    return settings


def test_what_is_learnt_is_what_happens(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, history())
    found = learn_stages(settings, SHOP, now=NOW, points=4_000)
    assert found.served
    assert found.log_loss < 0.5 * found.log_loss_of_shares
    assert found.calibration_error < 0.05
    blobs = BlobStore(settings)
    pointed = blobs.pointer(stages_pointer("hillstrom"))
    assert pointed == found.bundle_sha256
    bundle = load_bundle(blobs, pointed)
    blobs.close()
    rows, asked = StageRows(bundle.manifest.features), foretold((LIFE,))
    scorer = verified_scorer(bundle)
    for recency, mens, lapsed in ((2.0, 0.0, 0.0), (7.0, 0.0, 1.0), (8.0, 0.0, 1.0), (1.0, 1.0, 0.0)):
        known = {**profile(), "recency": recency, "mens": mens}
        now = "lapsed" if recency >= 6.0 else "active"
        said = scorer.score(rows.rows(asked, known, (now,))).propensity
        np.testing.assert_allclose(said, [1.0 - lapsed, lapsed], atol=0.2)


def test_a_stage_of_the_past_is_that_of_what_had_happened_then() -> None:
    life = Journey(
        id="life",
        stages=(Stage(id="new", name="New", entry="true"), Stage(id="loyal", name="Loyal")),
        transitions=(Transition(source="new", target="loyal", on="purchase"),),
    )
    past = [(START + 2 * DAY, "purchase")]
    at = {day: stage_at(life, catalog(journeys=(life,)), {}, past, START + day * DAY) for day in (1, 2, 3)}
    assert at == {1: "new", 2: "loyal", 3: "loyal"}


def test_without_a_horizon_there_is_nothing_to_foretell(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no journey of the catalogue has a horizon"):
        learn_stages(Settings(home=tmp_path), catalog(), now=NOW)


def test_features_that_never_changed_foretell_nothing(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, table(profile("h-1"), profile("h-2")))
    with pytest.raises(DataError, match="nobody's stage is known so long after"):
        learn_stages(settings, SHOP, now=NOW, points=100)
