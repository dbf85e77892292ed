import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from decisioning.errors import SetupError
from decisioning.record import AuditRecord
from serving import bootstrap
from serving.bootstrap import draw_key, open_engine, open_stores
from serving.follower import Follower
from storage.settings import Settings
from tests.builders import NOW, request
from tests.fakes import FakeFeatures, FakeHotState
from tests.serving.test_engine import Shop


def test_services_that_start_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    settings, keys = Settings(home=tmp_path), []
    threads = [threading.Thread(target=lambda: keys.append(draw_key(settings))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["draw.key"]
    assert (tmp_path / "draw.key").stat().st_mode & 0o077 == 0


def test_a_damaged_secret_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "draw.key").write_bytes(b"short")
    with pytest.raises(SetupError, match="must have 32"):
        draw_key(Settings(home=tmp_path))


def test_a_secret_can_be_set(tmp_path: Path) -> None:
    assert draw_key(Settings(home=tmp_path, draw_secret="0123456789abcdef")).secret == b"0123456789abcdef"


class Pointers:
    """A blob store whose pointers name what is not there, or break."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def pointer(self, name: str) -> str:
        if self.error is not None:
            raise self.error
        return "0" * 64

    def get(self, sha256: str) -> bytes:
        return b"{}"


@pytest.mark.parametrize("error", [None, MemoryError("full"), OSError("gone")])
def test_whatever_breaks_is_a_warning_and_what_is_served_stays(error: Exception | None) -> None:
    shop, pointers, failures = Shop(), Pointers(), []
    pointers.error = error
    blobs: Any = pointers
    follower = Follower(shop.engine, blobs, Settings(domain="shop"), on_failure=failures.append)
    served = shop.engine.scorer
    follower.check()
    follower.check()
    assert {warning.partition(":")[0] for warning in follower.warnings()} == {"bundle", "catalog"}
    assert shop.engine.scorer is served
    assert set(failures) == {"bundle", "catalog"}


def test_an_engine_starts_with_the_pauses_that_the_ledger_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path / "home")
    blobs, ledger = open_stores(settings)
    release = Shop().engine.release
    monkeypatch.setattr(bootstrap, "live_release", lambda *_: release)
    monkeypatch.setattr(bootstrap, "open_feature_store", lambda _: None)
    monkeypatch.setattr(bootstrap, "FeastFeatures", lambda *_: FakeFeatures())
    for what, subject in (("pause", "card"), ("pause", "de/loan"), ("resume", "de/loan")):
        entry = AuditRecord(
            at=NOW, domain=settings.domain, actor="ann", what=f"action.{what}", subject=subject, reason=""
        )
        asyncio.run(ledger.append_audit(entry))
    broken = FakeHotState()
    broken.down = True
    monkeypatch.setattr(bootstrap, "open_hot_state", lambda *_, **__: broken)
    record = asyncio.run(open_engine(settings, blobs, ledger).decide(request(), now=NOW))
    ledger.close()
    assert record.paused == ("card",)
