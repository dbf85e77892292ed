"""What only hot state in Redis does: it survives lost connections and scripts, and gives leases back."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from decisioning.errors import SetupError, StoreError
from decisioning.profile import Subject
from storage.hot_state.redis import RedisHotState
from storage.hot_state.redis_connection import ReplyLost
from storage.settings import Settings
from tests.storage.hot_stores import CUSTOMER, REDIS_URL, Store, charged, mails, reservation, settings_for
from tests.storage.kept import NOW


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


@pytest.mark.services
def test_a_lease_is_given_back_when_its_replica_stops(chosen: Settings) -> None:
    budget = mails(1000.0)
    store = Store(chosen)
    store.take(charged(budget))
    key = f"{chosen.redis_prefix}:simulated:{{b:mails}}"
    client = redis.Redis.from_url(REDIS_URL)
    [leased] = client.hvals(key)
    assert int(leased) > 1_000_000

    store.close()

    assert [int(spent) for spent in client.hvals(key)] == [1_000_000]


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
