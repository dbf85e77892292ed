"""Answers of moments on their way to webhooks: at least once, a few at a time for each receiver.

A receiver that hangs holds up its own deliveries alone: each has so many places, and what has no place
stays in the ledger.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime

import numpy as np

from decisioning.errors import NextmoveError
from decisioning.redelivery import pause_after
from serving.moments import Moments
from serving.ports import Received, Webhooks
from storage.ledger.moments import KeptMoment, Later, MomentStore, Settled

logger = logging.getLogger(__name__)
PLACES = 4  # for each receiver, in each worker


class Deliveries:
    """Sends what is decided and goes to a webhook."""

    def __init__(
        self,
        moments: Moments,
        store: MomentStore,
        webhooks: Webhooks,
        *,
        rng: np.random.Generator,
        clock: Callable[[], datetime],
        count: Callable[[str, str], None] = lambda _target, _result: None,
    ) -> None:
        """`rng` draws how long to wait after a failure; `count` is told each attempt's target and result."""
        self._moments = moments
        self._store = store
        self._webhooks = webhooks
        self._rng = rng
        self._clock = clock
        self._count = count
        self._busy: Counter[str] = Counter()
        self._running: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Fill every free place with what is to be sent now; it goes on by itself.

        Raises:
            StoreError: The ledger cannot be used.
        """
        for target in self._webhooks.targets:
            free = PLACES - self._busy[target]
            for kept in await self._claim(target, limit=free) if free else []:
                self._busy[target] += 1
                task = asyncio.create_task(self._send_on(target, kept))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def finished(self) -> None:
        """Wait until no place is taken."""
        while self._running:
            await asyncio.wait(self._running)

    async def cancel(self) -> None:
        """Let go of what is on its way; it is sent again by whoever is next."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _send_on(self, target: str, kept: KeptMoment) -> None:
        """Send this one, then whatever else there is for the receiver."""
        waiting = [kept]
        try:
            while waiting:
                await self._send(target, waiting[0])
                waiting = await self._claim(target, limit=1)
        except NextmoveError as error:
            logger.warning("what became of a delivery to '%s' could not be kept: %s", target, error.message)
        except Exception as error:  # a mistake of ours; the claim runs out, and it is sent again
            logger.error("a delivery to '%s' went wrong", target, exc_info=error)
        finally:
            self._busy[target] -= 1

    async def _claim(self, target: str, *, limit: int) -> list[KeptMoment]:
        return await asyncio.to_thread(self._store.claim_deliveries, target, now=self._clock(), limit=limit)

    async def _send(self, target: str, kept: KeptMoment) -> None:
        received = await self._webhooks.send(target, kept.moment_id, kept.record, now=self._clock())
        self._count(target, received.result)
        now = self._clock()
        change = self._made_of(kept, received, now)
        changed = await self._moments.keep([(kept, change)], now=now)
        if isinstance(change, Settled) and change.state == "dead" and changed:
            logger.warning("moment %s is not delivered to '%s': %s", kept.moment_id, target, change.reason)
            await self._moments.release([kept.decision_id], now=now)

    def _made_of(self, kept: KeptMoment, received: Received, now: datetime) -> Settled | Later:
        if received.result == "delivered":
            return Settled(kept.moment_id, "delivered")
        attempts = kept.attempts + 1
        pause = pause_after(attempts, rng=self._rng, asked_for=received.retry_after)
        if received.result == "gone" or pause is None:
            return Settled(kept.moment_id, "dead", f"{received.said} (attempt {attempts})")
        return Later(kept.moment_id, now + pause, attempts)
