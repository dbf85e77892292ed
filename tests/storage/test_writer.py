"""The ledger keeps what it acknowledged, each id once, and many in one commit."""

import asyncio
import itertools
import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from decisioning.errors import DecisionConflict, StoreError
from decisioning.record import AuditRecord, DecisionRecord
from storage.ledger.reader import LedgerReader
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.storage.kept import NOW, consent, decision, outcome, wishes
from tests.storage.kept import event as told_elsewhere
from tests.storage.processes import Say, others


def append(ledger: Ledger, *records: DecisionRecord) -> list[str | BaseException]:
    """All at once; what each call returned or raised."""

    async def all_at_once() -> list[str | BaseException]:
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
    # What the thread had taken before the others came, and all others.
    assert statements.count("COMMIT") <= 2
    assert sum(statement.startswith("INSERT INTO decisions") for statement in statements) <= 6


def test_appending_the_same_decision_again_changes_nothing(ledger: Ledger, settings: Settings) -> None:
    append(ledger, decision())

    assert append(ledger, decision()) == ["duplicate"]
    assert append(ledger, decision(), decision(), decision("d-2")) == ["duplicate", "duplicate", "accepted"]
    assert kept(settings) == ["d-1", "d-2"]


def test_of_the_same_decision_at_once_the_first_is_accepted_and_stands(ledger: Ledger) -> None:
    first, second = decision(reason="RANKED"), decision(reason="HOLDOUT")

    assert append(ledger, first, second, decision("d-2")) == ["accepted", "duplicate", "accepted"]
    assert asyncio.run(ledger.get("d-1")) == (first, "same")


def test_the_outcomes_of_a_decision_are_known_before_it_is(ledger: Ledger) -> None:
    told = [outcome("o-2", type="purchase", value=0.1 + 0.2, action_id=None), outcome("o-1", detail="machine")]
    asyncio.run(ledger.append_outcomes([(record, "a") for record in (*told, outcome("o-3", decision_id="d-2"))]))

    assert asyncio.run(ledger.outcomes_of("d-1")) == told
    assert asyncio.run(ledger.outcomes_of("\ud800")) == []


def test_what_arrived_in_a_mailbox_is_that_customer_s_on_that_channel_the_newest_first(ledger: Ledger) -> None:
    append(
        ledger,
        decision("d-1", channel="email"),
        decision("d-2", channel="email"),
        decision("d-3"),
        decision("d-4", channel="email", customer_id="c-2"),
        decision("d-5", channel="email", domain="hillstrom"),
    )
    later = [
        outcome(f"o-{number}", decision_id=f"d-{number % 5 + 1}", type=kind, occurred_at=NOW + timedelta(hours=hours))
        for number, (kind, hours) in enumerate(zip(["bounce", "sent", "open", "click"] * 5, range(20), strict=True))
    ]
    asyncio.run(ledger.append_outcomes([(record, "a") for record in later]))

    found = asyncio.run(ledger.of_mailbox("c-1", channel="email"))
    wanted = [each for each in reversed(later) if each.decision_id in ("d-1", "d-2") and each.type != "sent"]
    assert found == wanted
    assert asyncio.run(ledger.of_mailbox("\ud800", channel="email")) == []


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

    assert [type(result) for result in results] == [str, StoreError, StoreError, str]
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
    assert succeeded == ["accepted"]
    assert kept(settings) == ["d-3"]


def test_a_full_queue_refuses_at_once(settings: Settings) -> None:
    ledger = Ledger(replace(settings, ledger_queue=3))

    async def scenario() -> list[str | BaseException]:
        with held_by_another(settings):
            calls = [asyncio.ensure_future(ledger.append_decision(decision(f"d-{i}"), digest="same")) for i in range(9)]
            await asyncio.sleep(0.05)
        return await asyncio.gather(*calls, return_exceptions=True)

    results = asyncio.run(scenario())
    ledger.close()

    refused = [result for result in results if result != "accepted"]
    assert 5 <= len(refused) <= 6  # the thread holds one or none beside the three
    assert all("3 writes wait for the ledger already" in str(refusal) for refusal in refused)


def test_a_closed_ledger_says_so_and_has_written_what_waited(settings: Settings) -> None:
    ledger = Ledger(settings)

    async def scenario() -> str | BaseException:
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


