"""Caps and budgets hold under any interleaving of reads, reservations, outcomes and time-outs."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decisioning import decision as funnel
from decisioning.case import Case
from decisioning.catalog import Catalog
from decisioning.content import Budget, ContactPolicy
from decisioning.content_types import NO_ACTION
from decisioning.exploration import SquareCB
from decisioning.profile import Contact, Facts, Subject
from decisioning.record import OutcomeRecord, Told
from decisioning.reservation import Reserved
from decisioning.scores import Scores
from serving.ports import HotState
from storage.hot_state.rebuild import needs_rebuild
from storage.hot_state.redis import RedisHotState
from storage.hot_state.sqlite import SqliteHotState
from storage.settings import Settings
from tests.builders import NOW, action, case, catalog, placement, request
from tests.decisioning import strategies as some
from tests.fakes import FakeHotState
from tests.storage.hot_stores import settings_for

bounded = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SUBJECTS = (Subject("c-1", "a-1"), Subject("c-2", "a-1"), Subject("c-3", "a-1"), Subject("c-4"))
TIME_OUT = timedelta(minutes=30)


class Step(NamedTuple):
    """What happens next: a customer is read or an answer reserved, an outcome comes, or time passes."""

    kind: Literal["read", "reserve", "impression", "not_sent", "wait"]
    which: int


steps = st.lists(
    st.builds(Step, st.sampled_from(("read", "read", "reserve", "reserve", "impression", "not_sent", "wait")),
              st.integers(0, 11)),
    min_size=6,
    max_size=40,
)  # fmt: skip


@dataclass(frozen=True)
class Booked:
    """A contact as the test itself remembers it."""

    subject: Subject
    contact: Contact
    state: Literal["reserved", "confirmed", "released"] = "reserved"

    def counts(self, now: datetime) -> bool:
        assert self.contact.until is not None
        return self.state == "confirmed" or (self.state == "reserved" and now < self.contact.until)


class World:
    """Drives a hot state through steps, and holds a book of its own against which limits are checked."""

    def __init__(self, shop: Catalog, hot_state: HotState, name: str) -> None:
        self.shop, self.hot_state, self.name, self.now = shop, hot_state, name, NOW
        self.pending: dict[Subject, tuple[Case, Facts]] = {}
        self.book: list[Booked] = []
        self.decisions = 0

    async def do(self, step: Step) -> None:
        subject = SUBJECTS[step.which % len(SUBJECTS)]
        if step.kind == "wait":
            self.now += (TIME_OUT / 2, TIME_OUT, timedelta(hours=20))[step.which % 3]
        elif step.kind == "read":
            await self.read(subject)
        elif step.kind == "reserve" and subject in self.pending:
            await self.reserve(subject, *self.pending.pop(subject))
        elif step.kind in ("impression", "not_sent") and self.book:
            await self.tell(step.kind, step.which % len(self.book))

    async def read(self, subject: Subject) -> None:
        self.decisions += 1
        asked = case(
            self.shop,
            decision_id=f"{self.name}-{self.decisions}",
            now=self.now,
            asking=request(customer_id=subject.customer_id),
        )
        hot = await self.hot_state.read(subject, now=self.now, budgets=self.shop.content.budgets)
        self.pending[subject] = asked, Facts(hot=hot, account_id=subject.account_id)

    async def reserve(self, subject: Subject, asked: Case, facts: Facts) -> None:
        narrowed = funnel.narrow(asked, facts)
        planned = funnel.plan(asked, narrowed, Scores(np.full(len(narrowed.eligible), 0.1)), key=b"key")
        reservation = funnel.reservation(asked, facts, planned, digest=asked.decision_id)
        reserved = await self.hot_state.reserve(reservation)
        assert isinstance(reserved, Reserved)
        made = [contact for _, contact in reservation.new_contacts(reserved.filled) if contact.is_counted]
        self.book += [Booked(subject, contact) for contact in made]
        for contact in made:
            self.check(subject, contact, asked.now)

    async def tell(self, kind: str, place: int) -> None:
        """Confirm or release a contact whose time has not run out for anybody."""
        booked = self.book[place]
        readers = [asked.now for asked, _ in self.pending.values()]
        if booked.state != "reserved" or not all(booked.counts(now) for now in (self.now, *readers)):
            return
        contact = booked.contact
        outcome = OutcomeRecord(
            outcome_id=f"{contact.decision_id}:{contact.action_id}:{kind}",
            decision_id=contact.decision_id,
            action_id=contact.action_id,
            type=kind,
            detail=None,
            value=None,
            occurred_at=self.now,
            received_at=self.now,
        )
        spoken_of = ((contact.decision_id, contact.action_id),)
        await self.hot_state.apply(
            Told(outcome=outcome, subject=booked.subject, channel=contact.channel, contacts=spoken_of, products=())
        )
        self.book[place] = replace(booked, state="confirmed" if kind == "impression" else "released")

    def check(self, subject: Subject, made: Contact, now: datetime) -> None:
        """Whether every limit that this contact counts for still holds."""
        live = [booked for booked in self.book if booked.counts(now)]
        for policy in self.shop.content.contact_policies:
            key = counted_as(made, policy)
            if policy.only in (None, key):
                met = [
                    booked
                    for booked in live
                    if belongs(booked.subject, subject, policy.of)
                    and counted_as(booked.contact, policy) == key
                    and now - booked.contact.at < policy.within
                ]
                assert len(met) <= policy.limit, policy
        budget = self.shop.budgets.get(made.budget or "")
        if budget is not None:
            charged = [
                booked.contact.cost
                for booked in live
                if booked.contact.budget == budget.id and belongs(booked.subject, subject, budget.of)
            ]
            assert sum(charged) <= budget.amount + 1e-9, budget


def counted_as(contact: Contact, policy: ContactPolicy) -> str:
    return {
        "any": "",
        "channel": contact.channel,
        "group": contact.group,
        "goal": contact.goal,
        "action": contact.action_id,
    }[policy.per]


def belongs(other: Subject, subject: Subject, of: str) -> bool:
    if of == "everyone":
        return True
    same_account = of == "account" and other.account_id == subject.account_id is not None
    return other.customer_id == subject.customer_id or same_account


def shop_with(policies: Sequence[ContactPolicy], *budgets: Budget) -> Catalog:
    """Actions that are charged to these budgets in turn, and one that is not; the policy is uniform."""
    charged = [budget.id for budget in budgets]
    offered = [
        action("card", budget=charged[0], cost=3.0),
        action("gold", budget=charged[1], cost=1.0),
        action("loan", group="loans", budget=charged[-1], cost=2.0),
        action("visit", group="loans"),
        action(NO_ACTION, group="other", value=0.0),
    ]
    hero = placement(slots=2, time_out=TIME_OUT, exploration=SquareCB(gamma=0.0))
    return catalog(*offered, placements=(hero,), contact_policies=tuple(policies), budgets=budgets)


# One period that no test outlasts, so that all that counts was charged in it.
ONES_OWN = some.budget("own", amount=3.0, counts="contacts", of="customer", period=timedelta(days=30), starts=NOW)
TEAMS = some.budget("team", amount=5.0, of="account", period=timedelta(days=30), starts=NOW)
EVERYONES = some.budget("promo", amount=7.0, of="everyone", period=timedelta(days=90), starts=NOW)
caps = st.lists(some.contact_policies(), max_size=3, unique_by=lambda policy: policy.id)


async def run(shop: Catalog, hot_state: Any, happening: Sequence[Step], *, name: str = "d") -> World:
    world = World(shop, hot_state, name)
    for step in happening:
        await world.do(step)
    return world


@bounded
@given(policies=caps, happening=steps)
def test_the_pure_rules_keep_every_limit(policies: list[ContactPolicy], happening: list[Step]) -> None:
    asyncio.run(run(shop_with(policies, ONES_OWN, TEAMS), FakeHotState(), happening))


@pytest.fixture
def domains() -> Iterator[str]:
    """Names: every example has a domain of its own in one store."""
    return (f"domain_{number}" for number in count())


@bounded
@given(policies=caps, happening=steps)
def test_sqlite_keeps_every_limit(
    tmp_path: Any, domains: Iterator[str], policies: list[ContactPolicy], happening: list[Step]
) -> None:
    own = Settings(home=tmp_path, domain=next(domains))
    with closing(SqliteHotState(own, clock=lambda: NOW)) as hot_state:
        asyncio.run(run(shop_with(policies, ONES_OWN, TEAMS, EVERYONES), hot_state, happening, name=own.domain))


@pytest.fixture
def redis_settings(tmp_path: Any) -> Iterator[Settings]:
    with settings_for("redis", Settings(home=tmp_path / "home")) as own:
        yield own


@pytest.mark.services
@bounded
@given(policies=caps, happening=steps)
def test_redis_keeps_every_limit(
    redis_settings: Settings, domains: Iterator[str], policies: list[ContactPolicy], happening: list[Step]
) -> None:
    own = replace(redis_settings, domain=next(domains))

    async def run_and_hang_up() -> None:
        needs_rebuild(own)  # marks one that need not be
        hot_state = RedisHotState(own, clock=lambda: NOW)
        try:
            await run(shop_with(policies, ONES_OWN, TEAMS, EVERYONES), hot_state, happening, name=own.domain)
        finally:
            hot_state.close()

    asyncio.run(run_and_hang_up())


def test_the_test_itself_sees_a_limit_that_is_not_kept() -> None:
    """A hot state that believes what was read before, as if nobody else decided meanwhile."""

    class Trusting(FakeHotState):
        def _profile(self, subject: Subject, others: Any = ()) -> Any:
            return msgspec.structs.replace(super()._profile(subject, others), version=1)

    happening = [Step("read", 0), Step("read", 1), Step("reserve", 0), Step("reserve", 1)]
    policy = ContactPolicy("one", limit=1, within=timedelta(days=1), of="account")
    shop = shop_with([policy], ONES_OWN, TEAMS)
    with pytest.raises(AssertionError, match="one"):
        asyncio.run(run(shop, Trusting(), happening))
    world = asyncio.run(run(shop, FakeHotState(), happening))
    assert len(world.book) <= 1
