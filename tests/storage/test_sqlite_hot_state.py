"""What only hot state in SQLite does: it forgets in passing, has patience for a lock, and refuses other files."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from decisioning.errors import StoreError
from decisioning.events import Happened
from decisioning.profile import Subject
from storage.hot_state.charges import CHARGE_MEMORY
from storage.hot_state.schema import connect
from storage.hot_state.sqlite import SqliteHotState
from storage.settings import Settings
from tests.storage.hot_stores import Store, charged, mails, reservation
from tests.storage.kept import NOW


def kept(settings: Settings, table: str) -> list[str]:
    with closing(sqlite3.connect(settings.hot_path)) as connection:
        return [row[0] for row in connection.execute(f"SELECT decision_id FROM {table} ORDER BY decision_id")]


def test_old_contacts_and_claims_go_in_passing_whoever_comes(settings: Settings) -> None:
    store = Store(settings)
    store.reserve(reservation("d-1", confirmed=True))
    store.reserve(reservation("d-2"))
    for number in (3, 4):
        store.reserve(reservation(f"d-{number}", now=NOW + timedelta(days=31), subject=Subject("c-2")))

    assert kept(settings, "contacts") == kept(settings, "claims") == ["d-3", "d-4"]
    store.close()


def test_what_was_charged_is_kept_for_longer_and_stays_spent_when_it_goes(settings: Settings) -> None:
    budget = mails(3.0, period=timedelta(days=1000))
    late = NOW + CHARGE_MEMORY
    store = Store(settings, clock=lambda: late)
    store.reserve(charged(budget, "d-1", confirmed=True))
    store.reserve(charged(budget, "d-2", confirmed=True, now=NOW + timedelta(days=31)))
    assert kept(settings, "contacts") == ["d-1", "d-2"]

    store.reserve(reservation("d-3", now=late, subject=Subject("c-2")))

    assert kept(settings, "contacts") == ["d-2", "d-3"]
    assert store.read(after=CHARGE_MEMORY, budgets=(budget,)).budgets[0].left == 1.0
    store.close()


def test_a_period_that_is_asked_for_late_is_counted_from_its_begin(settings: Settings) -> None:
    store = Store(settings)
    store.reserve(charged(mails(5.0), "d-1", confirmed=True))
    longer = mails(5.0, period=timedelta(days=28), starts=NOW - timedelta(days=2))

    assert len(store.take(charged(longer, "d-2", confirmed=True))) == 1
    assert store.read(budgets=(longer,)).budgets[0].left == 3.0
    store.close()


def test_a_request_from_the_future_makes_nothing_old(settings: Settings) -> None:
    store, budget = Store(settings, clock=lambda: NOW), mails(2.0)
    store.reserve(charged(budget, "d-1"))
    store.reserve(charged(budget, "d-2", now=NOW + timedelta(days=10_000)))
    assert (kept(settings, "contacts"), kept(settings, "claims")) == (["d-1", "d-2"], ["d-1", "d-2"])

    store.reserve(reservation("d-3", now=NOW + timedelta(minutes=1)))

    assert kept(settings, "claims") == ["d-1", "d-2", "d-3"]
    assert store.read(budgets=(budget,)).budgets[0].left == 1.0
    store.close()


def test_a_claim_of_a_clock_that_was_set_back_does_not_stay_for_ever(settings: Settings) -> None:
    ahead, store = Store(settings, clock=lambda: NOW + timedelta(days=10_000)), Store(settings)
    ahead.reserve(reservation("d-1"))

    store.reserve(reservation("d-2"))

    assert kept(settings, "claims") == ["d-2"]
    ahead.close()
    store.close()


def test_a_lock_that_is_not_released_in_time_is_a_store_error_and_is_survived(settings: Settings) -> None:
    hot, impatient = Store(settings), Store(settings)
    impatient.hot.close()
    impatient.hot = SqliteHotState(settings)
    other = sqlite3.connect(settings.hot_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreError, match="database is locked"):
        impatient.reserve(reservation())
    with pytest.raises(StoreError, match="database is locked"):
        impatient.tell(type="unsubscribe")
    again = Store(settings)
    assert again.seen() == [], "whoever only reads need not wait, not even to open the file"
    other.execute("ROLLBACK")
    other.close()

    assert len(impatient.take(reservation())) == 1
    for store in (hot, impatient, again):
        store.close()


def test_a_file_that_is_no_database_is_a_store_error(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    settings.hot_path.write_bytes(b"not a database" * 1000)

    with pytest.raises(StoreError, match="file is not a database"):
        SqliteHotState(replace(settings))


def test_while_somebody_else_writes_everyone_who_tells_is_told_to_tell_again(settings: Settings) -> None:
    hot = SqliteHotState(settings, busy_timeout=timedelta(milliseconds=10))
    told = [Happened(f"c-{number}", "purchase", NOW) for number in range(3)]

    async def tell() -> list[Any]:
        return await asyncio.gather(*(hot.note([each]) for each in told), return_exceptions=True)

    with closing(connect(settings.hot_path)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert [type(result) for result in asyncio.run(tell())] == [StoreError] * 3
        other.execute("ROLLBACK")
    assert asyncio.run(tell()) == [None] * 3
    hot.close()
