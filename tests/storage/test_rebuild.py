"""Hot state that is lost comes back from the ledger as it was."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
import redis

from decisioning.content import ContactPolicy
from decisioning.events import EventRecord
from decisioning.events import happened as happened_of
from decisioning.identity import Link, links_of, units_in, with_met
from decisioning.profile import Consent, Subject
from decisioning.record import AuditRecord, DecisionRecord, told
from decisioning.request import OutcomeReport
from decisioning.reservation import Reserved
from serving.feeds import FeedTally
from serving.outcomes import Outcomes
from storage.consents import record_consents
from storage.hot_state.history import kept_pauses
from storage.hot_state.rebuild import needs_rebuild, open_hot_state, rebuild
from storage.hot_state.schema import SCHEMA_VERSION, connect
from storage.hot_state.sqlite import SqliteHotState
from storage.ledger.consents import append_consents
from storage.ledger.reader import LedgerReader
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.builders import release
from tests.storage.hot_stores import REDIS_URL, Store, candidate, charged, mails, reservation, settings_for
from tests.storage.hot_stores import told as told_of
from tests.storage.kept import NOW, consent, decision, event, outcome, slot, wishes

CUSTOMERS = [
    *(Subject(f"c-{number}", [None, "acme", "initech"][number % 3]) for number in range(9)),
    *(Subject(f"anonymous:v-{number}") for number in range(3)),
]
ACTIONS = [("card", "cards"), ("loan", "loans"), ("no_action", "none"), ("fund", "savings")]
TYPES = ["impression", "click", "sent", "not_sent", "bounce", "unsubscribe", "open", "purchase", "complaint", "reject"]
BUDGETS = (mails(25.0, period=timedelta(days=20)), mails(900.0, id="money", counts="money", starts=NOW))
COSTS = {"card": ("mails", 1.0), "loan": ("money", 1.7)}


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def chosen(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    with settings_for(request.param, settings) as found:
        yield found


def lose(settings: Settings) -> None:
    """Hot state is gone."""
    if settings.hot_state == "sqlite":
        settings.hot_path.unlink()
        return
    client = redis.Redis.from_url(REDIS_URL)
    for key in client.scan_iter(match=f"{settings.redis_prefix}:*"):
        client.delete(key)


def opened(settings: Settings, now: datetime = NOW) -> Store:
    """As a service opens it."""
    open_hot_state(settings, now=now).close()
    return Store(settings)


def pick(rng: np.random.Generator, *options: str) -> str:
    return options[rng.integers(len(options))]


def random_traffic(settings: Settings, store: Store, ledger: Ledger, rng: np.random.Generator) -> datetime:
    """40 days of decisions, outcomes (late, repeated, hard bounces), events, links, consents and pauses."""
    made: list[DecisionRecord] = []
    elsewhere, logins = np.random.default_rng(8), np.random.default_rng(9)
    caps = (ContactPolicy("cap", limit=4, within=timedelta(days=7)),)
    now = NOW
    for number in range(400):
        now += timedelta(minutes=float(rng.integers(1, 288)))
        subject, channel = CUSTOMERS[rng.integers(len(CUSTOMERS))], pick(rng, "web", "email")
        candidates = tuple(
            candidate(action_id, group=group, channel=channel, budget=budget, cost=cost)
            for action_id, group in ACTIONS
            for budget, cost in [COSTS.get(action_id, (None, 0.0))]
        )
        request = reservation(
            f"d-{number}",
            subject=subject,
            now=now,
            channel=channel,
            eligible=candidates,
            order=tuple(rng.permutation(len(ACTIONS)).tolist()),
            slots=int(rng.integers(1, 4)),
            policies=caps,
            budgets={budget.id: budget for budget in BUDGETS},
            confirmed=bool(rng.random() < 0.2),
        )
        reserved = store.reserve(request)
        assert isinstance(reserved, Reserved)
        contacts = [request.contact(filled.chosen) for filled in reserved.filled]
        slots = tuple(
            slot(c.action_id, slot=n, group=c.group, goal=c.goal, confirmed=request.confirmed, budget=c.budget,
                 cost=c.cost, products=(f"{c.action_id}_product",))
            for n, c in enumerate(contacts, start=1)
        )  # fmt: skip
        record = decision(
            f"d-{number}",
            customer_id=subject.customer_id,
            account_id=subject.account_id,
            channel=channel,
            decided_at=now,
            slots=slots,
        )
        asyncio.run(ledger.append_decision(record, digest="a"))
        made.append(record)
        for _ in range(rng.integers(3)):
            about = made[-1 - int(rng.integers(min(len(made), 20)))]
            happened = outcome(
                f"o-{rng.integers(500)}",
                decision_id=about.decision_id,
                action_id=None if rng.random() < 0.1 else pick(rng, "card", "loan", "fund"),
                type=pick(rng, *TYPES),
                detail=pick(rng, "hard", "soft", "machine", "other"),
                occurred_at=now - timedelta(hours=float(rng.integers(48))),
            )
            [status] = asyncio.run(ledger.append_outcomes([(happened, repr(happened))]))
            if status != "conflict":
                store.run(
                    store.hot.apply(
                        told(
                            happened,
                            subject=about.subject,
                            channel=about.channel,
                            decision_id=about.decision_id,
                            slots=about.slots,
                        )
                    )
                )
        if rng.random() < 0.1:
            at = now - timedelta(days=float(rng.integers(3)))
            granted = bool(rng.random() < 0.7)
            record_consents(
                settings, store.hot, [consent(subject.customer_id, channel=channel, granted=granted, at=at)]
            )
        if elsewhere.random() < 0.1:
            preferences = wishes(
                subject.customer_id,
                at=now - timedelta(days=float(elsewhere.integers(3))),
                topics={"exclude": [pick(elsewhere, "cards", "loans")]},
            )
            asyncio.run(ledger.append_preferences(preferences))
            store.prefer(preferences)
        if elsewhere.random() < 0.3:
            told_elsewhere = event(
                f"shop/{elsewhere.integers(60)}",
                name=pick(elsewhere, "purchase", "cart_added"),
                customer_id=subject.customer_id,
                properties={"product_id": pick(elsewhere, "card_product", "sofa")},
                occurred_at=now - timedelta(days=float(elsewhere.integers(40))),
                received_at=now,
            )
            [status] = asyncio.run(ledger.append_events([(told_elsewhere, repr(told_elsewhere))]))
            if status == "accepted":
                store.note(*(each for each in [happened_of(told_elsewhere)] if each))
        if logins.random() < 0.1:
            login = random_link(logins, now)
            [status] = asyncio.run(ledger.append_events([(login, repr(login))]))
            if status == "accepted":
                links = links_of(login)
                store.link(*with_met(links, asyncio.run(ledger.met(units_in(links)))))
        if rng.random() < 0.05:
            paused, action = bool(rng.random() < 0.6), pick(rng, "card", "de/loan")
            pause(ledger, action, paused=paused)
            store.pause(action, paused=paused)
    return now


def random_link(rng: np.random.Generator, now: datetime) -> EventRecord:
    """A login on one of few devices, or two of six customers that turn out to be one; late, and again."""
    if rng.random() < 0.7:
        kind, named = "identify", {"customer_id": f"c-{rng.integers(9)}", "anonymous_id": f"v-{rng.integers(3)}"}
    else:
        pair = 2 * rng.integers(3)
        kind, named = "alias", {"customer_id": f"c-{pair}", "previous_id": f"c-{pair + 1}"}
    at = now - timedelta(days=float(rng.integers(20)))
    return event(f"login/{rng.integers(60)}", type=kind, name=kind, occurred_at=at, received_at=now, **named)


def pause(ledger: Ledger, action: str, *, paused: bool, domain: str = "simulated") -> None:
    what = "action.pause" if paused else "action.resume"
    entry = AuditRecord(at=NOW, domain=domain, actor="ann", what=what, subject=action, reason="test")
    asyncio.run(ledger.append_audit(entry))


def everything(store: Store, end: datetime) -> dict[tuple[str, int], dict[str, Any]]:
    """What can be seen of every customer, at several instants."""
    found = {}
    for subject in CUSTOMERS:
        for days in (0, 3, 12):
            profile = store.read(subject, after=end - NOW + timedelta(days=days), budgets=BUDGETS)
            seen = {name: getattr(profile, name) for name in profile.__struct_fields__ if name != "version"}
            seen["budgets"] = [(entry.budget, round(entry.left, 6)) for entry in profile.budgets]
            found[subject.customer_id, days] = seen
    return found


def test_after_random_traffic_the_rebuilt_state_equals_the_live_one(chosen: Settings) -> None:
    store, ledger = opened(chosen), Ledger(chosen)
    end = random_traffic(chosen, store, ledger, np.random.default_rng(7))
    ledger.close()
    store.close()  # gives back what it leased
    store = Store(chosen)
    live = everything(store, end)
    for name in (
        "contacts",
        "account_contacts",
        "consents",
        "withdrawn",
        "preferences",
        "suppressed",
        "purchases",
        "events",
        "paused",
        "person",
    ):
        assert any(profile[name] for profile in live.values()), name
    assert any(0 < entry[1] < 25 for profile in live.values() for entry in profile["budgets"])

    said: list[str] = []
    rebuild(chosen, now=end, progress=said.append)
    store.close()
    store = Store(chosen)
    assert everything(store, end) == live, "refilled in place"
    assert said[-1].startswith("hot state rebuilt from ")

    store.close()
    lose(chosen)
    assert needs_rebuild(chosen)
    anew = opened(chosen, end)
    assert everything(anew, end) == live, "made anew"
    anew.close()


def test_nothing_is_to_be_rebuilt_at_the_first_start(chosen: Settings) -> None:
    assert not needs_rebuild(chosen)


def test_consents_alone_are_worth_a_rebuild(chosen: Settings) -> None:
    store = opened(chosen)
    record_consents(chosen, store.hot, [consent()])
    assert not needs_rebuild(chosen)
    store.close()
    lose(chosen)

    assert needs_rebuild(chosen)
    store = opened(chosen)
    assert store.read().consents
    store.close()


def test_every_domain_comes_back_by_itself(chosen: Settings, ledger: Ledger) -> None:
    other = replace(chosen, domain="hillstrom")
    append_consents(chosen, [consent()])
    append_consents(other, [consent(purpose="personalisation"), consent(channel="sms", granted=False)])
    pause(ledger, "card", paused=True, domain="hillstrom")
    asyncio.run(ledger.append_decision(decision("d-1"), digest="a"))
    asyncio.run(ledger.append_decision(decision("d-2", domain="hillstrom", channel="sms"), digest="a"))
    gone = outcome(decision_id="d-2", type="complaint", occurred_at=NOW, action_id=None)
    asyncio.run(ledger.append_outcomes([(gone, "a")]))

    rebuild(chosen, now=NOW + timedelta(minutes=2))

    profiles = []
    for each in (chosen, other):
        store = opened(each, NOW + timedelta(minutes=2))
        profiles.append(store.read(after=timedelta(minutes=3)))
        store.close()
    ours, theirs = profiles
    assert (ours.consents, ours.suppressed, len(ours.contacts)) == ((Consent("marketing", "email"),), (), 1)
    assert (theirs.consents, theirs.suppressed) == ((Consent("personalisation", "email"),), ("sms",))
    assert [contact.channel for contact in theirs.contacts] == ["sms"]
    assert (ours.paused, theirs.paused) == ((), ("card",))


def test_a_stop_that_could_not_be_kept_outlives_starts_and_rebuilds(chosen: Settings, ledger: Ledger) -> None:
    store = opened(chosen)
    for paused in (True, False):
        pause(ledger, "card", paused=paused)
    asyncio.run(ledger.append_decision(decision(), digest="a"))
    store.pause("card", paused=True)  # while the ledger was down
    store.close()
    for again in (opened, rebuild, opened):
        made = again(chosen, now=NOW)
        if made is not None:
            made.close()
        store = Store(chosen)
        assert store.read().paused == ("card",), again.__name__
        store.close()


def test_a_stop_that_hot_state_never_heard_of_holds_from_the_next_start(chosen: Settings, ledger: Ledger) -> None:
    opened(chosen).close()
    pause(ledger, "de/card", paused=True)
    store = opened(chosen)
    assert store.read().paused == ("de/card",)
    store.close()


def test_what_is_resumed_in_all_markets_is_not_stopped_anew_in_one(chosen: Settings, ledger: Ledger) -> None:
    for action, paused in (("de/card", True), ("de/loan", True), ("ch/card", True), ("card", True), ("card", False)):
        pause(ledger, action, paused=paused)
    pause(ledger, "ch/card", paused=True)
    pause(ledger, "card", paused=True, domain="hillstrom")
    lost = opened(chosen)
    assert lost.read().paused == ("ch/card", "de/loan")
    lost.close()
    again = opened(chosen)
    assert again.read().paused == ("ch/card", "de/loan")
    again.close()
    with closing(LedgerReader(chosen)) as reader:
        assert kept_pauses(reader, domain="hillstrom") == [("hillstrom", "card")]


@pytest.mark.parametrize("down_for", [timedelta(minutes=1), timedelta(days=2)])
def test_a_word_that_hot_state_never_heard_of_counts_from_the_next_start(
    down_for: timedelta, chosen: Settings, ledger: Ledger
) -> None:
    store = opened(chosen)
    record_consents(chosen, store.hot, [consent(at=NOW - timedelta(days=1))])
    store.close()
    asyncio.run(ledger.append_decision(decision(channel="email"), digest="a"))
    long_ago = outcome("o-0", type="open", received_at=NOW - timedelta(days=9))
    asyncio.run(ledger.append_outcomes([(long_ago, "a"), (outcome(type="unsubscribe", action_id=None), "a")]))
    pause(ledger, "card", paused=True)

    store = opened(chosen, NOW + down_for)
    profile = store.read()
    store.close()

    assert (profile.consents, profile.suppressed, profile.paused) == ((), ("email",), ("card",))


def test_a_channel_that_three_soft_bounces_closed_is_closed_after_a_rebuild(chosen: Settings, ledger: Ledger) -> None:
    store = Store(chosen)
    outcomes = Outcomes(store.hot, ledger, FeedTally())
    for number, closed in enumerate([(), (), ("email",)]):
        decided = decision(f"d-{number}", channel="email")
        asyncio.run(ledger.append_decision(decided, digest="a"))
        report = OutcomeReport(decision_id=decided.decision_id, type="bounce", detail="soft")
        store.run(outcomes.record([report], release(), now=NOW))
        assert store.read().suppressed == closed
    store.close()

    lose(chosen)
    again = opened(chosen)
    assert again.read().suppressed == ("email",)
    again.close()


def test_a_start_leaves_the_outcomes_of_other_domains_to_them(chosen: Settings, ledger: Ledger) -> None:
    opened(chosen).close()
    asyncio.run(ledger.append_decision(decision(channel="email", domain="hillstrom"), digest="a"))
    asyncio.run(ledger.append_outcomes([(outcome(type="unsubscribe"), "a")]))

    store = opened(chosen)
    assert store.read().suppressed == ()
    store.close()


def test_an_answer_that_repeats_another_makes_no_contact_when_rebuilt(chosen: Settings, ledger: Ledger) -> None:
    asyncio.run(ledger.append_decision(decision("d-1"), digest="a"))
    again = decision("d-2", decided_at=NOW + timedelta(minutes=1), slots=(slot(repeats="d-1"),))
    asyncio.run(ledger.append_decision(again, digest="a"))
    asyncio.run(ledger.append_outcomes([(outcome(decision_id="d-2", type="accept"), "a")]))

    store = opened(chosen, NOW + timedelta(days=1))
    [contact] = store.read(after=timedelta(days=1)).contacts
    store.close()

    assert (contact.decision_id, contact.accepted_at) == ("d-1", NOW)


def test_an_answer_that_repeats_what_the_visitor_saw_before_the_login_is_told_to_that_contact(
    chosen: Settings, ledger: Ledger
) -> None:
    asyncio.run(ledger.append_decision(decision("d-1", customer_id="anonymous:v"), digest="a"))
    again = decision(
        "d-2", decided_at=NOW + timedelta(minutes=1), slots=(slot(repeats="d-1", repeats_of="anonymous:v"),)
    )
    asyncio.run(ledger.append_decision(again, digest="a"))
    asyncio.run(ledger.append_outcomes([(outcome(decision_id="d-2", type="accept"), "a")]))
    login = event("shop/1", type="identify", name="identify", anonymous_id="v")
    asyncio.run(ledger.append_events([(login, "a")]))

    store = opened(chosen, NOW + timedelta(days=1))
    profile = store.read(after=timedelta(days=1))
    store.close()

    [contact] = profile.contacts
    assert (contact.decision_id, contact.accepted_at, contact.customer_id) == ("d-1", NOW, "anonymous:v")
    assert [each.name for each in profile.events] == ["accept", "accept:card"]


def test_what_was_spent_longer_ago_than_contacts_count_is_still_spent(chosen: Settings, ledger: Ledger) -> None:
    budget = mails(5.0, period=timedelta(days=365))
    paid = slot(budget="mails", cost=1.0, confirmed=True)
    asyncio.run(ledger.append_decision(decision("d-1", slots=(paid,)), digest="a"))

    end = timedelta(days=100)
    store = opened(chosen, NOW + end)
    profile = store.read(after=end, budgets=(budget,))
    store.close()

    assert (profile.contacts, profile.budgets[0].left) == ((), 4.0)


def test_replicas_that_start_at_once_rebuild_once(chosen: Settings) -> None:
    append_consents(chosen, [consent()])
    said: list[str] = []
    starters = [
        threading.Thread(target=lambda: open_hot_state(chosen, now=NOW, progress=said.append).close()) for _ in range(4)
    ]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()

    store = Store(chosen)
    assert store.read().consents == (Consent("marketing", "email"),)
    assert chosen.hot_state == "sqlite" or len(said) == 1
    store.close()


def test_a_damaged_hot_state_is_replaced(settings: Settings, ledger: Ledger) -> None:
    asyncio.run(ledger.append_decision(decision(decided_at=NOW), digest="a"))
    settings.hot_path.write_bytes(b"not a database" * 1000)
    settings.hot_path.with_name("hot.db-wal").write_bytes(b"left behind")
    assert needs_rebuild(settings)

    hot = open_hot_state(settings, now=NOW + timedelta(minutes=1))

    assert len(asyncio.run(hot.read(Subject("c-1"), now=NOW + timedelta(minutes=1))).contacts) == 1


def test_hot_state_of_an_older_schema_is_made_anew(settings: Settings) -> None:
    append_consents(settings, [consent()])
    with closing(sqlite3.connect(settings.hot_path)) as connection:
        connection.execute("CREATE TABLE consents (customer_id TEXT)")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION - 1}")
    assert needs_rebuild(settings)

    hot = open_hot_state(settings, now=NOW)

    assert asyncio.run(hot.read(Subject("c-1"), now=NOW)).consents == (Consent("marketing", "email"),)


def test_hot_state_from_before_the_machine_last_started_is_not_trusted(settings: Settings) -> None:
    SqliteHotState(settings).close()
    connection = connect(settings.hot_path)
    connection.execute("UPDATE written_since SET boot_id = 'another'")
    connection.close()
    assert needs_rebuild(settings)

    rebuild(settings, now=NOW)

    assert not needs_rebuild(settings)


def test_nobody_waits_while_the_ledger_is_read_and_what_they_do_meanwhile_stays(
    chosen: Settings, ledger: Ledger
) -> None:
    store = opened(chosen)
    at = NOW - timedelta(hours=1)
    asyncio.run(ledger.append_decision(decision(channel="email", decided_at=at), digest="a"))
    meanwhile = outcome(type="unsubscribe", action_id="card")

    def act(_message: str) -> None:
        asyncio.run(ledger.append_outcomes([(meanwhile, "a")]))
        store.run(store.hot.apply(told_of(type="unsubscribe", action_id="card")))
        store.reserve(reservation("d-2", confirmed=True))
        pause(ledger, "card", paused=True)
        store.pause("card", paused=True)

    before = store.read()
    rebuild(chosen, now=NOW, progress=act)

    profile = store.read()
    assert [contact.at for contact in profile.contacts] == [at, NOW]
    assert (profile.suppressed, profile.paused) == (("email",), ("card",))
    assert profile.version != before.version
    assert not chosen.hot_path.with_name("hot.db.new").exists()
    store.close()


def test_a_place_whose_decision_is_still_on_its_way_survives_the_rebuild(chosen: Settings) -> None:
    store = opened(chosen)
    store.reserve(reservation(subject=Subject("c-1", "acme")))
    colleague = Subject("c-2", "acme")

    rebuild(chosen, now=NOW + timedelta(seconds=30))
    assert len(store.read(after=timedelta(seconds=30)).contacts) == 1
    assert len(store.read(colleague, after=timedelta(seconds=30)).account_contacts) == 1

    rebuild(chosen, now=NOW + timedelta(minutes=2))
    assert store.read(after=timedelta(minutes=2)).contacts == ()
    assert store.read(colleague, after=timedelta(minutes=2)).account_contacts == ()
    store.close()


def test_a_rebuild_forgets_what_the_ledger_does_not_know(chosen: Settings, ledger: Ledger) -> None:
    store = opened(chosen)
    store.set_consents([consent("stranger"), consent()])
    store.link(*(Link("stranger", f"anonymous:{name * 40}", NOW) for name in "uvw"))
    store.prefer(wishes("stranger", topics={"include": [f"group_{number}" for number in range(20)]}))
    store.reserve(charged(mails(2.0), subject=Subject("stranger")))
    asyncio.run(ledger.append_decision(decision("d-2"), digest="a"))

    rebuild(chosen, now=NOW + timedelta(minutes=2))
    store.close()
    store = Store(chosen)

    stranger = store.read(Subject("stranger"), after=timedelta(minutes=2))
    assert (stranger.consents, stranger.preferences, stranger.person) == ((), None, None)
    assert store.read(after=timedelta(minutes=2)).consents == ()
    assert store.read(after=timedelta(minutes=2), budgets=(mails(2.0),)).budgets[0].left == 2.0
    store.close()


def test_for_whom_decisions_were_first_made_is_known_again(chosen: Settings, ledger: Ledger) -> None:
    login = event("shop/1", type="identify", name="identify", customer_id="ann", anonymous_id="v")
    rejoined = event("shop/2", type="alias", name="alias", customer_id="ann", previous_id="bob")
    for number, unit in enumerate(("anonymous:v", "bob", "ann", "anonymous:v")):
        made = decision(f"d-{number}", customer_id=unit, decided_at=NOW + timedelta(minutes=number), slots=())
        asyncio.run(ledger.append_decision(made, digest="a"))
    others = decision("d-9", customer_id="bob", domain="another", decided_at=NOW - timedelta(days=1), slots=())
    asyncio.run(ledger.append_decision(others, digest="a"))
    asyncio.run(ledger.append_events([(login, "a"), (rejoined, "a")]))

    rebuild(chosen, now=NOW)
    store = Store(chosen)
    for name in ("ann", "bob", "anonymous:v"):
        profile = store.read(Subject(name))
        assert profile.person is not None
        assert (profile.met_first, profile.person.met) == ("anonymous:v", ("anonymous:v", "bob", "ann"))
    with closing(LedgerReader(chosen)) as reader:
        names = ["ann", "bob", "anonymous:v", "stranger"]
        assert reader.met("simulated", names) == asyncio.run(ledger.met(names))
    store.close()


def test_a_link_whose_caller_died_before_hot_state_knew_counts_after_the_next_start(
    chosen: Settings, ledger: Ledger
) -> None:
    store = opened(chosen)
    store.reserve(reservation(subject=Subject("anonymous:v"), confirmed=True))
    store.close()
    login = event("shop/1", type="identify", name="identify", anonymous_id="v")
    asyncio.run(ledger.append_events([(login, "a")]))

    store = opened(chosen, NOW + timedelta(hours=1))
    assert store.seen() == ["loan"]
    store.close()


def test_a_link_that_comes_while_hot_state_is_rebuilt_stays(chosen: Settings, ledger: Ledger) -> None:
    first, meanwhile = (
        event(f"shop/{name}", type="alias", name="alias", customer_id="b", previous_id=name, received_at=NOW)
        for name in ("a", "c")
    )
    store = opened(chosen)
    asyncio.run(ledger.append_events([(first, "a")]))
    store.link(*links_of(first))

    def act(_message: str) -> None:
        asyncio.run(ledger.append_events([(meanwhile, "a")]))
        store.link(*links_of(meanwhile))

    rebuild(chosen, now=NOW, progress=act)

    people = {store.read(Subject(name)).person for name in "abc"}
    assert [person.members for person in people if person] == [("a", "b", "c", "anonymous:a", "anonymous:c")]
    store.close()


def test_an_event_whose_caller_died_before_hot_state_knew_counts_after_the_next_start(
    chosen: Settings, ledger: Ledger
) -> None:
    """In the ledger first, in hot state second."""
    store = Store(chosen)
    store.reserve(reservation())  # so that nothing is rebuilt
    store.close()
    asyncio.run(ledger.append_events([(event("shop/1", properties={"product_id": "sofa"}), "a")]))

    opened = open_hot_state(chosen, now=NOW + timedelta(hours=1))
    opened.close()
    again = Store(chosen)
    assert [purchase.product for purchase in again.read().purchases] == ["sofa"]
    again.close()


def test_a_word_whose_caller_died_before_hot_state_knew_counts_after_the_next_start(
    chosen: Settings, ledger: Ledger
) -> None:
    store = Store(chosen)
    store.consent(consent(at=NOW - timedelta(days=400)))  # so that nothing is rebuilt
    store.close()
    asyncio.run(ledger.append_consents([consent(granted=False, at=NOW - timedelta(days=300))]))
    asyncio.run(ledger.append_preferences(wishes()))

    opened(chosen, NOW + timedelta(days=2)).close()
    again = Store(chosen)
    known = again.read()
    again.close()
    assert (known.consents, known.withdrawn) == ((), (Consent("marketing", "email"),))
    assert known.preferences == wishes().preferences


def test_what_is_said_while_hot_state_is_made_anew_is_not_lost(chosen: Settings, ledger: Ledger) -> None:
    asyncio.run(ledger.append_consents([consent(), consent("c-2")]))
    asyncio.run(ledger.append_preferences(wishes(at=NOW - timedelta(days=1))))
    store = opened(chosen)
    no, other = consent(granted=False, at=NOW + timedelta(minutes=1)), wishes(topics={"exclude": ["cards"]})

    def meanwhile(_said: str) -> None:
        with closing(Ledger(chosen)) as another:
            asyncio.run(another.append_consents([no]))
            asyncio.run(another.append_preferences(other))
        store.consent(no)
        store.prefer(other)

    rebuild(chosen, now=NOW, progress=meanwhile)
    known, theirs = store.read(), store.read(Subject("c-2"))
    store.close()
    assert (known.withdrawn, known.preferences) == ((Consent("marketing", "email"),), other.preferences)
    assert theirs.consents == (Consent("marketing", "email"),)
