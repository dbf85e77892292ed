"""Both adapters of hot state behind one face for tests, and reservations to try on them."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis

from decisioning.catalog import Eligible
from decisioning.contact_policy import ContactCounts
from decisioning.content import Budget, ContactPolicy
from decisioning.events import Happened
from decisioning.identity import Link
from decisioning.preferences import PreferencesChange
from decisioning.profile import ConsentChange, HotProfile, Subject
from decisioning.record import Told
from decisioning.reservation import AlreadyClaimed, ReservationRequest, Reserved
from decisioning.slots import FilledSlot
from storage.hot_state.rebuild import StoredHotState, needs_rebuild
from storage.hot_state.redis import RedisHotState
from storage.hot_state.sqlite import SqliteHotState
from storage.settings import Settings
from tests.builders import eligible, placement
from tests.storage.kept import NOW, outcome

PATIENT = timedelta(seconds=5)
REDIS_URL = "redis://127.0.0.1:6379/0"
CUSTOMER = Subject("c-1")


class Store:
    """One adapter, driven by an event loop of its own. Its clock goes with the times of what it is asked."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] | None = None) -> None:
        self.settings = settings
        self.clock = NOW
        clock = clock or (lambda: self.clock)
        if settings.hot_state == "redis":
            needs_rebuild(settings)  # marks one that need not be
        self.hot: StoredHotState = (
            RedisHotState(settings, clock=clock)
            if settings.hot_state == "redis"
            else SqliteHotState(settings, busy_timeout=PATIENT, clock=clock)
        )
        self._runner = asyncio.Runner()

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(call)

    def read(self, subject: Subject = CUSTOMER, *, after: timedelta = timedelta(), **given: Any) -> HotProfile:
        self.clock = max(self.clock, NOW + after)
        return self._runner.run(self.hot.read(subject, now=NOW + after, **given))

    def reserve(self, request: ReservationRequest) -> Reserved | AlreadyClaimed:
        self.clock = max(self.clock, request.now)
        return self._runner.run(self.hot.reserve(request))

    def take(self, request: ReservationRequest) -> tuple[FilledSlot, ...]:
        reserved = self.reserve(request)
        assert isinstance(reserved, Reserved), reserved
        return reserved.filled

    def take_all(self, *requests: ReservationRequest) -> list[tuple[FilledSlot, ...]]:
        """All at once, as tasks of one event loop."""

        async def race() -> list[Reserved | AlreadyClaimed]:
            return await asyncio.gather(*(self.hot.reserve(request) for request in requests))

        return [done.filled for done in self._runner.run(race()) if isinstance(done, Reserved)]

    def tell(self, **overrides: Any) -> None:
        self._runner.run(self.hot.apply(told(**overrides)))

    def note(self, *happened: Happened) -> None:
        self._runner.run(self.hot.note(happened))

    def link(self, *links: Link) -> None:
        self._runner.run(self.hot.link(links))

    def consent(self, *changes: ConsentChange) -> None:
        self._runner.run(self.hot.consent(changes))

    def prefer(self, *changes: PreferencesChange) -> None:
        for change in changes:
            self._runner.run(self.hot.prefer(change))

    def pause(self, action: str, *, paused: bool) -> None:
        self._runner.run(self.hot.pause(action, paused=paused))

    def set_consents(self, changes: list[ConsentChange]) -> None:
        self.hot.set_consents(changes)

    def seen(self, *, after: timedelta = timedelta(minutes=1), subject: Subject = CUSTOMER) -> list[str]:
        return [contact.action_id for contact in self.read(subject, after=after).contacts]

    def wait(self, seconds: float) -> None:
        self._runner.run(asyncio.sleep(seconds))

    def close(self) -> None:
        async def hang_up() -> None:
            self.hot.close()

        self._runner.run(hang_up())
        self._runner.close()


@contextmanager
def settings_for(kind: str, settings: Settings) -> Iterator[Settings]:
    """The settings of an adapter; what they leave in Redis is removed afterwards."""
    if kind == "sqlite":
        yield settings
        return
    prefix = f"nmtest.{os.getpid()}.{settings.home.parent.name}"[:60].replace("[", "").replace("]", "")
    client = redis.Redis.from_url(REDIS_URL)
    try:
        client.ping()
    except redis.ConnectionError as error:
        if os.environ.get("NEXTMOVE_REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(f"Redis on localhost:6379 cannot be used: {error}")
    try:
        yield replace(settings, hot_state="redis", redis_url=REDIS_URL, redis_prefix=prefix)
    finally:
        for key in client.scan_iter(match=f"{prefix}:*"):
            client.delete(key)
        client.close()


def candidate(action_id: str = "card", **overrides: Any) -> Eligible:
    return eligible(action_id, **{"group": f"{action_id}s", **overrides})


def reservation(decision_id: str = "d-1", *, channel: str = "web", **overrides: Any) -> ReservationRequest:
    """A card and a loan, the loan drawn first, for one slot; nothing depends on the profile but caps."""
    now = overrides.get("now", NOW)
    at = overrides.get("at", now)
    policies: tuple[ContactPolicy, ...] = overrides.get("policies", ())
    candidates = overrides.pop("eligible", None) or (candidate("card"), candidate("loan"))

    def still(profile: HotProfile) -> list[int]:
        counts = ContactCounts(policies, profile.contacts, now=at, account_contacts=profile.account_contacts)
        return [i for i, e in enumerate(candidates) if e.repeats or counts.suppressing(e.proposal.counted_by) is None]

    defaults: dict[str, Any] = {
        "decision_id": decision_id,
        "digest": "a",
        "subject": CUSTOMER,
        "now": now,
        "at": at,
        "placement": placement(channel=channel),
        "eligible": candidates,
        "order": tuple(reversed(range(len(candidates)))),
        "slots": 1,
        "policies": policies,
        "budgets": {},
        "confirmed": False,
        "seen": HotProfile(),
        "still": still,
    }
    return ReservationRequest(**{**defaults, **overrides})


def told(**overrides: Any) -> Told:
    """An outcome of the loan that `reservation` takes."""
    subject = overrides.pop("subject", CUSTOMER)
    channel = overrides.pop("channel", "email")
    products = overrides.pop("products", ())
    contacts, others = overrides.pop("contacts", ()), overrides.pop("others", ())
    given = outcome(**{"action_id": "loan", **overrides})
    contacts = contacts or ((given.decision_id, given.action_id or "loan"),)
    return Told(outcome=given, subject=subject, channel=channel, contacts=contacts, products=products, others=others)


def mails(amount: float = 1.0, **overrides: Any) -> Budget:
    defaults: dict[str, Any] = {
        "id": "mails",
        "amount": amount,
        "counts": "contacts",
        "period": timedelta(days=7),
        "starts": NOW - timedelta(days=1),
    }
    return Budget(**{**defaults, **overrides})


def charged(budget: Budget, decision_id: str = "d-1", *, cost: float = 1.0, **overrides: Any) -> ReservationRequest:
    """A reservation whose one candidate is charged to the budget."""
    return reservation(
        decision_id,
        **{"eligible": (candidate("loan", budget=budget.id, cost=cost),), "budgets": {budget.id: budget}, **overrides},
    )
