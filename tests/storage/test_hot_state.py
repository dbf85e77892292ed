"""Hot state takes places atomically, lets outcomes confirm or release them, and keeps the last word on consent."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from decisioning.catalog import NO_ACTION, ContactPolicy
from decisioning.errors import StoreError
from decisioning.profile import Consent, Contact, HotProfile
from decisioning.reservation import AlreadyClaimed, ReservationRequest
from decisioning.slots import FilledSlot
from storage.hot_state.sqlite import SqliteHotState
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.storage.kept import NOW, consent, decision, outcome
from tests.storage.processes import Say, others

LATER = timedelta(seconds=6)
PATIENT = timedelta(seconds=5)


@pytest.fixture
def hot(settings: Settings) -> Iterator[SqliteHotState]:
    opened = SqliteHotState(settings, busy_timeout=PATIENT)
    yield opened
    opened.close()


def reservation(decision_id: str = "d-1", **overrides: Any) -> ReservationRequest:
    now = overrides.get("now", NOW)
    defaults: dict[str, Any] = {
        "decision_id": decision_id,
        "digest": "a",
        "customer_id": "c-1",
        "now": now,
        "expires_at": now + timedelta(minutes=30),
        "candidates": (Contact("card", "cards", "web", now), Contact("loan", "loans", "web", now)),
        "order": (1, 0),
        "slots": 1,
        "policies": (),
        "channel": "web",
        "purpose": None,
        "confirmed": False,
    }
    return ReservationRequest(**{**defaults, **overrides})


def reserve(hot: SqliteHotState, *requests: ReservationRequest) -> Any:
    results = [asyncio.run(hot.reserve(request)) for request in requests]
    return results[0] if len(results) == 1 else results


def seen(hot: SqliteHotState, *, after: timedelta = timedelta(minutes=1), customer_id: str = "c-1") -> list[str]:
    profile = asyncio.run(hot.read(customer_id, now=NOW + after))
    return [contact.action_id for contact in profile.contacts]


def apply(hot: SqliteHotState, **overrides: Any) -> None:
    asyncio.run(hot.apply("c-1", outcome(**{"action_id": "loan", **overrides}), "email"))


def consents(hot: SqliteHotState) -> tuple[Consent, ...]:
    return asyncio.run(hot.read("c-1", now=NOW)).consents


def suppressed(hot: SqliteHotState) -> tuple[str, ...]:
    return asyncio.run(hot.read("c-1", now=NOW)).suppressed


def test_a_customer_that_was_never_met_has_nothing(hot: SqliteHotState) -> None:
    profile = asyncio.run(hot.read("nobody", now=NOW))

    assert (profile.contacts, profile.consents) == ((), ())


def test_the_first_of_the_drawn_order_is_taken_and_counts_until_it_expires(hot: SqliteHotState) -> None:
    assert reserve(hot, reservation()) == (FilledSlot(chosen=1, available=(0, 1)),)

    profile = asyncio.run(hot.read("c-1", now=NOW + timedelta(minutes=29)))
    assert profile.contacts == (Contact("loan", "loans", "web", NOW),)
    assert seen(hot, after=timedelta(minutes=30)) == []


def test_what_the_decision_itself_confirms_does_not_expire_but_ages(hot: SqliteHotState) -> None:
    reserve(hot, reservation(confirmed=True))

    assert seen(hot, after=timedelta(days=29, hours=23)) == ["loan"]
    assert seen(hot, after=timedelta(days=30)) == []


def test_consent_that_was_withdrawn_after_it_was_read_is_obeyed(hot: SqliteHotState) -> None:
    asks = {"channel": "email", "purpose": "marketing"}
    assert reserve(hot, reservation("d-1", **asks)) == ()

    hot.set_consents([consent(at=NOW - timedelta(days=1))])
    assert reserve(hot, reservation("d-2", **asks)) == (FilledSlot(1, (0, 1)),)

    hot.set_consents([consent(granted=False)])
    assert reserve(hot, reservation("d-3", **asks)) == ()


def test_a_cap_that_is_reached_leaves_the_next_in_the_order(hot: SqliteHotState) -> None:
    once = ContactPolicy("once", limit=1, within=timedelta(days=1), per="group")

    first, second, third = reserve(hot, *(reservation(f"d-{i}", policies=(once,)) for i in range(3)))

    assert first == (FilledSlot(1, (0, 1)),)
    assert second == (FilledSlot(0, (0,)),)
    assert third == ()


def test_showing_nothing_is_no_contact(hot: SqliteHotState) -> None:
    reserve(hot, reservation(candidates=(Contact(NO_ACTION, "none", "web", NOW),), order=(0,)))

    assert seen(hot) == []


def test_an_id_is_claimed_once(hot: SqliteHotState) -> None:
    reserve(hot, reservation())

    again = reservation(now=NOW + timedelta(seconds=4))
    other = reservation(now=NOW + timedelta(days=2), digest="b")
    assert reserve(hot, again) == AlreadyClaimed("a", NOW)
    assert reserve(hot, other) == AlreadyClaimed("a", NOW)
    assert seen(hot) == ["loan"]


def test_a_claim_whose_caller_died_is_taken_over_with_its_places(hot: SqliteHotState) -> None:
    reserve(hot, reservation(slots=2))

    assert reserve(hot, reservation(now=NOW + LATER, order=(0, 1))) == (FilledSlot(0, (0, 1)),)
    assert seen(hot) == ["card"]


def test_a_claim_that_left_a_record_is_not_taken_over(hot: SqliteHotState, ledger: Ledger) -> None:
    reserve(hot, reservation())
    asyncio.run(ledger.append_decision(decision(), digest="a"))

    assert reserve(hot, reservation(now=NOW + LATER)) == AlreadyClaimed("a", NOW)


@pytest.mark.parametrize("kind", ["impression", "sent", "delivered", "click", "accept", "reject", "purchase"])
def test_proof_of_being_seen_makes_a_contact_stay(kind: str, hot: SqliteHotState) -> None:
    reserve(hot, reservation())
    apply(hot, type=kind)

    assert seen(hot, after=timedelta(days=1)) == ["loan"]


@pytest.mark.parametrize("given", [{"type": "open"}, {"type": "custom"}, {"type": "click", "detail": "machine"}])
def test_what_proves_nothing_changes_nothing(given: dict[str, str], hot: SqliteHotState) -> None:
    reserve(hot, reservation())
    apply(hot, **given)

    assert seen(hot) == ["loan"]
    assert seen(hot, after=timedelta(days=1)) == []


@pytest.mark.parametrize("order", [["sent", "bounce"], ["bounce", "sent"], ["bounce", "sent", "bounce", "sent"]])
def test_what_came_back_is_released_in_whatever_order_it_is_told(order: list[str], hot: SqliteHotState) -> None:
    reserve(hot, reservation())
    for kind in order:
        apply(hot, type=kind, detail="soft" if kind == "bounce" else None)

    assert seen(hot) == []


def test_a_late_impression_still_counts(hot: SqliteHotState) -> None:
    reserve(hot, reservation())
    apply(hot, type="impression", occurred_at=NOW + timedelta(days=1))

    assert seen(hot, after=timedelta(days=2)) == ["loan"]


def test_an_outcome_is_about_one_action_or_about_all_that_were_shown(hot: SqliteHotState) -> None:
    reserve(hot, reservation("d-1", slots=2), reservation("d-2", slots=2))
    apply(hot, type="impression", action_id="card")
    apply(hot, type="impression", action_id=None, decision_id="d-2")
    apply(hot, type="impression", decision_id="unknown")

    assert sorted(seen(hot, after=timedelta(days=1))) == ["card", "card", "loan"]


@pytest.mark.parametrize(
    "given", [{"type": "unsubscribe"}, {"type": "complaint"}, {"type": "bounce", "detail": "hard"}]
)
def test_whoever_does_not_want_mail_has_withdrawn_marketing_on_that_channel(
    given: dict[str, str], hot: SqliteHotState
) -> None:
    before = NOW - timedelta(days=1)
    others = [consent(channel="web", at=before), consent(purpose="personalisation", at=before)]
    hot.set_consents([consent(at=before), *others])

    apply(hot, **given)

    assert consents(hot) == (Consent("marketing", "web"), Consent("personalisation", "email"))


def test_a_soft_bounce_withdraws_nothing(hot: SqliteHotState) -> None:
    hot.set_consents([consent(at=NOW - timedelta(days=1))])
    apply(hot, type="bounce", detail="soft")

    assert consents(hot) == (Consent("marketing", "email"),)
    assert suppressed(hot) == ()


@pytest.mark.parametrize(
    "given", [{"type": "unsubscribe"}, {"type": "complaint"}, {"type": "bounce", "detail": "hard"}]
)
def test_a_channel_that_asks_for_no_consent_is_suppressed_all_the_same(
    given: dict[str, str], hot: SqliteHotState
) -> None:
    apply(hot, **given, action_id=None, decision_id="unknown")

    assert suppressed(hot) == ("email",)
    assert reserve(hot, reservation("d-1", channel="email")) == ()
    assert reserve(hot, reservation("d-2", channel="web")) == (FilledSlot(1, (0, 1)),)


@pytest.mark.parametrize(
    ("hours", "expected"),
    [((1, 2), ()), ((2, 1), ("email",)), ((1, 1), ("email",)), ((1, 2, 3), ()), ((1, 2, 3, 4), ("email",))],
)
def test_only_a_later_consent_opens_the_channel_again_in_whatever_order_things_are_told(
    hours: tuple[int, ...], expected: tuple[str, ...], settings: Settings
) -> None:
    """Told: an unsubscribe, a consent, its withdrawal, another unsubscribe, at these hours."""

    def tell(hot: SqliteHotState, index: int) -> None:
        at = NOW + timedelta(hours=hours[index])
        if index in (0, 3):
            apply(hot, type="unsubscribe", occurred_at=at)
        else:
            hot.set_consents([consent(at=at, granted=index == 1)])

    for number, order in enumerate(permutations(range(len(hours)))):
        hot = SqliteHotState(replace(settings, home=settings.home / str(number)))
        for index in (*order, *order):
            tell(hot, index)
        assert suppressed(hot) == expected
        hot.close()


def test_only_marketing_consent_opens_a_suppressed_channel(hot: SqliteHotState) -> None:
    apply(hot, type="unsubscribe")
    later = NOW + timedelta(days=1)
    hot.set_consents([consent(at=later, purpose="personalisation"), consent(at=later, channel="web")])

    assert suppressed(hot) == ("email",)


def test_domains_share_a_home_but_not_their_customers(hot: SqliteHotState, settings: Settings) -> None:
    hot.set_consents([consent()])
    reserve(hot, reservation(confirmed=True))
    apply(hot, type="unsubscribe", occurred_at=NOW - timedelta(days=1))
    other = SqliteHotState(replace(settings, domain="hillstrom"))

    assert asyncio.run(other.read("c-1", now=NOW)) == HotProfile()
    asyncio.run(other.apply("c-1", outcome(action_id="loan", type="bounce", detail="hard"), "email"))

    assert (seen(hot), consents(hot)) == (["loan"], (Consent("marketing", "email"),))
    other.close()


def test_the_last_word_on_consent_counts_whenever_it_arrives(hot: SqliteHotState) -> None:
    yes, no = consent(at=NOW), consent(at=NOW + timedelta(days=1), granted=False)

    hot.set_consents([no])
    hot.set_consents([yes])
    assert consents(hot) == ()

    hot.set_consents([consent(at=NOW + timedelta(days=2))])
    assert consents(hot) == (Consent("marketing", "email"),)


def test_of_two_words_at_one_instant_the_withdrawal_counts(hot: SqliteHotState) -> None:
    for changes in ([True, False], [False, True]):
        hot.set_consents([consent(granted=granted) for granted in changes])

        assert consents(hot) == ()


def test_many_consents_are_changed_in_parts_and_again_after_a_failure(hot: SqliteHotState) -> None:
    many = [consent(f"c-{number}") for number in range(1_200)]
    with pytest.raises(StoreError):
        hot.set_consents([*many, consent(purpose=None)])

    hot.set_consents(many)

    last = asyncio.run(hot.read("c-1199", now=NOW))
    assert last.consents == consents(hot) == (Consent("marketing", "email"),)


def kept(settings: Settings, table: str) -> list[str]:
    with closing(sqlite3.connect(settings.hot_path)) as connection:
        return [row[0] for row in connection.execute(f"SELECT decision_id FROM {table} ORDER BY decision_id")]


def test_old_contacts_and_claims_go_in_passing_whoever_comes(hot: SqliteHotState, settings: Settings) -> None:
    reserve(hot, reservation("d-1", confirmed=True), reservation("d-2"))
    late = {"now": NOW + timedelta(days=31), "customer_id": "c-2"}
    reserve(hot, *(reservation(f"d-{i}", **late) for i in (3, 4)))

    assert kept(settings, "contacts") == kept(settings, "claims") == ["d-3", "d-4"]


def test_a_request_from_the_future_makes_no_contact_old_and_leaves_no_claim(settings: Settings) -> None:
    hot = SqliteHotState(settings, clock=lambda: NOW)
    reserve(hot, reservation("d-1", confirmed=True))
    reserve(hot, reservation("d-2", now=NOW + timedelta(days=10_000)))
    assert (kept(settings, "contacts"), kept(settings, "claims")) == (["d-1", "d-2"], ["d-1", "d-2"])

    reserve(hot, reservation("d-3", now=NOW + timedelta(hours=1)))

    assert kept(settings, "claims") == ["d-1", "d-3"]
    assert "loan" in seen(hot, after=timedelta(days=1))
    hot.close()


def test_of_many_threads_one_gets_the_last_place(settings: Settings, hot: SqliteHotState) -> None:
    once = ContactPolicy("once", limit=1, within=timedelta(days=1))
    own = [SqliteHotState(settings, busy_timeout=PATIENT) for _ in range(4)]
    results: list[Any] = []
    start = threading.Barrier(8)

    def race(number: int) -> None:
        start.wait()
        mine = own[number // 2] if number % 2 else hot
        results.append(reserve(mine, reservation(f"d-{number}", policies=(once,))))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for opened in own:
        opened.close()

    assert sorted(len(filled) for filled in results) == [0] * 7 + [1]


def test_of_two_processes_one_gets_the_last_place(settings: Settings) -> None:
    once = ContactPolicy("once", limit=1, within=timedelta(days=1))

    def racer(name: str) -> Callable[[Say], None]:
        def race(say: Say) -> None:
            own = SqliteHotState(settings, busy_timeout=PATIENT)
            for number in range(100):
                customer_id = f"c-{number}"
                filled = reserve(own, reservation(f"{name}-{number}", customer_id=customer_id, policies=(once,)))
                say(f"{customer_id} {len(filled)}")

        return race

    with others(racer("a"), racer("b")) as racers:
        said = [line.split() for _, lines in racers for line in lines]

    assert len(said) == 200
    assert sorted(customer_id for customer_id, taken in said if taken == "1") == sorted(f"c-{n}" for n in range(100))


def test_a_lock_that_is_not_released_in_time_is_a_store_error_and_is_survived(settings: Settings) -> None:
    hot = SqliteHotState(settings)
    other = sqlite3.connect(settings.hot_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreError, match="database is locked"):
        reserve(hot, reservation())
    with pytest.raises(StoreError, match="database is locked"):
        apply(hot, type="unsubscribe")
    again = SqliteHotState(settings)
    assert seen(again) == [], "whoever only reads need not wait, not even to open the file"
    other.execute("ROLLBACK")

    assert len(reserve(hot, reservation())) == 1
    again.close()
    hot.close()


def test_a_file_that_is_no_database_is_a_store_error(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    settings.hot_path.write_bytes(b"not a database" * 1000)

    with pytest.raises(StoreError, match="file is not a database"):
        SqliteHotState(settings)
