"""What only hot state in Redis does: it survives lost connections, scripts and keys, and gives leases back."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import redis

from decisioning.errors import SetupError, StoreError
from decisioning.identity import Link, links_of
from decisioning.profile import HotProfile, Subject
from storage.consents import record_consents
from storage.hot_state import redis_rebuild
from storage.hot_state.rebuild import open_hot_state, rebuild
from storage.hot_state.redis import RedisHotState
from storage.hot_state.redis_connection import Command, ReplyLost
from storage.hot_state.redis_values import Keys
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.storage.hot_stores import CUSTOMER, REDIS_URL, Store, charged, mails, reservation, settings_for
from tests.storage.kept import NOW, consent, decision, event, slot


@pytest.fixture
def chosen(settings: Settings) -> Iterator[Settings]:
    with settings_for("redis", settings) as found:
        yield found


@pytest.mark.services
def test_scripts_that_redis_forgot_are_sent_again(chosen: Settings) -> None:
    store = Store(chosen)
    redis.Redis.from_url(REDIS_URL).script_flush()

    assert len(store.take(charged(mails(5.0)))) == 1
    store.tell(type="impression")
    assert store.seen() == ["loan"]
    store.close()


def spent(client: redis.Redis, key: str) -> list[int]:
    return [int(amount) for name, amount in client.hgetall(key).items() if b"/" in name]


@pytest.mark.services
def test_a_lease_is_given_back_when_its_replica_stops(chosen: Settings) -> None:
    budget = mails(1000.0)
    store = Store(chosen)
    store.take(charged(budget))
    key = f"{chosen.redis_prefix}:simulated:{{b:mails}}"
    client = redis.Redis.from_url(REDIS_URL)
    assert spent(client, key) > [1_000_000]

    store.close()

    assert spent(client, key) == [1_000_000]


def test_a_call_in_flight_when_the_connection_dies_fails_and_the_next_one_connects_again(settings: Settings) -> None:
    met: list[int] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(len(await reader.read(10_000)))
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        hot = RedisHotState(replace(settings, hot_state="redis", redis_url=f"redis://127.0.0.1:{port}"))
        for _ in range(2):
            with pytest.raises(ReplyLost, match="hung up"):
                await hot.reserve(reservation())
        assert len(met) == 2, "nothing is sent twice"
        server.close()
        await asyncio.sleep(0)
        with pytest.raises(StoreError, match="cannot be reached"):
            await hot.read(CUSTOMER, now=NOW)
        hot.close()

    asyncio.run(scenario())


@pytest.mark.services
def test_the_connection_of_another_event_loop_is_hung_up(chosen: Settings) -> None:
    store = Store(chosen)
    store.read()
    first = store.hot._connection
    with asyncio.Runner() as runner:
        runner.run(store.hot.read(CUSTOMER, now=NOW))
        assert not first.is_open
        assert store.hot._connection.is_open
        store.hot.close()
    store.close()


def test_an_address_that_is_none_is_refused(settings: Settings) -> None:
    with pytest.raises(SetupError, match="redis_url"):
        RedisHotState(replace(settings, redis_url="http://localhost"))


@pytest.mark.services
def test_calls_of_one_turn_of_the_loop_go_out_in_one_write(chosen: Settings) -> None:
    store = Store(chosen)

    async def together() -> int:
        await store.hot.read(CUSTOMER, now=NOW)
        client = redis.Redis.from_url(REDIS_URL)
        before = client.info("stats")["total_reads_processed"]
        await asyncio.gather(*(store.hot.read(Subject(f"c-{n}"), now=NOW) for n in range(50)))
        return int(client.info("stats")["total_reads_processed"]) - before

    assert store.run(together()) < 50
    store.close()


def lose(settings: Settings) -> None:
    client = redis.Redis.from_url(REDIS_URL)
    for key in client.scan_iter(match=f"{settings.redis_prefix}:*"):
        client.delete(key)


@pytest.mark.services
def test_a_question_about_a_budget_that_wants_nothing_makes_no_period(chosen: Settings) -> None:
    store = Store(chosen)
    [entry] = store.read(budgets=(mails(5.0),)).budgets

    assert entry.left == 5.0
    assert not redis.Redis.from_url(REDIS_URL).exists(*Keys(chosen.redis_prefix, "simulated").budget("mails"))
    store.close()


@pytest.mark.services
@pytest.mark.parametrize("way", ["rebuilt", "lost", "lost and leased anew by another"])
def test_a_lease_is_not_given_back_to_a_budget_that_was_made_anew(way: str, chosen: Settings, ledger: Ledger) -> None:
    budget, paid = mails(1000.0), slot(budget="mails", cost=1.0, confirmed=True)
    asyncio.run(ledger.append_decision(decision(slots=(paid,)), digest="a"))
    open_hot_state(chosen, now=NOW).close()
    store = Store(chosen)
    store.take(charged(budget, "d-2", confirmed=True))
    asyncio.run(ledger.append_decision(decision("d-2", slots=(paid,)), digest="a"))
    if way != "rebuilt":
        lose(chosen)
    rebuild(chosen, now=NOW)
    other = Store(chosen)
    if "another" in way:
        other.take(charged(budget, "d-3", subject=Subject("c-3")))

    store.close()

    [entry] = other.read(budgets=(budget,)).budgets
    assert entry.left == (997.0 if "another" in way else 998.0)
    other.close()


@pytest.mark.services
def test_what_was_leased_before_a_rebuild_is_not_charged_after_it(chosen: Settings) -> None:
    budget = mails(100.0)
    store, other = Store(chosen), Store(chosen)
    for number in range(10):
        store.take(charged(budget, f"d-{number}", subject=Subject(f"c-{number}"), confirmed=True))
    rebuild(chosen, now=NOW + timedelta(minutes=2))  # the ledger knows of none of these

    taken = 0
    for number in range(120):
        for replica in (store, other):
            name = f"e-{number}-{replica is store}"
            seen = replica.read(Subject(name), budgets=(budget,))
            taken += len(replica.take(charged(budget, name, subject=Subject(name), seen=seen, confirmed=True)))

    assert taken == 100
    store.close()
    other.close()


@pytest.mark.services
def test_a_redis_that_lost_its_keys_answers_nothing_until_it_is_filled_again(chosen: Settings, ledger: Ledger) -> None:
    hot = open_hot_state(chosen, now=NOW, clock=lambda: NOW)
    record_consents(chosen, hot, [consent()])
    asyncio.run(ledger.append_decision(decision(), digest="a"))

    async def scenario() -> HotProfile:
        with suppress(StoreError):
            await hot.reserve(reservation("d-2"))
        assert hot.problem is None
        lose(chosen)
        seen = HotProfile(version=1)
        with pytest.raises(StoreError, match="has lost what it knew"):
            await hot.reserve(reservation("d-3", seen=seen))
        assert hot.problem is not None
        for _ in range(100):
            try:
                return await hot.read(CUSTOMER, now=NOW)
            except StoreError:
                await asyncio.sleep(0.05)
        raise AssertionError("nobody filled it")

    with asyncio.Runner() as runner:
        profile = runner.run(scenario())
        hot.close()

    assert hot.problem is None
    assert [entry.channel for entry in profile.consents] == ["email"]
    assert [contact.decision_id for contact in profile.contacts][:1] == ["d-1"]


@pytest.mark.services
def test_without_its_mark_neither_a_read_nor_a_new_customer_is_answered(chosen: Settings) -> None:
    store = Store(chosen)
    store.pause("loan", paused=True)
    lose(chosen)

    for call in (lambda: store.read(), lambda: store.reserve(reservation()), lambda: store.read(budgets=(mails(),))):
        with pytest.raises(StoreError, match="has lost what it knew"):
            call()
    store.close()


@pytest.mark.services
@pytest.mark.parametrize("lost", ["the call", "its reply"])
@pytest.mark.parametrize(("kinds", "expected"), [(["impression"], 0.0), (["not_sent"], 1.0), (["sent", "bounce"], 1.0)])
def test_an_outcome_told_again_settles_what_its_first_call_did_not(
    kinds: list[str], expected: float, lost: str, chosen: Settings
) -> None:
    budget, store = mails(1.0), Store(chosen, clock=lambda: NOW + timedelta(days=1))
    store.take(charged(budget))
    call, calls = store.hot._call, 0

    async def breaks(commands: list[Command]) -> list[Any]:
        nonlocal calls
        calls += 1
        if calls % 2:
            return await call(commands)
        if lost == "its reply":
            await call(commands)
        raise ReplyLost("the connection died")

    for kind in kinds:
        store.hot._call = breaks
        with pytest.raises(ReplyLost):
            store.tell(type=kind)
        store.hot._call = call
        store.tell(type=kind)
        store.tell(type=kind)

    [entry] = store.read(after=timedelta(hours=1), budgets=(budget,)).budgets
    assert entry.left == expected
    assert not redis.Redis.from_url(REDIS_URL).exists(Keys(chosen.redis_prefix, "simulated").budget("mails")[3])
    store.close()


@pytest.mark.services
@pytest.mark.parametrize("confirmed", [True, False])
def test_what_was_abandoned_is_given_back_even_if_the_first_attempt_dies(confirmed: bool, chosen: Settings) -> None:
    budget, store = mails(1.0), Store(chosen)
    store.take(charged(budget, confirmed=confirmed))
    call = store.hot._call

    async def breaks(commands: list[Command]) -> list[Any]:
        if commands[0][2] == 4:  # settles
            raise ReplyLost("the connection died")
        return await call(commands)

    again = {"eligible": (), "order": (), "now": NOW + timedelta(seconds=6)}
    store.hot._call = breaks
    with pytest.raises(ReplyLost):
        store.reserve(reservation(**again))
    store.hot._call = call
    assert store.take(reservation(**again)) == ()

    [entry] = store.read(after=timedelta(seconds=6), budgets=(budget,)).budgets
    assert entry.left == 1.0
    store.close()


@pytest.mark.services
def test_what_is_held_is_given_back_when_judging_fails(chosen: Settings) -> None:
    budget, store = mails(1.0), Store(chosen)
    store.set_consents([consent()])  # so that the profile is another than was seen

    def still(_profile: HotProfile) -> list[int]:
        raise RuntimeError("a rule failed")

    with pytest.raises(RuntimeError, match="a rule failed"):
        store.reserve(charged(budget, "d-1", still=still))

    assert len(store.take(charged(budget, "d-2"))) == 1
    store.close()


@pytest.mark.services
def test_a_command_that_cannot_be_sent_leaves_the_connection_usable(chosen: Settings) -> None:
    store = Store(chosen)
    wrong: Any = ("SET", object())

    with pytest.raises(TypeError):
        store.run(store.hot._call([("PING",), wrong]))

    assert store.run(store.hot._call([("ECHO", "a")])) == [b"a"]
    store.close()


@pytest.mark.services
def test_a_lease_waits_for_the_connection_to_be_given_back(chosen: Settings) -> None:
    budget, store = mails(1000.0), Store(chosen)
    store.take(charged(budget, confirmed=True))

    async def cut() -> None:
        store.hot._connection.close()
        for lease in store.hot._leases._leases.values():
            lease.used_at -= 60
        store.hot._end_leases()

    store.run(cut())
    store.close()

    assert spent(redis.Redis.from_url(REDIS_URL), Keys(chosen.redis_prefix, "simulated").budget("mails")[0]) == [
        1_000_000
    ]


@pytest.mark.services
def test_whoever_lost_the_right_to_rebuild_stops(chosen: Settings) -> None:
    keys = Keys(chosen.redis_prefix, "simulated")
    with redis.Redis.from_url(REDIS_URL) as client, redis_rebuild.alone(client, keys) as alive:
        alive()
        client.set(keys.rebuilding, "another")

        with pytest.raises(StoreError, match="another replica"):
            alive()


@pytest.mark.services
def test_who_is_one_person_is_not_forgotten_with_old_contacts(chosen: Settings) -> None:
    store = Store(chosen)
    store.link(*(Link("c-1", f"anonymous:{name * 40}", NOW) for name in "uvw"))
    person = store.read().person
    for day in range(60):
        store.reserve(reservation(f"d-{day}", now=NOW + timedelta(days=day), confirmed=True))

    names = redis.Redis.from_url(REDIS_URL).hkeys(Keys(chosen.redis_prefix, "simulated").customer("c-1"))
    assert len(names) < 60, "old contacts were forgotten"
    profile = store.read(after=timedelta(days=60))
    assert (profile.person, len(profile.contacts)) == (person, 29)
    store.link(Link("c-1", "anonymous:x", NOW))
    profile = store.read(after=timedelta(days=60))
    assert profile.person is not None
    assert len(profile.person.members) == 5
    store.close()


@pytest.mark.services
def test_a_start_mends_a_person_of_whom_a_rebuild_left_only_the_links(chosen: Settings, ledger: Ledger) -> None:
    login = event(type="identify", name="identify", anonymous_id="v")
    open_hot_state(chosen, now=NOW).close()
    asyncio.run(ledger.append_events([(login, "a")]))
    store = Store(chosen)
    store.link(*links_of(login))
    person = store.read().person
    assert person is not None
    redis.Redis.from_url(REDIS_URL).hdel(Keys(chosen.redis_prefix, "simulated").customer("c-1"), "m")
    assert store.read().person is None

    open_hot_state(chosen, now=NOW).close()
    assert store.read().person == person
    store.close()
