"""The loop, closed: the simulated world asks the real engine, answers with outcomes, and it learns.

Visits come in ticks, as they would on several connections at once. Outcomes arrive when the world
says: some late, some twice, some never. On the way the model is trained again on the data set's
log and the loop's own ledger, and swapped in; in between the online posterior follows what customers do.
"""

import asyncio
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from decisioning.content_types import NO_ACTION
from decisioning.profile import Contact
from decisioning.record import DecisionRecord
from decisioning.request import DecisionRequest, OutcomeReport
from nextmove.sandbox import Sandbox
from serving.ports import Scorer
from serving.posterior_keeper import PosteriorKeeper
from training.world import Visit, World
from training.world_outcomes import Report

Progress = Callable[[str], None]
Retrain = Callable[[datetime], Scorer]

VISITS_PER_DAY = 500.0
TICK = 32  # visits that are decided at the same time
TICKS_PER_COUNT = 4  # between two looks of the online posterior at what is new
AFTERWARDS = timedelta(days=30)  # every outcome has been reported by then
POLICIES = ("engine", "uniform", "best constant", "oracle")


class Simulation(NamedTuple):
    """What happened.

    Attributes:
        rewards: Expected reward in euros of each of `POLICIES` at every round, `(n_rounds,)`.
        best_constant: The action that is best to show always, in hindsight.
        models: Round from which on each model decided, and its version.
        realised: What customers paid, in euros.
        outcomes, duplicates: Reports that were taken, and those that had been before.
    """

    rewards: dict[str, NDArray[np.float64]]
    best_constant: str
    models: list[tuple[int, str]]
    realised: float
    outcomes: int
    duplicates: int

    def mean(self, policy: str, *, last: int) -> float:
        """Mean expected reward of a policy over the last rounds."""
        return float(self.rewards[policy][-last:].mean())


