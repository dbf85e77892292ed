"""States of features over events, in both stores of hot state: complete and exact, or not believed."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import redis

from decisioning.content_types import Scalar
from decisioning.event_content import EventFeature
from decisioning.event_features import EventFeatures
from decisioning.event_state import MARGIN, KeptStates
from decisioning.events import EventRecord
from decisioning.identity import Link
from decisioning.profile import Subject
from decisioning.state_change import StateChange
from storage.hot_state.rebuild import open_hot_state, rebuild
from storage.hot_state.state_replay import open_states, replay_states
from storage.hot_state.states import IN_USE, Replay
from storage.ledger.writer import Ledger
from storage.released_features import ReleasedFeatures
from storage.settings import Settings
from tests.events_by_definition import by_definition
from tests.storage.hot_stores import CUSTOMER, REDIS_URL, Store, mails, settings_for
from tests.storage.kept import NOW, event
from tests.storage.processes import others
from tests.storage.released import release

DAY = timedelta(days=1)
DECLARED = (
    EventFeature(id="orders", event="purchase", compute="count", windows=(DAY, 7 * DAY)),
    EventFeature(id="spend", event="purchase", compute="sum", of="value", windows=(7 * DAY,)),
    EventFeature(id="since_order", event="purchase", compute="recency"),
    EventFeature(id="last_page", event="page", compute="last", of="path"),
)
FEATURES = EventFeatures(DECLARED)
DIGEST = FEATURES.states.digest
COUNTING = EventFeatures(DECLARED[:1])
PAGES = EventFeatures(DECLARED[-1:])
RELEASED = ReleasedFeatures(FEATURES, NOW - DAY)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.services)])
def chosen(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    with settings_for(request.param, settings) as found:
        yield found


@pytest.fixture
def store(chosen: Settings) -> Iterator[Store]:
    opened = Store(chosen)
    yield opened
    opened.close()


def told(store: Store, *events: EventRecord, features: EventFeatures = FEATURES, now: datetime = NOW) -> None:
    store.run(store.hot.note([], StateChange(features, events, now=now)))


def features_of(
    store: Store, subject: Subject = CUSTOMER, *, features: EventFeatures = FEATURES, **given: Any
) -> dict[str, Scalar] | None:
    kept = store.read(subject, states=features.states.digest, **given).states
    assert kept is not None
    return features.of_person(kept, now=NOW + given.get("after", timedelta()))


def completed(settings: Settings, features: EventFeatures = FEATURES) -> None:
    """As after a replay."""
    open_states(settings).note_replayed(features.states.digest, Replay(0, complete=True), now=NOW)


def history(count: int = 60, *, customers: int = 3, seed: int = 1) -> list[EventRecord]:
    rng = np.random.default_rng(seed)
    return [
        event(
            f"shop/{number}",
            name="purchase" if rng.random() < 0.7 else "page",
            type="track",
            customer_id=f"c-{rng.integers(customers)}",
            occurred_at=NOW - timedelta(hours=int(rng.integers(0, 240))),
            properties={"value": float(rng.integers(1, 9)) / 10, "path": str(rng.integers(4))},
        )
        for number in range(count)
    ]


def by_customer(events: Sequence[EventRecord], customer: str) -> dict[str, Scalar]:
    return by_definition(DECLARED, [each for each in events if each.unit == customer], NOW)


def keep(settings: Settings, events: Sequence[EventRecord]) -> None:
    ledger = Ledger(settings)
    asyncio.run(ledger.append_events([(each, each.event_id) for each in events]))
    ledger.close()


def replayed(settings: Settings, released: ReleasedFeatures = RELEASED, **given: Any) -> bool:
    return replay_states(settings, released, clock=lambda: NOW, **given)


def test_what_was_told_is_read_by_the_next_decision(store: Store, chosen: Settings) -> None:
    completed(chosen)
    told(store, event("shop/1", properties={"value": 2.5}))
    assert features_of(store) == {"orders_1d": 1.0, "orders_7d": 1.0, "spend_7d": 2.5, "since_order": 0.0,
                                  "last_page": None}  # fmt: skip
    assert features_of(store, Subject("c-2")) == FEATURES.of_person(
        store.read(Subject("nobody"), states=DIGEST).states, now=NOW
    )


def test_states_are_read_where_they_are_asked_for(store: Store, chosen: Settings) -> None:
    completed(chosen)
    told(store, event())
    assert store.read().states is None


def test_what_is_told_again_late_and_in_any_order_gives_the_same_bytes(chosen: Settings) -> None:
    events = history(3, customers=1)
    found = set()
    for number, order in enumerate(permutations([*events, events[0]])):
        store = Store(replace(chosen, domain=f"d{number}"))
        for each in order:
            told(store, each)
        kept = store.read(Subject("c-0"), states=DIGEST).states
        found.add(tuple(kept.by_unit.values()))
        store.close()
    assert len(found) == 1


def test_what_no_feature_looks_at_changes_nothing(store: Store, chosen: Settings) -> None:
    completed(chosen)
    told(store, event(name="search"))
    kept = store.read(states=DIGEST).states
    assert (kept.complete, kept.by_unit) == (True, {})


def test_until_the_history_was_replayed_nothing_is_known(store: Store, chosen: Settings) -> None:
    told(store, event())
    assert features_of(store) is None
    completed(chosen)
    assert features_of(store) is not None


def test_other_declarations_have_states_of_their_own(store: Store, chosen: Settings) -> None:
    completed(chosen)
    told(store, event("shop/1"))
    told(store, event("shop/2", properties={"path": "/sofa"}, name="page"), features=PAGES)
    assert features_of(store, features=PAGES) is None, "nobody replayed for these"
    completed(chosen, PAGES)
    assert features_of(store, features=PAGES) == {"last_page": "/sofa"}
    assert features_of(store)["orders_1d"] == 1.0


def test_a_person_has_the_states_of_all_ids_each_event_once(store: Store, chosen: Settings) -> None:
    completed(chosen)
    store.link(Link("c-1", "anonymous:v-1", NOW), Link("c-1", "c-2", NOW))
    for unit in ({"customer_id": "c-1"}, {"customer_id": "c-2"}, {"customer_id": None, "anonymous_id": "v-1"}):
        told(store, event(f"shop/{unit}", **unit), event("shop/same", **unit))
    for subject in (Subject("c-1"), Subject("c-2"), Subject("anonymous:v-1"), Subject("c-1", "acme")):
        assert features_of(store, subject)["orders_1d"] == 4.0
    assert features_of(store, Subject("c-3"))["orders_1d"] == 0.0


def test_an_account_and_budgets_may_be_read_with_states(store: Store, chosen: Settings) -> None:
    completed(chosen)
    told(store, event())
    profile = store.read(Subject("c-1", "acme"), states=DIGEST, budgets=(mails(5.0),))
    assert [left.left for left in profile.budgets] == [5.0]
    assert FEATURES.of_person(profile.states, now=NOW)["orders_1d"] == 1.0


def test_replicas_that_tell_of_one_customer_at_once_lose_nothing(chosen: Settings, store: Store) -> None:
    completed(chosen)

    def tell(replica: int) -> Any:
        def program(say: Any) -> None:
            own = Store(chosen)
            for number in range(40):
                told(own, event(f"shop/{replica}-{number}"), event("shop/same"))
            say("done")

        return program

    with others(*(tell(replica) for replica in range(3))) as running:
        assert [lines.readline() for _, lines in running] == ["done\n"] * 3
    assert features_of(store)["orders_1d"] == 121.0


def test_many_calls_of_one_turn_all_count(store: Store, chosen: Settings) -> None:
    completed(chosen)

    async def at_once() -> None:
        calls = [StateChange(FEATURES, [event(f"shop/{number}")], now=NOW) for number in range(30)]
        await asyncio.gather(*(store.hot.note([], change) for change in calls))

    store.run(at_once())
    assert features_of(store)["orders_1d"] == 30.0


def test_a_state_of_which_nothing_is_left_is_forgotten(store: Store, chosen: Settings) -> None:
    completed(chosen, COUNTING)
    if chosen.hot_state == "redis":
        client = redis.Redis.from_url(REDIS_URL)
        key = f"{chosen.redis_prefix}:{chosen.domain}:{{c:c-1}}:states:{COUNTING.states.digest}"
        now = datetime.now(NOW.tzinfo)
        told(store, event(occurred_at=now), features=COUNTING, now=now)
        assert 7 * 86_400 < client.ttl(key) <= 7 * 86_400 + 3600
        told(store, event(occurred_at=now), features=FEATURES, now=now)
        assert client.ttl(key.replace(COUNTING.states.digest, DIGEST)) == -1, "the last purchase is asked for always"
        return
    told(store, event(), features=COUNTING)
    store.clock = NOW + 8 * DAY
    told(store, event("shop/2", customer_id="c-2", occurred_at=store.clock), features=COUNTING, now=store.clock)
    with closing(sqlite3.connect(chosen.hot_path)) as connection:
        assert connection.execute("SELECT customer_id FROM event_states").fetchall() == [("c-2",)]


def test_the_ledger_s_history_is_replayed_into_the_states(store: Store, chosen: Settings) -> None:
    events = history()
    keep(chosen, events)
    told(store, *events[20:30])  # what came in live before
    assert features_of(store) is None
    assert replayed(chosen)
    for customer in ("c-0", "c-1", "c-2"):
        assert features_of(store, Subject(customer)) == by_customer(events, customer)
    assert replayed(chosen), "again there is nothing to do"


def test_stores_and_definition_agree_whatever_comes_live_twice_or_from_the_ledger(chosen: Settings) -> None:
    rng, events, store = np.random.default_rng(5), history(300, customers=8), Store(chosen)
    keep(chosen, events)
    for place in rng.permutation(len(events)):
        if rng.random() < 0.6:
            told(store, *[events[place]] * int(rng.integers(1, 3)))
        if place == 7:
            replayed(chosen, goes_on=lambda _: False)
        if place % 50 == 0:  # the process ends, and another begins
            store.close()
            store = Store(chosen)
    assert replayed(chosen)
    for number in range(8):
        assert features_of(store, Subject(f"c-{number}")) == by_customer(events, f"c-{number}")
    store.close()


def test_a_replay_that_is_killed_goes_on_where_it_was(
    chosen: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.ledger.reader.CHUNK", 10)
    events = history(95)
    keep(chosen, events)

    def die(done: int) -> bool:
        if done >= 40:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    with others(lambda _say: replayed(chosen, goes_on=die)) as [(process, lines)]:
        assert lines.read() == ""
        process.join()
        assert process.exitcode == -signal.SIGKILL
    reached = open_states(chosen).replayed(DIGEST)
    assert (reached.upto >= 40, reached.complete) == (True, False)
    asked: list[int] = []
    assert replayed(chosen, goes_on=lambda done: not asked.append(done))
    assert asked[-1] <= 55
    assert features_of(store, Subject("c-1")) == by_customer(events, "c-1")


def test_one_process_replays_and_the_others_do_not_wait(chosen: Settings) -> None:
    keep(chosen, history())
    meanwhile: list[bool] = []

    def look(_done: int) -> bool:
        with others(lambda say: say(replayed(chosen))) as [(_, lines)]:
            meanwhile.append(lines.readline() == "False\n")
        return True

    assert replayed(chosen, goes_on=look)
    assert meanwhile
    assert all(meanwhile)


def test_states_are_complete_only_after_every_service_follows_the_declarations(chosen: Settings, store: Store) -> None:
    keep(chosen, [event("shop/1")])
    young = ReleasedFeatures(FEATURES, NOW + timedelta(seconds=5))
    assert not replayed(chosen, young)
    keep(chosen, [event("shop/2")])  # told to the states of the declarations before
    assert features_of(store) is None
    assert replay_states(chosen, young, clock=lambda: NOW + timedelta(seconds=6))
    assert features_of(store)["orders_1d"] == 2.0


def test_a_rebuild_forgets_what_the_ledger_does_not_know_and_completes_the_rest(chosen: Settings, store: Store) -> None:
    release(chosen, DECLARED)
    events = history(20)
    keep(chosen, events)
    completed(chosen)
    told(store, event("shop/unkept", customer_id="c-0"))
    rebuild(chosen, now=NOW)
    assert features_of(store, Subject("c-0")) == by_customer(events, "c-0")


def test_of_hot_state_that_was_lost_nothing_is_believed_until_the_history_was_replayed(chosen: Settings) -> None:
    release(chosen, DECLARED)
    events = history(20)
    keep(chosen, events)
    store = Store(chosen)
    assert replayed(chosen)
    store.close()
    if chosen.hot_state == "sqlite":
        with closing(sqlite3.connect(chosen.hot_path)) as connection:
            connection.execute("UPDATE written_since SET boot_id = 'before'")
            connection.commit()
    else:
        client = redis.Redis.from_url(REDIS_URL)
        for key in client.scan_iter(match=f"{chosen.redis_prefix}:*:paused"):
            client.delete(key)
    open_hot_state(chosen, now=NOW).close()
    store = Store(chosen)
    assert features_of(store, Subject("c-0")) is None
    assert replayed(chosen)
    assert features_of(store, Subject("c-0")) == by_customer(events, "c-0")
    store.close()


def test_an_event_whose_caller_died_before_hot_state_knew_counts_after_the_next_start(
    chosen: Settings, store: Store
) -> None:
    release(chosen, DECLARED)
    keep(chosen, [event("shop/1")])
    assert replayed(chosen)
    keep(chosen, [event("shop/2", type="page", name="page", properties={"path": "/sofa"})])
    assert features_of(store)["last_page"] is None
    open_hot_state(chosen, now=NOW + timedelta(minutes=1)).close()
    assert features_of(store)["last_page"] == "/sofa"


def test_declarations_that_nobody_uses_any_more_leave_nothing(chosen: Settings, store: Store) -> None:
    states = open_states(chosen)
    told(store, event(), event("shop/2", customer_id="c-2"))
    told(store, event(name="page", properties={"path": "/sofa"}), features=PAGES)
    completed(chosen)
    completed(chosen, PAGES)
    later = NOW + IN_USE
    states.say_in_use(PAGES.states.digest, now=later)
    assert states.unused(now=later) == [DIGEST]
    states.drop(DIGEST)
    assert states.unused(now=later) == []
    kept = store.read(states=DIGEST).states
    assert (kept.complete, kept.by_unit) == (False, {})
    assert features_of(store, features=PAGES) == {"last_page": "/sofa"}


def test_a_state_that_cannot_be_read_is_unknown_and_the_next_event_makes_it_anew() -> None:
    change = StateChange(FEATURES, [event()], now=NOW)
    good = change.of("c-1", None)
    assert good is not None
    assert FEATURES.of_person(KeptStates(True, {"c-1": good.blob, "c-2": b"damaged"}), now=NOW) is None
    assert change.of("c-1", good.blob) is None
    assert change.of("c-1", b"damaged") == good


def test_what_states_have_forgotten_is_unknown() -> None:
    state = StateChange(FEATURES, [event()], now=NOW).of("c-1", None)
    assert state is not None
    kept = KeptStates(True, {"c-1": state.blob})
    assert FEATURES.of_person(kept, now=NOW - MARGIN) is not None
    assert FEATURES.of_person(kept, now=NOW - MARGIN - timedelta(seconds=1)) is None
