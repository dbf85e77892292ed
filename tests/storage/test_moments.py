"""The table of moments: kept with their event or not at all, taken by one, counted for a person."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import event as listener

from decisioning.catalog import Release
from decisioning.errors import StoreError
from decisioning.event_content import AtMost
from decisioning.events import EventRecord
from decisioning.moments import AwaitedMoment, awaited
from storage.ledger.bulk_events import BulkEvents
from storage.ledger.moments import CLAIM, Asking, Decided, KeptMoment, Later, MomentStore, Settled
from storage.ledger.reader import LedgerReader
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.builders import moment, release
from tests.storage.kept import NOW, event
from tests.storage.processes import Say, others

HOUR = timedelta(hours=1)
SHOP: Release = release(moments=(moment(delay=HOUR),), domain="simulated")


@pytest.fixture
def store(settings: Settings) -> Iterator[MomentStore]:
    with closing(MomentStore(settings)) as opened:
        yield opened


def cart(number: int = 1, **overrides: Any) -> EventRecord:
    return event(f"shop/{number}", **({"name": "cart_added", "customer_id": f"c-{number}"} | overrides))


def keep(ledger: Ledger, *events: EventRecord, digest: str = "same") -> list[str]:
    async def append() -> Sequence[str]:
        return await ledger.append_events([(each, digest) for each in events], begun=awaited(events, SHOP))

    return list(asyncio.run(append()))


def every(store: MomentStore) -> list[KeptMoment]:
    return store.newest(state=None, moment=None, limit=1000)


def kept_events(settings: Settings) -> list[str]:
    with closing(LedgerReader(settings)) as reader:
        return [each.event_id for each in reader.events("simulated")]


def decided(kept: KeptMoment, **overrides: Any) -> Decided:
    return Decided(
        **{
            "moment_id": kept.moment_id, "customer_id": kept.customer_id, "channel": "email", "target": None,
            "expires_at": NOW + 9 * HOUR, "record": b"{}", **overrides,
        }
    )  # fmt: skip


def test_a_moment_is_kept_with_its_event(ledger: Ledger, store: MomentStore) -> None:
    assert keep(ledger, cart(), event("shop/2"), cart(3)) == ["accepted"] * 3
    found = {each.customer_id: each for each in every(store)}
    assert set(found) == {"c-1", "c-3"}
    assert (found["c-1"].state, found["c-1"].occurred_at, found["c-1"].due_at) == ("waiting", NOW, NOW + HOUR)


def test_an_event_that_cannot_be_kept_leaves_neither(settings: Settings, ledger: Ledger, store: MomentStore) -> None:
    unfit = cart(2, customer_id=chr(0xD800))
    with pytest.raises(StoreError):
        keep(ledger, cart(), unfit)
    assert (kept_events(settings), every(store)) == ([], [])


def test_a_moment_that_cannot_be_kept_leaves_no_event(settings: Settings, ledger: Ledger, store: MomentStore) -> None:
    told = cart()
    [begun] = awaited([told], SHOP)
    unfit: AwaitedMoment = msgspec.structs.replace(begun, channel=chr(0xD800))

    async def append() -> Any:
        return await ledger.append_events([(told, "same")], begun=[unfit])

    with pytest.raises(StoreError):
        asyncio.run(append())
    assert (kept_events(settings), every(store)) == ([], [])
    with closing(BulkEvents(settings)) as bulk, pytest.raises((StoreError, UnicodeEncodeError)):
        bulk.append([(told, "same")], begun=[unfit])
    assert (kept_events(settings), every(store)) == ([], [])


def test_only_the_event_that_stands_begins_anything(ledger: Ledger, store: MomentStore) -> None:
    keep(ledger, event("shop/1"))
    assert keep(ledger, cart(), cart(2), digest="other") == ["conflict", "accepted"]
    assert keep(ledger, cart(2), digest="other") == ["duplicate"]
    assert [each.customer_id for each in every(store)] == ["c-2"]


def test_events_of_files_begin_moments_too_and_only_once(settings: Settings, store: MomentStore) -> None:
    told = [cart(number) for number in range(450)]
    with closing(BulkEvents(settings)) as bulk:
        for _ in range(2):
            bulk.append([(each, "same") for each in told], begun=awaited(told, SHOP))
        bulk.append([(cart(452, name="page_seen"), "same")])
        changed = [cart(7, name="purchase"), cart(451), cart(452)]
        bulk.append([(each, "new") for each in changed], begun=awaited(changed, SHOP))
    assert len(every(store)) == 451


def test_what_is_claimed_is_nobody_elses_until_the_claim_runs_out(ledger: Ledger, store: MomentStore) -> None:
    keep(ledger, cart())
    due = NOW + HOUR
    assert store.claim_due(now=due - timedelta(microseconds=1), limit=9) == []
    assert len(store.claim_due(now=due, limit=9)) == 1
    assert store.claim_due(now=due + CLAIM - timedelta(microseconds=1), limit=9) == []
    assert len(store.claim_due(now=due + CLAIM, limit=9)) == 1


def test_processes_that_claim_at_once_share_what_there_is(settings: Settings, ledger: Ledger) -> None:
    keep(ledger, *(cart(number) for number in range(200)))

    def claims(say: Say) -> None:
        with closing(MomentStore(settings)) as store:
            while found := store.claim_due(now=NOW + HOUR, limit=7):
                say(" ".join(each.moment_id for each in found))
            say("end")

    with others(claims, claims, claims) as running:
        taken = [
            line.split() for _, lines in running for line in iter(lambda lines=lines: lines.readline().strip(), "end")
        ]
    ids = [moment_id for line in taken for moment_id in line]
    assert len(ids) == len(set(ids)) == 200


def test_what_was_settled_meanwhile_stays_so(ledger: Ledger, store: MomentStore) -> None:
    keep(ledger, cart())
    [kept] = store.claim_due(now=NOW + HOUR, limit=1)
    assert store.keep([decided(kept)], now=NOW) == {kept.moment_id}
    assert store.keep([Settled(kept.moment_id, "delivered")], now=NOW) == {kept.moment_id}
    for late in (
        decided(kept),
        Settled(kept.moment_id, "dead"),
        Settled(kept.moment_id, "ended"),
        Later(kept.moment_id, NOW),
    ):
        assert store.keep([late], now=NOW) == set()
    assert [each.state for each in every(store)] == ["delivered"]


def test_a_person_is_counted_by_all_ids_together_and_others_not(ledger: Ledger, store: MomentStore) -> None:
    keep(ledger, cart(1), cart(2), cart(3), cart(4, customer_id=None, anonymous_id="v-1"))
    by_id = {each.customer_id: each for each in store.claim_due(now=NOW + HOUR, limit=9)}
    once = AtMost(times=1, per=timedelta(days=7))
    person = ("c-1", "c-2", "anonymous:v-1")
    asking = [Asking(by_id["c-1"], person, once), Asking(by_id["c-2"], person, once), Asking(by_id[None], person, once)]
    assert store.let_through(asking, now=NOW) == {by_id["c-1"].moment_id}
    assert store.let_through(asking[:1], now=NOW) == {by_id["c-1"].moment_id}, "not counted against itself"
    assert store.let_through([Asking(by_id["c-3"], ("c-3",), once)], now=NOW) == {by_id["c-3"].moment_id}
    assert store.let_through(asking[1:2], now=NOW + once.per - timedelta(microseconds=1)) == set()
    assert len(store.let_through(asking[1:2], now=NOW + once.per)) == 1


def test_what_is_not_limited_is_not_counted(ledger: Ledger, store: MomentStore) -> None:
    keep(ledger, cart(1), cart(2))
    claimed = store.claim_due(now=NOW + HOUR, limit=9)
    assert len(store.let_through([Asking(each, ("c-1", "c-2"), None) for each in claimed], now=NOW)) == 2


def test_no_other_domain_s_moments_are_found(settings: Settings, ledger: Ledger, store: MomentStore) -> None:
    keep(ledger, cart())
    [kept] = every(store)
    with closing(MomentStore(replace(settings, domain="elsewhere"))) as elsewhere:
        assert elsewhere.claim_due(now=NOW + HOUR, limit=9) == []
        assert elsewhere.claim_begun([kept.moment_id], now=NOW + HOUR) == []
        assert elsewhere.find(kept.moment_id) is None
        assert every(elsewhere) == elsewhere.open() == []
        assert not elsewhere.retry(kept.moment_id, now=NOW)


BY_TIME = "moments_by_time (domain=? AND state=? AND target=? AND next_at<?)"


@pytest.mark.parametrize(
    ("what", "index"),
    [
        ("claim_due", BY_TIME),
        ("claim_deliveries", BY_TIME),
        ("end_expired", "moments_by_end (domain=? AND state=? AND expires_at<?)"),
        ("let_through", "moments_by_customer (domain=? AND customer_id=?)"),
        ("let_through", "moments_by_visitor (domain=? AND anonymous_id=?)"),
    ],
)
def test_what_is_looked_for_often_is_found_by_an_index(
    ledger: Ledger, store: MomentStore, what: str, index: str
) -> None:
    keep(ledger, cart())
    plans: list[str] = []

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            plan = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[-1] for row in plan.fetchall())

    asking = [Asking(each, ("c-1", "anonymous:v-1"), AtMost(times=1, per=HOUR)) for each in every(store)]
    listener.listen(store._engine, "before_cursor_execute", explain)
    calls: dict[str, Any] = {
        "claim_due": lambda: store.claim_due(now=NOW, limit=9),
        "claim_deliveries": lambda: store.claim_deliveries("crm", now=NOW, limit=9),
        "end_expired": lambda: store.end_expired(now=NOW, limit=9),
        "let_through": lambda: store.let_through(asking, now=NOW),
    }
    calls[what]()
    assert any(index in plan for plan in plans), plans
