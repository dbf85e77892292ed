import asyncio
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from decisioning.content_types import BLUEPRINT
from decisioning.errors import DataError, SetupError
from storage.blobs import BlobStore
from storage.catalog_files import catalog_pointer
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.builders import NOW
from tests.training.test_examples import outcome, record, shop
from training import load_log


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A shop with a closed decision that was clicked, an open one, and one before the log begins."""
    settings = Settings(home=tmp_path / "home", domain="shop")
    with closing(BlobStore(settings)) as blobs:
        sha256 = blobs.put(msgspec.json.encode({BLUEPRINT: shop().content}))
        blobs.point(catalog_pointer("shop"), sha256, now=NOW, reason="test")
    asyncio.run(_kept(settings))
    return settings


async def _kept(settings: Settings) -> None:
    with closing(Ledger(settings)) as ledger:
        for name, days in (("d-open", 1), ("d-1", 10), ("d-old", 40)):
            await ledger.append_decision(record(decision_id=name, decided_at=NOW - timedelta(days=days)), digest="d")
        await ledger.append_outcomes([(outcome("click"), "d")])


def test_the_log_has_what_each_decision_earned_and_whether_that_is_the_last_word(settings: Settings) -> None:
    log = load_log(NOW - timedelta(days=30), settings=settings, now=NOW)
    assert log[["row_id", "reward", "closed", "probability"]].values.tolist() == [
        ["d-1/1", 0.5, True, 0.5], ["d-open/1", 0.0, False, 0.5],
    ]  # fmt: skip
    assert log["decided_at"].dtype == "datetime64[us, UTC]"
    assert log["customer.colour"].tolist() == ["red", "red"]
    assert log["candidates"].iloc[0] == ("card", "loan", "no_action")


def test_the_log_ends_before_until(settings: Settings) -> None:
    until = NOW - timedelta(days=10)
    assert load_log(NOW - timedelta(days=60), until, settings=settings, now=NOW)["row_id"].tolist() == ["d-old/1"]


def test_of_nothing_the_log_is_empty(settings: Settings) -> None:
    assert load_log(NOW - timedelta(hours=1), settings=settings, now=NOW).empty


def test_a_time_without_a_zone_and_a_shop_without_a_catalogue_are_refused(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(DataError, match="no zone"):
        load_log(datetime(2026, 1, 1), settings=settings)  # noqa: DTZ001
    with pytest.raises(SetupError, match="nextmove catalog release"):
        load_log(NOW, settings=Settings(home=tmp_path / "other", domain="shop"), now=NOW)


def test_importing_it_brings_nothing_heavy() -> None:
    heavy = "import sys, training; print([n for n in ('pandas', 'lightgbm', 'mlflow', 'feast') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout == "[]\n"
