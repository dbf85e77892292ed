"""What was written moves from the log into the database's file without anyone waiting for it."""

import asyncio
import time
from pathlib import Path

import pytest

from storage.ledger import checkpoint
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.storage.kept import decision


def append(ledger: Ledger, *ids: str) -> None:
    async def all_at_once() -> None:
        await asyncio.gather(*(ledger.append_decision(decision(name), digest="a") for name in ids))

    asyncio.run(all_at_once())


def grows(path: Path, *, beyond: int) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if path.stat().st_size > beyond:
            return True
        time.sleep(0.01)
    return False


def test_the_log_is_moved_soon_after_something_was_written(ledger: Ledger, settings: Settings) -> None:
    before = settings.ledger_path.stat().st_size
    append(ledger, *(f"d-{number}" for number in range(50)))

    assert grows(settings.ledger_path, beyond=before)


def test_a_log_that_grew_too_long_is_started_anew(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PAGES_BEFORE_RESTART", 0)
    ledger = Ledger(settings)
    log = settings.ledger_path.with_name("ledger.db-wal")
    for batch in range(3):
        before = settings.ledger_path.stat().st_size
        append(ledger, *(f"d-{batch}-{number}" for number in range(50)))
        assert grows(settings.ledger_path, beyond=before)
    three = log.stat().st_size
    ledger.close()

    assert three < 3 * 50 * 4096


def test_closing_ends_the_thread_and_leaves_no_log(settings: Settings) -> None:
    ledger = Ledger(settings)
    append(ledger, "d-1")
    ledger.close()

    assert not settings.ledger_path.with_name("ledger.db-wal").exists()