def test_a_full_disk_fails_the_batch_and_is_survived(settings: Settings) -> None:
    def fill_the_disk(say: Say) -> None:
        ledger = Ledger(settings)
        big = {"text": "x" * 100_000}
        append(ledger, decision("before"))
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
        results = append(ledger, *(decision(f"during-{number}", features=big) for number in range(20)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        append(ledger, decision("after"))
        ledger.close()
        say(sum(isinstance(result, StoreError) for result in results))

    with others(fill_the_disk) as [(_, lines)]:
        failed = int(lines.read())

    assert failed >= 1
    assert len(kept(settings)) == 2 + 20 - failed
    assert {"before", "after"} <= set(kept(settings))


def test_what_was_acknowledged_survives_the_kill_of_its_writers(settings: Settings) -> None:
    def writer(name: str) -> Callable[[Say], None]:
        def write_for_ever(say: Say) -> None:
            ledger = Ledger(settings)

            async def scenario() -> None:
                for number in itertools.count():
                    await ledger.append_decision(decision(f"{name}-{number}"), digest="a")
                    say(f"{name}-{number}")

            asyncio.run(scenario())

        return write_for_ever

    acknowledged: list[str] = []
    with others(writer("a"), writer("b")) as writers:
        for _ in range(20):
            acknowledged += [lines.readline() for _, lines in writers]
        for process, lines in writers:
            process.kill()
            acknowledged += [line for line in lines if line.endswith("\n")]

    missing = {line.strip() for line in acknowledged} - set(kept(settings))
    assert len(acknowledged) >= 40
    assert not missing


def test_what_a_person_did_is_kept_for_good_as_often_as_it_was_told(ledger: Ledger, settings: Settings) -> None:
    entry = AuditRecord(at=NOW, domain="simulated", actor="ann", what="action.pause", subject="card", reason="recall")
    for each in (entry, entry, msgspec.structs.replace(entry, domain="hillstrom", what="action.resume")):
        asyncio.run(ledger.append_audit(each))

    read = LedgerReader(settings)
    assert list(read.audits("simulated")) == [entry, entry]
    assert [found.domain for found in read.audits(what=("action.resume",))] == ["hillstrom"]


def test_an_event_stands_as_it_was_told_first(settings: Settings) -> None:
    ledger = Ledger(settings)
    first, again = told_elsewhere("shop/1", name="purchase"), told_elsewhere("shop/1", name="other")

    assert asyncio.run(ledger.append_events([(first, "a"), (told_elsewhere("shop/2"), "b")])) == [
        "accepted",
        "accepted",
    ]
    assert asyncio.run(ledger.append_events([(again, "c"), (told_elsewhere("shop/3"), "d")])) == [
        "conflict",
        "accepted",
    ]
    assert asyncio.run(ledger.append_events([(first, "a")])) == ["duplicate"]
    assert asyncio.run(ledger.events_of(["shop/1", "shop/9"])) == [first]
    ledger.close()
    with closing(LedgerReader(settings)) as reader:
        assert [kept.event_id for kept in reader.events("simulated")] == ["shop/1", "shop/2", "shop/3"]
        assert list(reader.events("another")) == list(reader.events("simulated", types=("page",))) == []
        assert [kept.event_id for kept in reader.events("simulated", newest=2)] == ["shop/2", "shop/3"]
        assert list(reader.events("simulated", newest=0)) == []
        assert reader.domains_of_events() == ["simulated"]


def test_the_same_word_of_a_customer_is_kept_once_and_wishes_as_often_as_they_are_told(
    ledger: Ledger, settings: Settings
) -> None:
    given = consent(legal_basis="Art. 6(1)(a)")

    async def together() -> None:
        said = [given, consent(granted=False), given]
        await asyncio.gather(
            ledger.append_consents(said), ledger.append_consents([given]), ledger.append_preferences(wishes())
        )
        await ledger.append_preferences(wishes("c-2"))

    asyncio.run(together())
    read = LedgerReader(settings)
    assert sorted(read.consents("simulated"), key=lambda said: said.granted) == [consent(granted=False), given]
    assert list(read.preferences("simulated")) == [wishes(), wishes("c-2")]
    assert list(read.preferences("simulated", after=1)) == [wishes("c-2")]
    assert (list(read.consents("hillstrom")), list(read.preferences("hillstrom"))) == ([], [])
    assert tuple(read.last_words()) == (2, 2)
    assert read.domains_of_words() == ["simulated"]
