"""Erasure and retention in the ledger: what goes, what stays, and what happens in between."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select

from decisioning.preferences import PreferencesChange
from decisioning.record import AuditRecord
from storage.hot_state.history import kept_contacts, kept_pauses
from storage.hot_state.rebuild import rebuild
from storage.id_digests import id_digests
from storage.instants import to_microseconds
from storage.ledger.database import open_ledger, writing
from storage.ledger.reader import LedgerReader
from storage.ledger.tables import decisions, erased, events, metadata, moments, outcomes
from storage.ledger.writer import Ledger
from storage.privacy.erasure import GRACE, advance, is_due
from storage.privacy.requests import PrivacyRequest, ask_for_erasure, readmit, request_of
from storage.privacy.retention import purge
from storage.privacy.tombstones import Tombstones
from storage.settings import Settings
from tests.storage.hot_stores import Store, charged, mails
from tests.storage.kept import NOW, consent, decision, event, outcome, slot, wishes


@pytest.fixture
def engine(settings: Settings, ledger: Ledger) -> Iterator[Engine]:
    opened = open_ledger(settings)
    yield opened
    opened.dispose()


def keep(ledger: Ledger, *records: Any) -> None:
    async def append() -> None:
        for record in records:
            kind = type(record).__name__
            if kind == "DecisionRecord":
                await ledger.append_decision(record, digest="a")
            elif kind == "OutcomeRecord":
                await ledger.append_outcomes([(record, "a")])
            elif kind == "EventRecord":
                await ledger.append_events([(record, "a")])
            elif kind == "ConsentChange":
                await ledger.append_consents([record])
            elif isinstance(record, PreferencesChange):
                await ledger.append_preferences(record)
            else:
                await ledger.append_audit(record)

    asyncio.run(append())


def ask(settings: Settings, engine: Engine, *units: str) -> PrivacyRequest:
    return ask_for_erasure(engine, settings.domain, units, id_digests(settings), actor="admin", now=NOW)


def erase(settings: Settings, engine: Engine, *units: str) -> PrivacyRequest:
    request = advance(settings, engine, ask(settings, engine, *units), now=NOW)
    return advance(settings, engine, request, now=NOW + GRACE)


def rows(engine: Engine, table: Any) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_erasing_twice_or_two_at_once_changes_nothing_more(settings: Settings, ledger: Ledger, engine: Engine) -> None:
    keep(ledger, decision("d-1"), outcome(), consent(), wishes(), event())
    first, second = ask(settings, engine, "c-1"), ask(settings, engine, "c-1")
    first, second = (advance(settings, engine, each, now=NOW) for each in (first, second))
    first, second = (advance(settings, engine, each, now=NOW + GRACE) for each in (first, second))
    assert (first.state, second.state) == ("done", "done")
    assert first.progress.counts == {"decisions": 1, "outcomes": 1, "consents": 1, "preferences": 1, "events": 1}
    assert second.progress.counts == {}


def test_a_decision_that_was_under_way_is_found_by_the_second_sweep(
    settings: Settings, ledger: Ledger, engine: Engine
) -> None:
    keep(ledger, decision("d-1"))
    request = advance(settings, engine, ask(settings, engine, "c-1"), now=NOW)
    assert not is_due(request, now=NOW + GRACE / 2)
    keep(ledger, decision("d-2"), outcome("o-late", decision_id="d-1", received_at=NOW + timedelta(seconds=1)))
    assert is_due(request, now=NOW + GRACE)
    assert advance(settings, engine, request, now=NOW + GRACE).state == "done"
    assert (rows(engine, decisions), rows(engine, outcomes)) == (0, 0)


@pytest.mark.parametrize("step", ["features", "hot state", "decisions", "events", "consents", "files"])
def test_an_erasure_that_died_goes_on(settings: Settings, ledger: Ledger, engine: Engine, step: str) -> None:
    keep(ledger, decision("d-1"), outcome(), consent(), event())
    request = ask(settings, engine, "c-1")

    def die(reached: str) -> None:
        if reached == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        advance(settings, engine, request, now=NOW, reached=die)
    found = request_of(engine, settings.domain, request.request_id)
    assert found is not None
    assert (found.state, found.units, found.progress.swept_at) == ("pending", ("c-1",), None)
    advance(settings, engine, advance(settings, engine, found, now=NOW), now=NOW + GRACE)
    assert [rows(engine, table) for table in (decisions, outcomes, events)] == [0, 0, 0]


def test_others_keep_their_events_from_a_shared_device_without_its_id(
    settings: Settings, ledger: Ledger, engine: Engine
) -> None:
    keep(
        ledger,
        event("shop/1", customer_id="bob", anonymous_id="tablet"),
        event("shop/2", type="alias", name="alias", customer_id="bob", previous_id="c-1"),
        event("shop/3", customer_id="bob", properties={"text": "c-1"}),
        event("shop/4", customer_id=None, anonymous_id="tablet"),
    )
    erase(settings, engine, "c-1", "anonymous:tablet")
    reader = LedgerReader(settings)
    left = {each.event_id: each for each in reader.events("simulated")}
    reader.close()
    assert set(left) == {"shop/1", "shop/3"}
    assert (left["shop/1"].customer_id, left["shop/1"].anonymous_id) == ("bob", None)


def test_a_decision_that_was_asked_for_an_erased_id_goes_whoever_the_person_was_then(
    settings: Settings, ledger: Ledger, engine: Engine
) -> None:
    asked = decision("d-1").request
    keep(ledger, decision("d-1", customer_id="ann", request=replace_id(asked, "c-1")), decision("d-2"))
    erase(settings, engine, "c-1")
    assert rows(engine, decisions) == 0


def replace_id(request: Any, customer_id: str) -> Any:
    import msgspec

    return msgspec.structs.replace(request, customer_id=customer_id)


def test_who_unsubscribed_is_no_longer_in_the_audit_and_that_somebody_did_is(
    settings: Settings, ledger: Ledger, engine: Engine
) -> None:
    said = AuditRecord(
        at=NOW, domain="simulated", actor="x", what="customer.unsubscribe", subject="c-1", reason="email"
    )
    keep(ledger, said)
    erase(settings, engine, "c-1")
    reader = LedgerReader(settings)
    entries = list(reader.audits("simulated"))
    reader.close()
    assert [(entry.what, entry.subject) for entry in entries][:1] == [("customer.unsubscribe", "(erased)")]
    assert entries[1].what == "privacy.erase"
    assert "c-1" not in repr(entries)


def test_another_domain_of_the_same_ledger_keeps_its_own(settings: Settings, ledger: Ledger, engine: Engine) -> None:
    keep(ledger, decision("d-1", domain="hillstrom"), decision("d-2"))
    erase(settings, engine, "c-1")
    assert rows(engine, decisions) == 1


@pytest.mark.parametrize("how", ["erased", "purged"])
def test_money_that_was_spent_stays_spent_after_a_rebuild(
    settings: Settings, ledger: Ledger, engine: Engine, how: str
) -> None:
    budget = mails(2.0, period=timedelta(days=90))
    paid = slot("loan", budget="mails", cost=1.0)
    keep(
        ledger,
        decision("d-1", slots=(paid,)),
        outcome("o-1", action_id="loan", type="sent"),
        decision("d-2", slots=(paid,)),
    )
    if how == "erased":
        erase(settings, engine, "c-1")
    else:
        later = NOW + timedelta(days=31)
        purge(replace(settings, retention_days_decisions=30), engine, now=later)
    assert rows(engine, decisions) == 0
    reader = LedgerReader(settings)
    [left] = kept_contacts(reader, now=NOW)
    reader.close()
    assert (left.contact.budget, left.contact.cost, left.confirmed) == ("mails", 1.0, True)
    rebuild(settings, now=NOW + timedelta(minutes=1))
    store = Store(settings)
    assert len(store.take(charged(budget, "d-4", now=NOW + timedelta(hours=1)))) == 1
    assert store.take(charged(budget, "d-5", now=NOW + timedelta(hours=1))) == ()
    store.close()


def test_the_ledger_says_which_ids_are_erased_until_one_is_readmitted(
    settings: Settings, ledger: Ledger, engine: Engine
) -> None:
    tombstones = Tombstones(settings)
    assert tombstones.erased(["c-1", "c-2"]) == set()
    ask(settings, engine, "c-1")
    assert tombstones.erased(["c-1", "c-2"]) == {"c-1"}
    assert asyncio.run(ledger.erased(["c-1", "c-2"])) == {"c-1"}
    digests = id_digests(settings)
    assert readmit(engine, settings.domain, "c-1", digests, actor="admin", now=NOW)
    assert not readmit(engine, settings.domain, "c-1", digests, actor="admin", now=NOW)
    assert asyncio.run(ledger.erased(["c-1"])) == frozenset()
    tombstones.close()


def test_nothing_has_an_end_unless_a_setting_says_so(settings: Settings, ledger: Ledger, engine: Engine) -> None:
    keep(ledger, decision("d-1"), outcome(), event(), consent())
    assert all(each.rows == 0 and each.days is None for each in purge(settings, engine, now=NOW + timedelta(days=9999)))


def test_what_is_older_than_it_may_be_goes_and_what_must_stay_stays(
    settings: Settings, ledger: Ledger, engine: Engine
) -> None:
    def entry(what: str) -> AuditRecord:
        return AuditRecord(at=NOW, domain="simulated", actor="x", what=what, subject="s", reason="")

    young = NOW + timedelta(days=20)
    keep(
        ledger,
        decision("d-old"), outcome("o-old", decision_id="d-old"), outcome("o-alone", decision_id="nowhere"),
        decision("d-new", decided_at=young), outcome("o-new", decision_id="d-new", received_at=young),
        event("shop/old"), event("shop/link", type="identify", name="identify", anonymous_id="v"),
        event("shop/new", received_at=young), consent(), wishes(), entry("key.create"), entry("action.pause"),
    )  # fmt: skip
    at = to_microseconds(NOW)
    row = {
        "domain": "simulated", "moment": "cart", "event_id": "shop/old", "channel": "email", "occurred_at": at,
        "due_at": at, "next_at": at, "attempts": 0, "decision_id": "d-moment", "record": b"{}",
    }  # fmt: skip
    with writing(engine) as connection:
        connection.execute(insert(moments), [{**row, "moment_id": "m-1", "state": "delivered", "settled_at": at}])
        connection.execute(insert(moments), [{**row, "moment_id": "m-2", "state": "waiting"}])
    erase(settings, engine, "somebody")
    names = ("decisions", "events", "moments", "audit", "requests", "tombstones")
    short = replace(settings, **{f"retention_days_{name}": 30 for name in names})
    now = NOW + timedelta(days=31)
    counted = purge(short, engine, now=now, dry_run=True)
    assert rows(engine, decisions) == 2, "so far it is only counted"
    done = purge(short, engine, now=now)
    assert {each.table: each.rows for each in done} == {
        "decisions": 1, "outcomes": 1, "events": 1, "moments": 1, "audit": 2, "privacy_requests": 1, "erased": 1,
    }  # fmt: skip
    assert [each.rows for each in counted] == [1, 2 - 1, 1, 1, 2, 1, 1]
    assert all(each.rows == 0 for each in purge(short, engine, now=now)), "again there is nothing"
    reader = LedgerReader(settings)
    assert sorted(each.event_id for each in reader.events("simulated")) == ["shop/link", "shop/new"]
    assert list(reader.outcomes()) == ["d-new"]
    assert len(list(reader.consents("simulated"))) == len(list(reader.preferences("simulated"))) == 1
    assert kept_pauses(reader) == [("simulated", "s")], "a pause that holds is not forgotten"
    reader.close()


def test_moments_that_wait_for_a_person_are_erased_with_them(
    settings: Settings, ledger: Ledger, engine: Engine
) -> None:
    at = to_microseconds(NOW)
    row = {
        "domain": "simulated", "moment": "cart", "event_id": "shop/1", "channel": "email", "occurred_at": at,
        "due_at": at, "next_at": at, "attempts": 0, "decision_id": "d-1", "record": b"{}", "state": "waiting",
    }  # fmt: skip
    theirs = ({"customer_id": "c-1"}, {"anonymous_id": "v-1"}, {"customer_id": "c-2"}, {"anonymous_id": "c-1"})
    with writing(engine) as connection:
        for number, whose in enumerate(theirs):
            connection.execute(insert(moments), [{**row, **whose, "moment_id": f"m-{number}"}])
    erase(settings, engine, "c-1", "anonymous:v-1")
    with engine.connect() as connection:
        assert list(connection.execute(select(moments.c.moment_id)).scalars()) == ["m-2", "m-3"]


def test_deleted_rows_leave_no_bytes_behind(settings: Settings, ledger: Ledger, engine: Engine) -> None:
    """Rows of many people, so that pages were split and filled again before."""
    for start in range(0, 600, 50):
        people = [f"person-{(number * 7919) % 600:04d}" for number in range(start, start + 50)]
        keep(
            ledger,
            *(decision(f"d-{one}", customer_id=one, request=replace_id(decision().request, one)) for one in people),
        )
        keep(ledger, *(event(f"shop/{one}", customer_id=one) for one in people), *(consent(one) for one in people))
    assert (
        b"person-0123"
        in settings.ledger_path.read_bytes() + settings.ledger_path.with_name("ledger.db-wal").read_bytes()
    )
    for number in range(100, 130):
        erase(settings, engine, f"person-{number:04d}")
    content = settings.ledger_path.read_bytes() + settings.ledger_path.with_name("ledger.db-wal").read_bytes()
    assert [number for number in range(100, 130) if f"person-{number:04d}".encode() in content] == []
    assert b"person-0200" in content
    assert rows(engine, erased) == 60, "of the persons and of their decisions"
    assert {table.name for table in metadata.sorted_tables} >= {"erased_charges"}
