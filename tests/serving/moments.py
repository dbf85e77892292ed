"""A shop whose moments are decided over real stores, with a clock that stands still until it is told."""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import numpy as np

from decisioning.catalog import Release
from decisioning.event_content import Moment
from decisioning.events import EventRecord
from decisioning.identity import Link
from decisioning.profile import ConsentChange
from decisioning.record import OutcomeRecord
from serving.deliveries import Deliveries
from serving.engine import DrawKey, Engine
from serving.events import Reported
from serving.moment_worker import MomentWorker
from serving.moments import Acknowledgement, Moments, MomentState
from serving.ports import Received, Webhooks
from storage.ledger.moments import KeptMoment, MomentStore
from storage.ledger.writer import Ledger
from storage.settings import Settings
from tests.builders import NOW, action, moment, release
from tests.fakes import FakeFeatures, FakeScorer
from tests.storage.hot_stores import Store
from tests.storage.kept import consent, event

Result = TypeVar("Result")
ACTIONS = (action("card"), action("loan", group="loans"))  # showing nothing is not among them


class FakeWebhooks:
    """Receivers that answer what they are told to, and remember what they got."""

    def __init__(self, **answers: Sequence[Received]) -> None:
        self.answers = {name: list(given) for name, given in answers.items()}
        self.got: list[tuple[str, str, dict[str, Any]]] = []

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(self.answers)

    async def send(self, target: str, message_id: str, body: bytes, *, now: datetime) -> Received:
        self.got.append((target, message_id, msgspec.json.decode(body)))
        given = self.answers[target]
        return given.pop(0) if given else Received("delivered", "answered 200")


class MomentShop:
    """An engine over SQLite or Redis, with c-1 who consented to letters; `after` is the time that has passed."""

    def __init__(
        self, settings: Settings, *moments: Moment, webhooks: Webhooks | None = None, shop: Release | None = None
    ) -> None:
        self.settings = settings
        self.now = NOW
        self._runner = asyncio.Runner()
        self.hot = Store(settings, clock=lambda: self.now).hot
        self.ledger = Ledger(settings)
        self.store = MomentStore(settings)
        self.webhooks = webhooks or FakeWebhooks(crm=())
        self.became: list[tuple[str, str]] = []
        self.engine = Engine(
            release=shop or release(*ACTIONS, moments=moments or (moment(),)),
            features=FakeFeatures(),
            hot_state=self.hot,
            ledger=self.ledger,
            scorer=FakeScorer(),
            draw_key=DrawKey(b"0123456789abcdef"),
        )
        self.restart()
        self.consent()

    def restart(self) -> None:
        """As after a kill: what was only in memory is gone."""
        self.engine.moments_due.__init__()  # type: ignore[misc]
        self.moments = Moments(
            self.engine, self.hot, self.store, count=lambda name, state: self.became.append((name, state))
        )
        self.deliveries = Deliveries(
            self.moments, self.store, self.webhooks, rng=np.random.default_rng(1), clock=lambda: self.now
        )
        self.worker = MomentWorker(self.engine, self.moments, self.deliveries, self.store, clock=lambda: self.now)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.store.close()
        self.ledger.close()
        self.hot.close()
        self._runner.close()

    def run(self, call: Coroutine[Any, Any, Result]) -> Result:
        return self._runner.run(call)

    def tell(self, name: str = "cart_added", event_id: str = "shop/1", **overrides: Any) -> None:
        """An event, told when it happened or now, whichever is later."""
        at = overrides.pop("at", timedelta())
        told: dict[str, Any] = {"name": name, "occurred_at": NOW + at, "received_at": max(self.now, NOW + at)}
        self.told(event(event_id, **(told | overrides)))

    def told(self, *events: EventRecord) -> None:
        self.run(self.engine.record_events([Reported(each, each.event_id) for each in events]))

    def link(self, customer_id: str, other: str, *, at: timedelta = timedelta()) -> None:
        self.run(self.hot.link([Link(customer_id, other, NOW + at)]))

    def consent(self, customer_id: str = "c-1", **overrides: Any) -> None:
        change: ConsentChange = consent(customer_id, **({"at": self.now} | overrides))
        self.run(self.hot.consent([change]))

    def pass_to(self, after: timedelta) -> None:
        """So long after the beginning, everything is done that there is to do."""
        self.now = NOW + after
        self.turn()

    def turn(self) -> None:
        async def once() -> None:
            await self.worker.turn(await self.engine.moments_due.wait(seconds=0))
            await self.deliveries.finished()

        self.run(once())

    def fetch(self, **asked: Any) -> list[dict[str, Any]]:
        given: dict[str, Any] = {"channel": None, "market": None, "limit": 100, "now": self.now}
        found = self.run(self.moments.hand_out(**(given | asked)))
        return [msgspec.json.decode(each) for each in found]

    def ack(self, moment_id: str, status: Any = None, *, market: str | None = None) -> MomentState:
        said = Acknowledgement(status)
        return self.run(self.moments.acknowledge(moment_id, said, market=market, source="crm", now=self.now))

    @property
    def all(self) -> list[KeptMoment]:
        return self.store.newest(state=None, moment=None, limit=1000)

    @property
    def states(self) -> list[tuple[str, str | None]]:
        """State and reason of every moment, those that were due first first."""
        return [(each.state, each.reason) for each in reversed(self.all)]

    def outcomes(self, decision_id: str) -> list[OutcomeRecord]:
        return self.run(self.ledger.outcomes_of(decision_id))
