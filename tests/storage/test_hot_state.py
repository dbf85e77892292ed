"""The contract of hot state, for both adapters: places are taken atomically, outcomes change them in any order."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import msgspec
import numpy as np
import pytest

from decisioning.content import ContactPolicy
from decisioning.content_types import NO_ACTION
from decisioning.errors import StoreError
from decisioning.events import Happened
from decisioning.profile import BudgetLeft, Consent, Event, HotProfile, Purchase, Subject
from decisioning.reservation import AlreadyClaimed, Reserved
from decisioning.slots import FilledSlot
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.storage.hot_stores import (
    Store,
    candidate,
    charged,
    mails,
    reservation,
    settings_for,
)
from tests.storage.kept import NOW, consent, decision, wishes
from tests.storage.processes import Say, others

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LATER = timedelta(seconds=6)
ONCE = ContactPolicy("once", limit=1, within=DAY)
COLLEAGUE = Subject("c-2", "acme")
MEMBER = Subject("c-1", "acme")


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def chosen(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    with settings_for(request.param, settings) as found:
        yield found


@pytest.fixture
def store(chosen: Settings) -> Iterator[Store]:
    opened = Store(chosen)
    yield opened
    opened.close()


def test_a_customer_that_was_never_met_has_nothing(store: Store) -> None:
    assert store.read(Subject("nobody", "no account")) == HotProfile()


def test_the_first_of_the_drawn_order_is_taken_and_counts_until_it_expires(store: Store) -> None:
    request = reservation()
    reserved = store.reserve(request)

    assert isinstance(reserved, Reserved)
    assert reserved.filled == (FilledSlot(chosen=1, available=(0, 1)),)
    assert store.read(after=timedelta(minutes=29)) == reserved.profile
    assert reserved.profile.contacts == (request.contact(1),)
    assert store.seen(after=timedelta(minutes=30)) == []


def test_what_the_decision_itself_confirms_does_not_expire_but_ages(store: Store) -> None:
    store.reserve(reservation(confirmed=True))

    assert store.seen(after=timedelta(days=29, hours=23)) == ["loan"]
    assert store.seen(after=timedelta(days=30)) == []


def test_contacts_come_oldest_first_and_of_one_instant_by_slot(store: Store) -> None:
    three = (candidate("card"), candidate("loan"), candidate("fund"))
    store.reserve(reservation("d-2", eligible=three, slots=3))
    store.reserve(reservation("d-1", now=NOW - HOUR, confirmed=True))

    assert store.seen() == ["loan", "fund", "loan", "card"]


def test_a_planned_contact_is_kept_with_its_time(store: Store) -> None:
    store.reserve(reservation(at=NOW + DAY))

    [contact] = store.read().contacts
    assert (contact.at, contact.until) == (NOW + DAY, NOW + DAY + timedelta(minutes=30))


def test_showing_nothing_is_kept_so_that_it_can_be_repeated(store: Store) -> None:
    store.reserve(reservation(eligible=(candidate(NO_ACTION),)))

    [contact] = store.read().contacts
    assert (contact.action_id, contact.is_counted) == (NO_ACTION, False)


def test_what_repeats_an_earlier_answer_makes_no_contact(store: Store) -> None:
    first = store.reserve(reservation("d-1", policies=(ONCE,)))
    assert isinstance(first, Reserved)
    again = reservation("d-2", eligible=(candidate("loan", repeats="d-1"),), policies=(ONCE,), seen=first.profile)

    assert len(store.take(again)) == 1
    assert store.read() == first.profile


def test_who_asks_with_the_profile_as_it_is_is_not_asked_again(store: Store) -> None:
    def never(_profile: HotProfile) -> list[int]:
        raise AssertionError("nothing has changed")

    first = store.reserve(reservation("d-1", still=never))
    assert isinstance(first, Reserved)
    store.reserve(reservation("d-2", subject=Subject("c-2")))

    assert len(store.take(reservation("d-3", seen=first.profile, still=never))) == 1
    assert len(store.take(reservation("d-4", seen=store.read(), still=never))) == 1


def test_consent_that_was_withdrawn_after_it_was_read_is_obeyed(store: Store) -> None:
    def still(profile: HotProfile) -> list[int]:
        return [0] if profile.permits("marketing", "email") else []

    asks: dict[str, Any] = {"eligible": (candidate("loan"),), "still": still}
    store.set_consents([consent(at=NOW - DAY)])
    seen = store.read()
    assert len(store.take(reservation("d-1", seen=seen, **asks))) == 1

    seen = store.read()
    store.set_consents([consent(granted=False)])
    assert store.take(reservation("d-2", seen=seen, **asks)) == ()


def test_a_cap_that_is_reached_leaves_the_next_in_the_order(store: Store) -> None:
    once = ContactPolicy("once", limit=1, within=DAY, per="group")

    first, second, third = (store.take(reservation(f"d-{i}", policies=(once,))) for i in range(3))

    assert first == (FilledSlot(1, (0, 1)),)
    assert second == (FilledSlot(0, (0,)),)
    assert third == ()


CHANGES: dict[str, Callable[[Store], object]] = {
    "a contact": lambda store: store.reserve(reservation("d-9", subject=MEMBER)),
    "a colleague's contact": lambda store: store.reserve(reservation("d-9", subject=COLLEAGUE)),
    "a confirmation": lambda store: store.tell(type="impression", subject=MEMBER),
    "a colleague's answer": lambda store: store.tell(type="reject", subject=COLLEAGUE, decision_id="d-2"),
    "a release": lambda store: store.tell(type="not_sent", subject=MEMBER),
    "a suppression": lambda store: store.tell(type="bounce", detail="hard", subject=MEMBER, decision_id="x"),
    "preferences": lambda store: store.prefer(wishes()),
    "a consent": lambda store: store.set_consents([consent()]),
    "a purchase": lambda store: store.tell(type="purchase", subject=MEMBER, decision_id="x", products=("p",)),
    "an event": lambda store: store.tell(type="custom", subject=MEMBER, decision_id="x"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_the_version_changes_whenever_customer_or_account_do_and_only_then(change: str, store: Store) -> None:
    store.reserve(reservation("d-1", subject=MEMBER))
    store.reserve(reservation("d-2", subject=COLLEAGUE))
    before = store.read(MEMBER).version

    CHANGES[change](store)
    after = store.read(MEMBER).version
    assert after != before

    CHANGES[change](store)
    store.reserve(reservation("d-3", subject=Subject("c-3", "other")))
    store.pause("card", paused=True)
    assert store.read(MEMBER).version == after


def test_an_accounts_members_see_each_others_contacts_and_outcomes(store: Store) -> None:
    store.reserve(reservation("d-1", subject=MEMBER))
    store.reserve(reservation("d-2", subject=COLLEAGUE, now=NOW - HOUR, confirmed=True))
    store.tell(type="accept", subject=MEMBER)

    mine, theirs = store.read(MEMBER), store.read(COLLEAGUE)

    assert (mine.contacts, mine.account_contacts) == (theirs.account_contacts, theirs.contacts)
    assert [contact.accepted_at for contact in mine.contacts] == [NOW]
    assert store.read(Subject("c-2", "other")).account_contacts == ()
    assert store.read(Subject("c-2", "other")).contacts == theirs.contacts, "whoever moves keeps their own"


def test_a_cap_of_the_account_holds_for_all_its_members(store: Store) -> None:
    together = ContactPolicy("together", limit=1, within=DAY, of="account")
    seen = store.read(COLLEAGUE)
    assert len(store.take(reservation("d-1", subject=MEMBER, policies=(together,)))) == 1

    assert store.take(reservation("d-2", subject=COLLEAGUE, policies=(together,), seen=seen)) == ()
    assert len(store.take(reservation("d-3", subject=Subject("c-3", "other"), policies=(together,)))) == 1


def test_an_id_is_claimed_once(store: Store) -> None:
    store.reserve(reservation())

    again = reservation(now=NOW + timedelta(seconds=4))
    other = reservation(now=NOW + 2 * DAY, digest="b")
    assert store.reserve(again) == AlreadyClaimed("a", NOW)
    assert store.reserve(other) == AlreadyClaimed("a", NOW)
    assert store.seen() == ["loan"]


def test_a_claim_whose_caller_died_is_taken_over_with_its_places(store: Store) -> None:
    first = store.reserve(reservation(slots=2))
    assert isinstance(first, Reserved)

    taken = store.take(reservation(now=NOW + LATER, order=(0, 1), seen=first.profile))

    assert taken == (FilledSlot(0, (0, 1)),)
    assert store.seen() == ["card"]


def test_a_claim_that_left_a_record_is_not_taken_over(store: Store, ledger: Ledger) -> None:
    store.reserve(reservation())
    asyncio.run(ledger.append_decision(decision(), digest="a"))

    assert store.reserve(reservation(now=NOW + LATER)) == AlreadyClaimed("a", NOW)


@pytest.mark.parametrize("kind", ["impression", "sent", "delivered", "click", "accept", "reject", "purchase"])
def test_proof_of_being_seen_makes_a_contact_stay_and_keeps_its_end(kind: str, store: Store) -> None:
    store.reserve(reservation())
    store.tell(type=kind)

    [contact] = store.read(after=DAY).contacts
    assert contact.until == NOW + timedelta(minutes=30)


@pytest.mark.parametrize("given", [{"type": "open"}, {"type": "custom"}, {"type": "click", "detail": "machine"}])
def test_what_proves_nothing_changes_no_contact(given: dict[str, str], store: Store) -> None:
    store.reserve(reservation())
    before = store.read().contacts
    store.tell(**given)

    assert store.read().contacts == before
    assert store.seen(after=DAY) == []


@pytest.mark.parametrize("order", [["sent", "bounce"], ["bounce", "sent"], ["bounce", "sent", "bounce", "sent"]])
def test_what_came_back_is_released_in_whatever_order_it_is_told(order: list[str], store: Store) -> None:
    store.reserve(reservation())
    for kind in order:
        store.tell(type=kind, detail="soft" if kind == "bounce" else None)

    assert store.seen() == []


def test_a_late_impression_still_counts(store: Store) -> None:
    store.reserve(reservation())
    store.tell(type="impression", occurred_at=NOW + DAY)

    assert store.seen(after=2 * DAY) == ["loan"]


def test_an_outcome_is_about_the_contacts_that_it_speaks_of(store: Store) -> None:
    store.reserve(reservation("d-1", slots=2))
    store.reserve(reservation("d-2", slots=2))
    store.tell(type="impression", contacts=(("d-1", "card"),))
    # A repeated answer's outcome is about the contact of the first.
    store.tell(type="impression", decision_id="d-7", contacts=(("d-2", "card"), ("d-2", "loan")))
    store.tell(type="impression", contacts=(("unknown", "loan"),))

    assert sorted(store.seen(after=DAY)) == ["card", "card", "loan"]


ANSWERS = [("click", 1), ("accept", 2), ("purchase", 4), ("reject", 3), ("click", 0), ("purchase", 1)]


def test_answers_are_the_latest_of_their_kind_in_whatever_order_they_are_told(chosen: Settings) -> None:
    rng = np.random.default_rng(3)
    orders = [rng.permutation(len(ANSWERS)).tolist() for _ in range(8)]
    for number, order in enumerate([list(range(len(ANSWERS))), *orders]):
        store = Store(replace(chosen, home=chosen.home / str(number), domain=f"domain_{number}"))
        store.reserve(reservation())
        for index in (*order, *order):
            kind, hours = ANSWERS[index]
            store.tell(outcome_id=f"o-{index}", type=kind, occurred_at=NOW + hours * HOUR, products=("p",))
        profile = store.read(after=DAY)
        [contact] = profile.contacts
        assert (contact.clicked_at, contact.accepted_at) == (NOW + HOUR, NOW + 4 * HOUR)
        assert contact.rejected_at == NOW + 3 * HOUR
        assert profile.purchases == (Purchase("p", NOW + 4 * HOUR),)
        store.close()


def test_only_a_purchase_buys_and_products_are_kept_for_good(store: Store) -> None:
    store.tell(type="accept", products=("loan_x",))
    assert store.read().purchases == ()

    store.tell(type="purchase", products=("loan_x", "card_y"), occurred_at=NOW - DAY)
    store.tell(type="purchase", products=("loan_x",), occurred_at=NOW - 3 * DAY)

    assert store.read(after=400 * DAY).purchases == (Purchase("card_y", NOW - DAY), Purchase("loan_x", NOW - DAY))


def test_events_are_what_customers_did_last_by_type_and_by_action(store: Store) -> None:
    store.tell(type="accept", occurred_at=NOW - DAY)
    store.tell(type="accept", action_id="card")
    store.tell(type="unsubscribe", action_id=None)
    for nothing in ({"type": "sent"}, {"type": "delivered"}, {"type": "open"}, {"type": "click", "detail": "machine"}):
        store.tell(**nothing)

    assert store.read(after=400 * DAY).events == (
        Event("accept", NOW),
        Event("accept:card", NOW),
        Event("accept:loan", NOW - DAY),
        Event("unsubscribe", NOW),
    )


def test_a_paused_action_is_named_until_it_goes_on(store: Store, chosen: Settings) -> None:
    for action in ("de/loan", "card", "card"):
        store.pause(action, paused=True)
    other = Store(replace(chosen, domain="hillstrom"))

    assert store.read().paused == ("card", "de/loan")
    assert other.read().paused == ()
    other.close()

    store.pause("card", paused=False)
    assert store.read().paused == ("de/loan",)


def test_a_consent_told_by_itself_counts_as_one_told_in_bulk(store: Store) -> None:
    store.consent(consent(at=NOW - DAY), consent(channel="web", granted=False), consent("c-2"))
    told = store.read()
    assert (told.consents, told.withdrawn) == ((Consent("marketing", "email"),), (Consent("marketing", "web"),))

    store.consent(consent(granted=False), consent(channel="web", at=NOW - DAY))
    told = store.read()
    assert (told.consents, told.withdrawn) == ((), (Consent("marketing", "email"), Consent("marketing", "web")))
    assert store.read(Subject("c-2")).consents == (Consent("marketing", "email"),)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_last_wishes_count_whenever_they_arrive(order: Any, store: Store) -> None:
    frequency = {"limit": 2, "within": "P7D"}
    said = [wishes(at=NOW - DAY), wishes(frequency=frequency), wishes(frequency={**frequency, "limit": 1})]
    assert store.read().preferences is None
    store.prefer(*(said[place] for place in order), wishes("c-2"))

    assert store.read().preferences == said[1].preferences  # of two at one instant always the same one
    assert store.read(Subject("c-2")).preferences == said[0].preferences


def test_wishes_that_were_changed_after_they_were_read_are_obeyed(store: Store) -> None:
    store.prefer(wishes())
    seen = store.read()
    store.prefer(wishes(at=NOW + HOUR, topics={"exclude": ["cards"]}))

    def still(profile: HotProfile) -> list[int]:
        return [] if profile.preferences and profile.preferences.topics.refuses("cards") else [0]

    assert store.take(reservation(seen=seen, still=still, eligible=(candidate("card"),))) == ()


def test_long_wishes_are_for_good(store: Store) -> None:
    long = wishes(topics={"include": [f"group_{number}" for number in range(200)]})
    store.prefer(long)
    for number in range(40):  # so many that what is old is forgotten
        store.reserve(reservation(f"d-{number}", now=NOW + number * DAY))

    assert store.read(after=400 * DAY).preferences == long.preferences


GONE = [
    {"type": "unsubscribe"},
    {"type": "complaint"},
    {"type": "bounce", "detail": "hard"},
    {"type": "bounce", "detail": "repeated"},
]


@pytest.mark.parametrize("given", GONE)
def test_whoever_does_not_want_mail_has_withdrawn_marketing_on_that_channel(given: Any, store: Store) -> None:
    before = NOW - DAY
    rest = [consent(channel="web", at=before), consent(purpose="personalisation", at=before)]
    store.set_consents([consent(at=before), *rest])

    store.tell(**given)

    assert store.read().consents == (Consent("marketing", "web"), Consent("personalisation", "email"))
    assert store.read().withdrawn == (Consent("marketing", "email"),)


def test_a_soft_bounce_withdraws_nothing(store: Store) -> None:
    store.set_consents([consent(at=NOW - DAY)])
    store.tell(type="bounce", detail="soft")

    assert store.read().consents == (Consent("marketing", "email"),)
    assert store.read().suppressed == ()


@pytest.mark.parametrize("given", GONE)
def test_a_channel_that_asks_for_no_consent_is_suppressed_all_the_same(given: Any, store: Store) -> None:
    store.tell(**given, action_id=None, decision_id="unknown")

    assert store.read().suppressed == ("email",)


@pytest.mark.parametrize(
    ("hours", "expected"),
    [((1, 2), ()), ((2, 1), ("email",)), ((1, 1), ("email",)), ((1, 2, 3), ()), ((1, 2, 3, 4), ("email",))],
)
def test_only_a_later_consent_opens_the_channel_again_in_whatever_order_things_are_told(
    hours: tuple[int, ...], expected: tuple[str, ...], chosen: Settings
) -> None:
    """Told: an unsubscribe, a consent, its withdrawal, another unsubscribe, at these hours."""

    def tell(store: Store, index: int) -> None:
        at = NOW + timedelta(hours=hours[index])
        if index in (0, 3):
            store.tell(type="unsubscribe", occurred_at=at)
        else:
            store.set_consents([consent(at=at, granted=index == 1)])

    for number, order in enumerate(permutations(range(len(hours)))):
        store = Store(replace(chosen, home=chosen.home / str(number), domain=f"domain_{number}"))
        for index in (*order, *order):
            tell(store, index)
        assert store.read().suppressed == expected
        store.close()


def test_only_marketing_consent_opens_a_suppressed_channel(store: Store) -> None:
    store.tell(type="unsubscribe")
    store.set_consents([consent(at=NOW + DAY, purpose="personalisation"), consent(at=NOW + DAY, channel="web")])

    assert store.read().suppressed == ("email",)


def test_domains_share_a_store_but_not_their_customers(store: Store, chosen: Settings) -> None:
    store.set_consents([consent()])
    store.reserve(reservation(confirmed=True))
    other = Store(replace(chosen, domain="hillstrom"))

    assert other.read() == HotProfile()
    other.tell(type="bounce", detail="hard")

    assert (store.seen(), store.read().consents) == (["loan"], (Consent("marketing", "email"),))
    other.close()


def test_the_last_word_on_consent_counts_whenever_it_arrives(store: Store) -> None:
    store.set_consents([consent(at=NOW + DAY, granted=False)])
    store.set_consents([consent(at=NOW)])
    assert store.read().consents == ()

    store.set_consents([consent(at=NOW + 2 * DAY)])
    assert store.read().consents == (Consent("marketing", "email"),)


def test_of_two_words_at_one_instant_the_withdrawal_counts(store: Store) -> None:
    for changes in ([True, False], [False, True]):
        store.set_consents([consent(granted=granted) for granted in changes])

        assert store.read().consents == ()


def test_many_consents_are_changed_in_parts_and_again_after_a_failure(store: Store) -> None:
    many = [consent(f"c-{number}") for number in range(1_200)]
    with pytest.raises(StoreError):
        store.set_consents([*many, consent(purpose=None)])

    store.set_consents(many)

    assert store.read(Subject("c-1199")).consents == (Consent("marketing", "email"),)


def test_names_with_unusual_characters_are_kept_apart(store: Store) -> None:
    names = ["a", "a}", "a}:claim:b", "{a}", "a%7D", "a:b", "ä ö|\n"]
    for number, name in enumerate(names):
        store.reserve(
            reservation(f"d-{number}", subject=Subject(name, f"{name}}}"), eligible=(candidate(f"x{number}"),))
        )

    for number, name in enumerate(names):
        profile = store.read(Subject(name, f"{name}}}"))
        assert [contact.action_id for contact in profile.contacts] == [f"x{number}"]
        assert profile.account_contacts == ()


def left(store: Store, budget: Any, *, after: timedelta = timedelta()) -> float:
    [entry] = store.read(after=after, budgets=(budget,)).budgets
    assert entry.budget == budget.id
    return entry.left


def test_a_budget_is_charged_by_the_reservation_until_nothing_is_left(store: Store) -> None:
    budget = mails(2.0)
    assert left(store, budget) == 2.0
    first = store.reserve(charged(budget, "d-1"))
    assert isinstance(first, Reserved)

    assert first.profile.budgets == (BudgetLeft("mails", 1.0),)
    assert left(store, budget) == 1.0
    assert len(store.take(charged(budget, "d-2", subject=Subject("c-2")))) == 1
    assert store.take(charged(budget, "d-3", subject=Subject("c-3"))) == ()
    assert left(store, budget) == 0.0


def test_money_is_charged_exactly(store: Store) -> None:
    budget = mails(1.0, counts="money")
    taken = [store.take(charged(budget, f"d-{n}", cost=0.1, subject=Subject(f"c-{n}"))) for n in range(12)]

    assert [len(filled) for filled in taken] == [1] * 10 + [0] * 2


def test_an_account_s_or_customer_s_budget_is_not_everyone_s(store: Store) -> None:
    own = mails(1.0, of="customer")

    assert store.read(budgets=(own,)).budgets == ()
    assert len(store.take(charged(own, "d-1"))) == 1
    assert store.take(charged(own, "d-2", seen=store.read())) == ()
    assert len(store.take(charged(own, "d-3", subject=Subject("c-2")))) == 1


def test_pacing_releases_the_amount_little_by_little(store: Store) -> None:
    paced = mails(7.0, pacing="even")

    assert left(store, paced) == pytest.approx(1.0)
    assert len(store.take(charged(paced, "d-1", confirmed=True))) == 1
    assert store.take(charged(paced, "d-2", now=NOW + HOUR)) == ()
    assert len(store.take(charged(paced, "d-3", now=NOW + DAY))) == 1


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([], (0.0, 1.0)),
        (["not_sent"], (1.0, 1.0)),
        (["bounce"], (1.0, 1.0)),
        (["sent"], (0.0, 0.0)),
        (["sent", "sent"], (0.0, 0.0)),
        (["sent", "bounce"], (1.0, 1.0)),
        (["bounce", "sent"], (1.0, 1.0)),
        (["bounce", "bounce"], (1.0, 1.0)),
    ],
)
def test_a_charge_comes_back_when_its_contact_is_released_or_runs_out(
    told: list[str], expected: tuple[float, float], chosen: Settings
) -> None:
    budget = mails(1.0)
    store = Store(chosen, clock=lambda: NOW + DAY)
    store.reserve(charged(budget))
    for kind in told:
        store.tell(type=kind)

    assert (left(store, budget), left(store, budget, after=HOUR)) == expected
    store.close()


def test_what_is_confirmed_after_it_ran_out_is_charged_again(chosen: Settings) -> None:
    budget = mails(2.0)
    store = Store(chosen, clock=lambda: NOW + DAY)
    store.reserve(charged(budget))
    assert left(store, budget, after=HOUR) == 2.0
    store.take(charged(budget, "d-2", now=NOW + HOUR))

    store.tell(type="impression")
    store.tell(type="impression")
    assert left(store, budget, after=HOUR) == 0.0

    store.tell(type="bounce")
    assert left(store, budget, after=HOUR) == 1.0
    store.close()


def test_what_was_abandoned_is_given_back(store: Store) -> None:
    budget = mails(1.0)
    store.reserve(charged(budget))

    assert len(store.take(charged(budget, now=NOW + LATER, eligible=(candidate("card", budget=None),)))) == 1
    assert left(store, budget, after=LATER) == 1.0


def test_a_new_period_begins_with_the_whole_amount(store: Store) -> None:
    budget = mails(1.0)
    store.reserve(charged(budget, confirmed=True))

    assert left(store, budget, after=5 * DAY) == 0.0
    assert left(store, budget, after=6 * DAY) == 1.0
    assert left(store, budget, after=-2 * DAY) == 0.0, "before the first period"


def test_what_is_not_taken_is_left_for_others(store: Store, chosen: Settings) -> None:
    budget = mails(1.0)
    both = (candidate("loan", budget="mails", cost=1.0), candidate("card"))
    other = Store(chosen)

    store.reserve(charged(budget, "d-1", eligible=both))  # draws the card

    assert len(other.take(charged(budget, "d-2", subject=Subject("c-2")))) == 1
    other.close()


def test_of_many_threads_one_gets_the_last_place(chosen: Settings) -> None:
    results: list[Any] = []
    start = threading.Barrier(8)
    budget = mails(1.0)

    def race(number: int) -> None:
        own = Store(chosen)
        start.wait()
        capped = own.take(reservation(f"d-{number}", policies=(ONCE,)))
        paid = own.take(charged(budget, f"b-{number}", subject=Subject(f"c-9{number}")))
        results.append((len(capped), len(paid)))
        own.close()

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(capped for capped, _ in results) == [0] * 7 + [1]
    assert sorted(paid for _, paid in results) == [0] * 7 + [1]


@pytest.mark.parametrize("amount", [1, 7, 1000])
def test_of_many_tasks_as_many_get_a_place_as_there_are(amount: int, store: Store) -> None:
    cap = ContactPolicy("cap", limit=3, within=DAY)
    capped = store.take_all(*(reservation(f"d-{n}", policies=(cap,)) for n in range(40)))
    assert sorted(len(filled) for filled in capped) == [0] * 37 + [1] * 3

    budget = mails(float(amount))
    for begin in range(0, amount + 40, 40):
        requests = [charged(budget, f"b-{n}", subject=Subject(f"c-{n}")) for n in range(begin, begin + 40)]
        taken = sum(len(filled) for filled in store.take_all(*requests))
        assert taken == max(0, min(40, amount - begin))


def test_two_replicas_share_a_budget_to_its_last_unit(chosen: Settings) -> None:
    budget = mails(300.0)
    first, second = Store(chosen), Store(chosen)
    taken = [0, 0]
    for number in range(0, 400, 4):
        for which, replica in enumerate((first, second)):
            requests = [
                charged(budget, f"d-{which}-{n}", subject=Subject(f"c-{which}-{n}")) for n in range(number, number + 4)
            ]
            taken[which] += sum(len(filled) for filled in replica.take_all(*requests))
    first.close()
    rest = [second.take(charged(budget, f"r-{n}", subject=Subject(f"r-{n}"))) for n in range(300)]

    assert sum(taken) + sum(len(filled) for filled in rest) == 300
    assert left(second, budget) == 0.0
    second.close()


def test_of_two_processes_one_gets_each_last_place(chosen: Settings) -> None:
    budget = mails(50.0)

    def racer(name: str) -> Callable[[Say], None]:
        def race(say: Say) -> None:
            own = Store(chosen)
            for number in range(100):
                subject = Subject(f"c-{number}")
                capped = own.take(reservation(f"{name}-{number}", subject=subject, policies=(ONCE,)))
                paid = own.take(charged(budget, f"{name}-b-{number}", subject=Subject(f"{name}-{number}")))
                say(f"{number} {len(capped)} {len(paid)}")
            own.close()

        return race

    with others(racer("a"), racer("b")) as racers:
        said = [line.split() for _, lines in racers for line in lines]

    assert len(said) == 200, said[:5]
    assert sorted(int(number) for number, capped, _ in said if capped == "1") == list(range(100))
    assert sum(int(paid) for *_, paid in said) == 50


def test_a_profile_that_was_read_is_what_a_record_can_keep(store: Store) -> None:
    store.reserve(reservation(subject=MEMBER))
    profile = store.read(MEMBER, budgets=(mails(),))

    assert msgspec.json.decode(msgspec.json.encode(profile), type=HotProfile) == profile


def test_a_contact_that_is_planned_leaves_the_period_of_today_as_it_is(chosen: Settings) -> None:
    budget, store = mails(1.0, period=DAY), Store(chosen, clock=lambda: NOW)
    store.take(charged(budget, "d-1", confirmed=True))
    assert len(store.take(charged(budget, "d-2", subject=Subject("c-2"), at=NOW + 3 * DAY))) == 1
    store.read(after=5 * DAY, budgets=(budget,))

    assert left(store, budget) == 0.0
    assert store.take(charged(budget, "d-3", subject=Subject("c-3"))) == ()
    store.close()


def test_what_is_left_is_told_at_the_planned_time(store: Store) -> None:
    budget = mails(1.0, period=DAY)
    store.take(charged(budget, "d-1", confirmed=True))

    [today] = store.read(budgets=(budget,)).budgets
    profile = store.read(budgets=(budget,), at=NOW + 3 * DAY)

    assert (today.left, profile.budgets[0].left) == (0.0, 1.0)
    assert len(profile.contacts) == 1


def test_a_claim_is_judged_by_the_clock_and_not_by_the_requests_own_time(chosen: Settings) -> None:
    store = Store(chosen)
    store.reserve(reservation())
    assert store.reserve(reservation()) == AlreadyClaimed("a", NOW)

    store.clock = NOW + LATER
    assert len(store.take(reservation())) == 1
    store.close()


def test_a_claim_from_the_past_is_not_taken_over_while_its_caller_lives(chosen: Settings) -> None:
    store = Store(chosen)
    store.reserve(reservation(now=NOW - 30 * DAY))

    assert isinstance(store.reserve(reservation(now=NOW - 20 * DAY)), AlreadyClaimed)
    store.close()


def bought(*products: str, name: str = "purchase", unit: str = "c-1", at: Any = NOW) -> Happened:
    return Happened(unit, name, at, products)


def test_what_a_customer_did_elsewhere_counts_at_once_and_at_its_latest_time(store: Store) -> None:
    later = bought("sofa", at=NOW + HOUR)
    store.note(later, bought("rug", "sofa"), bought(name="cart_added"), bought("lamp", unit="c-2"))

    known = store.read()
    assert known.purchases == (Purchase("rug", NOW), Purchase("sofa", NOW + HOUR))
    assert known.events == (Event("cart_added", NOW), Event("purchase", NOW + HOUR))
    assert store.read(COLLEAGUE).purchases == (Purchase("lamp", NOW),)


def test_what_happened_told_again_changes_nothing_not_even_the_version(store: Store) -> None:
    store.note(bought("sofa"))
    known = store.read()
    store.note(bought("sofa"), bought("sofa", at=NOW - DAY))

    assert store.read() == known


def test_a_purchase_since_a_customer_was_read_makes_the_reservation_look_again(store: Store) -> None:
    seen = store.read()
    store.note(bought("sofa"))

    assert store.take(reservation(seen=seen, still=lambda profile: [0] if profile.purchases else [])) == (
        FilledSlot(0, (0,)),
    )


def test_what_several_callers_tell_at_once_all_counts(store: Store) -> None:
    async def at_once() -> None:
        await asyncio.gather(*(store.hot.note([bought(f"p-{number}", unit=f"c-{number % 3}")]) for number in range(30)))

    store.run(at_once())
    assert len(store.read(Subject("c-1")).purchases) == 10


def test_a_caller_who_gives_up_takes_nobody_elses_event_along(store: Store) -> None:
    async def one_gives_up() -> None:
        impatient = asyncio.ensure_future(store.hot.note([bought("rug")]))
        patient = asyncio.ensure_future(store.hot.note([bought("sofa")]))
        await asyncio.sleep(0)
        impatient.cancel()
        await patient

    store.run(one_gives_up())
    assert "sofa" in [purchase.product for purchase in store.read().purchases]
