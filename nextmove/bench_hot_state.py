"""What hot state in Redis costs this process: a read and a reservation, several at a time on one event loop."""

import asyncio
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import redis

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
from storage.settings import Settings

CONCURRENT = 8
CUSTOMERS, CONTACTS, CANDIDATES = 200, 8, 50
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
_ORDER = tuple(range(CANDIDATES))
_CAPS = Caps(
    ContactPolicy(f"cap_{number}", limit=1_000, within=timedelta(days=1 + number), per="group") for number in range(20)
)


class HotStateCost(NamedTuple):
    """Microseconds of CPU per pair of a read and a reservation; `take` is the part that judges the rules."""

    pairs: int
    concurrent: int
    contacts: float
    pair: float
    take: float
    wall: float

    @property
    def without_take(self) -> float:
        """What the store alone costs."""
        return self.pair - self.take


def hot_state_cost(settings: Settings, *, pairs: int) -> HotStateCost | str:
    """Measured under keys of its own, which are removed; a sentence where Redis cannot be used."""
    own = replace(settings, hot_state="redis", redis_prefix=f"nmbench.{os.getpid()}", domain="bench")
    try:
        return asyncio.run(_measured(own, pairs))
    except StoreError as error:
        return str(error)
    finally:
        _removed(own)


async def _measured(settings: Settings, pairs: int) -> HotStateCost:
    needs_rebuild(settings)  # marks one that need not be
    hot_state = RedisHotState(settings, clock=lambda: NOW)
    try:
        await _pairs(hot_state, CUSTOMERS * CONTACTS, "before")
        collector.settle()
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        contacts = await _pairs(hot_state, pairs, "during")
        cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
        seen = await hot_state.read(Subject("c-1"), now=NOW)
        request = _request("take", Subject("c-1"), seen)
        began = time.thread_time_ns()
        for _ in range(1_000):
            take(request, seen)
        judged = (time.thread_time_ns() - began) / 1_000
    finally:
        hot_state.close()
    return HotStateCost(
        pairs=pairs,
        concurrent=CONCURRENT,
        contacts=round(contacts, 1),
        pair=round(cpu / 1e3 / pairs, 1),
        take=round(judged / 1e3, 1),
        wall=round(wall / 1e3 / pairs, 1),
    )


async def _pairs(hot_state: RedisHotState, count: int, name: str) -> float:
    """So many pairs, shared by the concurrent callers; the mean number of contacts that were read."""
    numbers = iter(range(count))
    read = 0

    async def caller() -> None:
        nonlocal read
        for number in numbers:
            subject = Subject(f"c-{number % CUSTOMERS}")
            seen = await hot_state.read(subject, now=NOW)
            read += len(seen.contacts)
            await hot_state.reserve(_request(f"{name}-{number}", subject, seen))

    await asyncio.gather(*(caller() for _ in range(CONCURRENT)))
    return read / count


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


def _request(decision_id: str, subject: Subject, seen: HotProfile) -> ReservationRequest:
    return ReservationRequest(
        decision_id=decision_id,
        digest="bench",
        subject=subject,
        now=NOW,
        at=NOW,
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
