"""The contract of hot state for ids that are one person, for both adapters."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest

from decisioning.content import ContactPolicy
from decisioning.events import Happened
from decisioning.identity import Link, Person, with_met
from decisioning.profile import Consent, Event, HotProfile, Purchase, Subject
from decisioning.reservation import Reserved
from storage.hot_state.erasing import erase_hot
from storage.hot_state.redis import RedisHotState
from storage.settings import Settings
from tests.storage.hot_stores import Store, candidate, reservation, settings_for
from tests.storage.kept import NOW, consent, wishes

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ANN, BOB, VISITOR = Subject("ann"), Subject("bob"), Subject("anonymous:v")
TWICE = ContactPolicy("twice", limit=2, within=DAY)
ONE = (candidate("loan"),)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def chosen(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    with settings_for(request.param, settings) as found:
        yield found


@pytest.fixture
def store(chosen: Settings) -> Iterator[Store]:
    opened = Store(chosen)
    yield opened
    opened.close()


def login(customer: Subject = ANN, visitor: Subject = VISITOR, *, day: int = 0) -> Link:
    return Link(customer.customer_id, visitor.customer_id, NOW + day * DAY)


def alias(previous: str, customer_id: str, *, day: int = 0) -> Link:
    return Link(customer_id, previous, NOW + day * DAY)


def show(store: Store, decision_id: str, subject: Subject, **asked: Any) -> int:
    """How many slots were filled, of one, as a caller reads and reserves."""
    return store.run(shown(store, decision_id, subject, **asked))


async def shown(store: Store, decision_id: str, subject: Subject, **asked: Any) -> int:
    seen = await store.hot.read(subject, now=NOW)
    whom = Subject(seen.person.id if seen.person else subject.customer_id, subject.account_id)
    given = {"eligible": ONE, "policies": (TWICE,), "confirmed": True} | asked
    request = reservation(decision_id, subject=whom, seen=seen, **given)
    if not request.still(seen):
        return 0  # the cap was reached when it was read
    reserved = await store.hot.reserve(request)
    assert isinstance(reserved, Reserved)
    assert len(reserved.profile.contacts) <= 2 or not reserved.filled, "over the cap in what it saw itself"
    return len(reserved.filled)


def content_of(profile: HotProfile) -> dict[str, Any]:
    return {name: getattr(profile, name) for name in profile.__struct_fields__ if name != "version"}


def test_what_a_visitor_saw_counts_for_the_customer_who_logs_in(store: Store) -> None:
    assert show(store, "d-1", VISITOR) == 1
    assert show(store, "d-2", VISITOR) == 1
    assert show(store, "d-3", ANN, channel="email") == 1, "as yet they are two"
    store.link(login())

    assert store.seen(subject=ANN) == store.seen(subject=VISITOR) == ["loan"] * 3
    assert show(store, "d-4", ANN) == show(store, "d-5", VISITOR) == 0
    assert content_of(store.read(ANN)) == content_of(store.read(VISITOR))
    assert store.read(VISITOR).person == Person("ann", ("ann", "anonymous:v"))


def test_of_a_person_it_is_known_for_whom_decisions_were_first_made(store: Store) -> None:
    assert store.read(ANN).met_first is None
    store.link(login())
    assert store.read(ANN).met_first is None, "for nobody yet"
    before = store.read(ANN).version
    store.link(*with_met([login()], {"anonymous:v": NOW - HOUR, "ann": NOW}))
    assert store.read(ANN).met_first == store.read(VISITOR).met_first == "anonymous:v"
    assert store.read(ANN).version != before, "a decision that was read before is judged again"
    store.link(*with_met([alias("bob", "ann")], {"bob": NOW - DAY}))
    assert store.read(VISITOR).met_first == "bob"

    erase_hot(store.settings, ["bob"], linked=["ann", "anonymous:v"], decisions=[])
    assert store.read(ANN).met_first == store.read(VISITOR).met_first == "anonymous:v"


def test_who_has_no_link_is_nobody_else(store: Store) -> None:
    show(store, "d-1", VISITOR)
    store.link(Link("ann", None, NOW), login(BOB, Subject("anonymous:w")))
    for subject in (ANN, VISITOR):
        assert store.read(subject).person is None
    assert store.seen(subject=ANN) == []


def test_of_consent_the_last_word_counts_whichever_member_said_it(store: Store) -> None:
    store.link(alias("ann", "bob"))
    for one, at, other, then, expected in [
        ("ann", 1, "bob", 2, ()),
        ("bob", 4, "ann", 3, (Consent("marketing", "email"),)),
        ("ann", 5, "bob", 5, ()),
    ]:
        store.set_consents([consent(one, at=NOW + at * DAY), consent(other, at=NOW + then * DAY, granted=False)])
        assert store.read(ANN).consents == store.read(BOB).consents == expected, (one, at)
        no = () if expected else (Consent("marketing", "email"),)
        assert store.read(ANN).withdrawn == store.read(BOB).withdrawn == no, (one, at)


def test_of_wishes_the_last_count_whichever_member_said_them(store: Store) -> None:
    store.link(alias("ann", "bob"))
    assert store.read(ANN).preferences is None
    for one, day, topic in [("bob", 1, "cards"), ("ann", 2, "loans"), ("bob", 0, "cards")]:
        store.prefer(wishes(one, at=NOW + day * DAY, topics={"exclude": [topic]}))
        last = "cards" if day == 1 else "loans"
        for subject in (ANN, BOB):
            preferences = store.read(subject).preferences
            assert preferences is not None
            assert preferences.topics.exclude == (last,)


def test_a_channel_that_one_member_closed_stays_closed_until_any_of_them_opens_it_later(store: Store) -> None:
    store.link(alias("ann", "bob"))
    store.set_consents([consent("ann", at=NOW - DAY), consent("bob", at=NOW - DAY, channel="sms")])
    store.tell(subject=BOB, type="unsubscribe", occurred_at=NOW)
    for subject in (ANN, BOB):
        profile = store.read(subject)
        assert (profile.suppressed, profile.consents) == (("email",), (Consent("marketing", "sms"),))

    store.set_consents([consent("ann", at=NOW)])
    assert store.read(BOB).suppressed == ("email",), "not later"
    store.set_consents([consent("ann", at=NOW + HOUR)])
    assert store.read(BOB).suppressed == store.read(ANN).suppressed == ()
    assert Consent("marketing", "email") in store.read(BOB).consents

    store.set_consents([consent("bob", at=NOW + 2 * HOUR, granted=False)])
    assert store.read(ANN).suppressed == (), "it was opened, whatever was said later"
    assert store.read(ANN).consents == (Consent("marketing", "sms"),)


def test_the_latest_purchase_and_event_of_all_members_count(store: Store) -> None:
    store.link(login())
    store.note(
        Happened("ann", "purchase", NOW + HOUR, ("sofa",)),
        Happened("anonymous:v", "purchase", NOW, ("sofa", "lamp")),
        Happened("anonymous:v", "cart_added", NOW),
    )
    profile = store.read(ANN)
    assert profile.purchases == (Purchase("lamp", NOW), Purchase("sofa", NOW + HOUR))
    assert profile.events == (Event("cart_added", NOW), Event("purchase", NOW + HOUR))


def test_no_members_contact_is_a_colleagues(store: Store) -> None:
    ann, bob, colleague = (Subject(name, "acme") for name in ("ann", "bob", "carl"))
    for number, subject in enumerate((ann, bob, colleague)):
        store.take(reservation(f"d-{number}", subject=subject, confirmed=True))
    store.link(alias("ann", "bob"))

    profile = store.read(bob)
    assert [contact.decision_id for contact in profile.contacts] == ["d-0", "d-1"]
    assert [contact.decision_id for contact in profile.account_contacts] == ["d-2"]
    assert len(store.read(colleague).account_contacts) == 2


def test_an_outcome_reaches_a_contact_that_another_member_has(store: Store) -> None:
    store.take(reservation("d-1", subject=VISITOR))
    store.link(login())
    [contact] = store.read(ANN).contacts
    assert contact.customer_id == "anonymous:v"

    store.tell(subject=ANN, type="reject", contacts=(("d-2", "loan"),), others=(("anonymous:v", "d-1", "loan"),))
    [contact] = store.read(VISITOR, after=HOUR).contacts
    assert contact.rejected_at == NOW, "and it is confirmed, else it had run out"
    assert [event.name for event in store.read(ANN).events] == ["reject", "reject:loan"]
    store.link(login(BOB, day=-1))
    assert (store.read(BOB, after=HOUR).contacts[0].rejected_at, store.read(BOB).events) == (NOW, ())


def test_customers_who_share_a_device_stay_two(store: Store) -> None:
    show(store, "d-1", VISITOR)
    store.link(login(ANN, day=1))
    store.link(login(BOB, day=2))
    assert (store.seen(subject=ANN), store.seen(subject=BOB)) == (["loan"], [])

    store.link(login(BOB, day=0))
    assert (store.seen(subject=ANN), store.seen(subject=BOB)) == ([], ["loan"])


def test_aliases_give_one_person_in_any_order(store: Store) -> None:
    for number, order in enumerate(permutations(range(3))):
        a, b, c, v = (f"{name}{number}" for name in "abcv")
        show(store, f"d-{number}", Subject(c))
        chain = [Link(a, f"anonymous:{v}", NOW), alias(a, b, day=1), alias(b, c, day=2)]
        for place in order:
            store.link(chain[place])
        for unit in (a, b, c, f"anonymous:{v}"):
            assert store.read(Subject(unit)).person == Person(a, (a, b, c, f"anonymous:{v}"))
            assert store.seen(subject=Subject(unit)) == ["loan"]


def test_a_link_told_again_changes_nothing(store: Store) -> None:
    store.link(login(), login(), alias("ann", "bob"))
    before = store.read(BOB)
    store.link(login())
    store.link(alias("ann", "bob", day=1), login())
    assert store.read(BOB) == before
    store.link()
    assert store.read(BOB) == before


def test_a_link_that_came_after_the_read_is_obeyed_by_the_reservation(store: Store) -> None:
    for number in range(2):
        show(store, f"d-{number}", VISITOR)
    seen = store.read(ANN)
    store.link(login())
    late = reservation("d-2", subject=ANN, seen=seen, eligible=ONE, policies=(TWICE,))
    assert store.take(late) == ()

    seen = store.read(VISITOR)
    store.link(login(BOB, day=-1))
    reserved = store.reserve(reservation("d-3", subject=ANN, seen=seen, eligible=ONE, policies=(TWICE,)))
    assert isinstance(reserved, Reserved)
    assert (len(reserved.filled), reserved.profile.person) == (1, None), "and one that parts them"


def test_what_any_member_did_after_the_read_is_seen_by_the_reservation(store: Store) -> None:
    store.link(login(), alias("ann", "bob"))
    seen = store.read(ANN)
    for number in range(2):
        show(store, f"d-{number}", BOB)
    assert store.take(reservation("d-2", subject=ANN, seen=seen, eligible=ONE, policies=(TWICE,))) == ()


def test_the_profile_after_a_reservation_is_the_one_that_is_read(store: Store) -> None:
    store.link(login())
    show(store, "d-1", VISITOR)
    reserved = store.reserve(reservation("d-2", subject=ANN, seen=store.read(VISITOR), confirmed=True))
    assert isinstance(reserved, Reserved)
    assert reserved.profile == store.read(VISITOR) == store.read(ANN)


@pytest.mark.parametrize("seed", range(4))
def test_links_and_reservations_at_once_keep_the_cap_of_the_person(store: Store, seed: int) -> None:
    """Nobody goes over the cap of the person that they are by then; once all are one, nothing is left."""
    rng = np.random.default_rng(seed)
    names = [f"c-{number}" for number in range(6)]
    chain = [alias(one, other, day=day) for day, (one, other) in enumerate(pairwise(names))]

    async def race() -> None:
        decisions = [shown(store, f"d-{number}", Subject(names[number % 6])) for number in range(18)]
        calls: list[Any] = [*decisions, *(store.hot.link([one]) for one in chain)]
        await asyncio.gather(*(calls[place] for place in rng.permutation(len(calls))))

    store.run(race())
    for name in names:
        person = store.read(Subject(name)).person
        assert person is not None
        assert (person.id, len(person.members)) == ("c-1", 6), "c-0 was named by no link as a customer"
    contacts = store.seen(subject=Subject("c-3"))
    assert 2 <= len(contacts) <= 12
    assert show(store, "late", Subject("c-5")) == 0


@pytest.mark.services
def test_only_a_person_of_several_ids_costs_redis_another_question(settings: Settings) -> None:
    with settings_for("redis", settings) as chosen:
        store = Store(chosen)
        assert isinstance(store.hot, RedisHotState)
        store.link(login(BOB))
        asked: list[int] = []
        call = store.hot._call

        async def counting(commands: Any) -> Any:
            asked.append(len(commands))
            return await call(commands)

        store.hot._call = counting  # type: ignore[method-assign]
        store.read(ANN)
        assert asked == [3]
        store.read(BOB)
        assert asked[1:] == [3, 1]
        asked.clear()
        store.link(login(BOB))
        assert asked == [2], "who logs in again is looked up, no more"
        store.close()
