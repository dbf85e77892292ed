"""Looks for moments that are due, in the background of the service: one task in each worker."""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

from decisioning.errors import NextmoveError
from serving.deliveries import Deliveries
from serving.engine import Engine
from serving.moments import TOGETHER, Moments
from storage.ledger.moments import MomentStore, Open

logger = logging.getLogger(__name__)
POLL_SECONDS = 1.0
FIGURES_EVERY = timedelta(seconds=10)


class MomentWorker:
    """Decides what is due, sends what is decided, ends what nobody took.

    Attributes:
        open: What had not ended when it was last looked at, for the metrics.
    """

    def __init__(
        self,
        engine: Engine,
        moments: Moments,
        deliveries: Deliveries,
        store: MomentStore,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._moments = moments
        self._deliveries = deliveries
        self._store = store
        self._clock = clock
        self._looked_at: datetime | None = None
        self._task: asyncio.Task[None] | None = None
        self.open: Sequence[Open] = ()

    def start(self) -> None:
        """Work on this event loop until `stop`."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Let go of everything that is under way; whoever is next takes it up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._deliveries.cancel()

    async def turn(self, begun: Collection[str] = ()) -> None:
        """All that there is to do now; `begun` are moments that need not be looked for.

        Raises:
            StoreError: The ledger cannot be used.
        """
        if self._engine.scorer is not None:  # until there is a model, only the fallback could be decided
            ids = list(begun)
            for start in range(0, len(ids), TOGETHER):
                await self._moments.decide_begun(ids[start : start + TOGETHER], now=self._clock())
            while await self._moments.decide_due(now=self._clock()) == TOGETHER:
                await self._deliveries.begin()
        await self._deliveries.begin()
        while await self._moments.end_expired(now=self._clock()) == TOGETHER:
            await asyncio.sleep(0)
        await self._look()

    async def _look(self) -> None:
        now = self._clock()
        if self._looked_at is None or now - self._looked_at >= FIGURES_EVERY:
            self._looked_at = now
            self.open = await asyncio.to_thread(self._store.open)

    async def _run(self) -> None:
        while True:
            begun = await self._engine.moments_due.wait(seconds=POLL_SECONDS)
            try:
                await self.turn(begun)
            except NextmoveError as error:
                logger.warning("moments wait: %s", error.message)
            except Exception as error:  # whatever it is, it must not end the task
                logger.error("moments wait", exc_info=error)
