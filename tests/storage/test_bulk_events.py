import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from decisioning.errors import StoreError
from storage.ledger import bulk_events
from storage.ledger.bulk_events import BulkEvents
from storage.ledger.database import writing
from storage.ledger.reader import LedgerReader
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.storage.kept import event


@pytest.fixture
def bulk(settings: Settings) -> Iterator[BulkEvents]:
    with closing(BulkEvents(settings)) as opened:
        yield opened


def test_what_is_kept_in_bulk_is_what_a_service_would_keep(
    settings: Settings, bulk: BulkEvents, ledger: Ledger
) -> None:
    told = [(event(f"shop/{number}", properties={"value": 1.5}), f"d{number}") for number in range(3)]
    assert [kept.status for kept in bulk.append(told)] == ["accepted"] * 3
    assert asyncio.run(ledger.append_events(told)) == ["duplicate"] * 3
    with closing(LedgerReader(settings)) as reader:
        assert list(reader.events(settings.domain)) == [each for each, _ in told]


def test_the_first_event_with_an_id_stands(settings: Settings, bulk: BulkEvents) -> None:
    first, other = event(name="purchase"), event(name="visit")
    assert [kept.status for kept in bulk.append([(first, "a"), (first, "a"), (other, "b")])] == [
        "accepted", "duplicate", "conflict"
    ]  # fmt: skip
    again = bulk.append([(first, "a"), (other, "b")])
    assert [kept.status for kept in again] == ["duplicate", "conflict"]
    assert all(kept.standing == first for kept in again)
    with closing(LedgerReader(settings)) as reader:
        assert list(reader.events(settings.domain)) == [first]


def test_an_event_of_another_domain_is_not_taken_for_the_same(settings: Settings, bulk: BulkEvents) -> None:
    bulk.append([(event(), "a")])
    with closing(BulkEvents(replace(settings, domain="hillstrom"))) as elsewhere:
        assert [kept.status for kept in elsewhere.append([(event(), "a")])] == ["conflict"]
        assert not elsewhere.contains("shop/1")
    assert bulk.contains("shop/1")


def test_more_than_one_commit_is_kept_in_order(settings: Settings, bulk: BulkEvents) -> None:
    told = [(event(f"shop/{number}"), "d") for number in range(bulk_events.EVENTS_PER_COMMIT + 7)]
    assert len(bulk.append(told)) == len(told)
    with closing(LedgerReader(settings)) as reader:
        assert [each.event_id for each in reader.events(settings.domain)] == [each.event_id for each, _ in told]


def test_a_ledger_that_cannot_be_written_is_an_error_of_ours(settings: Settings, bulk: BulkEvents) -> None:
    with writing(bulk._engine) as connection:
        connection.exec_driver_sql("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(FAIL, 'full'); END")
    with pytest.raises(StoreError, match="the ledger cannot be written: full"):
        bulk.append([(event(), "a")])
    assert not bulk.contains("shop/1")