class Valuation:
    """What each policy would have earned, by the world's true expectations.

    All are valued on the same visits, candidates, contacts and purchases, those that the engine met,
    so they differ by choice and not by luck. A constant policy shows its action where that is a
    candidate, and nothing elsewhere; the oracle is the best candidate of each visit.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._engine: list[float] = []
        self._uniform: list[float] = []
        self._oracle: list[float] = []
        self._constants: list[NDArray[np.float64]] = []
        [self._nothing] = world.columns([NO_ACTION])

    def add(
        self,
        visits: Sequence[Visit],
        contacts: Sequence[Sequence[Contact]],
        purchases: Sequence[Mapping[str, datetime]],
        records: Sequence[DecisionRecord],
    ) -> None:
        """Value one tick."""
        expected = self._world.expected_reward(visits, contacts, purchases)
        for row, record in zip(expected, records, strict=True):
            ids = [candidate.action_id for candidate in record.candidates] or [NO_ACTION]
            candidates = self._world.columns(ids)
            [chosen] = self._world.columns([record.slots[0].action_id if record.slots else NO_ACTION])
            self._engine.append(float(row[chosen]))
            self._uniform.append(float(row[candidates].mean()))
            self._oracle.append(float(row[candidates].max()))
            constants = np.full(len(row), row[self._nothing])
            constants[candidates] = row[candidates]
            self._constants.append(constants)

    def result(self) -> tuple[dict[str, NDArray[np.float64]], str]:
        """Rewards by policy, and the best constant action."""
        constants = np.array(self._constants)
        best = int(constants.mean(axis=0).argmax())
        series = (np.array(self._engine), np.array(self._uniform), constants[:, best], np.array(self._oracle))
        return dict(zip(POLICIES, series, strict=True)), self._world.action_ids[best]


class Loop:
    """One simulation: the world's side of the conversation."""

    def __init__(self, sandbox: Sandbox, world: World, *, seed: int, posterior: bool = True) -> None:
        """Without `posterior` scores stay as the model gave them."""
        self._now = world.log_end
        self._posterior = PosteriorKeeper(sandbox.engine, sandbox.settings, clock=lambda: self._now)
        self._follows = posterior
        self._engine = sandbox.engine
        self._world = world
        self._seed = seed
        self._rng = np.random.default_rng([seed, 7])
        self._memory = world.memory()
        self._due: list[tuple[datetime, str, int, Report, str]] = []
        self._realised = 0.0
        self._statuses = {"accepted": 0, "duplicate": 0, "rejected": 0}

    async def play(self, rounds: int, *, retrain_every: int, retrain: Retrain, progress: Progress) -> Simulation:
        """Play `rounds` visits; `retrain` gives the model to go on with after every `retrain_every`."""
        valuation = Valuation(self._world)
        models = [(0, self._version())]
        visits = self._world.visits(self._rng, rounds, start=self._world.log_end, per_day=VISITS_PER_DAY)
        retrain_at = retrain_every
        done = 0
        now = self._world.log_end
        for number, tick in enumerate(_ticks(visits)):
            now = self._now = tick[0].now
            if done >= retrain_at:
                retrain_at += retrain_every
                progress(f"{done:,} of {rounds:,} rounds; training again")
                self._engine.scorer = retrain(now)
                models.append((done, self._version()))
            await self._deliver(until=now)
            if self._follows and number % TICKS_PER_COUNT == 0:
                self._posterior.check()
            contacts = [self._memory.contacts(visit.customer_id, now=visit.now) for visit in tick]
            purchases = [self._memory.purchases(visit.customer_id, now=visit.now) for visit in tick]
            records = await asyncio.gather(*(self._ask(visit, done + place) for place, visit in enumerate(tick)))
            valuation.add(tick, contacts, purchases, records)
            for visit, record in zip(tick, records, strict=True):
                self._react(visit, record)
            done += len(tick)
        self._posterior.stop()
        await self._deliver(until=now + AFTERWARDS)
        rewards, constant = valuation.result()
        return Simulation(
            rewards, constant, models, self._realised, self._statuses["accepted"], self._statuses["duplicate"]
        )

    async def _ask(self, visit: Visit, number: int) -> DecisionRecord:
        request = DecisionRequest(
            customer_id=visit.customer_id,
            placement=visit.placement,
            context=dict(visit.context),
            limit=1,
            decision_id=f"sim-{self._seed}-{number}",  # draws hang on it, so a seed repeats its run
            now=visit.now,
        )
        return await self._engine.decide(request, now=visit.now)

    def _react(self, visit: Visit, record: DecisionRecord) -> None:
        shown = [slot.action_id for slot in record.slots]
        reports = self._world.outcomes(visit, shown, self._memory, rng=self._rng, decision_id=record.decision_id)
        for report in reports:
            self._realised += report.value or 0.0
            for copy in range(report.copies):
                entry = (report.reported_at, report.outcome_id, copy, report, record.decision_id)
                heapq.heappush(self._due, entry)

    async def _deliver(self, *, until: datetime) -> None:
        """Report every outcome that is due."""
        reports = []
        while self._due and self._due[0][0] <= until:
            *_, report, decision_id = heapq.heappop(self._due)
            reports.append(
                OutcomeReport(
                    outcome_id=report.outcome_id,
                    decision_id=decision_id,
                    action_id=report.action_id,
                    type=report.type,
                    detail=report.detail,
                    value=report.value,
                    occurred_at=report.occurred_at,
                )
            )
        if reports:
            for result in await self._engine.record_outcomes(reports, now=until):
                self._statuses[result.status] += 1

    def _version(self) -> str:
        return self._engine.scorer.manifest.version if self._engine.scorer else "none"


def _ticks(visits: Iterable[Visit]) -> Iterator[tuple[Visit, ...]]:
    iterator = iter(visits)
    while tick := tuple(islice(iterator, TICK)):
        yield tick
