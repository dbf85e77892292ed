"""The ledger is read back whole, in order, by window, and as columns."""

import asyncio
import json
import sqlite3
from datetime import UTC, datetime, timedelta, timezone

import pytest

from decisioning.errors import StoreError
from decisioning.profile import ConsentChange
from storage.instants import from_microseconds
from storage.ledger import reader
from storage.ledger.consents import append_consents
from storage.ledger.reader import LedgerCounts, LedgerReader
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.storage.kept import NOW, consent, decision, outcome, slot

HOUR = timedelta(hours=1)


def keep(ledger: Ledger, *records: object) -> None:
    async def keep_all() -> None:
        for record in records:
            await ledger.append_decision(record, digest="a")  # type: ignore[arg-type]

    asyncio.run(keep_all())


def tell(ledger: Ledger, *outcomes: object) -> None:
    asyncio.run(ledger.append_outcomes([(told, "a") for told in outcomes]))  # type: ignore[misc]


def test_decisions_come_in_the_order_of_their_times_in_chunks_of_any_size(
    ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    offsets = [3, 1, 1, 2, 0, 1, 3]
    keep(ledger, *(decision(f"d-{n}", decided_at=NOW + hours * HOUR) for n, hours in enumerate(offsets)))

    for size in (1, 2, 3, 100):
        monkeypatch.setattr(reader, "CHUNK", size)
        found = [record.decision_id for record in LedgerReader(settings).decisions("simulated")]
        assert found == ["d-4", "d-1", "d-2", "d-5", "d-3", "d-0", "d-6"]


def test_a_window_includes_its_start_and_excludes_its_end(ledger: Ledger, settings: Settings) -> None:
    keep(ledger, *(decision(f"d-{n}", decided_at=NOW + n * HOUR) for n in range(4)))
    tell(ledger, *(outcome(f"o-{n}", decision_id=f"d-{n}") for n in range(4)), outcome("o-9", decision_id="unknown"))
    within = {"since": NOW + HOUR, "until": NOW + 3 * HOUR}

    read = LedgerReader(settings)

    assert [record.decision_id for record in read.decisions("simulated", **within)] == ["d-1", "d-2"]
    assert list(read.outcomes(**within)) == ["d-1", "d-2"]
    assert list(read.outcomes(since=NOW + 2 * HOUR)) == ["d-2", "d-3"]
    assert list(read.outcomes()) == ["d-0", "d-1", "d-2", "d-3", "unknown"]


def test_an_outcome_that_arrived_before_its_decision_is_the_decisions(ledger: Ledger, settings: Settings) -> None:
    read = LedgerReader(settings)
    tell(ledger, outcome("o-1", decision_id="d-1"))
    assert read.outcomes(since=NOW) == {}
    keep(ledger, decision("d-1"))
    assert list(read.outcomes(since=NOW)) == ["d-1"]


def test_domains_are_kept_apart(ledger: Ledger, settings: Settings) -> None:
    keep(ledger, decision("d-1"), decision("d-2", domain="hillstrom"))
    read = LedgerReader(settings)

    assert [record.decision_id for record in read.decisions("hillstrom")] == ["d-2"]
    assert read.decisions_table("hillstrom").num_rows == 1
    assert read.counts("hillstrom").decisions == 1
    assert read.counts().decisions == 2


def test_outcomes_of_a_decision_come_in_the_order_of_arrival(ledger: Ledger, settings: Settings) -> None:
    late = outcome("o-1", type="purchase", value=0.1 + 0.2, detail=None, occurred_at=NOW + HOUR)
    tell(ledger, late, outcome("o-0", action_id=None))

    assert LedgerReader(settings).outcomes_of("d-1") == [late, outcome("o-0", action_id=None)]
    assert LedgerReader(settings).outcomes_of("d-2") == []


def test_a_time_that_python_cannot_tell_does_not_keep_others_from_being_read(
    ledger: Ledger, settings: Settings
) -> None:
    east = timezone(timedelta(hours=2))
    before_all = outcome("o-1", occurred_at=datetime(1, 1, 1, tzinfo=east))
    after_all = outcome("o-2", occurred_at=datetime(9999, 12, 31, 23, 59, tzinfo=timezone(-timedelta(hours=2))))
    keep(ledger, decision("d-1"))
    tell(ledger, before_all, after_all, outcome("o-3"))

    [first, last, usual] = LedgerReader(settings).outcomes()["d-1"]

    assert first.occurred_at == datetime.min.replace(tzinfo=UTC)
    assert last.occurred_at == datetime.max.replace(tzinfo=UTC)
    assert usual == outcome("o-3")


@pytest.mark.parametrize("instant", [-(2**63), -(2**62), 2**62, 2**63 - 1])
def test_every_integer_of_the_ledger_is_a_time(instant: int) -> None:
    assert from_microseconds(instant).tzinfo is UTC


def test_outcomes_that_join_no_decision_are_reported(ledger: Ledger, settings: Settings) -> None:
    keep(ledger, decision("d-1"))
    tell(ledger, outcome("o-1"), outcome("o-2", decision_id="unknown"))
    append_consents(settings, [consent()])

    counts = LedgerCounts(decisions=1, outcomes=2, unjoined_outcomes=1, consents=1, events=0, preferences=0)
    assert LedgerReader(settings).counts() == counts
    assert LedgerReader(settings).contains("d-1")
    assert not LedgerReader(settings).contains("unknown")


def test_a_new_ledger_is_empty(settings: Settings) -> None:
    read = LedgerReader(settings)

    assert list(read.decisions("simulated")) == []
    assert read.outcomes() == {}
    assert read.decisions_table("simulated").num_rows == 0


def test_decisions_become_columns(ledger: Ledger, settings: Settings) -> None:
    two = (slot("card"), slot("loan", slot=2, probability=0.25))
    keep(ledger, decision("d-1", slots=two), decision("d-2", slots=(), model=None, features_as_of=None))

    table = LedgerReader(settings).decisions_table("simulated")

    first, second = table.to_pylist()
    assert first["decided_at"] == NOW
    assert first["slot_action_ids"] == ["card", "loan"]
    assert first["slot_probabilities"] == [0.5, 0.25]
    assert first["candidate_propensities"] == [0.125]
    assert json.loads(first["features"]) == {"age": 41.0, "segment": "gold", "spend": None}
    assert (second["drawn"], second["model_version"], second["features_as_of"]) == (False, None, None)


def test_consents_are_appended_once_and_read_in_order(settings: Settings) -> None:
    said: list[ConsentChange] = [consent(), consent(granted=False, at=NOW + HOUR), consent("c-2")]

    assert append_consents(settings, said) == 3
    assert append_consents(settings, [*said, consent("c-3")]) == 1
    assert append_consents(settings, []) == 0
    assert list(LedgerReader(settings).consents(settings.domain)) == [*said, consent("c-3")]


def test_a_record_that_is_damaged_is_a_store_error(ledger: Ledger, settings: Settings) -> None:
    keep(ledger, decision("d-1"))
    connection = sqlite3.connect(settings.ledger_path)
    connection.execute("UPDATE decisions SET record = x'7b'")
    connection.commit()

    with pytest.raises(StoreError, match="cannot be read"):
        list(LedgerReader(settings).decisions("simulated"))
    with pytest.raises(StoreError, match="cannot be read"):
        asyncio.run(ledger.get("d-1"))


def test_reports_are_outcomes_of_the_types_asked_for_without_those_of_machines(
    ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CHUNK", 1)
    tell(
        ledger,
        outcome("o-1", type="purchase", value=9.5),
        outcome("o-2", type="open", detail="machine"),
        outcome("o-3", type="open", detail="soft", decision_id="unknown"),
        outcome("o-4", type="click"),
    )
    found = list(LedgerReader(settings).reports(("purchase", "open")))
    at = reader.to_microseconds(NOW)
    assert found == [("o-1", "d-1", "purchase", 9.5, at), ("o-3", "unknown", "open", None, at)]
