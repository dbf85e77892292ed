"""The ledger keeps what it acknowledged, each id once, and many in one commit."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from decisioning.errors import DecisionConflict, StoreError
from decisioning.record import DecisionRecord
from storage.ledger.reader import LedgerReader
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.storage.kept import decision, outcome

ROOT = Path(__file__).parents[2]


def append(ledger: Ledger, *records: DecisionRecord) -> list[BaseException | None]:
    """All at once; what each call raised."""

    async def all_at_once() -> list[BaseException | None]:
        calls = [ledger.append_decision(record, digest="same") for record in records]
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(all_at_once())


def kept(settings: Settings) -> list[str]:
    return [record.decision_id for record in LedgerReader(settings).decisions("simulated")]


@contextmanager
def held_by_another(settings: Settings) -> Iterator[None]:
    """Somebody else is in the middle of writing."""
    other = sqlite3.connect(settings.ledger_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_decision_comes_back_as_it_went_in(ledger: Ledger) -> None:
    record = decision(features={"age": 0.1 + 0.2, "name": "Zoë", "spend": None, "big": 2**60})
    append(ledger, record)

    assert asyncio.run(ledger.get("d-1")) == (record, "same")
    assert asyncio.run(ledger.get("d-2")) is None


def test_an_id_that_is_not_text_was_never_kept(ledger: Ledger) -> None:
    assert asyncio.run(ledger.get("\ud800")) is None


def test_decisions_that_wait_together_share_one_commit(settings: Settings) -> None:
    statements: list[str] = []

    def trace(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_trace_callback(statements.append)

    ledger = Ledger(settings)

    async def scenario() -> None:
        with held_by_another(settings):
            waiting = [
                asyncio.ensure_future(ledger.append_decision(decision(f"d-{i}"), digest="same")) for i in range(200)
            ]
            await asyncio.sleep(0.05)
            assert not any(call.done() for call in waiting)
        await asyncio.gather(*waiting)

    event.listen(Pool, "connect", trace)
    try:
        asyncio.run(scenario())
    finally:
        event.remove(Pool, "connect", trace)
    ledger.close()

    assert len(kept(settings)) == 200
    # One commit by itself where the thread took the first alone, and one for all others.
    assert statements.count("COMMIT") == 1
    assert sum(statement.startswith("INSERT INTO decisions") for statement in statements) <= 5


def test_appending_the_same_decision_again_changes_nothing(ledger: Ledger, settings: Settings) -> None:
    append(ledger, decision())

    assert append(ledger, decision(), decision(), decision("d-2")) == [None, None, None]
    assert kept(settings) == ["d-1", "d-2"]


def test_an_id_that_stands_for_another_request_is_a_conflict(ledger: Ledger) -> None:
    append(ledger, decision(reason="RANKED"))

    with pytest.raises(DecisionConflict, match="d-1"):
        asyncio.run(ledger.append_decision(decision(reason="HOLDOUT"), digest="other"))

    found = asyncio.run(ledger.get("d-1"))
    assert found is not None
    assert found[0].reason == "RANKED"


def test_an_outcome_counts_once_whether_repeated_in_one_call_or_in_another(ledger: Ledger) -> None:
    first = [(outcome("o-1"), "a"), (outcome("o-1"), "a"), (outcome("o-1"), "b"), (outcome("o-2"), "a")]

    assert asyncio.run(ledger.append_outcomes(first)) == ["accepted", "duplicate", "conflict", "accepted"]
    assert asyncio.run(ledger.append_outcomes(first)) == ["duplicate", "duplicate", "conflict", "duplicate"]
    assert asyncio.run(ledger.append_outcomes([])) == []


def test_outcomes_are_deduplicated_across_ledgers_on_one_file(ledger: Ledger, settings: Settings) -> None:
    second = Ledger(settings)
    asyncio.run(ledger.append_outcomes([(outcome("o-1"), "a")]))

    assert asyncio.run(second.append_outcomes([(outcome("o-1"), "a"), (outcome("o-1"), "b")])) == [
        "duplicate",
        "conflict",
    ]
    second.close()


def test_a_bulk_of_outcomes_larger_than_a_statement_is_kept_whole(ledger: Ledger, settings: Settings) -> None:
    many = [(outcome(f"o-{i}"), "a") for i in range(1_000)]

    assert set(asyncio.run(ledger.append_outcomes(many))) == {"accepted"}
    assert LedgerReader(settings).counts().outcomes == 1_000


def test_a_record_that_cannot_be_kept_does_not_take_its_neighbours_with_it(ledger: Ledger, settings: Settings) -> None:
    unwritable = decision("bad", domain=None)
    unencodable = decision("worse", features={"age": object()})

    results = append(ledger, decision("d-1"), unwritable, unencodable, decision("d-2"))

    assert [type(result) for result in results] == [type(None), StoreError, StoreError, type(None)]
    assert kept(settings) == ["d-1", "d-2"]


def test_a_call_with_one_bad_outcome_keeps_none_of_its_outcomes(ledger: Ledger, settings: Settings) -> None:
    with pytest.raises(StoreError):
        asyncio.run(ledger.append_outcomes([(outcome("o-1"), "a"), (outcome("o-2", type=None), "a")]))

    assert LedgerReader(settings).counts().outcomes == 0


def test_a_locked_database_fails_everyone_who_waits_and_is_survived(settings: Settings) -> None:
    ledger = Ledger(settings, busy_timeout=timedelta(milliseconds=50))
    with held_by_another(settings):
        failed = append(ledger, decision("d-1"), decision("d-2"))
    succeeded = append(ledger, decision("d-3"))
    ledger.close()

    assert [str(failure) for failure in failed] == ["the ledger cannot be written: database is locked"] * 2
    assert succeeded == [None]
    assert kept(settings) == ["d-3"]


def test_a_full_queue_refuses_at_once(settings: Settings) -> None:
    ledger = Ledger(replace(settings, ledger_queue=3))

    async def scenario() -> list[BaseException | None]:
        with held_by_another(settings):
            calls = [asyncio.ensure_future(ledger.append_decision(decision(f"d-{i}"), digest="same")) for i in range(9)]
            await asyncio.sleep(0.05)
        return await asyncio.gather(*calls, return_exceptions=True)

    results = asyncio.run(scenario())
    ledger.close()

    refused = [result for result in results if result is not None]
    assert 5 <= len(refused) <= 6  # the thread holds one or none beside the three
    assert all("3 writes wait for the ledger already" in str(refusal) for refusal in refused)


def test_a_closed_ledger_says_so_and_has_written_what_waited(settings: Settings) -> None:
    ledger = Ledger(settings)

    async def scenario() -> BaseException | None:
        waiting = asyncio.ensure_future(ledger.append_decision(decision(), digest="same"))
        await asyncio.sleep(0)
        ledger.close()
        ledger.close()
        await waiting
        [late] = await asyncio.gather(ledger.append_decision(decision("d-2"), digest="same"), return_exceptions=True)
        return late

    late = asyncio.run(scenario())

    assert isinstance(late, StoreError)
    assert kept(settings) == ["d-1"]
    with pytest.raises(StoreError):
        asyncio.run(ledger.get("d-1"))


def test_a_caller_that_gave_up_does_not_disturb_the_others(ledger: Ledger, settings: Settings) -> None:
    async def scenario() -> None:
        calls = [asyncio.ensure_future(ledger.append_decision(decision(f"d-{i}"), digest="same")) for i in range(3)]
        await asyncio.sleep(0)
        calls[1].cancel()
        await asyncio.gather(calls[0], calls[2])

    asyncio.run(scenario())

    assert {"d-0", "d-2"} <= set(kept(settings))


FULL_DISK = """
import asyncio, pathlib, resource, sys
from decisioning.errors import StoreError
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.storage.kept import decision

