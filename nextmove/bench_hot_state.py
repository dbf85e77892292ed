"""What hot state in Redis costs this process: a read and a reservation, several at a time on one event loop."""

import asyncio
import os
import statistics
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import redis
import uvicorn

from decisioning.caps import Caps
from decisioning.catalog import Catalog, Eligible
from decisioning.content import Action, Channel, ContactPolicy, Content, Placement, Treatment
from decisioning.errors import StoreError
from decisioning.exploration import Greedy
from decisioning.profile import HotProfile, Subject
from decisioning.reservation import ReservationRequest, take
from serving import collector
from storage.hot_state.rebuild import needs_rebuild
from storage.hot_state.redis import RedisHotState
from storage.hot_state.redis_connection import Connection, address_of
from storage.settings import Settings

CONCURRENT = 8
CUSTOMERS, CONTACTS, CANDIDATES = 200, 8, 50
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
_ORDER = tuple(range(CANDIDATES))
_CAPS = Caps(
    ContactPolicy(f"cap_{number}", limit=1_000, within=timedelta(days=1 + number), per="group") for number in range(20)
)


class HotStateCost(NamedTuple):
    """Microseconds of CPU per pair of a read and a reservation: the median round.

    `take` is the part that judges the rules. `empty` is what a pair of calls costs that ask for one
    key each that is not there: the connection and the event loop, with nothing of hot state.
    """

    pairs: int
    concurrent: int
    contacts: float
    pair: float
    least: float
    take: float
    empty: float
    wall: float


def hot_state_cost(settings: Settings, *, pairs: int, rounds: int) -> HotStateCost | str:
    """Measured under keys of its own, which are removed; a sentence where Redis cannot be used."""
    own = replace(settings, hot_state="redis", redis_prefix=f"nmbench.{os.getpid()}", domain="bench")
    try:
        # On the event loop that the service runs on.
        with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:
            return runner.run(_measured(own, pairs, rounds))
    except StoreError as error:
        return str(error)
    finally:
        _removed(own)


async def _measured(settings: Settings, pairs: int, rounds: int) -> HotStateCost:
    needs_rebuild(settings)  # marks one that need not be
    hot_state = RedisHotState(settings, clock=lambda: NOW)
    connection = await Connection.open(address_of(settings.redis_url))
    cpus, walls, judged, empty, contacts = [], [], [], [], 0.0
    try:
        for number in range(rounds + 1):  # the first warms up
            name = f"round {number}"
            await _pairs(hot_state, name, range(CUSTOMERS * CONTACTS))
            collector.settle()
            wall, cpu = time.perf_counter_ns(), time.process_time_ns()
            contacts = await _pairs(hot_state, name, range(CUSTOMERS * CONTACTS, CUSTOMERS * CONTACTS + pairs))
            cpus.append((time.process_time_ns() - cpu) / pairs)
            walls.append((time.perf_counter_ns() - wall) / pairs)
            began = time.process_time_ns()
            await _empty_pairs(connection, f"{settings.redis_prefix}:none", pairs)
            empty.append((time.process_time_ns() - began) / pairs)
            request = _request("take", Subject("c-1"), await hot_state.read(Subject("c-1"), now=NOW), NOW)
            began = time.process_time_ns()
            for _ in range(1_000):
                take(request, request.seen)
            judged.append((time.process_time_ns() - began) / 1_000)
    finally:
        connection.close()
        hot_state.close()
    medians = (round(statistics.median(each[1:]) / 1e3, 1) for each in (cpus, judged, empty, walls))
    pair, taken, nothing, wall_time = medians
    return HotStateCost(
        pairs, CONCURRENT, round(contacts, 1), pair, round(min(cpus[1:]) / 1e3, 1), taken, nothing, wall_time
    )


async def _pairs(hot_state: RedisHotState, name: str, minutes: range) -> float:
    """A pair in each of these minutes, shared by the concurrent callers; how many contacts each read on average."""
    numbers = iter(minutes)
    read = 0

    async def caller() -> None:
        nonlocal read
        for number in numbers:
            subject, now = Subject(f"{name} c-{number % CUSTOMERS}"), NOW + timedelta(minutes=number)
            seen = await hot_state.read(subject, now=now)
            read += len(seen.contacts)
            await hot_state.reserve(_request(f"{name} d-{number}", subject, seen, now))

    await asyncio.gather(*(caller() for _ in range(CONCURRENT)))
    return read / len(minutes)


async def _empty_pairs(connection: Connection, key: str, count: int) -> None:
    numbers = iter(range(count))

    async def caller() -> None:
        for _ in numbers:
            await connection.call([("GET", key)])
            await connection.call([("GET", key)])

    await asyncio.gather(*(caller() for _ in range(CONCURRENT)))


def _eligible() -> tuple[Eligible, ...]:
    actions = [
        Action(
            id=f"action_{number}",
            name=f"Action {number}",
            group=f"group_{number % 10}",
            goal="sell",
            status="live",
            value=1.0,
            treatments=(Treatment(f"action_{number}_web", "web", {}),),
        )
        for number in range(CANDIDATES)
    ]
    content = Content(
        domain="bench",
        currency="EUR",
        groups=tuple(f"group_{number}" for number in range(10)),
        goals=("sell",),
        channels=(Channel("web"),),
        placements=(_PLACEMENT,),
        actions=tuple(actions),
    )
    live = Catalog(content, version="sha256:bench").offered(_PLACEMENT).live
    return tuple(Eligible(proposal, 1.0, proposal.value) for proposal in live)


_PLACEMENT = Placement(id="hero", channel="web", priority_scale=1.0, exploration=Greedy(), reward={})
_ELIGIBLE = _eligible()


def _request(decision_id: str, subject: Subject, seen: HotProfile, now: datetime) -> ReservationRequest:
    return ReservationRequest(
        decision_id=decision_id,
        digest="bench",
        subject=subject,
        now=now,
        at=now,
        placement=_PLACEMENT,
        eligible=_ELIGIBLE,
        order=_ORDER,
        slots=1,
        policies=_CAPS,
        budgets={},
        confirmed=True,
        seen=seen,
        still=lambda _: _ORDER,
    )


def _removed(settings: Settings) -> None:
    try:
        with redis.Redis.from_url(settings.redis_url) as client:
            for key in client.scan_iter(match=f"{settings.redis_prefix}:*"):
                client.delete(key)
    except redis.RedisError:
        pass  # it could not be used at all