ledger = Ledger(Settings(home=pathlib.Path(sys.argv[1])))
big = {"text": "x" * 100_000}
async def scenario():
    await ledger.append_decision(decision("before"), digest="a")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    calls = [ledger.append_decision(decision(f"during-{i}", features=big), digest="a") for i in range(20)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    print(sum(isinstance(result, StoreError) for result in results))
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await ledger.append_decision(decision("after"), digest="a")
asyncio.run(scenario())
ledger.close()
"""


def test_a_full_disk_fails_the_batch_and_is_survived(settings: Settings) -> None:
    done = run(FULL_DISK, settings)

    failed = int(done.stdout)
    assert failed >= 1
    assert len(kept(settings)) == 2 + 20 - failed
    assert {"before", "after"} <= set(kept(settings))


ENDLESS_WRITER = """
import asyncio, itertools, pathlib, sys
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.storage.kept import decision

ledger = Ledger(Settings(home=pathlib.Path(sys.argv[1])))
async def scenario():
    for number in itertools.count():
        await ledger.append_decision(decision(f"{sys.argv[2]}-{number}"), digest="a")
        print(f"{sys.argv[2]}-{number}", flush=True)
asyncio.run(scenario())
"""


def test_what_was_acknowledged_survives_the_kill_of_its_writers(settings: Settings) -> None:
    acknowledged: list[str] = []
    with start(ENDLESS_WRITER, settings, "a") as one, start(ENDLESS_WRITER, settings, "b") as other:
        for _ in range(20):
            acknowledged += [one.stdout.readline(), other.stdout.readline()]
        for writer in (one, other):
            writer.send_signal(signal.SIGKILL)
            acknowledged += [line for line in writer.stdout if line.endswith("\n")]

    missing = {line.strip() for line in acknowledged} - set(kept(settings))
    assert len(acknowledged) >= 40
    assert not missing


def start(program: str, settings: Settings, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", program, str(settings.home), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(program: str, settings: Settings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    process = start(program, settings, *arguments)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    return subprocess.CompletedProcess(process.args, 0, stdout, stderr)
